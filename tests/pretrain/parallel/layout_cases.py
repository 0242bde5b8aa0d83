"""Runs of a few steps in many layouts, and the run of one process that each is compared with.

``FAST`` are those of ``test_layouts.py``, which every change is tested in, ``THOROUGH`` those of
``test_layouts_thorough.py``, and ``COMPILED`` those of ``test_layouts_compiled.py``. Cases with equal numbers of
processes and tensor parallelism run one after the other in one world.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from tests.pretrain.family_runs import FAMILY_RUNS

SGD: dict[str, Any] = {"name": "sgd"}
LAMB = {"name": "lamb", "learning_rate": 0.01, "epsilon": 1e-3}
ADAFACTOR = {"name": "adafactor", "learning_rate": 0.01}
ADAGRAD = {"name": "adagrad", "learning_rate": 0.2}
OPTIMIZERS = {"LAMB": LAMB, "Adafactor": ADAFACTOR, "Adagrad": ADAGRAD}
MUON = {"name": "muon", "learning_rate": 0.01, "epsilon": 1e-3}
AVERAGED = {"name": "sgd", "average_decay": 0.3}


class Case(NamedTuple):
    processes: int
    parallel: dict[str, Any]
    optimizer: dict[str, Any]
    run: str = "bert"
    """Row of ``FAMILY_RUNS``."""
    loss: dict[str, Any] | None = None
    """The section [loss]."""
    model: dict[str, Any] = {}  # noqa: RUF012
    """Changes of its model."""
    data: Mapping[str, Any] = MappingProxyType({})
    loss_weight: float = 1.0


Variants = dict[str, tuple[str, Case]]
"""Name -> the case that it equals, and the case."""
BUDGET = {"micro_batch": 0, "micro_tokens": 200}
DROPOUT: dict[str, Any] = {"dropout": 0.2}
SEQUENCE: dict[str, Any] = {"tensor": 2, "sequence": True}
OFFLOAD: dict[str, Any] = {"zero_stage": 2, "offload": "optimizer"}
ON_HOST: dict[str, Any] = {"zero_stage": 3, "offload": "parameters"}
Z_LOSS = {"z_loss": 0.1}
SMALL_LOSS = 0.25
"""Weight of the losses in fp16, so that no gradient overflows at the first loss scale."""

LAYOUTS = {
    "data 2, ZeRO 0": Case(2, {"zero_stage": 0}, SGD),
    "data 2, ZeRO 1": Case(2, {"zero_stage": 1}, SGD),
    "data 2, ZeRO 2": Case(2, {"zero_stage": 2}, SGD),
    "data 2, ZeRO 3": Case(2, {"zero_stage": 3}, SGD),
    "tensor 2, ZeRO 0": Case(2, {"tensor": 2, "zero_stage": 0}, SGD),
    "tensor 2, ZeRO 1": Case(2, {"tensor": 2, "zero_stage": 1}, SGD),
    "tensor 2 x data 2, ZeRO 0": Case(4, {"tensor": 2, "zero_stage": 0}, SGD),
    "tensor 2 x data 2, ZeRO 1": Case(4, {"tensor": 2, "zero_stage": 1}, SGD),
    "tensor 2 x data 2, ZeRO 2": Case(4, {"tensor": 2, "zero_stage": 2}, SGD),
    "tensor 2 x data 2, ZeRO 3": Case(4, {"tensor": 2, "zero_stage": 3}, SGD),
}
BUDGETS = {
    "token budget, ZeRO 0": Case(1, {"zero_stage": 0}, SGD, data=BUDGET),
    "token budget, ZeRO 1": Case(1, {"zero_stage": 1}, SGD, data=BUDGET),
    **{
        f"token budget, data 2, ZeRO {stage}": Case(2, {"zero_stage": stage}, SGD, data=BUDGET)
        for stage in (0, 1, 2, 3)
    },
    "token budget, tensor 2, ZeRO 1": Case(2, {"tensor": 2, "zero_stage": 1}, SGD, data=BUDGET),
}
SLOW_BUDGETS = [f"token budget, data 2, ZeRO {stage}" for stage in (0, 2)]
FAST_LAYOUTS = {name: case for name, case in {**LAYOUTS, **BUDGETS}.items() if name not in SLOW_BUDGETS}
EXPERT_LAYOUTS = {
    "expert 2, ZeRO 0": Case(2, {"expert": 2, "zero_stage": 0}, SGD, "switch"),
    "expert 2, ZeRO 1": Case(2, {"expert": 2, "zero_stage": 1}, SGD, "switch"),
    "expert 2, ZeRO 2": Case(2, {"expert": 2, "zero_stage": 2}, SGD, "switch"),
    "expert 2 of data 4, ZeRO 0": Case(4, {"expert": 2, "zero_stage": 0}, SGD, "switch"),
    "expert 2 of data 4, ZeRO 2": Case(4, {"expert": 2, "zero_stage": 2}, SGD, "switch"),
    "tensor 2 x expert 2, ZeRO 0": Case(4, {"tensor": 2, "expert": 2, "zero_stage": 0}, SGD, "switch"),
    "tensor 2 x expert 2, ZeRO 1": Case(4, {"tensor": 2, "expert": 2, "zero_stage": 1}, SGD, "switch"),
}
"""Expert parallelism of Switch; its capacity factor is 1, so that tokens are dropped."""
VARIANTS: Variants = {
    "data 2, ZeRO 3, parameters in host memory": ("one", Case(2, ON_HOST, SGD)),
    "tensor 2, sequence, dropout": ("one, dropout", Case(2, {**SEQUENCE, "zero_stage": 1}, SGD, model=DROPOUT)),
    "tensor 2 x data 2, sequence": ("one, switch", Case(4, {**SEQUENCE, "zero_stage": 2}, SGD, "switch")),
}
"""Layouts of which each world of processes runs a few."""
MORE_VARIANTS: Variants = {
    "data 2, ZeRO 1, offload": ("one", Case(2, {"zero_stage": 1, "offload": "optimizer"}, SGD)),
    "tensor 2, sequence, ZeRO 2, offload": ("one", Case(2, {**SEQUENCE, **OFFLOAD}, SGD)),
    "tensor 2 x data 2, ZeRO 3, offload": ("one", Case(4, {"tensor": 2, "zero_stage": 3, "offload": "optimizer"}, SGD)),
    "tensor 2, sequence, ZeRO 0": ("one", Case(2, {**SEQUENCE, "zero_stage": 0}, SGD)),
    "tensor 2, sequence, recompute": ("one", Case(2, {**SEQUENCE, "recompute": "block"}, SGD)),
    "data 2, ZeRO 2, recompute of attention": ("one", Case(2, {"zero_stage": 2, "recompute": "attention"}, SGD)),
    "data 2, ZeRO 3, recompute": ("one", Case(2, {"zero_stage": 3, "recompute": "block"}, SGD)),
    "token budget, tensor 2, sequence, recompute": (
        "one",
        Case(2, {**SEQUENCE, "recompute": "block"}, SGD, data=BUDGET),
    ),
    "tensor 2, recompute of attention": ("one", Case(2, {"tensor": 2, "recompute": "attention"}, SGD)),
    "tensor 2 x data 2, sequence, ZeRO 2": ("one", Case(4, {**SEQUENCE, "zero_stage": 2}, SGD)),
    "tensor 2 x data 2, sequence, ZeRO 3": ("one", Case(4, {**SEQUENCE, "zero_stage": 3}, SGD)),
    "tensor 2 x expert 2, sequence": ("one, switch", Case(4, {**SEQUENCE, "expert": 2}, SGD, "switch")),
    **{
        f"tensor 2, sequence, recompute, {run}": (f"one, {run}", Case(2, {**SEQUENCE, "recompute": "block"}, SGD, run))
        for run in FAMILY_RUNS
        if run not in ("bert", "elmo")
    },
}
COMPILES: dict[str, Any] = {"compile": True}
COMPILED_VARIANTS: Variants = {
    "compiled": ("one", Case(1, COMPILES, SGD)),
    "compiled, token budget": ("one", Case(1, COMPILES, SGD, data=BUDGET)),
    "compiled, recompute": ("one", Case(1, {**COMPILES, "recompute": "block"}, SGD)),
    "compiled, bert, modern": ("one, bert, modern", Case(1, COMPILES, SGD, "bert, modern")),
    "compiled, t5": ("one, t5", Case(1, COMPILES, SGD, "t5")),
    "compiled, switch": ("one, switch", Case(1, COMPILES, SGD, "switch")),
    "compiled, Muon": ("one, Muon", Case(1, COMPILES, MUON)),
    "data 2, ZeRO 0, compiled": ("one", Case(2, {**COMPILES, "zero_stage": 0}, SGD)),
    "data 2, ZeRO 1, compiled, token budget": ("one", Case(2, COMPILES, SGD, data=BUDGET)),
    "data 2, ZeRO 2, compiled, offload": ("one", Case(2, {**COMPILES, **OFFLOAD}, SGD)),
    "expert 2, ZeRO 1, compiled": ("one, switch", Case(2, {**COMPILES, "expert": 2}, SGD, "switch")),
}
"""Tensor parallelism and ZeRO 3 communicate within blocks, which are not compiled then."""
FAMILY_LAYOUTS = ["tensor 2, ZeRO 1", "tensor 2 x data 2, ZeRO 3"]
OTHER_RUNS = [run for run in FAMILY_RUNS if run != "bert"]
"""BERT is compared in all layouts, the others in two."""
LIKE_BERT = ("bert, modern", "bert, RoBERTa", "bert, GPT-BERT", "albert", "t5, v1.1")
"""Runs that one of the two layouts is enough for at every change."""
FAST_FAMILIES = [
    (name, run) for name in FAMILY_LAYOUTS for run in OTHER_RUNS if "data" not in name or run not in LIKE_BERT
]
SLOW_FAMILIES = [(name, run) for name in FAMILY_LAYOUTS for run in OTHER_RUNS if (name, run) not in FAST_FAMILIES]
BUDGET_RUNS = [run for run in OTHER_RUNS if run != "switch"]
"""Switch's capacity and balance are those of a micro-batch (``tests/pretrain/data/test_token_budget.py``)."""
OTHER_LAYOUTS = ["data 2, ZeRO 1", "data 2, ZeRO 3", "tensor 2 x data 2, ZeRO 2"]
EXPERT_LAMB_LAYOUTS = ["expert 2, ZeRO 0", "expert 2 of data 4, ZeRO 2"]
EXPERT_BF16_LAYOUTS = ["expert 2, ZeRO 1", "expert 2 of data 4, ZeRO 2", "tensor 2 x expert 2, ZeRO 1"]

