"""fp16: steps whose gradients overflow, the loss scale in checkpoints, and the end of a run that only overflows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError, TrainingError
from sesame.pretrain import precision
from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints.load import open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel import agreed_precision, loss_scale
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.train import train
from sesame.pretrain.watch import step_values
from tests.pretrain.parallel.layout_comparison import needs_fp16
from tests.pretrain.watch.planted import plant, row_of_step

CPU = torch.device("cpu")
Settings = Callable[..., dict[str, Any]]


def fp16(settings: Settings, output: Path, steps: int, **parallel: Any) -> RunConfig:
    """With a loss so large that gradients overflow at the first loss scales, and Adam, which counts its updates."""
    values = settings(
        output=str(output),
        steps=steps,
        objectives={"masked_lm": 200.0, "sentence_pairs": 200.0},
        optimizer={"name": "adamw", "learning_rate": 1e-3},
        parallel={"precision": "fp16", **parallel},
        checkpoint={"save_every_steps": 100},
    )
    return configs.parse(values, RunConfig, "run.toml")


@needs_fp16
@pytest.mark.parametrize(
    ("stage", "offload"),
    [(1, "none"), *(pytest.param(*each, marks=pytest.mark.slow) for each in ((3, "none"), (2, "optimizer")))],
)
def test_a_resumed_run_has_the_scale_and_the_weights_of_one_that_went_on(
    stage: int, offload: str, settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = {"zero_stage": stage, "offload": offload}
    whole = train(fp16(settings, tmp_path / "whole", 10, **layout))
    # Stopped while gradients still overflow.
    train(fp16(settings, tmp_path / "parts", 2, **layout))
    parts = train(fp16(settings, tmp_path / "parts", 10, **layout))
    states = [record.read(folder).loss_scale for folder in (whole, parts)]
    assert states[0] == states[1]
    assert states[0] is not None
    assert 2 < states[0].skipped_updates < 9
    assert states[0].scale == 2.0 ** (loss_scale.INITIAL_POWER - states[0].skipped_updates)
    for kind in ("weights", "exp_avg", "exp_avg_sq"):
        left, right = (open_checkpoint(folder).tensors(kind) for folder in (whole, parts))
        for name in record.read(whole).shapes:
            assert torch.equal(left.whole(name), right.whole(name)), f"{kind} of {name}"
    assert "without an update, because gradients overflowed in fp16; loss scale" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "train" in row] == [2, 4, 6, 8, 10]


@needs_fp16
def test_an_overflow_after_a_checkpoint_has_the_norm_before_it(
    settings: Settings, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, row_of_step(dataset, 5), "nan gradient")

    def run(name: str, steps: int) -> tuple[list[float], record.Record]:
        values = settings(
            output=str(tmp_path / name),
            steps=steps,
            model={"layers": 1},
            parallel={"precision": "fp16"},
            schedule={"decay": "constant"},
        )
        folder = train(configs.parse(values, RunConfig, "run.toml"))
        rows = step_values.read(tmp_path / name)
        return [row.gradient_norm for row in rows.values()], record.read(folder)

    run("parts", 4)
    (norms, whole), (norms_again, parts) = run("whole", 6), run("parts", 6)
    assert norms_again == norms and norms[4] == norms[3] > 0
    assert parts.watched == whole.watched and parts.loss_scale == whole.loss_scale


@needs_fp16
def test_a_run_in_another_precision_continues_it(settings: Settings, tmp_path: Path) -> None:
    train(fp16(settings, tmp_path / "run", 6))
    skipped = record.read(train(fp16(settings, tmp_path / "run", 7, precision="bf16"))).loss_scale
    assert skipped is None


@needs_fp16
def test_a_run_that_only_overflows_ends_with_a_sentence(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loss_scale, "MOST_SKIPPED", 2)
    with pytest.raises(
        TrainingError, match=r"overflowed in fp16 in 2 steps in a row, with a loss scale of \d+ at last"
    ):
        train(fp16(settings, tmp_path / "run", 10))
    assert not list((tmp_path / "run").glob("checkpoint*"))


def test_a_processor_without_fp16_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "computes_fp16", lambda device: False)
    with pytest.raises(ConfigError, match=r"precision fp16: a device of this run.*use parallel\.precision = 'auto'"):
        agreed_precision.resolve(ParallelConfig(precision="fp16"), CPU, None, lambda local: [local])
