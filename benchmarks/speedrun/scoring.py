"""How trained checkpoints are scored: on the held-out words, and on the suites of an evaluation."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.speedrun.held_out import HeldOut
from benchmarks.speedrun.trainers import SESAME, Trained
from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.storage import digest, digest_of
from sesame.evaluation.config import EvaluationConfig, SuiteConfig
from sesame.evaluation.reading.rows import checksums

Execute = Callable[[Sequence[str], str, Path], None]
"""(command, title, file of its output) -> run it."""


def suites_in(folder: Path) -> list[Path]:
    """Return the suites of a folder.

    Raises:
        ConfigError: it has none.
    """
    found = sorted(folder.glob("*.toml"))
    if not found:
        raise ConfigError(f"{folder}: has no suites (.toml); give another --suites")
    return found


def suites_digest(folder: Path) -> str:
    """Return one digest of all suites of a folder."""
    return digest_of(b"".join(path.read_bytes() for path in suites_in(folder)))


class Scoring:
    """Scores checkpoints; what is there already is read."""

    def __init__(self, folder: Path, tasks: Path | None, execute: Execute, workers: int = 0):
        """
        Args:
            folder: of all results.
            tasks: blimp/ and GLUE's tasks, there or below glue/; None: there are none.
            workers: that fine-tune at the same time; 0: none beside the process of ``sesame evaluate``.
        """
        self.folder, self.tasks, self.execute, self.workers = folder, tasks, execute, workers

    def held_out(self, seed: int, trained: Trained, dataset: Path) -> HeldOut:
        """Return how well a checkpoint predicts the held-out documents of a dataset."""
        output = self._folder(trained) / "held_out.json"
        if not output.exists():
            program = [sys.executable, "-m", "benchmarks.speedrun.held_out"]
            command = [*program, trained.checkpoint, str(dataset), str(output)]
            self.execute(command, f"measure, seed {seed}, held-out words", output.with_suffix(".log"))
        return HeldOut(**json.loads(output.read_text(encoding="utf-8")))

    def reports(self, seed: int, trained: Trained, suites: Path, *, random_init: bool = False) -> list[Path]:
        """Return the ``report.json`` of each suite of a folder for one checkpoint.

        Args:
            random_init: also score the same model from random weights.
        """
        if self.tasks is None:
            raise ConfigError("there is nothing to evaluate with; give the folder of the tasks with --evaluation")
        reports = []
        for suite in suites_in(suites):
            config = configs.load(suite, EvaluationConfig)
            output = self._folder(trained) / f"{suite.stem}-{self._content(suite, config)[:8]}"
            command = [*SESAME, "evaluate", str(suite), "--checkpoint", trained.checkpoint, "--output", str(output)]
            command += ["--data-dir", str(self._data(suite))]
            command += self._in_workers(config.suite)
            if random_init:
                command += ["--set", "suite.baseline=true"]
            if not (output / "report.json").exists() or random_init:
                output.mkdir(parents=True, exist_ok=True)
                self.execute(command, f"evaluate, seed {seed}, {suite.stem}", output.with_suffix(".log"))
            reports.append(output / "report.json")
        return reports

    def _content(self, suite: Path, config: EvaluationConfig) -> str:
        """Return one digest of a suite and of the files of its tasks: others of the same names score something else."""
        table = config.task_table()
        files = checksums([table[name] for name in config.suite.tasks], self._data(suite))
        return digest_of(json.dumps([digest(suite), files], sort_keys=True).encode())

    def _in_workers(self, suite: SuiteConfig) -> list[str]:
        """Small steps are faster in a process for each core than on all cores in turn, if there is a job for each."""
        has_enough = len(suite.tasks) * len(suite.seeds) >= self.workers > 1
        return ["--workers", str(self.workers)] if has_enough else []

    def _folder(self, trained: Trained) -> Path:
        folder = self.folder / trained.weights_sha256[:12]
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _data(self, suite: Path) -> Path:
        """Return the folder in which a suite finds its files: GLUE's own folder may be one of several."""
        assert self.tasks is not None
        glue = self.tasks / "glue"
        return self.tasks if suite.stem.startswith("blimp") or not glue.is_dir() else glue
