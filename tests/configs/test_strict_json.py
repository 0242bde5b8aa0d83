"""JSON files of unknown origin."""

from pathlib import Path

import pytest

from sesame.configs import strict_json
from sesame.configs.errors import ConversionError


def test_an_object_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text('{"a": [1, 2.5, null], "b": {}}')
    assert strict_json.read_json_object(tmp_path / "file", ConversionError, "x") == {"a": [1, 2.5, None], "b": {}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1, "a": 2}', "duplicate key 'a'"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": ' + b"9" * 2000 + b"}", "integer of 2000 digits"),
        (b"[" * 200_000, "nested too deeply"),
        (b"[]", "is not a JSON object"),
        (b'{"\xff": 1}', "is not valid JSON"),
    ],
)
def test_invalid_content_is_refused(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ConversionError, match=f"file: .*{message}.*; copy it again"):
        strict_json.read_json_object(tmp_path / "file", ConversionError, "copy it again")


def test_missing_and_special_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no such file; x"):
        strict_json.read_json_object(tmp_path / "file", ConversionError, "x")
    with pytest.raises(ConversionError, match="is not a regular file; x"):
        strict_json.read_json_object(Path("/dev/zero"), ConversionError, "x")


def test_values_in_messages_are_short() -> None:
    assert strict_json.abbreviate("a" * 100, longest=4) == "'aaa..."
    assert strict_json.abbreviate(10**5000) == "a very long int"
