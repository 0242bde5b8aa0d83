"""Evaluation of a checkpoint: every job (task, model, seed) of a suite, and a report.

What a job computed is kept in ``OUTPUT/results``, keyed by everything that it depends on, so that it is not computed
again for the same checkpoint, files and settings.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

import torch

from sesame.configs.errors import ConfigError, TaskError
from sesame.configs.log_lines import timed
from sesame.configs.storage import locked_folder
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import DivergedError, answers
from sesame.evaluation.finetuning.heads import head_of
from sesame.evaluation.jobs import run_job
from sesame.evaluation.progress import Progress
from sesame.evaluation.reading.tables import MissingFileError
from sesame.evaluation.report.content import Content, Repeat, RunInfo
from sesame.evaluation.report.examples import dev_texts
from sesame.evaluation.report.repeat import checksums, write_settings
from sesame.evaluation.report.summary import summarise
from sesame.evaluation.report.write import write
from sesame.evaluation.results.predictions import Predictions, write_predictions
from sesame.evaluation.results.result import Job, Result, depends_on_seed, fingerprint
from sesame.evaluation.results.store import Outputs, Store
from sesame.evaluation.search import search
from sesame.evaluation.starting import Jobs, load_starts
from sesame.pretrain import precision
from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.checkpoints.load import latest, load_backbone


def evaluate(config: EvaluationConfig, output: Path | None = None, command: str = "") -> Path:
    """Evaluate ``config.checkpoint`` on the tasks in ``config.data_dir`` and write the report.

    Args:
        output: folder for ``report.md``, ``report.json``, ``report.png``, ``results/*`` and ``predictions/*``; None:
            ``config.output``.
        command: the command line, for the report.

    Returns:
        The path of ``report.md``.

    Raises:
        TaskError: a task's file breaks its layout, or no task can run.
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: a folder is not configured, or is in use by another evaluation, or a sequence length exceeds the
            positions of the model.
    """
    checkpoint = _configured(config.checkpoint, "checkpoint")
    data_dir = _configured(config.data_dir, "data_dir")
    output = _configured(output or config.output, "output")
    started = datetime.now().astimezone()
    if config.suite.threads:
        torch.set_num_threads(config.suite.threads)
    device = _device(config.suite.device)
    keep_freed_memory(device)
    config = _with_precision(config, device)
    # Resolved once, because a training run may save a newer checkpoint during the evaluation.
    folder = latest(checkpoint) or checkpoint
    loaded = load_backbone(folder)
    _check_lengths(config, loaded.backbone)
    tasks, skipped = _load_tasks(config, data_dir, Tokenizer.load(loaded.tokenizer_path))
    identity = fingerprint(loaded.backbone, loaded.tokenizer_path, loaded.model)
    starts = load_starts(config, tasks, data_dir, Tokenizer.load(loaded.tokenizer_path))
    heads = {data.title: _head(config, data, loaded.backbone) for data in tasks}
    with locked_folder(output) as is_locked:
        if not is_locked:
            raise ConfigError(f"{output}: another evaluation writes there; wait for it, or give another --output DIR")
        repeat = Repeat(command, checksums(tasks, data_dir), write_settings(output, config))
        jobs, store = Jobs(config, identity, starts, output / "results"), Store(output / "results")
        config, searches = search(
            config, tasks, jobs, lambda some: list(Queue(config, folder, some, store, device).results())
        )
        queue = Queue(config, folder, jobs.of(config, tasks), store, device)
        results = list(queue.results())
        if all(result.error for result in results):
            raise TaskError(f"every fine-tuning run failed; the first: {results[0].error}")
        predictions = write_predictions(output, queue.predictions())
        run = RunInfo(str(checkpoint), loaded.step, identity, started, _device_name(device))
        summary = summarise(tasks, results, config.suite.mean_over, config.suite.statistic)
        content = Content(config, tasks, results, skipped, run, summary, heads, predictions, searches, repeat)
        return write(output, replace(content, texts={data.title: dev_texts(data, data_dir) for data in tasks}))


def default_output(checkpoint: Path, suite: str) -> Path:
    """Return the folder of a report where none is configured: beside the checkpoints of the run, by step and suite."""
    folder = (latest(checkpoint) or checkpoint).absolute()
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    return run / "evaluation" / folder.name / suite


@dataclass
class Queue:
    """The jobs of an evaluation, in order."""

    config: EvaluationConfig
    checkpoint: Path
    jobs: list[Job]
    store: Store
    device: torch.device

    def results(self) -> Iterator[Result]:
        """The result of each job, read from the store or computed and kept there."""
        with Progress([_cost(job) for job in self.jobs]) as progress:
            for job in self.jobs:
                progress.begin(job.title)
                result, status = self.store.read(job), "already computed"
                is_missing = result is None or (self._predicts(job) and self.store.read_test(job) is None)
                if result is None or is_missing:
                    result = self._run(job, progress)
                    status = f"{result.seconds:.0f} s" if not result.error else "failed"
                progress.end(result, status, is_computed=is_missing)
                yield from self._by_seed(job, result)

    def _run(self, job: Job, progress: Progress) -> Result:
        try:
            result, test = run_job(job, self.checkpoint, self.device, self._predicts(job), progress.advance)
        except DivergedError as error:
            return Result.failed(job, str(error))
        self.store.write(job, result)
        if test:
            self.store.write_test(job, test)
        return result

    def _predicts(self, job: Job) -> bool:
        """Test sets are predicted by one model."""
        return bool(job.data.test) and job.model == "pretrained" and job.seed == self.config.suite.seeds[0]

    def _by_seed(self, job: Job, result: Result) -> Iterator[Result]:
        """The result once for each seed if it does not depend on the seed, so that means over tasks have it."""
        for seed in (job.seed,) if depends_on_seed(job.data, job.model) else self.config.suite.seeds:
            yield result.with_seed(seed)

    def predictions(self) -> dict[str, Predictions]:
        """Predictions for the test sets, by name of the file; without those of a model whose training diverged."""
        sets = {}
        for job in filter(self._predicts, self.jobs):
            outputs: Outputs = self.store.read_test(job) or {}
            for name, values in outputs.items():
                task, examples = job.data.task, job.data.test[name]
                sets[name] = Predictions(task, task.test[name], examples.indices, answers(task, examples, values))
        return sets


def _cost(job: Job) -> float:
    """Tokens of a job; a training token costs as much as three others."""
    data = job.data
    passes = 3 * job.settings.epochs if data.train is not None else 1
    training = data.train.row_tokens.sum() * passes if data.train is not None else 0
    return float(training + sum(dev.row_tokens.sum() for dev in data.dev.values()))


def _configured(folder: Path | None, key: str) -> Path:
    if folder is None:
        option = key.replace("_", "-")
        raise ConfigError(f"the evaluation has no {key}; use --{option} DIR, or set {key} in the TOML file")
    return folder


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("suite.device is 'cuda', but torch finds no GPU; use --set suite.device=auto")
    return torch.device("cuda" if torch.cuda.is_available() and name != "cpu" else "cpu")


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"the CPU with {torch.get_num_threads()} threads"


def _with_precision(config: EvaluationConfig, device: torch.device) -> EvaluationConfig:
    """Resolve precision "auto" to the best precision of ``device``."""
    available = precision.of_device(device)
    resolved = config.with_precision(available.name)
    if resolved != config:
        line = f"fine-tuning on {device.type} in {available}"
        print(timed(line, is_terminal=sys.stdout.isatty()), flush=True)
    return resolved


def _check_lengths(config: EvaluationConfig, backbone: torch.nn.Module) -> None:
    positions = getattr(backbone, "positions", None)
    for name in config.suite.tasks:
        length = config.settings(name).sequence_length
        if positions is not None and length > positions:
            raise ConfigError(
                f"{name}: finetune.sequence_length {length} is more than the {positions} positions of this "
                f"checkpoint's model; use --set finetune.sequence_length={positions}"
            )


def _load_tasks(
    config: EvaluationConfig, data_dir: Path, tokenizer: Tokenizer
) -> tuple[list[TaskData], dict[str, str]]:
    """Read the files of all tasks, before any training; returns (tasks, reason by name of each skipped task)."""
    tasks, skipped, table = [], {}, config.task_table()
    for name in config.suite.tasks:
        try:
            tasks.append(load_task(table[name], config.settings(name), data_dir, tokenizer, config.suite.predict_test))
        except MissingFileError as error:
            if config.suite.required:
                raise
            skipped[name] = str(error)
    if not tasks:
        raise MissingFileError(
            f"{data_dir}: holds none of {', '.join(config.suite.tasks)}; {next(iter(skipped.values()))}"
        )
    return tasks, skipped


def _head(config: EvaluationConfig, data: TaskData, backbone: torch.nn.Module) -> str:
    return head_of(backbone, config.settings(data.task.name), data.task)  # pyright: ignore[reportArgumentType]
