"""Compiled blocks compute the same; ``tests/pretrain/test_gpu.py`` tests the compiler's back end."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel import compiled
from sesame.pretrain.parallel.compiled import compile_blocks
from sesame.pretrain.parallel.fp8 import use_fp8
from sesame.pretrain.parallel.recompute import recompute_parts
from tests.pretrain.data.test_token_budget import loss_and_gradients, made
from tests.pretrain.parallel import test_recompute
from tests.pretrain.parallel.test_recompute import gradients, learner

CPU = torch.device("cpu")
BLOCKS = {"bert": 2, "bert, modern": 2, "t5": 4, "switch": 4}
"""Blocks of each run of ``test_recompute.py``, and of one with every other option of a block."""
MODERN = {
    "norm_placement": "pre",
    "first_attention_norm": False,
    "position_kind": "rotary",
    "segments": 0,
    "local_window": 2,
    "gated": True,
    "bias": False,
}


@pytest.fixture
def whole_graphs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trace without generating code, and raise where a method is not one graph; the names of compiled methods."""
    names: list[str] = []
    monkeypatch.setitem(test_recompute.RUNS, "bert, modern", (MODERN, {"masked_lm": 1.0}, 2))
    monkeypatch.setitem(test_recompute.FAMILIES, "bert, modern", test_recompute.FAMILIES["bert"])
    monkeypatch.setitem(test_recompute.SHAPE, "dropout", 0.0)
    monkeypatch.setitem(test_recompute.SHAPE, "attention_dropout", 0.0)
    compile_ = partial(torch.compile, backend="aot_eager", fullgraph=True)
    monkeypatch.setattr(torch, "compile", lambda method: names.append(method.__name__) or compile_(method))
    torch._dynamo.reset()
    return names


@pytest.mark.parametrize(("family", "recomputes"), [*((family, False) for family in BLOCKS), ("bert, modern", True)])
def test_gradients_are_the_same(family: str, recomputes: bool, whole_graphs: list[str]) -> None:
    plain, changed = learner(family), learner(family)
    assert compile_blocks(changed, CPU) == BLOCKS[family]
    if recomputes:
        assert recompute_parts(changed, "block")
    expected, actual = gradients(plain), gradients(changed)
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, rtol=1e-5, atol=1e-6)
    # An expert layer cannot be traced, and a decoder has a method more.
    assert whole_graphs.count("leave") == (0 if family == "switch" else BLOCKS[family])
    assert whole_graphs.count("cross") == (2 if family in ("t5", "switch") else 0)


def test_products_in_fp8_are_compiled_too(whole_graphs: list[str]) -> None:
    plain, changed = learner("bert").bfloat16(), learner("bert").bfloat16()
    assert use_fp8(plain) == use_fp8(changed) == 12
    compile_blocks(changed, CPU)
    expected, actual = gradients(plain), gradients(changed)
    assert expected.keys() == actual.keys() and whole_graphs.count("leave") == 2
    for name, value in expected.items():
        # Traced without code, the same operations.
        torch.testing.assert_close(actual[name], value, rtol=2**-6, atol=2**-8 * float(value.abs().max()))


def test_dropout_is_compiled_too(whole_graphs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(test_recompute.SHAPE, "dropout", 0.5)
    changed = learner("bert")
    compile_blocks(changed, CPU)
    first, second = gradients(changed), gradients(changed)
    assert any(not torch.equal(first[name], value) for name, value in gradients(learner("bert")).items())
    for name, value in first.items():
        # ``gradients`` adds to those of its first call, with the same seed.
        torch.testing.assert_close(second[name], value)


def test_a_token_budget_is_compiled_once_and_changes_nothing(
    whole_graphs: list[str], family_settings: Callable[..., dict[str, Any]]
) -> None:
    """All micro-batches have one shape, also those of the next step, and the losses of rows that are not packed."""
    plain, batches = made(family_settings, "bert", micro_batch=0, micro_tokens=300)
    packed = [*batches.step(0), *batches.step(1)]
    expected = loss_and_gradients(plain, packed)
    _, whole = made(family_settings, "bert", micro_batch=4)
    means = [sum(plain(batch)[0].item() for batch in whole.step(number)) / whole.accumulation for number in (0, 1)]
    assert expected[0] == pytest.approx(sum(means), rel=1e-6)
    compile_blocks(plain, CPU)
    loss_and_gradients(plain, packed[:1])
    compiled_once = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    loss, gradients = loss_and_gradients(plain, packed)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled_once > 0
    assert loss == pytest.approx(expected[0], rel=1e-6)
    for name, value in expected[1].items():
        torch.testing.assert_close(gradients[name], value, rtol=1e-5, atol=1e-6)


def test_a_machine_without_a_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled.shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"parallel\.compile: torch\.compile needs a compiler.*CXX"):
        compile_blocks(learner("bert"), CPU)


@pytest.mark.parametrize("changes", [{"tensor": 2}, {"zero_stage": 3}])
def test_layouts_that_communicate_within_blocks_are_refused(
    changes: dict[str, Any], settings: Callable[..., dict[str, Any]]
) -> None:
    with pytest.raises(ConfigError, match=r"compile with (tensor > 1|zero_stage 3) is refused"):
        configs.parse(settings(parallel={"compile": True, **changes}), RunConfig, "run.toml")
