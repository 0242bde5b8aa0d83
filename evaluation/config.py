"""One complete run of ``sesame evaluate``: the checkpoint and data, the suite, and the fine-tuning settings by task."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from pydantic import Field, model_validator

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.search_config import SearchConfig
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.own import OwnTask
from sesame.evaluation.tasks.task import Task
from sesame.evaluation.tasks.text_forms import as_text

FOLDERS = ("checkpoint", "data_dir", "output")
"""Keys of :class:`EvaluationConfig` that say where files are."""
SCHEDULING = ("queue", "follow", "parallel")
"""Keys of :class:`EvaluationConfig` that say when, where and by how many jobs run, which does not affect a result."""


class ProtocolConfig(Section):
    """Whose way of fine-tuning a file describes; shown in the report."""

    name: str
    """Such as "RoBERTa"."""
    source: str
    """The paper with its table or section, and the published code."""
    differences: tuple[str, ...] = ()
    """What is not as published."""


class SuiteConfig(Section):
    """Tasks, seeds and baseline of an evaluation."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Rows of the table in ``evaluation/tasks``. AX has no training data and is predicted with MNLI's model."""
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    """One fine-tuning run each. A seed determines the head's initial values, the order of the rows, dropout, and the
    weights of the random-init baseline."""
    baseline: bool = True
    """Also fine-tune the same model from random weights in the same way; the difference is the gain of pretraining."""
    predict_test: bool = True
    """Write submission files for the test sets with the pretrained model of the first seed."""
    required: bool = False
    """A missing task is an error; otherwise it is skipped and listed in the report."""
    statistic: Literal["median", "mean"] = "median"
    """Over seeds, of the score that the tables show first."""
    mean_over: tuple[str, ...] = ()
    """Tasks in the mean score; empty: all that ran. Of a task and the same one started from another, only one can be in
    it; empty: the plain one."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: the GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0: torch's default."""


class QueueConfig(Section):
    """Where the jobs of an evaluation run; it does not affect a result."""

    workers: int = Field(default=0, ge=0)
    """Ray worker processes that run jobs at the same time; 0: the jobs run in this process, one after the other. Each
    has ``suite.threads`` CPU threads, or an equal share of this machine's cores; ``--workers`` on the command line."""
    gpus_per_worker: float = Field(default=1.0, ge=0)
    """GPUs that a worker needs where ``suite.device`` has GPUs; a fraction, such as 0.5, if several share one."""
    address: str = Field(default="", pattern=r"^([^\s:/]+:\d+)?$")
    """HOST:PORT of an existing Ray cluster whose machines run the workers; empty: this machine. Its token is read from
    RAY_AUTH_TOKEN or ~/.ray/auth_token; its machines need Sesame, and access to the checkpoint and the output."""
    retries: int = Field(default=2, ge=0)
    """How often a job is repeated whose worker died or that failed by an error that may be another one next time (no
    memory, a disk). Training that diverges and files that are wrong are not tried again."""

    @model_validator(mode="after")
    def _gpus_are_whole_or_shared(self) -> "QueueConfig":
        if self.gpus_per_worker > 1 and self.gpus_per_worker != int(self.gpus_per_worker):
            raise ValueError(f"gpus_per_worker {self.gpus_per_worker:g} is neither below 1 nor a whole number")
        if self.address and not self.workers:
            raise ValueError("address needs workers; set queue.workers to the number of workers on that cluster")
        return self


class FollowConfig(Section):
    """Which checkpoints of a run are scored with ``--follow``."""

    unit: Literal["steps", "sequences", "tokens", "words"] = "steps"
    """What ``at`` counts: optimizer steps, rows, tokens with special ones, or words of the training text."""
    at: tuple[float, ...] = ()
    """The first checkpoint at or after each of these numbers is scored: [1e6, 2e6, 5e6] words; empty: every
    checkpoint."""
    poll_seconds: float = Field(default=10.0, gt=0)
    """Time between two looks for a new checkpoint."""
    give_up_minutes: float = Field(default=60.0, gt=0)
    """End when the run has written nothing for so long, though it has not said that it ended: its machine is gone."""

    @model_validator(mode="after")
    def _marks_rise(self) -> "FollowConfig":
        if any(value <= 0 for value in self.at) or list(self.at) != sorted(set(self.at)):
            raise ValueError("at must be rising numbers above 0")
        return self


