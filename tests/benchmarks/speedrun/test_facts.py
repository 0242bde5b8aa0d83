"""What a record says about the code."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.speedrun import facts


def test_lines_that_a_run_adds_do_not_change_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("trials.jsonl", "run.py"):
        (folder / name).write_text("1\n")
    monkeypatch.setattr(facts, "FOLDER", folder)
    assert facts.code_version() == "unknown"
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "One"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    commit = facts.code_version()
    assert len(commit) == 12
    (folder / "trials.jsonl").write_text("2\n")
    (folder / "records.jsonl").write_text("3\n")
    assert facts.code_version() == commit
    (tmp_path / "other.py").write_text("4\n")
    assert facts.code_version() == f"{commit}+changes"
