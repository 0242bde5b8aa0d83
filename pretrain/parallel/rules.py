"""Which settings of [parallel] cannot be combined, and the nearest combinations that can."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

Settings = Any
"""An object with the settings as attributes."""


class Rule(NamedTuple):
    """A combination that is refused."""

    what: str
    because: str
    applies: Callable[[Settings], bool]


RULES = (
    Rule(
        "zero_stage 3 with expert > 1",
        "it partitions weights over all data-parallel processes, which have different experts",
        lambda run: run.zero_stage == 3 and run.expert > 1,
    ),
    Rule(
        "zero_stage 0 with bf16 or fp16",
        "DeepSpeed computes a wrong gradient norm for it under tensor parallelism, and stage 1 costs nothing on one "
        "process",
        lambda run: run.zero_stage == 0 and run.precision in ("bf16", "fp16"),
    ),
    Rule(
        "compile with tensor > 1",
        "its layers communicate within a block",
        lambda run: run.compile and run.tensor > 1,
    ),
    Rule(
        "compile with zero_stage 3",
        "its layers communicate within a block",
        lambda run: run.compile and run.zero_stage == 3,
    ),
    Rule(
        "fp8 with fp32 or fp16",
        "only its products are in fp8, and all else is in bf16",
        lambda run: run.fp8 and run.precision in ("fp32", "fp16"),
    ),
    Rule(
        "fp8 with zero_stage 0",
        "this stage has no bf16",
        lambda run: run.fp8 and run.zero_stage == 0,
    ),
    Rule(
        "graphs with recompute",
        "its blocks do not keep what a graph works on",
        lambda run: run.graphs and run.recompute != "none",
    ),
    Rule(
        "sequence with tensor 1",
        "it divides the tokens over the processes of tensor parallelism, and there is one",
        lambda run: run.sequence and run.tensor == 1,
    ),
    Rule(
        "offload with zero_stage 0",
        "this stage has no fp32 copies and sums of gradients that could be in host memory",
        lambda run: run.offload != "none" and run.zero_stage == 0,
    ),
    Rule(
        "offload 'parameters' with zero_stage 1 or 2",
        "only stage 3 gathers weights when a layer is used",
        lambda run: run.offload == "parameters" and run.zero_stage in (1, 2),
    ),
    Rule(
        "offload with expert > 1",
        "DeepSpeed sums its gradients over all data-parallel processes, which have different experts",
        lambda run: run.offload != "none" and run.expert > 1,
    ),
)
CHOICES: dict[str, tuple[Any, ...]] = {
    "zero_stage": (0, 1, 2, 3),
    "offload": ("none", "optimizer", "parameters"),
    "precision": ("auto", "bf16", "fp16"),
    "compile": (False, True),
    "fp8": (False, True),
    "graphs": (False, True),
    "recompute": ("none", "attention", "block"),
    "sequence": (False, True),
    "expert": (1,),
    "tensor": (1,),
}
"""Setting -> values that a remedy may have, neighbours beside each other."""


def refusal(settings: Settings) -> str:
    """Return the sentence with which ``settings`` are refused, with the nearest that work; empty if they are not."""
    rule = next((rule for rule in RULES if rule.applies(settings)), None)
    if rule is None:
        return ""
    values = {name: getattr(settings, name) for name in CHOICES}
    remedies = ", or ".join(" and ".join(map(_word, each.items())) for each in remedies_of(values))
    return f"{rule.what} is refused, because {rule.because}; use {remedies}"


def remedies_of(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the smallest changes after which no rule applies, with the nearest values of each set of settings."""
    for count in range(1, len(CHOICES) + 1):
        found = [changes for names in itertools.combinations(CHOICES, count) if (changes := _nearest(names, values))]
        if found:
            return found
    raise AssertionError("one process without ZeRO 3 is always possible")


def _nearest(names: tuple[str, ...], values: Mapping[str, Any]) -> dict[str, Any] | None:
    for chosen in itertools.product(*(_others(name, values[name]) for name in names)):
        changes = dict(zip(names, chosen, strict=True))
        if not any(rule.applies(SimpleNamespace(**{**values, **changes})) for rule in RULES):
            return changes
    return None


def _others(name: str, value: Any) -> Iterator[Any]:
    """Yield the other values of a setting, the nearest first."""
    choices = CHOICES[name]
    place = choices.index(value) if value in choices else len(choices)
    yield from sorted((each for each in choices if each != value), key=lambda each: abs(choices.index(each) - place))


def _word(setting: tuple[str, Any]) -> str:
    name, value = setting
    return f"{name} {str(value).lower()}"