class EvaluationConfig(Section):
    """One complete run of ``sesame evaluate``."""

    checkpoint: Path | None = None
    """Checkpoint, or run folder with checkpoints, to evaluate; ``--checkpoint`` on the command line."""
    data_dir: Path | None = None
    """Folder with the files of the tasks; ``--data-dir`` on the command line."""
    output: Path | None = None
    """Folder of the report; ``--output`` on the command line. Default: ``evaluation/STEP/SUITE`` in the run's."""
    suite: SuiteConfig
    finetune: FinetuneConfig = FinetuneConfig()
    """Settings of all tasks."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task: the settings that differ from [finetune]."""
    queue: QueueConfig = QueueConfig()
    follow: FollowConfig = FollowConfig()
    parallel: LayoutConfig = LayoutConfig()

    own_task: tuple[OwnTask, ...] = ()
    """Tasks beside the shipped ones, [[own_task]] in the file."""
    protocol: ProtocolConfig | None = None
    """Where the settings come from."""
    search: SearchConfig | None = None
    """Settings to search for; None: those of [finetune] and [tasks.NAME] are used."""

    @model_validator(mode="after")
    def _workers_run_jobs_alone(self) -> "EvaluationConfig":
        if self.queue.workers and self.parallel.tensor > 1:
            raise ValueError(
                f"parallel.tensor {self.parallel.tensor} splits a job over the processes of --processes, but each of "
                "the queue.workers runs its jobs alone; set one of the two"
            )
        return self

    @model_validator(mode="after")
    def _names_are_known(self) -> "EvaluationConfig":
        try:
            known = self.task_table()
        except ConfigError as error:
            raise ValueError(str(error)) from None
        searched = self.search.tasks if self.search is not None else {}
        for name in (*self.suite.tasks, *self.suite.mean_over, *self.tasks, *searched):
            if name not in known:
                raise ValueError(f"unknown task '{name}'; known: {', '.join(known)} (AX is predicted along with MNLI)")
        for key, values in (("tasks", self.suite.tasks), ("seeds", self.suite.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"suite.{key} has a duplicate: {', '.join(map(str, values))}")
        files = [file for name in self.suite.tasks for file in known[name].prediction_files]
        if self.suite.predict_test and (twice := [file for file in files if files.count(file) > 1]):
            writing = [name for name in self.suite.tasks if twice[0] in known[name].prediction_files]
            raise ValueError(f"{' and '.join(writing)} both write predictions/{twice[0]}; take one of them")
        plain = [known[name].plain_name for name in self.suite.mean_over]
        if mixed := [name for name in plain if plain.count(name) > 1]:
            raise ValueError(
                f"suite.mean_over has {mixed[0]} both plain and started from another task; take one of them"
            )
        if self.search is not None and all(self.search.grid(name) == [{}] for name in self.suite.tasks):
            raise ValueError("search has no values to try; give learning_rate, batch_size, epochs or weight_decay")
        try:
            for name in {*self.tasks, *(self.suite.tasks if self.search is not None else ())}:
                for changes in self.search.grid(name) if self.search is not None else [{}]:
                    self.settings(name, changes)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def task_table(self) -> dict[str, Task]:
        """All tasks by name: the shipped ones and [[own_task]].

        Raises:
            ConfigError: an own task has the name of another, or cannot be.
        """
        own = [task.row() for task in self.own_task]
        names = [*TASKS, *(task.name for task in own)]
        if duplicates := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"own_task '{duplicates[0]}' has the name of another task; give it one of its own")
        table = {**TASKS, **{task.name: task for task in own}}
        # Both rows of a task would write the same files of predictions: the plain one does.
        both = [name for name, task in table.items() if task.starts_from and task.plain_name in self.suite.tasks]
        table |= {name: replace(table[name], test={}) for name in both}
        in_text = [name for name in self.suite.tasks if name in table and self.settings(name).form == "text"]
        return {**table, **{name: as_text(table[name]) for name in in_text}}

    def settings(self, task: str, changes: Mapping[str, Any] = MappingProxyType({})) -> FinetuneConfig:
        """Settings of one task: [finetune] updated with [tasks.NAME], and with ``changes``."""
        values = {**configs.dump(self.finetune), **self.tasks.get(task, {}), **changes}
        return configs.parse(values, FinetuneConfig, f"[tasks.{task}]")

    def shorter(self, tokens: int) -> list[str]:
        """Changes ``KEY=VALUE`` after which no task has sequences of more than ``tokens``; empty if none has."""
        sections = {"finetune": configs.dump(self.finetune)} | {
            f"tasks.{name}": each for name, each in self.tasks.items()
        }
        return [
            f"{name}.sequence_length={tokens}"
            for name, values in sections.items()
            if values.get("sequence_length", 0) > tokens
        ]

    def recipe(self) -> dict[str, Any]:
        """All settings that a result may depend on, as plain JSON values."""
        return {key: value for key, value in configs.dump(self).items() if key not in (*FOLDERS, *SCHEDULING)}

    def with_precision(self, available: str) -> "EvaluationConfig":
        """Replace precision "auto" by ``available`` everywhere, so that results depend on the precision they ran in."""
        values = configs.dump(self)
        for section in (values["finetune"], *values["tasks"].values()):
            if section.get("precision") == "auto":
                section["precision"] = available
        return configs.parse(values, EvaluationConfig, "the suite")
