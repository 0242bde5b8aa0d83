"""Workers that keep their state, report progress, and are replaced when they die."""

import os
import pickle
import signal
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import ConfigError, DatasetError, TaskError
from sesame.data_pipeline import cluster as cluster_module
from sesame.data_pipeline.cluster import Cluster
from sesame.data_pipeline.outcome import JobError, LostWorkerError, Outcome, is_passing
from sesame.data_pipeline.pool import Pool


class Recorder:
    """Runs jobs by name in a worker, and counts those of its process."""

    def __init__(self, folder: Path):
        self.folder, self.jobs = folder, 0

    def __call__(self, job: str, advance: Callable[[int, int], None]) -> tuple[int, int]:
        self.jobs += 1
        (self.folder / f"pid-{os.getpid()}").touch()
        name, _, number = job.partition(" ")
        if name == "die" and not (self.folder / f"died-{number}").exists():
            (self.folder / f"died-{number}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if name == "wrong":
            raise TaskError("a file is wrong")
        if name == "defect":
            raise ZeroDivisionError("in the\nprogram")
        for step in range(3):
            advance(step + 1, 3)
        return self.jobs, os.getpid()


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[tuple[int, str]] = []
        self.steps: list[tuple[int, int]] = []

    def begin(self, worker: int, job: Any) -> None:
        self.begun.append((worker, job))

    def advance(self, worker: int, step: int, steps: int) -> None:
        self.steps.append((step, steps))


def test_an_error_that_may_be_another_one_next_time() -> None:
    """Also where it comes from another process as text."""

    class OutOfMemoryError(RuntimeError):
        """As torch's for a GPU."""

    without_memory = RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    passing = (LostWorkerError("it was killed"), MemoryError(), OSError(5, "disk"), OutOfMemoryError(), without_memory)
    assert all(map(is_passing, passing))
    assert not any(map(is_passing, (ValueError("a shape"), RuntimeError("an index"), TaskError("a file is wrong"))))
    for error, expected in ((MemoryError("none"), True), (ValueError("a shape"), False)):
        known = pickle.loads(pickle.dumps(JobError(str(error), is_passing=is_passing(error))))
        assert is_passing(known) == expected and str(known) == str(error)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster("", tmp_path_factory.mktemp("cluster"), cpus=2) as started:
        yield started


def test_jobs_run_in_workers_that_keep_their_state(cluster: Cluster, tmp_path: Path) -> None:
    """A job is given again by who takes the outcomes, as the queue of an evaluation does."""
    pool, seen = Pool(partial(Recorder, tmp_path), 2, cpus=1, report_seconds=0.0), Seen()
    pending, outcomes = deque(["a 1", "die 1", "wrong", "a 2", "defect", "die 2", "a 3"]), []
    for outcome in pool.run(pending, seen):
        outcomes.append(outcome)
        if isinstance(outcome.error, LostWorkerError):
            pending.appendleft(outcome.job)
    by_job: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_job.setdefault(outcome.job, []).append(outcome)
    assert {name: len(each) for name, each in by_job.items() if len(each) > 1} == {"die 1": 2, "die 2": 2}
    assert len(outcomes) == len(seen.begun) == 9
    assert "the worker process has ended" in str(by_job["die 1"][0].error) and by_job["die 1"][1].error is None
    assert isinstance(by_job["wrong"][0].error, TaskError) and str(by_job["wrong"][0].error) == "a file is wrong"
    defect = by_job["defect"][0]
    assert isinstance(defect.error, JobError) and str(defect.error) == "ZeroDivisionError: in the"
    assert "Traceback" in defect.trace and "in __call__" in defect.trace
    # Two workers and two replacements; each of them may be left without a job that succeeds.
    pids = {int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")}
    assert os.getpid() not in pids and {outcome.result[1] for outcome in outcomes if outcome.error is None} <= pids
    # The workers stay for other jobs.
    again = [outcome.result for outcome in pool.run(deque(["a 4", "a 5", "a 6"]), seen)]
    assert max(jobs for jobs, _ in again) > 2 and len(list(tmp_path.glob("pid-*"))) <= 4
    assert len(seen.steps) == 3 * 8 and set(seen.steps) == {(1, 3), (2, 3), (3, 3)}


def test_an_error_of_the_start_is_raised_as_it_is(cluster: Cluster) -> None:
    def make() -> Any:
        raise DatasetError("no such folder; make it")

    with pytest.raises(DatasetError, match="no such folder; make it"):
        list(Pool(make, 1, cpus=1).run(deque(["a"]), Seen()))


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("The current node timed out during startup.", ConfigError), ("another one", RuntimeError)],
)
def test_a_machine_that_is_too_busy_for_ray_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str, expected: type[Exception]
) -> None:
    def init(**_: Any) -> None:
        raise RuntimeError(reason)

    monkeypatch.setattr(cluster_module.ray, "init", init)
    with pytest.raises(expected, match="run the same command again" if expected is ConfigError else reason):
        Cluster("", tmp_path, cpus=1).__enter__()
