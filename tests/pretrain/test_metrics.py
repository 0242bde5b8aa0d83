"""The JSON lines of a resumed run, and the time that is left."""

import json
import math
from pathlib import Path

import pytest

from sesame.pretrain.metrics import Reporter
from sesame.pretrain.stop import UNLIMITED


def reports(output: Path, first_step: int) -> list[int]:
    """Return the steps of the lines that remain when a run resumes at ``first_step``."""
    Reporter(output, 100, first_step, None, quiet=False).close()
    return [json.loads(line)["step"] for line in (output / "metrics.jsonl").read_text().splitlines()]


def line(step: int) -> bytes:
    return json.dumps({"step": step, "train": {"masked_lm": 5.0}, "seconds": 1.0}).encode() + b"\n"


DAMAGE = [b"", b"\xff\xfe{}\n", b"[]\n", b"{}\n", b'{"step": "4"}\n', b'{"step": 4, "train": 1}\n', b"\0\0\0\n"]
DAMAGE += [b'{"step": 4, "train": {"no_objective": 1.0}}\n', b"[" * 100_000 + b"\n", line(4)[:-9] + b"\n"]


@pytest.mark.parametrize("damaged", DAMAGE, ids=range(len(DAMAGE)))
def test_only_damaged_lines_are_removed(damaged: bytes, tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line(2) + damaged + line(6) + line(8)[:-5])
    assert reports(tmp_path, 8) == [2, 6]
    assert reports(tmp_path, 5) == [2]


def test_a_failed_rewrite_leaves_the_file_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(line(2) + line(4))

    def fail(self: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        reports(tmp_path, 4)
    assert (tmp_path / "metrics.jsonl").read_bytes() == line(2) + line(4)


def test_without_a_number_of_steps_the_time_left_is_that_of_the_limit(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path, UNLIMITED, 0, None, quiet=False)
    assert reporter.bar.tasks[0].total is None
    for step in range(1, 4):
        reporter.update_progress(step, math.inf, math.inf)
        assert reporter.left == ""
    reporter.update_progress(4, 100.0, 120.0)
    assert reporter.left == "2 min left"
    reporter.close()
