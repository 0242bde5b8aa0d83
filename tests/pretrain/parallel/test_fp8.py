"""``parallel.fp8``: which layers it changes, what it refuses, and that a run learns as in bf16."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain import precision
from sesame.pretrain.config import RunConfig
from sesame.pretrain.layers.fp8 import fp8_linear
from sesame.pretrain.layers.joined_linear import joined_linear
from sesame.pretrain.layers.linear import Linear
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel import agreed_precision
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.fp8 import use_fp8
from sesame.pretrain.train import train
from tests.pretrain.family_runs import FAMILY_RUNS

CPU = torch.device("cpu")
IN_BLOCKS = {
    # Query, key, value, output, up and down of two layers, or of one that is shared.
    "bert": 12,
    "albert": 6,
    "gpt": 12,
    "elmo": 0,
    # The same of two encoder layers, and four more of cross-attention in each of two decoder layers.
    "t5": 12 + 20,
    # Every second layer has experts in place of up and down.
    "switch": 12 + 20 - 4,
    # Three layers with gates.
    "bert, modern": 21,
}
Settings = Callable[..., dict[str, Any]]


def learner(name: str, **changes: Any) -> Learner:
    run = FAMILY_RUNS[name]
    config = configs.parse({**run.model, **changes}, FAMILIES[run.model["family"]].config, "the test's model")
    return build(config, run.objectives, Vocabulary(300))


@pytest.mark.parametrize(("name", "count"), IN_BLOCKS.items())
def test_it_changes_the_linear_layers_of_blocks(name: str, count: int) -> None:
    changed = learner(name)
    assert use_fp8(changed) == count
    layers = {key: part for key, part in changed.named_modules() if getattr(part, "product", None) is fp8_linear}
    assert len(layers) == count
    for key, part in layers.items():
        assert type(part) is Linear and re.search(r"\b(attention|cross_attention|feed_forward)\.", key), key


def test_joined_products_are_in_fp8_too() -> None:
    torch.manual_seed(0)
    layers = [Linear(32, 32).bfloat16() for _ in range(3)]
    for layer in layers:
        layer.product = fp8_linear
    states = torch.randn(16, 32).bfloat16()
    expected = [fp8_linear(states, layer.weight, layer.bias) for layer in layers]
    for actual, value in zip(joined_linear(states, layers, device_type="cuda"), expected, strict=True):
        torch.testing.assert_close(actual, value, rtol=2**-7, atol=2**-9)


def test_sizes_that_a_gpu_cannot_multiply_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"parallel\.fp8: .*up is 40 x 32 in each process.*multiples of 16"):
        use_fp8(learner("bert", feed_forward_width=40))


def test_a_family_without_blocks_is_refused(family_settings: Settings) -> None:
    values = family_settings("elmo", parallel={"fp8": True, "precision": "bf16"})
    with pytest.raises(ConfigError, match=r"parallel\.fp8: model\.family 'elmo' has no Transformer blocks"):
        train(configs.parse(values, RunConfig, "run.toml"))


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"precision": "fp16"}, r"fp8 with fp32 or fp16 is refused.*use precision (auto|bf16), or fp8 false"),
        ({"precision": "fp32"}, r"fp8 with fp32 or fp16 is refused"),
        ({"zero_stage": 0}, r"fp8 with zero_stage 0 is refused.*use zero_stage 1, or fp8 false"),
    ],
)
def test_other_formats_are_refused(parallel: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.parse({"fp8": True, **parallel}, ParallelConfig, "[parallel]")


@pytest.mark.parametrize(
    ("capability", "hip", "reason"),
    [((8, 9), None, ""), ((9, 0), None, ""), ((12, 0), None, ""), ((8, 0), None, "8.0; fp8"), ((9, 4), "6", "AMD")],
)
def test_gpus_have_it_from_ada_on(capability: Any, hip: str | None, reason: str, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.version, "hip", hip)
    found = precision.lacks_fp8(torch.device("cuda"))
    assert reason in found and bool(found) == bool(reason)


def test_a_run_whose_devices_lack_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ParallelConfig(fp8=True, precision="bf16")
    assert agreed_precision.resolve(asked, CPU, None, lambda local: [local, local])[0].fp8
    ampere = "a GPU of compute capability 8.0; fp8 begins at 8.9"
    with pytest.raises(ConfigError, match=r"process 1 has a GPU of compute capability 8\.0"):
        agreed_precision.resolve(asked, CPU, None, lambda local: [local, ampere if local == "" else local])
    monkeypatch.setattr(precision, "of_device", lambda device: precision.Precision("fp32", "an old CPU"))
    with pytest.raises(ConfigError, match=r"parallel\.fp8 needs precision bf16, and this run has fp32 \(an old CPU\)"):
        agreed_precision.resolve(ParallelConfig(fp8=True), CPU, None, lambda local: [local])


def losses(output: Path) -> list[float]:
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["train"]["masked_lm"] for row in rows if "train" in row]


def test_a_run_learns_as_in_bf16(settings: Settings, tmp_path: Path) -> None:
    """The same seed: losses of a run in fp8 follow those of bf16, but are not theirs."""
    found = {}
    for name, fp8 in (("bf16", False), ("fp8", True)):
        values = settings(
            output=str(tmp_path / name),
            parallel={"precision": "bf16", "zero_stage": 1, "fp8": fp8},
            optimizer={"name": "adamw", "learning_rate": 2e-3},
            steps=60,
        )
        train(configs.parse(values, RunConfig, "run.toml"))
        found[name] = losses(tmp_path / name)
    assert found["fp8"] != found["bf16"]
    assert found["fp8"][-1] < found["fp8"][0] - 0.3
    assert found["fp8"] == pytest.approx(found["bf16"], rel=0.02)
