"""The command ``sesame doctor``: exit codes, what it prints and writes, and how it ends."""

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from sesame.configs.machine import Machine
from sesame.launch.doctor import start as begin
from sesame.launch.doctor.check import Check, Finding, Level, Verdict
from sesame.launch.doctor.report import Report
from tests.launch.test_pretraining import LAUNCHERS

ROOT = Path(__file__).parents[3]
FINDINGS = {
    Level.SLOW: Finding(Level.SLOW, "n1 writes at 50 MB/s", "use another disk"),
    Level.BAD: Finding(Level.BAD, "ray is not installed on n0", "pip install ray"),
}


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    keep = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    return subprocess.Popen(
        [sys.executable, "-m", "sesame", "doctor", "--quick", *words],
        cwd=folder,
        env=keep | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def printed(level: Level | None, *, terminal: bool) -> tuple[Level, str]:
    """The worst level and the report of two checks, the second with a finding of this level."""
    file = io.StringIO()
    rows = [Check(name, lambda context: None, lambda answers: Verdict(""), "") for name in ("disk", "versions")]
    console = Console(file=file, force_terminal=terminal, width=100, color_system=None)
    with Report(console, [row.name for row in rows]) as report:
        report.show(rows[0], Verdict("write 500 MB/s"))
        report.show(rows[1], Verdict("torch 2", [FINDINGS[level]] if level else []))
    return report.summarize(), file.getvalue()


def test_a_log_has_one_line_for_each_check_with_the_time_of_day() -> None:
    level, text = printed(Level.BAD, terminal=False)
    lines = text.splitlines()
    assert level is Level.BAD
    assert re.fullmatch(r"\d\d:\d\d:\d\d disk: good: write 500 MB/s", lines[0])
    assert re.fullmatch(r"\d\d:\d\d:\d\d versions: must change: torch 2", lines[1])
    assert lines[2:5] == ["must change:", "  versions: ray is not installed on n0", "    -> pip install ray"]
    assert lines[5].startswith("a run cannot start")


def test_a_terminal_shows_a_table() -> None:
    level, text = printed(Level.SLOW, terminal=True)
    assert level is Level.SLOW
    assert re.search(r"disk +│ good +│ write 500 MB/s", text)
    assert text.rstrip().endswith("a run can start")


@pytest.mark.parametrize(("level", "expected"), [(None, Level.GOOD), (Level.SLOW, Level.SLOW), (Level.BAD, Level.BAD)])
def test_the_worst_finding_counts(level: Level | None, expected: Level) -> None:
    assert printed(level, terminal=False)[0] is expected


@pytest.mark.parametrize(("level", "code"), [(None, 0), (Level.SLOW, 0), (Level.BAD, 1)])
def test_the_exit_code_says_whether_a_run_could_start(
    level: Level | None, code: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verdict = Verdict("measured", [FINDINGS[level]] if level else [])
    monkeypatch.setattr(begin, "CHECKS", (Check("disk", lambda context: None, lambda answers: verdict, ""),))
    # What the command changes in its process.
    monkeypatch.setattr(begin, "raise_signals", lambda: None)
    monkeypatch.setattr(begin, "ignore_library_warnings", lambda: None)
    monkeypatch.setattr(tempfile, "tempdir", tempfile.gettempdir())
    monkeypatch.setenv("TMPDIR", tempfile.gettempdir())
    monkeypatch.delenv("RANK", raising=False)
    assert begin.start(tmp_path / "runs", tmp_path / "machine.json", 1, quick=True) == code
    assert "machine.json is not written: not every process could be measured" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("processes", [1, 2])
def test_an_interrupt_ends_it_and_leaves_nothing(tmp_path: Path, processes: int) -> None:
    run = start(tmp_path, "--processes", str(processes), "--folder", "new/runs")
    assert run.stdout is not None
    while "limits" not in run.stdout.readline():
        assert run.poll() is None
    children = psutil.Process(run.pid).children(recursive=True)
    assert len(children) >= processes * (processes > 1)
    run.send_signal(signal.SIGINT)
    rest = run.communicate()[0]
    assert run.returncode == 130, rest
    assert "Traceback" not in rest, rest
    assert rest.count("sesame: interrupted; run the same command again to resume") == 1, rest
    assert not psutil.wait_procs(children, timeout=20)[1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_the_whole_examination(tmp_path: Path, processes: int) -> None:
    run = start(tmp_path, "--processes", str(processes), "--output", "machine.json")
    lines = run.communicate()[0].splitlines()
    assert run.returncode == 0, lines
    assert [path.name for path in tmp_path.iterdir()] == ["machine.json"]
    names = [match[1] for line in lines if (match := re.match(r"\d\d:\d\d:\d\d ([a-z -]+): ", line))]
    assert names[0] == "processes" and names[-1] == "training" and len(names) == 15
    machine = Machine.load(tmp_path / "machine.json")
    assert len(machine.devices) == processes
    assert (machine.reduction_bandwidth is None) == (processes == 1)
    assert machine.training is not None
    # A model's products are no faster than products alone, on processes that share the cores.
    fastest = sum(max(device.products.fp32, device.products.bf16) for device in machine.devices)
    assert 0 < machine.training.flops_per_second < 1.5 * fastest
