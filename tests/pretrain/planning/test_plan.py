"""Plans of the shipped runs: exact counts, the published layouts, and devices that are too small."""

from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import FOLDER
from sesame.pretrain.config import RunConfig
from sesame.pretrain.planning.gpus import ROWS, assumptions
from sesame.pretrain.planning.plan import Plan, Planner
from sesame.pretrain.planning.rows import Rows, find

RUNS = sorted((FOLDER / "pretrain").glob("*.toml"))
PARAMETERS = {
    "albert_small": 500_290,
    "albert_xxlarge": 223_158_450,
    "bert_base": 110_106_428,
    "bert_large": 336_226_108,
    "bert_small": 1_359_618,
    "books": 5_331_712,
    "demo": 3_819_010,
    "elmo": 110_410_832,
    "elmo_small": 1_157_008,
    "gpt2_small": 1_334_016,
    "gpt2_xl": 1_557_611_200,
    "gpt3_175b": 174_604_836_864,
    "gpt3_small": 1_334_016,
    "megatron_8.3b": 8_317_040_640,
    "modern_base": 149_655_232,
    "modern_small": 1_103_104,
    "roberta_large": 355_412_057,
    "roberta_small": 1_342_976,
    "switch_c": 1_571_308_972_448,
    "switch_small": 4_268_416,
    "t5_11b": 11_307_321_344,
    "t5_small": 1_902_976,
    "turing_nlg_17b": 17_177_045_760,
}
"""BERT's, RoBERTa's and GPT-2's are those of the released weights, GPT-3's of the formula of its shape."""


def planner(name: str, gpu: str = "h100-80gb", overrides: tuple[str, ...] = (), **changes: Any) -> Planner:
    run = configs.load(FOLDER / "pretrain" / f"{name}.toml", RunConfig, overrides)
    text = find(Path(run.data.dataset), None, None, None)
    return Planner(run, text.vocabulary, text.rows, assumptions(gpu, changes))


def as_configured(name: str, devices: int, gpu: str, *overrides: str) -> tuple[Plan, bool]:
    """Return the plan of the file's layout, and whether it fits."""
    made = planner(name, gpu, overrides)
    layout = made.configured(devices)
    assert layout is not None
    plan = made.plan(layout, exact=True)
    return plan, plan.fits(made.assumed)


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_every_shipped_run_has_its_exact_count(path: Path) -> None:
    assert planner(path.stem).parameters == PARAMETERS[path.stem]


def test_megatron_fits_as_published() -> None:
    """8.3 billion parameters on 512 V100 of 32 GB, tensor 8, 8 rows a process (Shoeybi et al. 2019, section 5)."""
    plan, fits = as_configured("megatron_8.3b", 512, "v100-32gb")
    assert fits
    assert plan.layout.micro_batch == 8


def test_turing_nlg_fits_as_published() -> None:
    """17.2 billion on 256 devices of 32 GB, tensor 4, ZeRO 1 (Rajbhandari et al. 2020, section 10.4). Theirs computed
    in fp16, which Sesame lacks: bf16 has the same size."""
    plan, fits = as_configured("turing_nlg_17b", 256, "v100-32gb", "parallel.precision='bf16'")
    assert fits
    assert (plan.layout.tensor, plan.layout.zero_stage) == (4, 1)
    assert not as_configured("turing_nlg_17b", 256, "v100-32gb")[1], "V100 have no bf16, and fp32 is twice as large"


@pytest.mark.slow
def test_gpt3_fits_64_gpus_only_with_all_that_its_file_names() -> None:
    assert as_configured("gpt3_175b", 64, "h100-80gb")[1]
    for without in ("parallel.recompute=false", "parallel.zero_stage=1", "parallel.zero_stage=2"):
        assert not as_configured("gpt3_175b", 64, "h100-80gb", without)[1], without


