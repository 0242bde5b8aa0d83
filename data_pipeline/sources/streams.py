"""Open files decompressed, and text as UTF-8. Compression and encoding are detected from the first bytes.

The file name is ignored: files are renamed, and stores may decompress what they send.
"""

import bz2
import codecs
import io
import lzma
import sys
import zlib
from collections.abc import Callable
from typing import IO, Any

from sesame.configs.errors import CorpusError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BLOCK_BYTES = 1 << 20
COMPRESSED_BLOCK_BYTES = 1 << 16
"""Compressed bytes that are read at once."""

DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
"""Exceptions of reading damaged bytes."""

UTF8_BOM = codecs.BOM_UTF8
BOMS: dict[bytes, str] = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Byte order mark -> encoding; longer marks first, because a UTF-32 mark begins with one of UTF-16."""

OTHER_FORMATS: dict[tuple[int, bytes], str] = {
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
"""(offset, bytes there) -> error message for a file of another format that is given as text."""
FORMAT_BYTES = 262


class GzipDecompressor:
    """One member of a gzip file, with the methods of Python's other decompressors."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def decompress(self, content: bytes, _: int) -> bytes:
        # deflate expands one byte to 1,032 at most, so that the output of a block needs no limit.
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
"""After the header of a bz2 stream: the start of its first block, or the end of a stream without content."""
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
ZSTD_DICTIONARY_MAGIC = b"\x5d\x2a\x4d\x18"
"""Start of a WARC archive that is compressed with its own dictionary."""
COMPRESSIONS: dict[bytes, tuple[str, Callable[[], Any]]] = {
    GZIP_MAGIC: (".gz", GzipDecompressor),
    **{b"BZh%d" % level + block: (".bz2", bz2.BZ2Decompressor) for level in range(1, 10) for block in BZ2_BLOCKS},
    b"\xfd7zXZ\0": (".xz", lzma.LZMADecompressor),
    ZSTD_MAGIC: (".zst", zstd.ZstdDecompressor),
    **{bytes([0x50 + kind]) + b"\x2a\x4d\x18": (".zst", zstd.ZstdDecompressor) for kind in range(16)},
}
"""First bytes -> usual suffix, decompressor of one stream. zstd's skippable frames may come first."""
SUFFIXES = frozenset(suffix for suffix, _ in COMPRESSIONS.values())
LONGEST_MAGIC = max(map(len, (*COMPRESSIONS, *BOMS)))


class DecompressedReader(io.RawIOBase):
    """Reads a file of concatenated compressed streams.

    Python's own readers take a damaged later stream for padding and end without an error.
    """

    def __init__(self, stored: IO[bytes], suffix: str, decompressor: Callable[[], Any]):
        self.stream_offsets = {0: 0}
        """Decompressed offset of each stream -> its offset in the file."""
        self._stored, self._suffix, self._new_stream = stored, suffix, decompressor
        self._stream: Any = None
        self._unused, self._buffer = b"", memoryview(b"")
        self._bytes_read = self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = self._buffer or memoryview(self._decompressed(len(buffer)))
        size = min(len(buffer), len(content))
        buffer[:size] = content[:size]
        self._buffer = content[size:]
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    def close(self) -> None:
        self._stored.close()
        super().close()

    def _decompressed(self, size: int) -> bytes:
        """Return at least one byte, or none at the end.

        Raises:
            EOFError: the last stream is truncated.
        """
        while True:
            block = b""
            if self._stream is None:
                block = self._next_stream()
                if not block:
                    return b""
                self._stream = self._new_stream()
                self.stream_offsets[self._position] = self._bytes_read - len(block)
            elif self._stream.needs_input:
                block = self._read_block()
                if not block:
                    raise EOFError(f"its last {self._suffix} stream is truncated")
            content = self._stream.decompress(block, size)
            if self._stream.eof:
                self._unused, self._stream = self._stream.unused_data, None
            if content:
                return content

    def _next_stream(self) -> bytes:
        """Return the first bytes of the next stream, b"" at the end. gzip and xz allow zeros between streams."""
        block = self._unused.lstrip(b"\0")
        while not block:
            stored = self._read_block()
            if not stored:
                return b""
            block = stored.lstrip(b"\0")
        return block

    def _read_block(self) -> bytes:
        block = self._stored.read(COMPRESSED_BLOCK_BYTES)
        self._bytes_read += len(block)
        return block