FAST_MUON = ["data 2, ZeRO 1", "data 2, ZeRO 3", "tensor 2 x data 2, ZeRO 2"]
FAST_EXPERT_MUON = ["expert 2, ZeRO 1"]
MUON_VARIANTS: dict[str, Case] = {
    "data 2, ZeRO 1, offload": Case(2, {"zero_stage": 1, "offload": "optimizer"}, MUON),
    "data 2, ZeRO 2, offload": Case(2, OFFLOAD, MUON),
    "data 2, ZeRO 3, parameters in host memory": Case(2, ON_HOST, MUON),
    "tensor 2, sequence": Case(2, {**SEQUENCE, "zero_stage": 1}, MUON),
    "tensor 2, sequence, ZeRO 2, offload": Case(2, {**SEQUENCE, **OFFLOAD}, MUON),
    "tensor 2, sequence, recompute": Case(2, {**SEQUENCE, "recompute": "block"}, MUON),
    "tensor 2 x data 2, sequence, ZeRO 3": Case(4, {**SEQUENCE, "zero_stage": 3}, MUON),
    "tensor 2 x data 2, ZeRO 3, parameters in host memory": Case(4, {"tensor": 2, **ON_HOST}, MUON),
}
"""A whole update needs whole matrices, so that it is compared in every layout."""
AVERAGE_LAYOUTS = {
    **LAYOUTS,
    "data 2, ZeRO 2, offload": Case(2, OFFLOAD, SGD),
    "tensor 2 x data 2, sequence, ZeRO 3": Case(4, {**SEQUENCE, "zero_stage": 3}, SGD),
}
REDUCED_LAYOUTS = {
    name: case._replace(parallel={**case.parallel, "reduction": "bf16"})
    for name, case in {
        **{name: case for name, case in LAYOUTS.items() if case.processes > case.parallel.get("tensor", 1)},
        "data 2, ZeRO 2, offload": Case(2, OFFLOAD, SGD),
    }.items()
}
FP16_LAYOUTS = {
    f"{name}, fp16": case._replace(parallel={**case.parallel, "precision": "fp16"}, loss_weight=SMALL_LOSS)
    for name, case in {
        "one": Case(1, {"zero_stage": 1}, SGD),
        "data 2, ZeRO 3": LAYOUTS["data 2, ZeRO 3"],
        "tensor 2, ZeRO 2, sequence, offload": Case(2, {**SEQUENCE, **OFFLOAD}, SGD),
    }.items()
}
MORE_FP16_LAYOUTS = {
    f"{name}, fp16": LAYOUTS[name]._replace(
        parallel={**LAYOUTS[name].parallel, "precision": "fp16"}, loss_weight=SMALL_LOSS
    )
    for name in (
        "data 2, ZeRO 1",
        "data 2, ZeRO 2",
        "tensor 2, ZeRO 1",
        "tensor 2 x data 2, ZeRO 2",
        "tensor 2 x data 2, ZeRO 3",
    )
}
FP16_MUON = {
    f"{name}, fp16, Muon": case._replace(
        parallel={**case.parallel, "precision": "fp16"}, optimizer=MUON, loss_weight=SMALL_LOSS
    )
    for name, case in {
        "one": Case(1, {"zero_stage": 1}, MUON),
        "data 2, ZeRO 2": LAYOUTS["data 2, ZeRO 2"],
        "data 2, ZeRO 3": LAYOUTS["data 2, ZeRO 3"],
        "tensor 2, ZeRO 1": LAYOUTS["tensor 2, ZeRO 1"],
        "tensor 2, ZeRO 2, sequence, offload": Case(2, {**SEQUENCE, **OFFLOAD}, MUON),
    }.items()
}
FP8: dict[str, Any] = {"precision": "bf16", "fp8": True}
FP8_VARIANTS: Variants = {
    "data 2, ZeRO 3, fp8": ("one, fp8", Case(2, {**FP8, "zero_stage": 3}, SGD)),
    "tensor 2, sequence, fp8": ("one, fp8", Case(2, {**FP8, **SEQUENCE}, SGD)),
}
MORE_FP8_VARIANTS: Variants = {
    "data 2, ZeRO 1, fp8": ("one, fp8", Case(2, FP8, SGD)),
    "data 2, ZeRO 2, offload, fp8": ("one, fp8", Case(2, {**FP8, **OFFLOAD}, SGD)),
    "tensor 2, ZeRO 1, fp8": ("one, fp8", Case(2, {**FP8, "tensor": 2}, SGD)),
    "tensor 2, recompute, fp8": ("one, fp8", Case(2, {**FP8, "tensor": 2, "recompute": "block"}, SGD)),
    "tensor 2 x data 2, ZeRO 3, fp8": ("one, fp8", Case(4, {**FP8, "tensor": 2, "zero_stage": 3}, SGD)),
    "token budget, fp8": ("one, fp8", Case(1, FP8, SGD, data=BUDGET)),
    "expert 2, ZeRO 1, fp8": ("one, switch, fp8", Case(2, {**FP8, "expert": 2}, SGD, "switch")),
    "tensor 2, sequence, t5, fp8": ("one, t5, fp8", Case(2, {**FP8, **SEQUENCE}, SGD, "t5")),
}
FAST: dict[str, Case] = {
    "one, fp8": Case(1, FP8, SGD),
    **{name: case for name, (_, case) in FP8_VARIANTS.items()},
    "one, small loss": Case(1, {"zero_stage": 1}, SGD, loss_weight=SMALL_LOSS),
    **FP16_LAYOUTS,
    "one, dropout": Case(1, {"zero_stage": 1}, SGD, model=DROPOUT),
    **{name: case for name, (_, case) in VARIANTS.items()},
    "one": Case(1, {"zero_stage": 1}, SGD),
    **FAST_LAYOUTS,
    **{f"one, {kind}": Case(1, {"zero_stage": 0}, settings) for kind, settings in OPTIMIZERS.items()},
    **{
        f"{layout}, {kind}": LAYOUTS[layout]._replace(optimizer=settings)
        for layout in OTHER_LAYOUTS
        for kind, settings in OPTIMIZERS.items()
    },
    "one, z-loss": Case(1, {"zero_stage": 1}, SGD, loss=Z_LOSS),
    **{f"{layout}, z-loss": LAYOUTS[layout]._replace(loss=Z_LOSS) for layout in FAMILY_LAYOUTS},
    "one, Muon": Case(1, {"zero_stage": 0}, MUON),
    **{f"{layout}, Muon": LAYOUTS[layout]._replace(optimizer=MUON) for layout in FAST_MUON},
    **{f"one, {run}": Case(1, {"zero_stage": 1}, SGD, run) for run in OTHER_RUNS},
    **{f"{name}, {run}": LAYOUTS[name]._replace(run=run) for name, run in FAST_FAMILIES},
    **{f"token budget, {run}": Case(1, {"zero_stage": 1}, SGD, run, data=BUDGET) for run in BUDGET_RUNS},
    **EXPERT_LAYOUTS,
    **{f"one, {run}, Muon": Case(1, {"zero_stage": 0}, MUON, run) for run in ("elmo", "switch")},
    "tensor 2 x data 2, ZeRO 3, elmo, Muon": LAYOUTS["tensor 2 x data 2, ZeRO 3"]._replace(optimizer=MUON, run="elmo"),
    **{f"{name}, Muon": EXPERT_LAYOUTS[name]._replace(optimizer=MUON) for name in FAST_EXPERT_MUON},
    "one, switch, LAMB": Case(1, {"zero_stage": 0}, LAMB, "switch"),
    **{f"{name}, LAMB": EXPERT_LAYOUTS[name]._replace(optimizer=LAMB) for name in EXPERT_LAMB_LAYOUTS},
    "one, switch, bf16": Case(1, {"precision": "bf16"}, SGD, "switch"),
    **{
        f"{name}, bf16": EXPERT_LAYOUTS[name]._replace(parallel={**EXPERT_LAYOUTS[name].parallel, "precision": "bf16"})
        for name in EXPERT_BF16_LAYOUTS
    },
    **{f"one, bf16, ZeRO {stage}": Case(1, {"precision": "bf16", "zero_stage": stage}, SGD) for stage in (1, 2, 3)},
    **{
        f"tensor 2, bf16, ZeRO {stage}": Case(2, {"precision": "bf16", "tensor": 2, "zero_stage": stage}, SGD)
        for stage in (1, 2, 3)
    },
}
THOROUGH: dict[str, Case] = {
    "one, fp8": Case(1, FP8, SGD),
    **{f"one, {run}, fp8": Case(1, FP8, SGD, run) for run in ("switch", "t5")},
    **{name: case for name, (_, case) in MORE_FP8_VARIANTS.items()},
    "one": Case(1, {"zero_stage": 1}, SGD),
    "one, small loss": Case(1, {"zero_stage": 1}, SGD, loss_weight=SMALL_LOSS),
    **MORE_FP16_LAYOUTS,
    **{f"one, {run}": Case(1, {"zero_stage": 1}, SGD, run) for run in OTHER_RUNS if run != "elmo"},
    **{f"{name}, {run}": LAYOUTS[name]._replace(run=run) for name, run in SLOW_FAMILIES},
    **{name: BUDGETS[name] for name in SLOW_BUDGETS},
    **{name: case for name, (_, case) in MORE_VARIANTS.items()},
    "one, Muon": Case(1, {"zero_stage": 0}, MUON),
    "one, switch, Muon": Case(1, {"zero_stage": 0}, MUON, "switch"),
    **{
        f"{name}, Muon": case._replace(optimizer=MUON)
        for name, case in {**LAYOUTS, **BUDGETS}.items()
        if name not in FAST_MUON
    },
    **{f"{name}, Muon": case._replace(optimizer=MUON) for name, case in EXPERT_LAYOUTS.items()},
    **{f"{name}, Muon": case for name, case in MUON_VARIANTS.items()},
    **FP16_MUON,
    **{f"{name}, reduced in bf16": case for name, case in REDUCED_LAYOUTS.items()},
    "expert 2, ZeRO 1, reduced in bf16": Case(2, {"expert": 2, "reduction": "bf16"}, SGD, "switch"),
    "one, averaged": Case(1, {"zero_stage": 1}, AVERAGED),
    **{f"{name}, averaged": case._replace(optimizer=AVERAGED) for name, case in AVERAGE_LAYOUTS.items()},
}
COMPILED: dict[str, Case] = {
    "one": Case(1, {"zero_stage": 1}, SGD),
    "one, Muon": Case(1, {"zero_stage": 0}, MUON),
    **{f"one, {run}": Case(1, {"zero_stage": 1}, SGD, run) for run in ("bert, modern", "t5", "switch")},
    **{name: case for name, (_, case) in COMPILED_VARIANTS.items()},
}
