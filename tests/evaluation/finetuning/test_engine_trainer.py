"""Fine-tuning by pretraining's engine against fine-tuning in one process: the losses of each step and the dev outputs.

In fp32 they are equal within ``BOUND``, twice that of pretraining's layouts (``tests/pretrain/parallel``): outputs
follow several updates.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from sesame.evaluation.finetuning.batches import pack_rows
from sesame.evaluation.finetuning.decoder import kind_of
from sesame.evaluation.finetuning.finetune import DivergedError, Outcome
from sesame.evaluation.finetuning.task_model import TaskModel
from sesame.evaluation.tasks.task import KindName
from tests.evaluation.finetuning.made_tasks import (
    CONFIG,
    KINDS,
    ROWS,
    backbone_of,
    one_process,
    several_processes,
    task_data,
)

BOUND = 2e-6
"""Of the largest loss and the largest output."""
Outcomes = dict[str, Any]
"""Losses and dev outputs; or those by name of a case."""
PROCESS = Path(__file__).with_name("layout_process.py")
EVERY_SETTING = {
    "layer_decay": 0.5,
    "decay_vectors": True,
    "select": "best",
    "gradient_clipping": 0.05,
    "hidden_layer": False,
    "decay": "cosine",
}
DROPOUT = {"dropout": 0.3, "head_dropout": 0.2}


class Case(NamedTuple):
    processes: int
    layout: dict[str, Any]
    kind: KindName = "classify"
    run: str = "bert"
    """Row of ``FAMILY_RUNS``."""
    settings: dict[str, Any] = {}  # noqa: RUF012


QUICK = {
    "tensor 2": Case(2, {"tensor": 2}, "spans"),
    "tensor 2, ZeRO 2, gpt": Case(2, {"tensor": 2, "zero_stage": 2}, "regress", "gpt"),
    "data 2, ZeRO 3": Case(2, {"zero_stage": 3}, "choose", settings={"select": "best"}),
}
LAYOUTS = {
    **{f"data 2, ZeRO {stage}": (2, {"zero_stage": stage}) for stage in (0, 1, 2, 3)},
    **{f"tensor 2, ZeRO {stage}": (2, {"tensor": 2, "zero_stage": stage}) for stage in (0, 1, 2, 3)},
    "tensor 2, sequence": (2, {"tensor": 2, "sequence": True}),
    **{f"tensor 2 x data 2, ZeRO {stage}": (4, {"tensor": 2, "zero_stage": stage}) for stage in (1, 3)},
    "data 4, ZeRO 1": (4, {"zero_stage": 1}),
}
RECOMPUTED = ("data 2, ZeRO 3", "tensor 2, sequence", "tensor 2 x data 2, ZeRO 1")
FAMILIES = ("bert, modern", "bert, RoBERTa", "albert", "elmo", "t5", "t5, v1.1")
THOROUGH = {
    **{
        f"{name}, {run}, {kind}": Case(processes, layout, kind, run)
        for name, (processes, layout) in LAYOUTS.items()
        for run, kinds in {"bert": KINDS, "gpt": ("classify", "choose")}.items()
        for kind in kinds
    },
    **{
        f"{name}, {run}": Case(*LAYOUTS[name], run=run)
        for run in FAMILIES
        for name in ("tensor 2, ZeRO 1", "tensor 2 x data 2, ZeRO 3")
    },
    # The capacity of its experts is a share of the tokens of a process, so that parts of a batch drop other tokens.
    "tensor 2, ZeRO 1, switch": Case(*LAYOUTS["tensor 2, ZeRO 1"], run="switch"),
    **{f"{name}, all settings": Case(*layout, settings=EVERY_SETTING) for name, layout in LAYOUTS.items()},
    **{f"{name}, recompute": Case(*LAYOUTS[name], settings={"recompute": True}) for name in RECOMPUTED},
}


def comparable(outputs: np.ndarray, kind: str) -> np.ndarray:
    """Return outputs without what says nothing."""
    if kind == "choose":
        # The bias of the output layer is the same for all candidates, so that its gradient is rounding errors only.
        outputs = outputs - outputs.mean()
    # Places that are never an answer are -inf.
    return np.where(np.isfinite(outputs), outputs, 0.0)


def assert_same(name: str, kind: str, one: Outcomes, other: Outcomes) -> None:
    pairs = {
        "losses": (one["losses"], other["losses"]),
        "dev outputs": (comparable(one["dev"], kind), comparable(other["dev"], kind)),
    }
    for what, (first, second) in pairs.items():
        assert first.shape == second.shape
        difference = np.abs(first - second).max() / np.abs(first).max()
        assert difference < BOUND, f"{name}: {what} differ by {difference:.1e}"


def values_of(outcome: Outcome) -> Outcomes:
    return {"losses": outcome.losses, "dev": outcome.dev[""]}


@pytest.fixture
def run_cases(world: Callable[..., list[str]], dataset: Path, tmp_path: Path) -> Callable[[dict[str, Case]], Outcomes]:
    """cases -> losses and outputs of each, from as few worlds of processes as there are sizes."""

    def run(cases: dict[str, Case]) -> Outcomes:
        targets = {name: tmp_path / f"{number}.npz" for number, name in enumerate(cases)}
        for processes in {case.processes for case in cases.values()}:
            own = [
                [case.run, case.kind, case.settings, case.layout, str(dataset / "tokenizer.model"), str(targets[name])]
                for name, case in cases.items()
                if case.processes == processes
            ]
            path = tmp_path / f"{processes}.json"
            path.write_text(json.dumps(own))
            world(processes, PROCESS, str(path))
        return {name: dict(np.load(target)) for name, target in targets.items()}

    return run


def assert_equal_one_process(cases: dict[str, Case], found: Outcomes, tokenizer: Path) -> None:
    """Compare each case with its run in one process, which is computed once."""
    known: dict[str, Outcomes] = {}
    for name, case in cases.items():
        key = json.dumps([case.run, case.kind, case.settings])
        if key not in known:
            known[key] = values_of(one_process(case.run, case.kind, case.settings, tokenizer))
        assert_same(name, case.kind, known[key], found[name])


@pytest.mark.slow
def test_processes_equal_one(run_cases: Callable[..., Outcomes], dataset: Path) -> None:
    assert_equal_one_process(QUICK, run_cases(QUICK), dataset / "tokenizer.model")


@pytest.mark.slow
def test_every_layout_equals_one_process(run_cases: Callable[..., Outcomes], dataset: Path) -> None:
    assert_equal_one_process(THOROUGH, run_cases(THOROUGH), dataset / "tokenizer.model")


@pytest.mark.slow
@pytest.mark.parametrize("parts", [1, 2])
def test_dropout_has_the_same_masks_in_each_layout(parts: int, run_cases: Callable[..., Outcomes]) -> None:
    """Masks of hidden states follow from seed, step and part of the rows."""
    cases = {
        name: Case(*layout, settings=DROPOUT)
        for name, layout in LAYOUTS.items()
        if layout[0] == parts * layout[1].get("tensor", 1)
    }
    found = run_cases(cases)
    first = next(iter(found.values()))
    plain = one_process("bert", "classify", {})
    assert np.abs(first["losses"] - plain.losses).max() > 1e-3, "nothing was dropped"
    for name, other in found.items():
        assert_same(name, "classify", first, other)


@pytest.mark.slow
def test_bf16_is_one_process_within_its_precision(run_cases: Callable[..., Outcomes]) -> None:
    """Products are rounded to 8 bits, 4e-3."""
    cases = {name: Case(*layout, settings={"precision": "bf16"}) for name, layout in LAYOUTS.items()}
    one = one_process("bert", "classify", {"precision": "bf16"})
    for name, found in run_cases(cases).items():
        np.testing.assert_allclose(found["losses"], one.losses, rtol=2e-2, err_msg=name)


@pytest.mark.parametrize(("kind", "stage"), [(kind, number % 4) for number, kind in enumerate(KINDS)])
def test_one_part_equals_one_process(kind: KindName, stage: int) -> None:
    """The engine in this process alone, with every setting of the optimizer; stage 3 keeps gathered weights."""
    settings = EVERY_SETTING | ({"select": "last"} if kind == "extract" else {})
    one = one_process("bert", kind, settings)
    other, is_first = several_processes("bert", kind, settings, {"zero_stage": stage})
    assert is_first and other.epoch == one.epoch and other.dev_scores == pytest.approx(one.dev_scores, abs=1e-6)
    assert_same(kind, kind, values_of(one), values_of(other))


@pytest.mark.parametrize("stage", [0, 1, 3])
def test_training_that_diverges_ends_with_a_sentence(stage: int) -> None:
    with pytest.raises(DivergedError, match=r"classify: the gradient norm is not finite at step \d of 8"):
        several_processes("bert", "classify", {"learning_rate": 1e30, "gradient_clipping": 0.0}, {"zero_stage": stage})


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_have_the_loss_of_the_whole(kind: KindName) -> None:
    """Weighted by their terms, because rows may have several sequences."""
    data = task_data(kind)
    assert data.train is not None
    of_kind, model = kind_of(data, CONFIG), TaskModel(backbone_of("bert"), data.task, CONFIG).eval()

    def loss(rows: np.ndarray) -> torch.Tensor:
        train = data.train
        assert train is not None
        targets, counts = torch.from_numpy(train.targets_of(rows)), torch.from_numpy(train.row_counts[rows])
        return of_kind.loss(model(pack_rows(train, rows)), targets, counts) * of_kind.terms(train, rows)

    rows = np.arange(ROWS)
    whole = loss(rows) / of_kind.terms(data.train, rows)
    parts = sum(loss(rows[part::3]) for part in range(3)) / of_kind.terms(data.train, rows)
    torch.testing.assert_close(parts, whole)
