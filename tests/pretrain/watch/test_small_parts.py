"""The rule for spikes, skipped samples and slow processes, by themselves."""

import math

import numpy as np
import pytest

from sesame.pretrain.data.skipped import Skipped
from sesame.pretrain.watch.config import WatchConfig
from sesame.pretrain.watch.findings import Watcher
from sesame.pretrain.watch.slow_ranks import SlowRanks
from sesame.pretrain.watch.spikes import Window


def test_the_rule_is_olmo_cores() -> None:
    """Their computation, written down again: torch.std_mean of the values before, from half a window on."""
    random = np.random.default_rng(3)
    values = [*random.normal(5, 0.1, 300), 5.7, *random.normal(5, 0.1, 50), 9.0, math.nan, 5.0]
    window, seen = Window(128, 6.0), []
    for value in values:
        before = seen[-128:]
        expected = len(before) + 1 >= 64 and value - np.mean(before) > 6 * np.std(before, ddof=1)
        assert (window.spike(value) is not None) == expected, len(seen)
        window.add(value)
        if math.isfinite(value):
            seen.append(value)
    assert Window(128, 6.0, window.values).values == window.values == tuple(seen[-128:])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [4, 5, 6])
def test_a_small_window_needs_two_values(size: int) -> None:
    """Of one there is no standard deviation."""
    window = Window(size, 6.0)
    found = []
    for value in (1.0, 2.0, 50.0):
        found.append(window.spike(value) is not None)
        window.add(value)
    assert found == [False, False, True]


def test_the_steps_before_a_jump_of_the_weights_are_no_measure() -> None:
    watcher = Watcher(WatchConfig(window=8))

    def loss(weight: float) -> float:
        watcher.set_weights({"masked_lm": 1.0, "sentence_pairs": weight})
        return 4.0 + weight

    for weight in (0.0, 0.0, 0.0, 0.0, 0.001, 0.002, 0.003, 0.004):
        watcher.add(loss(weight), 1.0)
    assert watcher.find(np.array([[loss(0.005) + 1.0]]), 1.0)
    assert not watcher.find(np.array([[loss(1.0)]]), 2.0)
    assert watcher.losses.values == watcher.gradient_norms.values == ()


@pytest.mark.parametrize("ranges", [[], [(16, 32)], [(0, 5), (40, 41), (44, 60)], [(10, 20), (20, 30), (5, 12)]])
def test_skipped_samples_are_left_out(ranges: list[tuple[int, int]]) -> None:
    left = [sample for sample in range(500) if not any(first <= sample < last for first, last in ranges)]
    skipped, position, seen = Skipped(ranges), 0, []
    for count in (7, 16, 1, 30, 16):
        pieces = list(skipped.pieces(position, count))
        seen += [sample for first, last in pieces for sample in range(first, last)]
        position = skipped.after(position, count)
        assert position == seen[-1] + 1
    assert seen == left[: len(seen)] and len(seen) == 70
    assert Skipped(ranges).after(3, 0) == 3


def test_a_slow_process_is_reported_once() -> None:
    ranks = SlowRanks(1.5)
    assert ranks.compare(10, [1.0, 1.1, 1.2, 1.0]) is None
    assert ranks.compare(15, [1.0, 1.1, 3.2, 1.0]) is None
    event = ranks.compare(20, [1.0, 1.1, 2.2, 1.0])
    assert event is not None and (event.rank, event.kind) == (2, "slow_rank") and "2.2 times" in event.message
    assert ranks.compare(30, [1.0, 1.1, 2.3, 1.0]) is None
    assert ranks.compare(40, [1.0, 1.1, 1.0, 1.0]) is None
    assert ranks.compare(50, [1.0, 1.1, 1.0, 5.0]) is None
    assert ranks.compare(60, [1.0, 1.1, 1.0, 5.0]) is not None
    assert SlowRanks(0).compare(1, [1.0, 9.0]) is None
    assert SlowRanks(1.5).compare(1, [1.0]) is None
