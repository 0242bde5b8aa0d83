"""The live view: it follows the files, and ends with the run."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sesame.pretrain.monitoring.live import is_over, watch
from sesame.pretrain.monitoring.record import RunFiles
from sesame.pretrain.monitoring.summary import training_seconds
from sesame.pretrain.monitoring.view import expected_steps, step_of, time_left, view
from tests.pretrain.monitoring.conftest import append, report

MakeRun = Callable[..., Path]


def text_of(run: RunFiles, width: int = 120) -> str:
    console = Console(width=width, file=io.StringIO(), force_terminal=False)
    with console.capture() as capture:
        console.print(view(run, width))
    return capture.get()


def test_lines_are_printed_as_they_are_written_and_end_with_the_run(make_run: MakeRun) -> None:
    folder = make_run(losses=(8.0, 7.0))

    def second(_: float) -> None:
        """One more thing happens at each look."""
        rows = happened.pop(0)
        for name, row in rows:
            append(folder, name, row)

    happened = [
        [("metrics", report(30, 6.5)), ("events", {"step": 25, "message": "loss is 9", "action": "skip"})],
        [],
        [("metrics", report(40, 6.0)), ("run", {"end": {"reason": "finished"}})],
    ]
    output = io.StringIO()
    watch(folder, Console(file=output), sleep=second)
    lines = [line.partition(" ")[2] for line in output.getvalue().splitlines()]
    assert lines[0] == "step 20/100 | masked_lm 7.000 | 1,000 tokens/s | 8 s left"
    assert lines[1] == "step 20: validation masked_lm 7.250"
    assert lines[2:4] == ["step 30/100 | masked_lm 6.500 | 1,000 tokens/s | 7 s left", "step 25: loss is 9 (skip)"]
    assert lines[4].startswith("step 40/100 | masked_lm 6.000 ") and lines[5:] == ["finished"]
    assert not happened


@pytest.mark.parametrize("width", [40, 80, 160])
def test_the_view_shows_all_parts_at_any_width(width: int, make_run: MakeRun) -> None:
    folder = make_run()
    ranks = {"median": 0.05, "slowest": 0.1, "slowest_rank": 1}
    append(folder, "metrics", report(40, 5.5, ranks=ranks, rank_seconds=[0.05, 0.1], model_flops_use=0.5))
    append(folder, "events", {"step": 40, "message": "gradient spike"})
    (folder / "checkpoints" / "step-00000040").mkdir(parents=True)
    (folder / "checkpoints" / "step-00000040" / "checkpoint.json").write_text("{}")
    text = text_of(RunFiles(folder), width)
    assert max(map(len, text.splitlines())) <= width
    words = " ".join(text.replace("│", " ").split())
    parts = ["step 40 of 100", "40%", "masked lm 5.500", "50.0% of peak", "step 100 ms", "rank 1", "gradient spike"]
    # A narrow terminal breaks lines within them.
    assert width == 40 or [part for part in parts if part not in words] == []
    assert "step-00000040" in words


def test_minutes_limit_the_expected_steps(make_run: MakeRun) -> None:
    folder = make_run()
    run = RunFiles(folder)
    assert (expected_steps(run), time_left(run)) == (100, "7 s")
    # At 10 steps a second, 3 of 6 seconds are used.
    run.starts[-1]["config"]["stop"]["minutes"] = 0.1
    assert expected_steps(run) == 60 and time_left(run) == "3 s"


def resume(folder: Path, step: int, **changes: Any) -> None:
    start = json.loads((folder / "run.jsonl").read_text().splitlines()[0])["start"]
    append(folder, "run", {"start": {**start, "step": step, **changes}})


def test_a_resumed_run_continues_its_minutes(make_run: MakeRun) -> None:
    folder = make_run()
    config = RunFiles(folder).config | {"stop": {"minutes": 0.5}, "steps": 1000}
    resume(folder, 30, used_seconds=10.0, config=config)
    assert time_left(RunFiles(folder)) == "20 s"
    append(folder, "metrics", report(40, 5.5, seconds=5.0))
    run = RunFiles(folder)
    assert time_left(run) == "15 s" and expected_steps(run) == 40 + 150


def test_a_run_that_only_minutes_limit_shows_the_time_left(make_run: MakeRun) -> None:
    folder = make_run()
    config = RunFiles(folder).config | {"steps": None}
    resume(folder, 0, planned_steps=None, config=config)
    assert (expected_steps(RunFiles(folder)), step_of(RunFiles(folder), 30)) == (None, "30")
    assert "step 30 " in text_of(RunFiles(folder))
    resume(folder, 0, planned_steps=None, config=config | {"stop": {"minutes": 0.1}})
    run = RunFiles(folder)
    assert (time_left(run), step_of(run, 30)) == ("3 s", "30/~60")
    assert "step 30 of ~60" in text_of(run)


def test_the_steps_of_epochs_and_tokens_are_shown(make_run: MakeRun) -> None:
    folder = make_run()
    resume(folder, 0, planned_steps=50)
    run = RunFiles(folder)
    assert (step_of(run, 30), time_left(run)) == ("30/50", "2 s")


def test_the_time_of_all_starts_is_added(make_run: MakeRun) -> None:
    """The second start has its first report later than the first start had its last one."""
    folder = make_run()
    assert training_seconds(RunFiles(folder)) == 3.0
    resume(folder, 30)
    append(folder, "metrics", report(40, 5.5, seconds=4.0), report(50, 5.5, seconds=5.0))
    assert training_seconds(RunFiles(folder)) == 3.0 + 5.0
    (folder / "run.jsonl").unlink()
    append(folder, "metrics", report(60, 5.5, seconds=1.0))
    assert training_seconds(RunFiles(folder)) == 5.0 + 1.0


def test_a_resumed_run_replaces_its_reports(make_run: MakeRun) -> None:
    folder = make_run(losses=(8.0, 7.0, 6.0))
    run = RunFiles(folder)
    assert [row["step"] for row in run.reports] == [10, 20, 30]
    kept = (folder / "metrics.jsonl").read_text().splitlines()[:1]
    other = folder / "other"
    other.write_text("\n".join([*kept, json.dumps(report(20, 7.5)), '{"step": 30, "tr']))
    other.replace(folder / "metrics.jsonl")
    assert run.update() and [row["train"]["masked_lm"] for row in run.reports] == [8.0, 7.5] and run.validations == []
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('ain": {"masked_lm": 5.0}}\n')
    assert run.update() and run.step == 30 and not run.update()


def test_a_killed_run_is_recognised(make_run: MakeRun) -> None:
    folder = make_run()
    lines = (folder / "run.jsonl").read_text()
    start = json.loads(lines)["start"]
    assert not RunFiles(folder).is_killed
    (folder / "run.jsonl").write_text(json.dumps({"start": start | {"process": 2**22 + 1}}) + "\n")
    assert RunFiles(folder).is_killed
    output = io.StringIO()
    watch(folder, Console(file=output), sleep=lambda _: pytest.fail("it is over"))
    assert output.getvalue().endswith(": killed\n")
    (folder / "run.jsonl").write_text(json.dumps({"start": start | {"process": 2**22 + 1, "host": "elsewhere"}}) + "\n")
    assert not RunFiles(folder).is_killed


def test_a_run_of_an_older_version_is_over_when_nobody_has_its_folder(tmp_path: Path) -> None:
    append(tmp_path, "metrics", {"step": 10, "train": {"masked_lm": 5.0}, "tokens_per_second": 1.0, "seconds": 3.0})
    (tmp_path / ".lock").touch()
    run = RunFiles(tmp_path)
    assert not is_over(run)
    (tmp_path / ".lock").unlink()
    assert is_over(run)


def test_checkpoints_are_complete_ones_under_their_own_names(make_run: MakeRun) -> None:
    run = RunFiles(make_run())
    names = ("step-00000010", "step-100000000", "step-00000010.diverged-1", "step-00000020.partial", "step-00000030")
    for name in names:
        (run.folder / "checkpoints" / name).mkdir(parents=True)
        (run.folder / "checkpoints" / name / "checkpoint.json").write_text("{}")
    (run.folder / "checkpoints" / "step-00000030" / "checkpoint.json").unlink()
    assert [path.name for path in run.checkpoints] == ["step-00000010", "step-100000000"]
    run.update()
    assert "checkpoint step-100000000, 0 s ago" in text_of(run)
