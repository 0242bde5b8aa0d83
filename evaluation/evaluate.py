"""A suite of tasks x models x seeds -> results -> a report.

Each result is a small JSON file under ``OUTPUT/results``, keyed by everything that it depends on: what was computed
once for the same checkpoint, files and settings is not computed again.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field, model_validator

import configs
from configs import Section
from configs.errors import ConfigError
from data_pipeline.tokenizer import Tokenizer
from evaluation import report
from evaluation.encoding import TaskData, load_task
from evaluation.finetune import finetune
from evaluation.finetune_config import FinetuneConfig
from evaluation.progress import Progress
from evaluation.reading import MissingFileError, write_predictions, write_whole
from evaluation.results import MODELS, Result, file_digest, fingerprint, key_of, recorded
from evaluation.tasks import TASKS
from pretrain import precision
from pretrain.checkpoint import latest, load_backbone


class SuiteConfig(Section):
    """Which tasks, how often, and compared with what."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Rows of the table of tasks. AX has no training data and is predicted along with MNLI."""
    seeds: tuple[int, ...] = Field(default=(1, 2, 3), min_length=1)
    """One fine-tuning each: the head's values, the order of the rows, dropout, and the weights of the
    random-init baseline."""
    baseline: bool = True
    """Also fine-tune the same model from random weights in the same way: what pretraining is worth."""
    predict_test: bool = True
    """Write submission files for the test sets with the pretrained model of the first seed."""
    required: bool = False
    """A missing task is an error; else it is left out and the report says so."""
    mean_over: tuple[str, ...] = ()
    """Tasks that the mean is taken over; empty: all that ran."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to compute; auto: the GPU if there is one."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves the choice to torch."""


class EvaluationConfig(Section):
    """One complete evaluation."""

    suite: SuiteConfig
    """What is run."""
    finetune: FinetuneConfig = FinetuneConfig()
    """Settings of every task."""
    tasks: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """By task: what differs from [finetune]."""

    @model_validator(mode="after")
    def _names_are_known(self) -> "EvaluationConfig":
        for name in (*self.suite.tasks, *self.suite.mean_over, *self.tasks):
            if name not in TASKS:
                raise ValueError(f"unknown task '{name}'; known: {', '.join(TASKS)} (AX is predicted along with MNLI)")
        for key, values in (("tasks", self.suite.tasks), ("seeds", self.suite.seeds)):
            if len(set(values)) < len(values):
                raise ValueError(f"suite.{key} names something twice: {', '.join(map(str, values))}")
        try:
            for name in self.tasks:
                self.settings(name)
        except ConfigError as error:
            raise ValueError(str(error)) from None
        return self

    def settings(self, task: str) -> FinetuneConfig:
        """[finetune] with [tasks.NAME] on top."""
        values = {**configs.dump(self.finetune), **self.tasks.get(task, {})}
        return configs.parse(values, FinetuneConfig, f"[tasks.{task}]")

    def with_precision(self, available: str) -> "EvaluationConfig":
        """The same with ``available`` wherever precision is "auto": results in one are not those in the other."""
        values = configs.dump(self)
        for section in (values["finetune"], *values["tasks"].values()):
            if section.get("precision") == "auto":
                section["precision"] = available
        return configs.parse(values, EvaluationConfig, "the suite")


def evaluate(config: EvaluationConfig, checkpoint: Path, data_dir: Path, output: Path) -> Path:
    """Fine-tune and score the whole suite; returns the path of ``report.md`` in ``output``.

    Beside it: ``report.json``, ``report.png``, ``results/*.json`` and ``submission/*.tsv``.

    Raises:
        TaskError: a task's file breaks its layout, no task can run, or training diverged.
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: the checkpoint's model takes no sequences as long as the suite's.
    """
    if config.suite.threads:
        torch.set_num_threads(config.suite.threads)
    started = datetime.now().astimezone()
    device = _device(config.suite.device)
    available = precision.of_device(device)
    resolved = config.with_precision(available.name)
    if resolved != config:
        print(f"fine-tuning on {device.type} in {available}", flush=True)
    config = resolved
    # Named once: a training that still runs may write a newer one before the last task begins.
    folder = latest(checkpoint) or checkpoint
    loaded = load_backbone(folder)
    _check_lengths(config, loaded.backbone)
    loaded_tasks, skipped = _load_tasks(config, data_dir, Tokenizer.load(loaded.tokenizer_path))
    identity = fingerprint(loaded.backbone, loaded.tokenizer_path)
    results = list(_results(config, folder, identity, loaded_tasks, output, device))
    return report.write(
        output, config, loaded_tasks, results, skipped, report.Subject(str(checkpoint), loaded.step, identity, started)
    )


