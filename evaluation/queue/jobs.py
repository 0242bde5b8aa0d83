"""The jobs of an evaluation, run once each: what is in the store is not computed again, what fails is repeated."""

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sesame.configs.durations import duration
from sesame.configs.errors import message_of
from sesame.data_pipeline.outcome import Runner, describe, is_passing
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.share import ALONE, DataShare
from sesame.evaluation.progress import Progress
from sesame.evaluation.queue.estimate import cost_of
from sesame.evaluation.queue.runner import Silent
from sesame.evaluation.queue.tasks import TaskFolders
from sesame.evaluation.queue.worker import QueuedJob
from sesame.evaluation.results.predictions import Predictions
from sesame.evaluation.results.result import Job, Result, depends_on_seed
from sesame.evaluation.results.store import Outputs, Store
from sesame.evaluation.starting import FAILED, StartError


@dataclass
class Queue:
    """Jobs of one checkpoint."""

    config: EvaluationConfig
    checkpoint: Path
    jobs: Sequence[Job]
    store: Store
    runner: Runner
    folders: TaskFolders
    share: DataShare = ALONE
    """Of this process, if several run each job together; only the first reads and writes the store."""

    def results(self) -> list[Result]:
        """The result of each job, in their order, read from the store or computed and kept there."""
        found = {}
        if self.share.is_rank_zero:
            found = {number: each for number, job in enumerate(self.jobs) if (each := self._stored(job)) is not None}
        found = self.share.gather(found)[0]
        costs = [cost_of(job, predicts_test=self._predicts(job)) for job in self.jobs]
        pending = deque(self._queued(number) for number in range(len(self.jobs)) if number not in found)
        if self.runner.count > 1:
            # The longest first, so that no worker has a long one at the end.
            pending = deque(sorted(pending, key=lambda job: -costs[job.number]))
        with Progress([job.title for job in self.jobs], costs, self.runner.count) as progress:
            for number, result in found.items():
                progress.end(number, result, "already computed")
            if pending:
                self._announce(progress, found, pending)
            for part in filter(None, self._parts(pending)):
                self._run(part, progress, found)
        return [each for number, job in enumerate(self.jobs) for each in self._by_seed(job, found[number])]

    def _parts(self, pending: Sequence[QueuedJob]) -> Iterator[deque[QueuedJob]]:
        """The jobs that can run now, and then those that start from the model of one of them."""
        keys = {self.jobs[each.number].key for each in pending}
        waiting = {each.number for each in pending if start_key(self.jobs[each.number]) in keys}
        yield deque(each for each in pending if each.number not in waiting)
        yield deque(each for each in pending if each.number in waiting)

    def _stored(self, job: Job) -> Result | None:
        """The stored result of a job; None if it is not there, or if predictions for test sets are missing."""
        result = self.store.read(job)
        return None if self._predicts(job) and self.store.read_test(job) is None else result

    def _queued(self, number: int) -> QueuedJob:
        job = self.jobs[number]
        return QueuedJob(number, self.checkpoint, self.folders.detached(job), self._predicts(job))

    def _announce(self, progress: Progress, found: Mapping[int, Result], pending: Sequence[QueuedJob]) -> None:
        """Print how long the jobs will take, from the time of those in the store or of some steps."""
        known = sum(progress.costs[number] for number in found if found[number].seconds)
        if known:
            progress.rate = sum(result.seconds for result in found.values()) / known
            source = f"as fast as {len(found)} jobs before"
        else:
            # The most expensive job of each of the most expensive tasks, at the same time. One that starts from another
            # task's model would first train that.
            plain = [job for job in pending if not start_key(self.jobs[job.number])]
            by_cost = sorted(plain, key=lambda job: progress.costs[job.number])
            most_expensive = {self.jobs[job.number].data.title: job for job in by_cost}
            some = [
                job._replace(is_measured=True) for job in list(most_expensive.values())[: -self.runner.count - 1 : -1]
            ]
            rates = [each.result for each in self.runner.run(deque(some), Silent()) if each.error is None]
            rates = self.share.gather(rates)[0]
            progress.rate = sum(rates) / len(rates) if rates else None
            source = f"from some steps of {', '.join(self.jobs[job.number].data.title for job in some)}"
        before = f", {len(found)} already computed" if found else ""
        workers = f" with {self.runner.count} workers" if self.runner.count > 1 else ""
        time = f": {progress.left} ({source})" if progress.left else ""
        jobs = "1 job" if len(self.jobs) == 1 else f"{len(self.jobs)} jobs"
        progress.print(f"{jobs}{before}{workers}{time}")

    def _run(self, pending: deque[QueuedJob], progress: Progress, found: dict[int, Result]) -> None:
        """Run the jobs of ``pending`` and add their results to ``found``."""
        tries: Counter[int] = Counter()
        for number, result in list(found.items()):
            if result.error:
                self._fail_waiting(self.jobs[number].key, f"{FAILED}: {result.error}", pending, progress, found)
        for outcome in self.runner.run(pending, progress):
            number, worker = outcome.job.number, outcome.worker
            job = self.jobs[number]
            if outcome.error is None:
                result, test = outcome.result
                if self.share.is_rank_zero:
                    self.store.write(job, result)
                    if test:
                        self.store.write_test(job, test)
                found[number] = result
                progress.end(number, result, duration(result.seconds), worker=worker)
                continue
            tries[number] += 1
            reason = describe(outcome.error)
            if message_of(outcome.error) is None and outcome.trace:
                # A defect of the program: the report has its first line only.
                progress.print(outcome.trace.rstrip())
            if is_passing(outcome.error) and tries[number] <= self.config.queue.retries:
                progress.fail(worker, f"{reason}; trying again ({tries[number]} of {self.config.queue.retries})")
                pending.appendleft(outcome.job)
                continue
            found[number] = Result.failed(job, reason)
            progress.end(number, found[number], "failed", worker=worker)
            if isinstance(outcome.error, StartError):
                self._fail_waiting(start_key(job), reason, pending, progress, found)

    def _fail_waiting(
        self, key: str, reason: str, pending: deque[QueuedJob], progress: Progress, found: dict[int, Result]
    ) -> None:
        """Fail the pending jobs that start from the model of a job with this key: it would fail again for each."""
        for each in [each for each in pending if start_key(self.jobs[each.number]) == key]:
            pending.remove(each)
            found[each.number] = Result.failed(self.jobs[each.number], reason)
            progress.end(each.number, found[each.number], "failed")

    def _predicts(self, job: Job) -> bool:
        """Test sets are predicted by one model; without fine-tuning there are no outputs for them."""
        has_test = bool(job.data.test) and job.data.train is not None
        return has_test and job.model == "pretrained" and job.seed == self.config.suite.seeds[0]

    def _by_seed(self, job: Job, result: Result) -> list[Result]:
        """The result once for each seed if it does not depend on the seed, so that means over tasks have it."""
        seeds = (job.seed,) if depends_on_seed(job.data, job.model) else self.config.suite.seeds
        return [result.with_seed(seed) for seed in seeds]

    def predictions(self) -> dict[str, Predictions]:
        """Predictions for the test sets, by name of the file; without those of a model whose training diverged."""
        sets = {}
        for job in filter(self._predicts, self.jobs):
            outputs: Outputs = self.store.read_test(job) or {}
            for name, values in outputs.items():
                task, examples = job.data.task, job.data.test[name]
                found = Predictions(task, task.test[name], examples.indices, answers(task, examples, values))
                sets[task.prediction_file(name)] = found
        return sets


def start_key(job: Job) -> str:
    """Return the key of the job whose model this one starts from; empty if it starts from the checkpoint."""
    start = job.start
    return start.job.key if start is not None else ""