def test_what_does_not_fit_says_how_many_do() -> None:
    made = planner("gpt2_xl", "rtx4090", ("parallel.precision='bf16'",), devices_per_node=1, host_gib=4.0)
    assert made.choose(made.plans(1)) is None
    found = made.smallest(64)
    assert found is not None
    devices, plans = found
    chosen = made.choose(plans)
    assert devices > 1
    assert chosen is not None
    assert chosen.memory.total <= made.assumed.usable_bytes
    assert made.choose(made.plans(devices // 2)) is None


def test_gradients_in_bf16_are_half_as_many_bytes() -> None:
    """ZeRO 1 in bf16: an all-reduce of gradients moves twice their bytes, a gather of the weights 2 bytes of each."""
    whole, half = (
        as_configured("bert_base", 8, "h100-80gb", f"parallel.reduction={reduction}")[0].time.zero
        for reduction in ("fp32", "bf16")
    )
    assert whole / half == pytest.approx((2 * 4 + 2) / (2 * 2 + 2))


def test_products_in_fp8_are_those_of_blocks() -> None:
    """GPT-2 XL: 48 blocks of 12 width^2 weights, three products of each weight, and the vocabulary's in bf16."""
    plain, fp8 = (as_configured("gpt2_xl", 8, "h100-80gb", f"parallel.fp8={each}")[0] for each in ("false", "true"))
    made = planner("gpt2_xl", overrides=("parallel.fp8=true",))
    layout = made.configured(8)
    assert layout is not None and layout.fp8
    traced = made.activations.of_sequences(layout.division, layout.micro_batch)
    recomputed = 4 if layout.recompute == "block" else 3
    assert traced.fp8_flops == pytest.approx(recomputed * 2 * 48 * 12 * 1600**2 * 1024 * layout.micro_batch, rel=1e-6)
    assert 1.3 < plain.time.products / fp8.time.products < 2
    assert fp8.time.traffic > plain.time.traffic, "rounding"
    assert fp8.memory.activations == pytest.approx(plain.memory.activations, rel=0.02), "kept in bf16"


@pytest.mark.parametrize(
    ("name", "gpu", "message"),
    [
        ("gpt2_xl", "a100-80gb", "the device of this plan has no products in fp8"),
        ("elmo", "h100-80gb", "model.family 'elmo' has no Transformer blocks"),
    ],
)
def test_a_plan_in_fp8_that_cannot_be_is_refused(name: str, gpu: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"parallel\.fp8: {message}"):
        planner(name, gpu, ("parallel.fp8=true",))


def test_layouts_that_leave_no_multiple_of_16_are_left_out() -> None:
    """Turing-NLG: four processes have 4256 / 4 = 1064 columns each."""
    made = planner("turing_nlg_17b", overrides=("parallel.fp8=true",))
    assert {plan.layout.tensor for plan in made.plans(4)} == {1, 2}


def test_a_moving_average_takes_four_bytes_for_each_parameter() -> None:
    """``optimizer.average_decay``; on each of 8 processes an eighth, and in a checkpoint all of it."""
    plain, averaged = planner("bert_base"), planner("bert_base", overrides=("optimizer.average_decay=0.999",))
    layout = next(layout for layout in plain.layouts(8) if layout.tensor == 1 and layout.zero_stage == 1)
    before, after = (made.plan(layout).memory for made in (plain, averaged))
    assert after.optimizer - before.optimizer == pytest.approx(4 * PARAMETERS["bert_base"] / 8)
    assert averaged.checkpoint_bytes - plain.checkpoint_bytes == 4 * PARAMETERS["bert_base"]


def test_an_update_moves_the_state_that_the_optimizer_keeps() -> None:
    """bf16 under ZeRO 1: 18 bytes for gradient and weight, 8 for each number of state, and 8 more for an average."""
    adamw, averaged = (
        as_configured("bert_base", 8, "h100-80gb", *changes)[0].time.update
        for changes in ((), ("optimizer.average_decay=0.999",))
    )
    assert averaged / adamw == pytest.approx((18 + 3 * 8) / (18 + 2 * 8))


@pytest.mark.parametrize(
    ("name", "precision", "has_new"),
    [("bert_small", "fp32", True), ("bert_small", "bf16", False), ("elmo_small", "bf16", True)],
)
def test_rounded_sizes_are_those_of_earlier_steps(name: str, precision: str, has_new: bool) -> None:
    """Rows of uneven length have new sizes in each step, unless they are rounded: in bf16, but not of ELMo."""
    run = configs.load(FOLDER / "pretrain" / f"{name}.toml", RunConfig, (f"parallel.precision={precision}",))
    rows = Rows(32, 5, "a test", tuple(range(2, 65)))
    assumed = assumptions("cpu", {"new_product_milliseconds": 1.0, "bf16_tflops": 1.0})
    made = Planner(run, 4096, rows, assumed)
    layout = made.configured(1)
    assert layout is not None
    assert (made.plan(layout, exact=True).time.new_products > 0) == has_new


def test_layouts_keep_the_global_batch() -> None:
    made = planner("bert_large")
    for layout in made.layouts(8):
        assert layout.micro_batch * layout.accumulation * layout.data == 256
        assert layout.tensor * layout.data == 8


def test_larger_devices_never_fit_less() -> None:
    made = planner("gpt2_xl", "h100-80gb")
    layout = made.configured(8)
    assert layout is not None
    plan = made.plan(layout)
    by_memory = sorted(ROWS, key=lambda name: ROWS[name][0])
    fitting = [plan.fits(assumptions(name, {})) for name in by_memory]
    assert fitting == sorted(fitting)
    assert any(fitting)
    assert not all(fitting)