def _device(asked: str) -> torch.device:
    if asked == "cuda" and not torch.cuda.is_available():
        raise ConfigError("suite.device is 'cuda', but torch finds no GPU; use --set suite.device=auto")
    return torch.device("cuda" if torch.cuda.is_available() and asked != "cpu" else "cpu")


def _check_lengths(config: EvaluationConfig, backbone: torch.nn.Module) -> None:
    positions = getattr(backbone, "positions", None)
    for name in config.suite.tasks:
        asked = config.settings(name).sequence_length
        if positions is not None and asked > positions:
            raise ConfigError(
                f"{name}: finetune.sequence_length {asked} is more than the {positions} positions of this checkpoint's "
                f"model; use --set finetune.sequence_length={positions}"
            )


def _load_tasks(
    config: EvaluationConfig, data_dir: Path, tokenizer: Tokenizer
) -> tuple[list[TaskData], dict[str, str]]:
    """(what can run, reason by name of what cannot); everything is read before anything is trained."""
    tasks, skipped = [], {}
    for name in config.suite.tasks:
        try:
            tasks.append(load_task(TASKS[name], config.settings(name), data_dir, tokenizer, config.suite.predict_test))
        except MissingFileError as error:
            if config.suite.required:
                raise
            skipped[name] = str(error)
    if not tasks:
        raise MissingFileError(
            f"{data_dir}: holds none of {', '.join(config.suite.tasks)}; {next(iter(skipped.values()))}"
        )
    return tasks, skipped


def _results(
    config: EvaluationConfig,
    checkpoint: Path,
    identity: str,
    tasks: list[TaskData],
    output: Path,
    device: torch.device,
) -> Iterator[Result]:
    models = [model for model in MODELS if config.suite.baseline or model == "pretrained"]
    runs = [(data, model, seed) for data in tasks for model in models for seed in config.suite.seeds]
    with Progress(len(runs)) as progress:
        for data, model, seed in runs:
            settings = config.settings(data.task.name)
            key = key_of(identity, data, settings, model, seed)
            path = output / "results" / f"{data.task.name}-{model}-{seed}-{key[:12]}.json"
            submits = model == "pretrained" and seed == config.suite.seeds[0]
            files = {name: output / "submission" / f"{name}.tsv" for name in (data.test if submits else {})}
            progress.begin(f"{data.title}, {model}, seed {seed}")
            result = recorded(path, files)
            how = "already computed"
            if result is None:
                result = _run(checkpoint, data, settings, model, seed, files, device, progress)
                how = f"{result.seconds:.0f} s"
                write_whole(path, json.dumps(result.to_json(key), indent=2) + "\n")
            progress.end(result, how)
            yield result


def _run(
    checkpoint: Path,
    data: TaskData,
    settings: FinetuneConfig,
    model: str,
    seed: int,
    files: dict[str, Path],
    device: torch.device,
    progress: Progress,
) -> Result:
    begun = datetime.now()
    backbone = load_backbone(checkpoint, seed=MODELS[model](seed)).backbone
    shown = data if files else TaskData(data.task, data.title, data.train, data.dev, {})
    outcome = finetune(backbone, shown, settings, seed, device, progress.advance)
    for name, file in files.items():
        write_predictions(file, data.task, data.test[name].indices, outcome.predictions[name])
    seconds = (datetime.now() - begun).total_seconds()
    digests = {name: file_digest(file) for name, file in files.items()}
    return Result(data.task.name, model, seed, outcome.scores, outcome.epoch, round(seconds, 2), digests)
