"""The demo: order of its commands, a failing command, and the printed results."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from sesame.launch import demo

BASELINE = 6.0


def write_results(folder: Path, loss: float) -> None:
    """Write the files of the stages that the demo reads."""
    score = {"pretrained": {"median": 71.25, "spread": 2.5}, "random": {"median": None, "spread": None}}
    mean = {
        "pretrained": {"median": 71.25, "spread": 2.5},
        "random": {"median": 60.0, "spread": 1.0},
        "difference": 11.25,
    }
    files = {
        "dataset/manifest.json": json.dumps({"unigram_cross_entropy_validation": BASELINE}),
        "pretrain/metrics.jsonl": json.dumps({"step": 1, "validation": {"masked_lm": 9.0}})
        + "\n"
        + json.dumps({"step": 2, "validation": {"masked_lm": loss}})
        + "\n"
        + json.dumps({"step": 2, "train": {"masked_lm": 1.0}}),
        "evaluation/report.json": json.dumps({"tasks": {"WordOrder": {"score": score}}, "mean": mean}),
    }
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.fixture
def demo_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Run the demo with stages that do nothing; returns (exit code, arguments of each command, printed text)."""

    def run_demo(loss: float = 5.2, codes: dict[str, int] | None = None, glue: Path | None = None):
        commands: list[list[str]] = []

        def follow(command: list[str]) -> int:
            commands.append(command[command.index("sesame") + 1 :])
            return (codes or {}).get(commands[-1][0], 0)

        monkeypatch.setattr(demo, "follow", follow)
        write_results(tmp_path, loss)
        printed = io.StringIO()
        code = demo.run_demo(tmp_path, glue, Console(file=printed, width=160))
        return code, commands, printed.getvalue()

    return run_demo


def test_the_demo_runs_the_stages_in_order_and_prints_the_results(demo_run, tmp_path: Path) -> None:
    code, commands, printed = demo_run()
    assert code == 0
    assert [arguments[0] for arguments in commands] == ["prepare", "inspect", "pretrain", "probe-tasks", "evaluate"]
    assert "0.80 nats below the unigram baseline of 6.00 after 2 steps (expected: at least 0.7 below)" in printed
    assert "(expected: at most 8 min)" in printed and "random-init baseline" in printed
    assert "71.2 (2.5)" in printed
    assert "undefined" in printed
    assert "+11.2" in printed
    assert str(tmp_path / "pretrain" / "loss.png") in printed
    # A long path wraps, so that the last line may be a continuation of the last row.
    assert [line for line in printed.splitlines() if line[:1].strip()][-1].startswith("next")


@pytest.mark.parametrize(("loss", "distance"), [(6.5, "0.50 nats above"), (5.5, "0.50 nats below")])
def test_an_unexpected_loss_is_reported(demo_run, loss: float, distance: str) -> None:
    printed = " ".join(demo_run(loss=loss)[2].split())
    assert f"{distance} the unigram baseline of 6.00" in printed and "0.7 below; a busy machine" in printed


def test_glue_replaces_the_small_tasks(demo_run, tmp_path: Path) -> None:
    _, commands, printed = demo_run(glue=tmp_path / "glue")
    assert [arguments[0] for arguments in commands] == ["prepare", "inspect", "pretrain", "evaluate"]
    assert str(tmp_path / "glue") in commands[-1]
    assert any("glue_small.toml" in argument for argument in commands[-1])
    assert "not GLUE" not in printed


def test_the_demo_stops_at_the_first_failing_stage(demo_run) -> None:
    code, commands, printed = demo_run(codes={"pretrain": 2})
    assert code == 2
    assert [arguments[0] for arguments in commands] == ["prepare", "inspect", "pretrain"]
    assert "`sesame pretrain` failed with exit code 2" in printed


def test_the_demo_says_that_it_can_be_continued(demo_run) -> None:
    code, commands, printed = demo_run(codes={"pretrain": 75})
    assert code == 75
    assert commands[-1][0] == "pretrain"
    assert "the same command continues it" in printed


def test_the_configuration_files_of_the_demo_exist() -> None:
    for glue in (None, Path("glue")):
        arguments = [argument for stage in demo.stages(Path("out"), glue) for argument in stage.arguments]
        files = [Path(argument) for argument in arguments if str(argument).endswith(".toml")]
        assert len(files) == 3
        assert all(file.is_file() for file in files)


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    assert demo.run_demo(tmp_path / "demo") == 0
    assert (tmp_path / "demo" / "evaluation" / "report.md").is_file()