class Utf8Reader(io.RawIOBase):
    """Reads UTF-16 or UTF-32 that begins with a byte order mark, as UTF-8."""

    def __init__(self, content: IO[bytes], encoding: str):
        self._content, self._encoding = content, encoding
        self._decoder = codecs.getincrementaldecoder(encoding)()
        self._buffer = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content, ended = self._buffer, False
        while not content and not ended:
            block = self._content.read(BLOCK_BYTES)
            ended = not block
            try:
                content = self._decoder.decode(block, final=ended).encode()
            except UnicodeError as error:
                raise OSError(f"its {self._encoding.upper()} is damaged: {error}") from None
        size = min(len(buffer), len(content))
        buffer[:size] = content[:size]
        self._buffer = content[size:]
        return size

    def close(self) -> None:
        self._content.close()
        super().close()


def open_stored(path: str) -> Any:
    """Open the bytes as they are stored, still compressed.

    Raises:
        CorpusError: the file cannot be opened.
    """
    if "://" not in path:
        try:
            return open(path, "rb", buffering=BLOCK_BYTES)
        except OSError as error:
            reason = f"cannot be opened ({error.strerror}); correct it, or its path"
            raise CorpusError(f"{printable(path)}: {reason}") from None
    try:
        import fsspec

        remote: Any = fsspec.open(path, "rb")
        # The files of most stores can read only whole lines, however long.
        return io.BufferedReader(remote.open(), BLOCK_BYTES)
    except Exception as error:
        raise store_error(path, error) from None


def open_binary(path: str) -> io.BufferedReader:
    """Open a file decompressed; seekable if it is not compressed.

    Raises:
        CorpusError: the file cannot be opened.
    """
    stored = open_stored(path)
    first = stored.read(LONGEST_MAGIC)
    stored.seek(0)
    match = _lookup(first, COMPRESSIONS)
    return io.BufferedReader(DecompressedReader(stored, *match), BLOCK_BYTES) if match else stored


def open_text(path: str) -> io.BufferedReader:
    """Open text as decompressed UTF-8; seekable if :func:`is_plain`.

    Raises:
        CorpusError: the file cannot be opened, or is not text.
        OSError, EOFError, zlib.error, LZMAError, ZstdError: its beginning is damaged.
    """
    content = open_binary(path)
    try:
        first = content.peek(FORMAT_BYTES)
        for (offset, magic), message in OTHER_FORMATS.items():
            if first[offset:].startswith(magic):
                raise CorpusError(f"{printable(path)}: {message}")
    except BaseException:
        content.close()
        raise
    encoding = _lookup(first, BOMS)
    return io.BufferedReader(Utf8Reader(content, encoding), BLOCK_BYTES) if encoding else content


def compression(path: str) -> str | None:
    """Return the usual suffix of the file's compression, such as ".gz", or None.

    Raises:
        CorpusError: the file cannot be opened.
    """
    with open_stored(path) as stored:
        match = _lookup(stored.read(LONGEST_MAGIC), COMPRESSIONS)
    return match and match[0]


def is_plain(path: str) -> bool:
    """Whether the file is neither compressed nor in UTF-16 or UTF-32, so that reading can start anywhere.

    Raises:
        CorpusError: the file cannot be opened.
    """
    with open_stored(path) as stored:
        first = stored.read(LONGEST_MAGIC)
    return _lookup(first, COMPRESSIONS) is None and _lookup(first, BOMS) is None


def printable(path: str) -> str:
    """Return a path for messages and records, with bytes that are not UTF-8 written as ``\\xNN``."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def store_error(path: str, error: Exception) -> CorpusError:
    """Return an error with the store's own message, which informs the user about address, permissions or network."""
    reason = " ".join(str(error).split())
    return CorpusError(
        f"{path}: the store does not answer ({type(error).__name__}: {reason}); check its address, your credentials "
        "and the network"
    )


def _lookup(first: bytes, table: dict[bytes, Any]) -> Any:
    return next((value for magic, value in table.items() if first.startswith(magic)), None)
