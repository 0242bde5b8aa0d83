"""The bytes of a file as they are meant: decompressed, and text as UTF-8, each recognised by its first bytes.

The name of a file is not asked: files are renamed, and stores decompress what they hand out.
"""

import bz2
import codecs
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import IO, Any

from configs.errors import CorpusError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 20
STORED_BLOCK_BYTES = 1 << 16
"""Compressed bytes that are decompressed at once."""

BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""What reading damaged bytes raises."""

UTF8_MARK = codecs.BOM_UTF8
MARKS: dict[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding; the longer marks first, for one begins with another."""

FOREIGN: dict[tuple[int, bytes], str] = {
    (0, b"PK\x03\x04"): "is a zip archive; unpack it",
    (0, b"7z\xbc\xaf\x27\x1c"): "is a 7z archive; unpack it",
    (0, b"Rar!\x1a\x07"): "is a rar archive; unpack it",
    (0, b"\x04\x22\x4d\x18"): "is compressed with lz4; decompress it, or use gz, bz2, xz or zst",
    (0, b"\x1f\x9d"): "is compressed with compress; decompress it, or use gz, bz2, xz or zst",
    (0, b"PAR1\x15"): "is a Parquet file; set source.kind = 'parquet'",
    (0, b"ARROW1\0\0"): "is an Arrow file; set source.kind = 'arrow'",
    (0, b"%PDF-1."): "is a PDF file; extract its text",
    (257, b"ustar"): "is a tar archive; unpack it and name the folder",
}
"""(place, bytes there) -> what is reported of a file that is given as text and is none."""
FOREIGN_BYTES = 262


class GzipDecompressor:
    """One member of a gzip file, with the methods of Python's other decompressors."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def decompress(self, content: bytes, _: int) -> bytes:
        # deflate makes at most 1,032 bytes of one, so that what comes of a block needs no limit.
        return self._member.decompress(content)

    @property
    def needs_input(self) -> bool:
        return not self._member.eof

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data


BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")
"""How the first block of a bz2 stream begins, and how a stream without content ends."""
GZIP_MARK, ZSTD_MARK = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
ZSTD_DICTIONARY = b"\x5d\x2a\x4d\x18"
"""How a WARC archive begins that is compressed with a dictionary of its own."""
COMPRESSIONS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    GZIP_MARK: (".gz", GzipDecompressor),
    **{b"BZh%d" % level + block: (".bz2", bz2.BZ2Decompressor) for level in range(1, 10) for block in BZ2_BLOCKS},
    b"\xfd7zXZ\0": (".xz", lzma.LZMADecompressor),
    ZSTD_MARK: (".zst", zstd.ZstdDecompressor),
    **{bytes([0x50 + kind]) + b"\x2a\x4d\x18": (".zst", zstd.ZstdDecompressor) for kind in range(16)},
}
"""How a file begins -> usual suffix, decompressor of one stream. zstd's frames to be skipped may come first."""
SUFFIXES = frozenset(suffix for suffix, _ in COMPRESSIONS.values())
LONGEST_MARK = max(map(len, (*COMPRESSIONS, *MARKS)))


class Decompressed(io.RawIOBase):
    """What compressed streams hold that follow each other to the end of a file.

    Python's own readers end without an error where a later stream is damaged, as if it were padding.
    """

    def __init__(self, stored: IO[bytes], suffix: str, decompressor: Callable[[], Any]):
        self.begins = {0: 0}
        """Place of the first byte of each stream, decompressed -> as it is stored."""
        self._stored, self._suffix, self._make = stored, suffix, decompressor
        self._stream: Any = None
        self._unused, self._left = b"", memoryview(b"")
        self._read = self._given = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._left or memoryview(self._decompressed(len(buffer)))
        size = min(len(buffer), len(content))
        buffer[:size] = content[:size]
        self._left = content[size:]
        self._given += size
        return size

    def tell(self) -> int:
        return self._given

    def close(self) -> None:
        self._stored.close()
        super().close()

    def _decompressed(self, size: int) -> bytes:
        """At least one byte, or none at the end.

        Raises:
            EOFError: the last stream is cut short.
        """
        while True:
            block = b""
            if self._stream is None:
                block = self._after_padding()
                if not block:
                    return b""
                self._stream = self._make()
                self.begins[self._given] = self._read - len(block)
            elif self._stream.needs_input:
                block = self._stored_block()
                if not block:
                    raise EOFError(f"its last {self._suffix} stream is cut short")
            content = self._stream.decompress(block, size)
            if self._stream.eof:
                self._unused, self._stream = self._stream.unused_data, None
            if content:
                return content

    def _after_padding(self) -> bytes:
        """Where the next stream begins; nothing at the end. gzip and xz allow zeros between streams."""
        block = self._unused.lstrip(b"\0")
        while not block:
            stored = self._stored_block()
            if not stored:
                return b""
            block = stored.lstrip(b"\0")
        return block

    def _stored_block(self) -> bytes:
        block = self._stored.read(STORED_BLOCK_BYTES)
        self._read += len(block)
        return block


