"""Activations: the papers' formula, extrapolation against whole traces, and the parts of split models."""

from typing import Any

import pytest

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.layers.vocabulary import LOGITS_AT_ONCE
from sesame.pretrain.learner import build
from sesame.pretrain.models.family import ModelConfig, Vocabulary
from sesame.pretrain.models.gpt import GptConfig
from sesame.pretrain.optimizers import OPTIMIZERS
from sesame.pretrain.planning.activations import Activations
from sesame.pretrain.planning.layout import Counts
from sesame.pretrain.planning.rows import Rows
from sesame.pretrain.planning.split import Division, IndivisibleError, Split, split_learner
from tests.pretrain.family_runs import FAMILY_RUNS

TEXT = Rows(128, 0, "")
ROWS = {"text": TEXT, "pairs": Rows(128, 20, ""), "spans": Rows(115, 26, "")}
"""Dataset of ``FAMILY_RUNS`` -> its rows here."""


def gpt(**changes: Any) -> GptConfig:
    return GptConfig(layers=3, width=512, heads=8, feed_forward_width=2048, positions=128, **changes)


def added_by_a_layer(config: GptConfig, division: Division, sequences: int) -> float:
    """Bytes that one more layer keeps for the backward pass."""
    activations = Activations(config, {"causal_lm": 1.0}, Vocabulary(512), TEXT, "cuda")
    few, more = (activations.traced(division, sequences, (("layers", layers),)).released_early for layers in (2, 3))
    return more - few


@pytest.mark.parametrize("tensor", [1, 2, 4])
def test_a_layer_of_gpt_keeps_what_the_formula_says(tensor: int) -> None:
    """Korthikanti et al. 2022, section 4: s b h (10 + 24 / t + 5 a s / (h t)) bytes without sequence parallelism; the
    last term is that of the scores, which fused attention replaces by one fp32 number for a query and head. The joined
    weights of queries, keys and values are kept too, where layers are whole."""
    sequences, length, width, heads = 4, TEXT.tokens, 512, 8
    joined = 2 * 3 * width**2 if tensor == 1 else 0
    formula = joined + sequences * length * (width * (10 + 24 / tensor) + 4 * heads / tensor)
    config = gpt(dropout=0.1, attention_dropout=0.1)
    assert added_by_a_layer(config, Division(tensor, precision="bf16"), sequences) == pytest.approx(formula, rel=0.01)


@pytest.mark.parametrize("tensor", [2, 4])
def test_sequence_parallelism_divides_all_that_a_layer_keeps(tensor: int) -> None:
    """The same paper's equation 4: s b h 34 / t bytes, beside the scores."""
    formula = 4 * TEXT.tokens * (512 * 34 + 4 * 8) / tensor
    config = gpt(dropout=0.1, attention_dropout=0.1)
    division = Division(tensor, precision="bf16", sequence=True)
    assert added_by_a_layer(config, division, 4) == pytest.approx(formula, rel=0.01)


def test_a_recomputed_layer_keeps_its_input_only() -> None:
    """The same paper's section 5: 2 s b h bytes."""
    assert added_by_a_layer(gpt(dropout=0.0), Division(precision="bf16", recompute="block"), 4) == pytest.approx(
        2 * 4 * TEXT.tokens * 512, rel=0.01
    )


@pytest.mark.parametrize(
    "name", ["gpt", *(pytest.param(name, marks=pytest.mark.slow) for name in ("bert", "t5", "switch"))]
)
def test_few_layers_and_sequences_tell_of_many(name: str) -> None:
    run = FAMILY_RUNS[name]
    stacks = {"layers": 7, "decoder_layers": 6} if "decoder_layers" in run.model else {"layers": 7}
    values = {
        "output": "run",
        "steps": 1,
        "data": {"dataset": "dataset", "global_batch": 32},
        "model": {**run.model, **stacks, "positions": 128} if "positions" in run.model else {**run.model, **stacks},
        "objectives": run.objectives,
        "optimizer": {"learning_rate": 0.1},
    }
    config = configs.parse(values, RunConfig, "the test's run")
    activations = Activations(config.model, run.objectives, Vocabulary(512), ROWS[run.dataset], "cuda")
    whole = activations.traced(Division(), 8, tuple(stacks.items()))
    assert list(activations.of_sequences(Division(), 8)) == pytest.approx(list(whole), rel=1e-6)
    # Between two numbers of sequences it is never too small.
    between = activations.of(Division(), 8, 32)
    assert whole.released <= between.released * 1.001 <= whole.released * 1.1
    assert whole.kept <= between.kept * 1.001 <= whole.kept * 1.1


def test_logits_in_parts_are_counted_from_few_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory rises until a part of four sequences is full, and then more slowly; full parts are the most."""
    monkeypatch.setitem(LOGITS_AT_ONCE, "cuda", 2**21)
    activations = Activations(gpt(dropout=0.0), {"causal_lm": 1.0}, Vocabulary(4096), TEXT, "cuda")
    for sequences in (3, 4, 6, 20, 64):
        whole = activations.traced(Division(precision="bf16"), sequences, (("layers", 3),))
        counted = activations.of(Division(precision="bf16"), sequences, 256)
        assert whole.released <= counted.released * 1.01 <= whole.released * 1.1, sequences
        assert counted.moved == pytest.approx(whole.moved, rel=0.03), sequences


@pytest.mark.parametrize("name", FAMILY_RUNS)
def test_the_parts_of_a_model_add_up(name: str) -> None:
    """What is split has a half in each of two processes, and the rest is in both."""
    run = FAMILY_RUNS[name]
    model: ModelConfig = configs.parse(
        {
            "output": "run",
            "steps": 1,
            "data": {"dataset": "dataset", "global_batch": 1},
            "model": run.model,
            "objectives": run.objectives,
            "optimizer": {"learning_rate": 0.1},
        },
        RunConfig,
        "the test's run",
    ).model
    whole, half, quarter = (
        Counts.of(_part(model, run.objectives, tensor), OPTIMIZERS["adamw"]) for tensor in (1, 2, 4)
    )
    assert quarter.all - half.all == pytest.approx((half.all - whole.all) / 2, rel=1e-12)
    assert whole.all / 2 < half.all < whole.all


def _part(model: ModelConfig, objectives: dict[str, float], tensor: int) -> Any:
    learner = build(model, objectives, Vocabulary(512))
    split_learner(learner, Split(tensor, 1))
    return learner


def test_experts_are_divided_apart_from_the_rest() -> None:
    run = FAMILY_RUNS["switch"]
    model = configs.parse(run.model, type(_switch()), "the test's model")
    learner = build(model, run.objectives, Vocabulary(512))
    whole = Counts.of(learner, OPTIMIZERS["adamw"]).all
    split_learner(learner, Split(1, 2))
    counts = Counts.of(learner, OPTIMIZERS["adamw"])
    assert counts.experts * 2 + counts.shared == whole


def _switch() -> ModelConfig:
    from sesame.pretrain.models.switch import SwitchConfig

    return SwitchConfig()


def test_what_cannot_be_divided_is_refused() -> None:
    with pytest.raises(IndivisibleError, match="3 does not divide"):
        split_learner(build(gpt(), {"causal_lm": 1.0}, Vocabulary(512)), Split(3, 1))
