"""The planned time of a step is that of steps that were measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame import configs
from sesame.configs.shipped import FOLDER
from sesame.data_pipeline.dataset import synthetic
from sesame.pretrain.config import RunConfig
from sesame.pretrain.planning.gpus import assumptions
from sesame.pretrain.planning.plan import Planner
from sesame.pretrain.planning.rows import Rows, find
from tests.pretrain.family_runs import FAMILY_RUNS

PROCESS = Path(__file__).with_name("step_time_process.py")


class Measured(NamedTuple):
    """A step of two micro-batches on one H100, as benchmarks/RESULTS.md has it."""

    file: str
    vocabulary: int
    rows: Rows
    micro_batch: int
    tokens_per_second: float
    overrides: tuple[str, ...] = ()


NO_DROPOUT = ("model.dropout=0.0", "model.attention_dropout=0.0")
GPT_1_3B = (
    "model.layers=24",
    "model.width=2048",
    "model.heads=16",
    "model.feed_forward_width=8192",
    "model.positions=2048",
)
H100 = {
    "BERT-large, 32 x 512": Measured("bert_large", 30522, Rows(512, 77, ""), 32, 199_310, NO_DROPOUT),
    "BERT-large, 64 x 512, compiled": Measured("bert_large", 30522, Rows(512, 77, ""), 64, 218_610, NO_DROPOUT),
    "GPT 1.3B, compiled": Measured("gpt2_xl", 50257, Rows(2048, 0, ""), 8, 58_481, (*GPT_1_3B, *NO_DROPOUT)),
}
"""The efficiencies of ``Assumptions`` were chosen on the first; a plan does not know what is compiled."""


@pytest.mark.parametrize("name", H100)
def test_steps_on_one_h100_are_as_planned(name: str) -> None:
    step = H100[name]
    batch = (f"data.global_batch={2 * step.micro_batch}", f"data.micro_batch={step.micro_batch}")
    layout = ("parallel.zero_stage=1", "parallel.recompute=false")
    run = configs.load(FOLDER / "pretrain" / f"{step.file}.toml", RunConfig, (*step.overrides, *batch, *layout))
    planner = Planner(run, step.vocabulary, step.rows, assumptions("h100-80gb", {}))
    configured = planner.configured(1)
    assert configured is not None
    seconds = planner.plan(configured, exact=True).time.total
    assert planner.step_tokens / seconds == pytest.approx(step.tokens_per_second, rel=0.1)


STACK: dict[str, Any] = {"layers": 4, "width": 128, "heads": 4, "feed_forward_width": 512, "positions": 128}
TWO_STACKS = {"layers": 3, "decoder_layers": 3, "width": 128, "heads": 4, "head_width": 32, "feed_forward_width": 512}
HERE: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "fp32": {
        "BERT": ("bert", {**STACK, "width": 256, "feed_forward_width": 1024}),
        "GPT": ("gpt", STACK),
        "T5": ("t5", TWO_STACKS),
    },
    # In bf16 rows of unequal lengths take two to three times as long on a CPU, which a plan does not know.
    "bf16": {
        "BERT": ("equal rows", {**STACK, "width": 256, "feed_forward_width": 1024}),
        "narrow": ("equal rows", STACK),
    },
}
"""Precision -> name -> (row of ``FAMILY_RUNS``, or BERT on rows of one length; changes of its shape)."""


@pytest.mark.slow
@pytest.mark.parametrize("precision", HERE)
def test_steps_on_this_machine_are_as_planned(
    precision: str, datasets: Callable[[str], Path], world: Callable[..., Any], tmp_path: Path
) -> None:
    """Rates and steps are measured in processor time of one thread, which other programs hardly change."""
    from sesame.configs.machine import Machine
    from sesame.launch import planning

    (tmp_path / "rows").mkdir()
    synthetic.write(tmp_path / "rows", vocabulary=4096, length=64)
    runs = {}
    for name, (family, shape) in HERE[precision].items():
        equal = family == "equal rows"
        run = FAMILY_RUNS["bert" if equal else family]
        runs[name] = {
            "output": str(tmp_path / name),
            "steps": 100,
            "data": {"dataset": str(tmp_path / "rows" if equal else datasets(run.dataset)), "global_batch": 32},
            "model": {**run.model, **shape} | ({"segments": 0} if equal else {}),
            "objectives": {"masked_lm": 1.0} if equal else run.objectives,
            "optimizer": {"name": "adamw", "learning_rate": 1e-3},
            "parallel": {"precision": precision, "threads": 1},
            "report": {"tensorboard": False},
        }
    (tmp_path / "cases.json").write_text(json.dumps(runs))
    world(1, PROCESS, str(tmp_path / "cases.json"), str(tmp_path / "measured.json"), precision)
    measured = json.loads((tmp_path / "measured.json").read_text())
    machine = Machine.model_validate_json(json.dumps(measured["machine"]))
    (tmp_path / "machine.json").write_text(json.dumps(measured["machine"]))
    request = planning.Request(Path(), (), 1, "cpu", tmp_path / "machine.json", None, True, (), None, None, None)
    errors = {}
    for name, values in runs.items():
        run = configs.parse(values, RunConfig, name)
        text = find(Path(run.data.dataset), None, None, None)
        planner = Planner(run, text.vocabulary, text.rows, planning.assumptions(request))
        planner = Planner(run, text.vocabulary, text.rows, planning.calibration(machine, planner))
        layout = planner.configured(1)
        assert layout is not None
        errors[name] = planner.plan(layout, exact=True).time.total / measured["seconds"][name] - 1
    print({name: f"{error:+.1%}" for name, error in errors.items()}, f"x {planner.assumed.calibration:.2f}")
    assert max(map(abs, errors.values())) < 0.25, errors
