"""The demo: its commands in order, an early stop where one fails, and an end that shows what came of it."""

import io
import json
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from launch import demo

BASELINE = 6.0


def results(folder: Path, loss: float) -> None:
    """What the stages would have left in ``folder``."""
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
def walked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Walk with stages that do nothing; returns (exit code, words of each stage, what was printed)."""

    def walk(loss: float = 5.2, codes: dict[str, int] | None = None, glue: Path | None = None):
        ran: list[list[str]] = []

        def run(command: list[str], check: bool) -> subprocess.CompletedProcess[bytes]:
            ran.append(command[command.index("launch") + 1 :])
            return subprocess.CompletedProcess(command, (codes or {}).get(ran[-1][0], 0))

        monkeypatch.setattr(subprocess, "run", run)
        results(tmp_path, loss)
        console = Console(file=io.StringIO(), width=160)
        code = demo.walk(tmp_path, glue, console)
        return code, ran, console.file.getvalue()

    return walk


def test_it_walks_the_road_in_order_and_ends_with_the_result(walked, tmp_path: Path) -> None:
    code, ran, printed = walked()
    assert code == 0
    assert [words[0] for words in ran] == ["prepare", "inspect", "pretrain", "probe-tasks", "evaluate"]
    assert "0.80 nats below the unigram baseline of 6.00 after 2 steps (expected: at least 0.7 below)" in printed
    assert "(expected: at most 8:00)" in printed and "random-init baseline" in printed
    assert "71.2 (2.5)" in printed
    assert "undefined" in printed
    assert "+11.2" in printed
    assert str(tmp_path / "pretrain" / "loss.png") in printed
    # A long path wraps, so that the last line may be the rest of the last row.
    assert [line for line in printed.splitlines() if line[:1].strip()][-1].startswith("next")


@pytest.mark.parametrize(("loss", "distance"), [(6.5, "0.50 nats above"), (5.5, "0.50 nats below")])
def test_it_says_when_the_loss_is_not_what_was_expected(walked, loss: float, distance: str) -> None:
    printed = " ".join(walked(loss=loss)[2].split())
    assert f"{distance} the unigram baseline of 6.00" in printed and "0.7 below; a machine that is busy" in printed


def test_real_glue_takes_the_place_of_the_small_tasks(walked, tmp_path: Path) -> None:
    _, ran, printed = walked(glue=tmp_path / "glue")
    assert [words[0] for words in ran] == ["prepare", "inspect", "pretrain", "evaluate"]
    assert str(tmp_path / "glue") in ran[-1]
    assert any("glue_small.toml" in word for word in ran[-1])
    assert "not GLUE" not in printed


def test_it_stops_where_a_stage_fails(walked) -> None:
    code, ran, printed = walked(codes={"pretrain": 2})
    assert code == 2
    assert [words[0] for words in ran] == ["prepare", "inspect", "pretrain"]
    assert "stops here" in printed


def test_the_shipped_files_that_it_names_exist() -> None:
    for glue in (None, Path("glue")):
        named = [
            word for stage in demo.stages(Path("out"), glue) for word in stage.words if str(word).endswith(".toml")
        ]
        assert len(named) == 3
        assert all(Path(word).is_file() for word in named)


@pytest.mark.slow
def test_the_whole_demo(tmp_path: Path) -> None:
    assert demo.walk(tmp_path / "demo") == 0
    assert (tmp_path / "demo" / "evaluation" / "report.md").is_file()
