"""Time by phase: nested phases are counted once, and nothing waits for the device before it is read."""

import time
from typing import Any

import pytest
import torch

from sesame.pretrain import step_timer
from sesame.pretrain.step_timer import HostClock, StepTimer


class ManualClock:
    """Advances when told to; a mark is reached when the device has got so far."""

    def __init__(self) -> None:
        self.now = self.reached = 0.0
        self.waited = 0

    def mark(self) -> float:
        return self.now

    def is_reached(self, mark: float) -> bool:
        return mark <= self.reached

    def seconds(self, start: float, stop: float) -> float:
        self.waited += stop > self.reached
        return stop - start


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> ManualClock:
    clock = ManualClock()
    monkeypatch.setitem(step_timer.CLOCKS, "cpu", lambda: clock)
    return clock


def seconds_of(timer: StepTimer, **expected: float) -> bool:
    return {name: value for name, value in timer.read().items() if value} == pytest.approx(expected)


def test_communication_is_taken_from_the_phase_around_it(clock: ManualClock) -> None:
    timer = StepTimer(torch.device("cpu"))
    with timer.phase("backward"):
        clock.now += 5
        with timer.phase("communication"):
            clock.now += 2
        clock.now += 1
    with timer.phase("communication"):
        clock.now += 4
    assert seconds_of(timer, backward=6, communication=6)
    assert seconds_of(timer), "each second is read once"


def test_waiting_for_items_is_measured_and_their_use_is_not(clock: ManualClock) -> None:
    def batches() -> Any:
        for number in range(3):
            clock.now += 1
            yield number

    timer = StepTimer(torch.device("cpu"))
    for _ in timer.iterate("data", batches()):
        clock.now += 10
    assert seconds_of(timer, data=3)


def test_a_phase_that_raises_is_closed(clock: ManualClock) -> None:
    timer = StepTimer(torch.device("cpu"))
    with pytest.raises(ValueError), timer.phase("forward"):
        clock.now += 1
        raise ValueError
    assert not timer.is_open and seconds_of(timer, forward=1)


def test_marks_that_the_device_has_not_reached_are_kept(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_timer, "MOST_SPANS", 4)
    timer = StepTimer(torch.device("cpu"))
    for number in range(100):
        with timer.phase("forward"):
            clock.now += 1
        if number == 49:
            clock.reached = clock.now
    assert clock.waited == 0 and len(timer._spans) == 50, "what is finished is added up, and nothing waits"
    assert seconds_of(timer, forward=100)


def test_the_host_clock_measures_seconds() -> None:
    timer = StepTimer(torch.device("cpu"))
    assert isinstance(timer._clock, HostClock)
    with timer.phase("data"):
        time.sleep(0.05)
    assert 0.05 <= timer.read()["data"] < 1


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_phases_on_a_gpu_are_its_time_and_nothing_waits_for_it() -> None:
    matrix = torch.rand(4096, 4096, device="cuda")
    product = matrix @ matrix
    torch.cuda.synchronize()
    timer = StepTimer(torch.device("cuda"))
    begin = time.perf_counter()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(20):
            with timer.phase("forward"):
                product = matrix @ matrix
            with timer.phase("backward"), timer.phase("communication"):
                product = matrix @ product
    finally:
        torch.cuda.set_sync_debug_mode("default")
    queued = time.perf_counter() - begin
    seconds = timer.read()
    whole = time.perf_counter() - begin
    assert queued < 0.5 * whole
    assert seconds["forward"] == pytest.approx(seconds["communication"], rel=0.3)
    assert seconds["backward"] < 0.1 * seconds["forward"] and 0.7 * whole < sum(seconds.values()) <= whole