class Reencoded(io.RawIOBase):
    """UTF-16 or UTF-32 that begins with a byte order mark, as UTF-8."""

    def __init__(self, content: IO[bytes], encoding: str):
        self._content, self._encoding = content, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._left = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content, ended = self._left, False
        while not content and not ended:
            block = self._content.read(BLOCK_BYTES)
            ended = not block
            try:
                content = self._decoder.decode(block, final=ended).encode()
            except UnicodeError as error:
                raise OSError(f"its {self._encoding.upper()} is damaged: {error}") from None
        size = min(len(buffer), len(content))
        buffer[:size] = content[:size]
        self._left = content[size:]
        return size

    def close(self) -> None:
        self._content.close()
        super().close()


def open_stored(path: str) -> Any:
    """Open the bytes as they are stored.

    Raises:
        CorpusError: the file cannot be opened.
    """
    if "://" not in path:
        try:
            return open(path, "rb", buffering=BLOCK_BYTES)
        except OSError as error:
            raise CorpusError(f"{shown(path)}: cannot be opened ({error.strerror}); correct it, or its path") from None
    try:
        import fsspec

        remote: Any = fsspec.open(path, "rb")
        # The files of most stores read no more than whole lines, however long.
        return io.BufferedReader(remote.open(), BLOCK_BYTES)
    except Exception as error:
        raise unanswered(path, error) from None


def open_binary(path: str) -> io.BufferedReader:
    """Open for reading, decompressed; seekable where it is not compressed.

    Raises:
        CorpusError: the file cannot be opened.
    """
    stored = open_stored(path)
    first = stored.read(LONGEST_MARK)
    stored.seek(0)
    found = _beginning(first, COMPRESSIONS)
    return io.BufferedReader(Decompressed(stored, *found), BLOCK_BYTES) if found else stored


def open_text(path: str) -> io.BufferedReader:
    """Open text for reading as UTF-8, decompressed; seekable where :func:`is_plain`.

    Raises:
        CorpusError: the file cannot be opened, or is no text.
        OSError, EOFError, zlib.error, LZMAError, ZstdError: it is damaged at its beginning.
    """
    content = open_binary(path)
    try:
        first = content.peek(FOREIGN_BYTES)
        for (place, mark), message in FOREIGN.items():
            if first[place:].startswith(mark):
                raise CorpusError(f"{shown(path)}: {message}")
    except BaseException:
        content.close()
        raise
    encoding = _beginning(first, MARKS)
    return io.BufferedReader(Reencoded(content, encoding), BLOCK_BYTES) if encoding else content


def compression(path: str) -> str | None:
    """Usual suffix of how the file is compressed, as ".gz"; None where it is not.

    Raises:
        CorpusError: the file cannot be opened.
    """
    with open_stored(path) as stored:
        found = _beginning(stored.read(LONGEST_MARK), COMPRESSIONS)
    return found and found[0]


def is_plain(path: str) -> bool:
    """Are the stored bytes those of UTF-8, so that reading can begin anywhere?

    Raises:
        CorpusError: the file cannot be opened.
    """
    with open_stored(path) as stored:
        first = stored.read(LONGEST_MARK)
    return _beginning(first, COMPRESSIONS) is None and _beginning(first, MARKS) is None


def shown(path: str) -> str:
    """A path for messages and records: bytes of it that are not UTF-8 are written as ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def unanswered(path: str, error: Exception) -> CorpusError:
    """Every store has errors of its own, and what they say is for the user: the address, the rights, the network."""
    reason = " ".join(str(error).split())
    return CorpusError(
        f"{path}: the store does not answer ({type(error).__name__}: {reason}); check its address, your credentials "
        "and the network"
    )


def _beginning(first: bytes, table: dict[bytes, Any]) -> Any:
    return next((value for mark, value in table.items() if first.startswith(mark)), None)
