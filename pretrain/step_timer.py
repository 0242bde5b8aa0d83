"""Where the time of a step goes, by phase, measured without waiting for the device."""

import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any, NamedTuple, Protocol, TypeVar

import torch
from torch.profiler import record_function

Item = TypeVar("Item")

PHASES: tuple[str, ...] = ("data", "forward", "backward", "communication", "optimizer")
"""In the order of a step. Communication lies within the others and is not counted in them."""
MOST_SPANS = 4096
"""Spans that are kept before those that are finished are added up."""


class Clock(Protocol):
    """Marks moments, and says later how far they are apart."""

    def mark(self) -> Any:
        """Return this moment, perhaps before it is reached by the device."""
        ...

    def is_reached(self, mark: Any) -> bool:
        """Return whether ``seconds`` up to this mark would not wait."""
        ...

    def seconds(self, start: Any, stop: Any) -> float:
        """Return the seconds between two marks, which may be used again afterwards."""
        ...


class HostClock:
    """For devices on which a call has finished when it returns."""

    mark = staticmethod(time.perf_counter)

    def is_reached(self, mark: float) -> bool:
        return True

    def seconds(self, start: float, stop: float) -> float:
        return stop - start


class CudaClock:
    """Events in the current CUDA stream. Time between two of them in which the device waits for the host counts, so a
    phase that the host spends waiting for data is as long as the device stands still for it."""

    def __init__(self) -> None:
        self._unused: list[torch.cuda.Event] = []

    def mark(self) -> torch.cuda.Event:
        event = self._unused.pop() if self._unused else torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def is_reached(self, mark: torch.cuda.Event) -> bool:
        return mark.query()

    def seconds(self, start: torch.cuda.Event, stop: torch.cuda.Event) -> float:
        stop.synchronize()
        seconds = start.elapsed_time(stop) / 1000
        self._unused += (start, stop)
        return seconds


CLOCKS: dict[str, type[Clock]] = {"cpu": HostClock, "cuda": CudaClock}
"""By the type of the device."""


class Span(NamedTuple):
    """A phase from one mark to another."""

    phase: str
    outer: str | None
    """Phase within which it lies in the same stream, so that its time is taken from that one's."""
    start: Any
    stop: Any


class StepTimer:
    """Seconds of each phase of this process's steps since they were last read."""

    def __init__(self, device: torch.device):
        self.is_labelled = False
        """Whether phases are named in a profiler's trace."""
        self._clock: Clock = CLOCKS[device.type]()
        self._is_cuda = device.type == "cuda"
        self._open: list[tuple[str, int]] = []
        self._spans: deque[Span] = deque()
        self._seconds = dict.fromkeys(PHASES, 0.0)

    @property
    def is_open(self) -> bool:
        """Whether a phase is being measured in the current stream."""
        return bool(self._open) and self._open[-1][1] == self._stream()

    def phase(self, name: str) -> "_Phase":
        """Return a context manager that measures ``name``, one of ``PHASES``."""
        return _Phase(self, name)

    def iterate(self, name: str, items: Iterable[Item]) -> Iterator[Item]:
        """Yield ``items``, and measure the waiting for each as ``name``."""
        iterator = iter(items)
        while True:
            with self.phase(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def read(self) -> dict[str, float]:
        """Return the seconds by phase since the last call; waits for the device, so call it where that is done."""
        self._add_up(waits=True)
        seconds, self._seconds = self._seconds, dict.fromkeys(PHASES, 0.0)
        return seconds

    def _enter(self, name: str) -> Any:
        self._open.append((name, self._stream()))
        return self._clock.mark()

    def _exit(self, start: Any) -> None:
        stop = self._clock.mark()
        name, stream = self._open.pop()
        is_inner = bool(self._open) and self._open[-1][1] == stream
        self._spans.append(Span(name, self._open[-1][0] if is_inner else None, start, stop))
        if len(self._spans) > MOST_SPANS:
            self._add_up(waits=False)

    def _stream(self) -> int:
        return torch.cuda.current_stream().cuda_stream if self._is_cuda else 0

    def _add_up(self, *, waits: bool) -> None:
        while self._spans and (waits or self._clock.is_reached(self._spans[0].stop)):
            span = self._spans.popleft()
            seconds = self._clock.seconds(span.start, span.stop)
            self._seconds[span.phase] += seconds
            if span.outer is not None:
                self._seconds[span.outer] -= seconds


class _Phase:
    __slots__ = ("_label", "_name", "_start", "_timer")

    def __init__(self, timer: StepTimer, name: str):
        self._timer, self._name = timer, name
        self._label = record_function(name) if timer.is_labelled else None

    def __enter__(self) -> None:
        if self._label is not None:
            self._label.__enter__()
        self._start = self._timer._enter(self._name)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer._exit(self._start)
        if self._label is not None:
            self._label.__exit__(kind, error, trace)
