"""The planned time of a step is that of steps that were measured."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame import configs
from sesame.configs.machine import Machine
from sesame.configs.shipped import FOLDER
from sesame.data_pipeline.dataset import synthetic
from sesame.launch.planning import measured
from sesame.launch.planning.request import Request
from sesame.pretrain.config import RunConfig
from sesame.pretrain.planning.gpus import assumptions
from sesame.pretrain.planning.plan import Planner
from sesame.pretrain.planning.rows import Rows, find
from sesame.pretrain.planning.step_time import StepTime
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


class Here(NamedTuple):
    """A run of some steps on this machine."""

    run: str
    """Row of ``FAMILY_RUNS``."""
    shape: dict[str, Any]
    equal_rows: bool = False
    """Rows of 64 tokens, instead of those of the family's dataset, which have different lengths."""


def stack(width: int, layers: int = 4, **changes: Any) -> dict[str, Any]:
    heads = max(4, width // 64)
    return {
        "layers": layers,
        "width": width,
        "heads": heads,
        "feed_forward_width": 4 * width,
        "positions": 128,
        **changes,
    }


def stacks(width: int) -> dict[str, Any]:
    shape = stack(width, 3, decoder_layers=3, head_width=32)
    del shape["positions"]
    return shape


HERE = {
    "BERT 128": Here("bert", stack(128)),
    "BERT 512": Here("bert", stack(512)),
    "BERT 128, equal rows": Here("bert", stack(128), equal_rows=True),
    "BERT 512, equal rows": Here("bert", stack(512), equal_rows=True),
    "dropout": Here("bert", stack(256, dropout=0.1, attention_dropout=0.1)),
    "modern": Here("bert, modern", stack(192)),
    "GPT": Here("gpt", stack(128)),
    "T5": Here("t5", stacks(128)),
}


def settings(case: Here, dataset: Path, precision: str, output: Path) -> dict[str, Any]:
    run = FAMILY_RUNS[case.run]
    return {
        "output": str(output),
        "steps": 100,
        "data": {"dataset": str(dataset), "global_batch": 32},
        "model": {**run.model, **case.shape} | ({"segments": 0} if case.equal_rows else {}),
        "objectives": {"masked_lm": 1.0} if case.equal_rows else run.objectives,
        "optimizer": {"name": "adamw", "learning_rate": 1e-3},
        "parallel": {"precision": precision, "threads": 1},
        "report": {"tensorboard": False},
    }


def planned(values: dict[str, Any], machine: Path, precision: str) -> StepTime:
    run = configs.parse(values, RunConfig, "the test's run")
    text = find(Path(run.data.dataset), None, None, None)
    request = Request(Path(), (), 1, None, machine, None, True, (), None, None, None)
    measures = Machine.load(machine)
    planner = Planner(run, text.vocabulary, text.rows, measured.assumptions(request, measures, precision))
    planner = Planner(run, text.vocabulary, text.rows, measured.calibration(measures, planner))
    layout = planner.configured(1)
    assert layout is not None
    return planner.plan(layout, exact=True).time


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_steps_on_this_machine_are_as_planned(
    precision: str, datasets: Callable[[str], Path], world: Callable[..., Any], tmp_path: Path
) -> None:
    """Rates and steps are measured in processor time of one thread, which other programs hardly change."""
    (tmp_path / "rows").mkdir()
    synthetic.write(tmp_path / "rows", vocabulary=4096, length=64)
    runs = {}
    for name, case in HERE.items():
        dataset = tmp_path / "rows" if case.equal_rows else datasets(FAMILY_RUNS[case.run].dataset)
        runs[name] = settings(case, dataset, precision, tmp_path / name)
    (tmp_path / "cases.json").write_text(json.dumps(runs))
    world(1, PROCESS, str(tmp_path / "cases.json"), str(tmp_path / "measured.json"), precision)
    found = json.loads((tmp_path / "measured.json").read_text())
    machine = tmp_path / "machine.json"
    machine.write_text(json.dumps(found["machine"]))
    errors = {}
    for name, values in runs.items():
        time, seconds = planned(values, machine, precision), found["seconds"][name]
        errors[name] = time.total / seconds - 1
        parts = ", ".join(f"{part} {value * 1e3:.1f}" for part, value in time._asdict().items() if value)
        print(f"{precision} {name}: {seconds * 1e3:.1f} ms, planned {errors[name]:+.0%}: {parts}", flush=True)
    print(f"{precision} rates: {found['machine']['devices'][0]['layers'][precision]}")
    assert max(map(abs, errors.values())) < 0.25, errors
