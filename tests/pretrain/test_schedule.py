"""Learning-rate schedules against their formulas."""

import math

import pytest

from sesame.configs import parse
from sesame.configs.errors import ConfigError
from sesame.pretrain.schedule import ScheduleConfig


def test_linear_schedule_warms_up_and_ends_at_the_final_fraction() -> None:
    schedule = ScheduleConfig(warmup_steps=4, decay="linear", final_fraction=0.1)
    factors = [schedule.factor(step, 14) for step in range(15)]
    assert factors[:4] == [0.25, 0.5, 0.75, 1.0]
    assert factors[4] == 1.0 and factors[9] == pytest.approx(0.55) and factors[14] == pytest.approx(0.1)


def test_other_decays() -> None:
    assert ScheduleConfig(decay="cosine").factor(5, 10) == pytest.approx(0.5)
    assert ScheduleConfig(decay="constant").factor(9, 10) == 1.0
    assert ScheduleConfig(warmup_steps=100, decay="rsqrt").factor(399, 1000) == pytest.approx(0.5)
    with pytest.raises(ConfigError, match="rsqrt"):
        parse({"decay": "rsqrt"}, ScheduleConfig, "run.toml")


def test_rsqrt_matches_its_formula() -> None:
    assert ScheduleConfig(warmup_steps=16, decay="rsqrt").factor(63, 100) == pytest.approx(math.sqrt(16 / 64))


def test_t5_holds_the_rate_and_then_follows_the_inverse_root_of_the_step() -> None:
    schedule = ScheduleConfig(warmup="constant", warmup_steps=10_000, decay="rsqrt")
    rates = {step: 1e-2 * schedule.factor(step - 1, 1_000_000) for step in (1, 10_000, 40_000, 1_000_000)}
    assert rates == pytest.approx({1: 1e-2, 10_000: 1e-2, 40_000: 5e-3, 1_000_000: 1e-3})


def test_wsd_may_last_a_fraction_of_a_run_whose_length_is_not_known() -> None:
    schedule = ScheduleConfig(decay="wsd", decay_fraction=0.1)
    of_steps = ScheduleConfig(decay="wsd", decay_steps=100)
    steps = (0, 899, 925, 964, 1000)
    assert [schedule.factor(step, 1000) for step in steps] == pytest.approx([of_steps.factor(s, 1000) for s in steps])
    assert schedule.factor(450, 2**40, expected=500) == 1.0
    assert schedule.factor(475, 2**40, expected=500) == pytest.approx(1 - math.sqrt(0.5))
    with pytest.raises(ConfigError, match="set one of them"):
        parse({"decay": "wsd", "decay_steps": 5, "decay_fraction": 0.1}, ScheduleConfig, "run.toml")
    with pytest.raises(ConfigError, match="does not read decay_fraction"):
        parse({"decay": "constant", "decay_fraction": 0.1}, ScheduleConfig, "run.toml")


def test_wsd_is_stable_until_its_last_steps() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay="wsd", decay_steps=100)
    factors = {step: schedule.factor(step, 1000) for step in (4, 10, 899, 900, 925, 964, 1000)}
    assert factors == pytest.approx({4: 0.5, 10: 1, 899: 1, 900: 1, 925: 0.5, 964: 0.2, 1000: 0})
    assert ScheduleConfig(warmup_steps=10, decay="wsd", decay_steps=100).factor(20, 50) == pytest.approx(0.5)


def test_cosine_ends_after_its_decay_steps_and_stays() -> None:
    schedule = ScheduleConfig(warmup_steps=10, decay="cosine", decay_steps=100, final_fraction=0.1)
    factors = {step: schedule.factor(step, 1000) for step in (10, 60, 110, 111, 999)}
    assert factors == pytest.approx({10: 1, 60: 0.55, 110: 0.1, 111: 0.1, 999: 0.1})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"warmup": "constant"}, "'constant' lasts warmup_steps, which is 0"),
        ({"decay": "wsd"}, "'wsd' lasts the last decay_steps, which is not set"),
        ({"decay": "constant", "decay_steps": 5}, "'constant' does not read decay_steps 5; remove it"),
        ({"decay": "rsqrt", "warmup_steps": 5, "decay_steps": 5}, "'rsqrt' does not read decay_steps 5; remove it"),
    ],
)
def test_schedule_fields_that_do_not_fit(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(values, ScheduleConfig, "run.toml")
    assert sentence in str(caught.value) and "run.toml" in str(caught.value)
