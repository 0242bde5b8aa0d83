"""Files of JSON lines after a kill."""

from pathlib import Path

from sesame.configs.json_lines import keep_rows, read_rows

DAMAGED = b'{"step": 1}\n\xff\n[1]\n3\n{"step": 2}\n' + b"[" * 100_000 + b'\n{"step": 3}\n{"step": 4, "tr'


def test_damaged_lines_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    path.write_bytes(DAMAGED)
    assert [row["step"] for row in read_rows(path)] == [1, 2, 3]


def test_kept_rows_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    keep_rows(path, lambda row: True)
    assert not path.exists()
    path.write_bytes(DAMAGED.replace(b'{"step": 1}', b'{"step":  1.0}'))
    keep_rows(path, lambda row: row["step"] < 3)
    assert path.read_bytes() == b'{"step":  1.0}\n{"step": 2}\n'
