"""A torch profiler trace of chosen steps, one file for each process."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from sesame.pretrain.reporting.config import ReportConfig
from sesame.pretrain.step_timer import StepTimer

FOLDER = "profile"


class StepProfiler:
    """Profiles the steps that ``report.profile_steps`` names; those around them cost nothing."""

    def __init__(self, config: ReportConfig, output: Path, rank: int, timer: StepTimer, log: Callable[[str], None]):
        """
        Args:
            log: prints a message in the first process.
        """
        self._steps = config.profile_steps or (0, -1)
        self._rank, self._timer, self._log = rank, timer, log
        self._folder = output / FOLDER
        self._profile: profile | None = None
        self._first = self._last = 0

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Within it step ``number``, counted from 1, is taken."""
        if not self._steps[0] <= number <= self._steps[1]:
            yield
            return
        if self._profile is None:
            self._start(number)
        self._last = number
        yield
        if number == self._steps[1]:
            self.close()

    def close(self) -> None:
        """Write the trace of the steps so far, if they were profiled."""
        running, self._profile = self._profile, None
        if running is None:
            return
        running.stop()
        self._timer.is_labelled = False
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"steps-{self._first}-{self._last}-rank-{self._rank}.json.gz"
        running.export_chrome_trace(str(path))
        self._log(
            f"profile of steps {self._first} to {self._last}: {path}; drag it into https://ui.perfetto.dev, which "
            "reads it in the browser and sends it nowhere"
        )

    def _start(self, number: int) -> None:
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profile, self._first = profile(activities=activities), number
        self._timer.is_labelled = True
        self._profile.start()
