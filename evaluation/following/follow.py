"""``sesame evaluate --follow``: score the checkpoints of a run as they appear, until the run has ended.

OUTPUT/step-00001000/    the report of a checkpoint, as without --follow
OUTPUT/curve.*           the scores of all of them (``curve.py``)
"""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from sesame.configs.errors import CheckpointError, ConfigError
from sesame.configs.log_lines import timed
from sesame.configs.storage import digest_of
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import AllFailedError, Place, configured, evaluate_in, only_evaluation_in
from sesame.evaluation.following.curve import Curve, Point
from sesame.evaluation.following.seen import Counter, Seen
from sesame.evaluation.following.snapshot import snapshot
from sesame.evaluation.queue import processes, task_files
from sesame.evaluation.queue.runner import InProcess, RayWorkers, open_runner
from sesame.evaluation.reading.rows import checksums
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints import retention
from sesame.pretrain.monitoring.record import RunFiles
from sesame.pretrain.monitoring.summary import state

SNAPSHOT = ".sesame-checkpoint-{}.partial"
"""Folder of the copy of a checkpoint, by its record: workers know weights by their folder. It is removed like what else
a killed evaluation leaves."""
NEARLY = 0.99
"""Share of a number of ``follow.at`` that the last checkpoint of a run has to reach."""


def default_output(run: Path, suite: str) -> Path:
    """Return the folder of a curve where none is configured."""
    return run / "evaluation" / f"follow-{suite}"


