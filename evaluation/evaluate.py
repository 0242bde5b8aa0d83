"""Evaluation of a checkpoint: every job (task, model, seed) of a suite, and a report.

What a job computed is kept in ``OUTPUT/results``, keyed by everything that it depends on, so that it is not computed
again for the same checkpoint, files and settings.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import torch

from sesame.configs.errors import ConfigError, TaskError
from sesame.configs.log_lines import timed
from sesame.configs.storage import locked_folder, remove_unfinished
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.heads import head_of
from sesame.evaluation.finetuning.share import ALONE, DataShare
from sesame.evaluation.queue import task_files
from sesame.evaluation.queue.checkpoint import FOLDER as IMPORTED
from sesame.evaluation.queue.checkpoint import checkpoint_folder
from sesame.evaluation.queue.device import Device
from sesame.evaluation.queue.jobs import Queue
from sesame.evaluation.queue.processes import models_of, open_processes
from sesame.evaluation.queue.runner import InProcess, RayWorkers, open_runner
from sesame.evaluation.queue.tasks import load_tasks
from sesame.evaluation.reading.rows import checksums
from sesame.evaluation.report.content import Content, Repeat, RunInfo
from sesame.evaluation.report.examples import dev_texts
from sesame.evaluation.report.repeat import write_settings
from sesame.evaluation.report.summary import summarise
from sesame.evaluation.report.write import write
from sesame.evaluation.results.predictions import write_predictions
from sesame.evaluation.results.result import Job
from sesame.evaluation.results.store import Store
from sesame.evaluation.search import search
from sesame.evaluation.starting import Jobs
from sesame.pretrain.checkpoints.load import latest

REPORT = "report.md"


class AllFailedError(TaskError):
    """No job has a result."""


class Place(NamedTuple):
    """Where an evaluation reads and writes."""

    checkpoint: Path
    """That is loaded."""
    name: Path
    """Of the checkpoint in the report."""
    source: Path
    """Where the checkpoint stays, for a repetition."""
    data_dir: Path
    output: Path
    command: str
    """That was typed; empty: another program's call."""
    encoded: Path | None
    """Folder of encoded tasks, for workers; None: they stay in this process."""


def evaluate(config: EvaluationConfig, output: Path | None = None, command: str = "") -> Path:
    """Evaluate ``config.checkpoint`` on the tasks in ``config.data_dir`` and write the report.

    Args:
        output: folder for ``report.md``, ``report.json``, ``report.png``, ``results/*`` and ``predictions/*``; None:
            ``config.output``.

    Returns:
        The path of ``report.md``.

    Raises:
        TaskError: a task's file breaks its layout, or no task can run.
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: a folder is not configured, or is in use by another evaluation, or a sequence length exceeds the
            positions of the model.
    """
    checkpoint = configured(config.checkpoint, "checkpoint")
    data_dir = configured(config.data_dir, "data_dir")
    output = configured(output or config.output, "output")
    tasks = output / task_files.FOLDER if config.queue.workers else None
    with open_processes(config) as share:
        if not share.is_rank_zero:
            place = Place(share.gather(None)[0], checkpoint, checkpoint, data_dir, output, command, tasks)
            return evaluate_in(place, config, open_runner(config, output, share), share)
        with only_evaluation_in(output), checkpoint_folder(checkpoint, output) as folder:
            source = checkpoint if folder == output / IMPORTED else folder
            place = Place(share.gather(folder)[0], checkpoint, source, data_dir, output, command, tasks)
            with open_runner(config, output, share) as runner:
                report = evaluate_in(place, config, runner, share)
            # Also of workers that were killed before.
            shutil.rmtree(output / task_files.FOLDER, ignore_errors=True)
            return report


@contextmanager
def only_evaluation_in(output: Path) -> Iterator[None]:
    """Keep other evaluations out of a folder, and remove what a killed one was writing.

    Raises:
        ConfigError: another evaluation writes there.
    """
    with locked_folder(output) as is_locked:
        if not is_locked:
            raise ConfigError(f"{output}: another evaluation writes there; wait for it, or give another --output DIR")
        remove_unfinished(output)
        yield


def evaluate_in(
    place: Place, config: EvaluationConfig, runner: InProcess | RayWorkers, share: DataShare = ALONE
) -> Path:
    """Evaluate a checkpoint with a runner that may have evaluated others, and write the report.

    Args:
        share: of this process, if several evaluate together; only the first writes.
    """
    started = datetime.now().astimezone()
    device = runner.device()
    config = _with_precision(config, device)
    models = models_of(place.checkpoint, share)
    loaded = models.loaded
    tokenizer = Tokenizer.load(loaded.tokenizer_path)
    positions = getattr(loaded.backbone, "positions", None)
    suite = load_tasks(config, place.data_dir, tokenizer, loaded.tokenizer_path, positions, place.encoded)
    heads = {data.title: _head(config, data, loaded.backbone) for data in suite.tasks}
    identity = models.identity
    if isinstance(runner, InProcess):
        runner.work.preset(models, suite.folders.data)
    store = Store(place.output / "results")

    def queue_of(jobs: Sequence[Job]) -> Queue:
        return Queue(config, place.checkpoint, jobs, store, runner, suite.folders, share)

    asked, jobs = config, Jobs(config, identity, suite.starts, store.folder)
    config, searches = search(config, suite.tasks, jobs, lambda some: queue_of(some).results())
    queue = queue_of(jobs.using(config).of(suite.tasks))
    found = queue.results()
    if all(result.error for result in found):
        raise AllFailedError(f"every job failed; the first: {found[0].error}")
    if not share.is_rank_zero:
        return place.output / REPORT
    settings = write_settings(place.output, asked, place.source, place.data_dir)
    repeat = Repeat(place.command, checksums((data.task for data in suite.tasks), place.data_dir), settings)
    predictions = write_predictions(place.output, queue.predictions())
    names = device.hardware, device.type
    run = RunInfo(str(place.name), loaded.step, identity.weights, started, device.name, names)
    summary = summarise(suite.tasks, found, config.suite.mean_over, config.suite.statistic)
    content = Content(config, suite.tasks, found, suite.skipped, run, summary, heads, predictions, searches, repeat)
    texts = {data.title: dev_texts(data, place.data_dir) for data in suite.tasks}
    return write(place.output, replace(content, texts=texts))


def default_output(checkpoint: Path, suite: str) -> Path:
    """Return the folder of a report where none is configured: beside the checkpoints of the run, by step and suite."""
    folder = (latest(checkpoint) or checkpoint).absolute()
    run = folder.parent.parent if folder.parent.name == "checkpoints" else folder.parent
    return run / "evaluation" / folder.name / suite


def configured(folder: Path | None, key: str) -> Path:
    """Return a folder of the configuration.

    Raises:
        ConfigError: it is not set.
    """
    if folder is None:
        option = key.replace("_", "-")
        raise ConfigError(f"the evaluation has no {key}; use --{option} DIR, or set {key} in the TOML file")
    return folder


def _with_precision(config: EvaluationConfig, device: Device) -> EvaluationConfig:
    """Resolve precision "auto" to the best precision of ``device``."""
    resolved = config.with_precision(device.precision.name)
    if resolved != config:
        line = f"fine-tuning on {device.type} in {device.precision}"
        print(timed(line, is_terminal=sys.stdout.isatty()), flush=True)
    return resolved


def _head(config: EvaluationConfig, data: TaskData, backbone: torch.nn.Module) -> str:
    return head_of(backbone, config.settings(data.task.name), data.task)  # pyright: ignore[reportArgumentType]