def follow(
    config: EvaluationConfig, run: Path, output: Path | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Score the checkpoints of a run that ``config.follow`` chooses; wait for new ones until the run has ended.

    Args:
        run: output folder of ``sesame pretrain``.
        output: folder of the reports and the curve; None: ``config.output``.

    Returns:
        The path of ``curve.json``, which exists if a checkpoint was scored.

    Raises:
        SesameError: ``run`` is not the folder of a run, or as ``evaluate`` raises it.
    """
    data_dir, output = configured(config.data_dir, "data_dir"), configured(output or config.output, "output")
    if processes.count() > 1 or config.parallel.tensor > 1:
        raise ConfigError(
            "--follow scores each checkpoint in one process or in queue.workers; leave out --processes and "
            "parallel.tensor, or score one checkpoint with --checkpoint"
        )
    files = RunFiles(run)
    with only_evaluation_in(output):
        with open_runner(config, output) as runner:
            Follower(config, files, data_dir, output, runner, sleep).run()
        shutil.rmtree(output / task_files.FOLDER, ignore_errors=True)
    return output / "curve.json"


class Follower:
    """Scores the checkpoints of one run."""

    def __init__(
        self,
        config: EvaluationConfig,
        files: RunFiles,
        data_dir: Path,
        output: Path,
        runner: InProcess | RayWorkers,
        sleep: Callable[[float], None],
    ):
        self.config, self.files, self.data_dir, self.output = config, files, data_dir, output
        self.runner, self.sleep = runner, sleep
        self.console = Console(highlight=False)
        recipe = digest_of(json.dumps(config.recipe(), sort_keys=True).encode())
        self.curve = Curve(output, recipe, _files_of(config, data_dir))
        self.counter = Counter()
        self.listed: dict[int, Seen] = {}
        """Complete checkpoints that were there once."""
        self.written: dict[int, int] = {}
        """When their records were written, in nanoseconds."""
        self.skipped: set[int] = set()

    def run(self) -> None:
        """Score checkpoints until the run has ended, or has written nothing for a long time."""
        if self.curve.dropped:
            self._print(f"the curve is begun again: its {self.curve.dropped} points have other settings or task files")
        quiet_since = time.monotonic()
        while True:
            # Before the folder is listed, so that the last checkpoint is not missed.
            has_news, is_over = self.files.update(), self._is_over
            scored = self._score_next(is_over)
            if has_news or scored:
                quiet_since = time.monotonic()
            if scored:
                continue
            if is_over:
                self._print(f"{self.files.folder}: the run has ended ({state(self.files) or 'by an earlier version'})")
                return
            if time.monotonic() - quiet_since > 60 * self.config.follow.give_up_minutes:
                self._print(f"{self.files.folder}: has not changed for {self.config.follow.give_up_minutes:g} minutes")
                return
            self.sleep(self.config.follow.poll_seconds)

    @property
    def _is_over(self) -> bool:
        # Runs of versions that do not say when they start are not going on.
        return self.files.end is not None or self.files.is_killed or not self.files.starts

    def _score_next(self, is_over: bool) -> bool:
        """Score the first checkpoint that is due and not scored; return whether there was one."""
        complete = self._complete()
        for step in self.listed.keys() - complete.keys() - self.curve.points.keys() - self.skipped:
            if self._is_due(step, is_over):
                self._skip(step, "was removed by the run before it could be scored")
        due = [step for step in sorted(complete) if self._is_due(step, is_over) and step not in self.skipped]
        for step in due:
            try:
                if self._is_scored(step, complete[step]):
                    continue
                self._score(step, complete[step])
            except (CheckpointError, AllFailedError) as error:
                self._skip(step, str(error))
            return True
        return False

    def _complete(self) -> dict[int, Path]:
        """Folders of the complete checkpoints by step; what each has seen is noted."""
        complete = {}
        for step, folder in retention.all_complete(self.files.folder).items():
            # Removed since the folder was listed, or damaged.
            with suppress(CheckpointError, OSError):
                written = (folder / records.FILE).stat().st_mtime_ns
                if self.written.get(step) != written:
                    self.listed[step], self.written[step] = self.counter.seen(records.read(folder)), written
                complete[step] = folder
        return complete

    def _is_due(self, step: int, is_over: bool) -> bool:
        """Whether a checkpoint is the first one at or after a number of ``follow.at``."""
        marks = self.config.follow.at
        known = {**self.listed, **{each: point.seen for each, point in self.curve.points.items()}}
        return not marks or step in set(self._steps_of(marks, known, is_over))

    def _steps_of(self, marks: tuple[float, ...], known: dict[int, Seen], is_over: bool) -> Iterator[int]:
        amounts = {step: self._amount(seen) for step, seen in sorted(known.items()) if step not in self.skipped}
        for mark in marks:
            reached = [step for step, amount in amounts.items() if amount >= mark]
            if reached:
                yield reached[0]
            elif is_over and amounts and max(amounts.values()) >= NEARLY * mark:
                yield max(amounts)

    def _amount(self, seen: Seen) -> float:
        amount = getattr(seen, self.config.follow.unit)
        if amount is None:
            raise ConfigError(
                f"follow.unit '{self.config.follow.unit}' cannot be counted: a dataset of {self.files.folder} is not "
                "where the run has read it; use --set follow.unit=sequences, or put it there"
            )
        return float(amount)

    def _is_scored(self, step: int, folder: Path) -> bool:
        point = self.curve.points.get(step)
        return point is not None and point.record_sha256 == _identity(folder)

    def _score(self, step: int, folder: Path) -> None:
        """Evaluate one checkpoint and add it to the curve."""
        seen, record = self.listed[step], _identity(folder)
        output = self.output / folder.name
        self._print(f"{folder}: {self._describe(seen)}")
        self._take_baseline(output / "results")
        with snapshot(folder, self.output / SNAPSHOT.format(record[:16])) as copy:
            place = Place(copy, folder, folder, self.data_dir, output, "", self.output / task_files.FOLDER)
            evaluate_in(place, self.config, self.runner)
        report = json.loads((output / "report.json").read_text(encoding="utf-8"))
        tasks = {title: task["score"] for title, task in report["tasks"].items()}
        point = Point(seen, record, output.name, report["mean"], tasks)
        unit = self.config.follow.unit if self.config.follow.at else "tokens"
        self.curve.add(point, unit)
        self._print(f"{self._describe(seen)}: {point.text} (curve: {self.output / 'curve.png'})")

    def _take_baseline(self, results: Path) -> None:
        """Copy the results of random weights from another step: they are those of any checkpoint of the run."""
        for point in self.curve.points.values():
            for path in (self.output / point.report / "results").glob("*-random-*"):
                results.mkdir(parents=True, exist_ok=True)
                # A job that was killed leaves the folder of a lock.
                if path.is_file() and not (results / path.name).exists():
                    shutil.copyfile(path, results / path.name)

    def _skip(self, step: int, reason: str) -> None:
        self.skipped.add(step)
        self._print(f"step {step} is skipped: {reason}")

    def _describe(self, seen: Seen) -> str:
        counts = {name: getattr(seen, name) for name in ("tokens", "words")}
        known = [f"{count:,.0f} {name}" for name, count in counts.items() if count is not None]
        return ", ".join([f"step {seen.steps}", *known])

    def _print(self, line: str) -> None:
        self.console.print(timed(line, is_terminal=self.console.is_terminal), markup=False, soft_wrap=True)


def _files_of(config: EvaluationConfig, data_dir: Path) -> str:
    """SHA-256 of the files that tasks are trained and scored on."""
    table = config.task_table()
    tasks = [table[name] for name in config.suite.tasks]
    tasks += [table[task.starts_from] for task in tasks if task.starts_from is not None]
    files = checksums((replace(task, test={}) for task in tasks), data_dir)
    return digest_of(json.dumps(files, sort_keys=True).encode())


def _identity(folder: Path) -> str:
    """SHA-256 of a checkpoint's record.

    Raises:
        CheckpointError: it was removed.
    """
    try:
        return digest_of((folder / records.FILE).read_bytes())
    except OSError:
        raise CheckpointError(f"{folder}: was removed by the run before it could be scored") from None
