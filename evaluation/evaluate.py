"""Evaluation of a checkpoint: fine-tune it on every task of a suite with every seed, and write a report.

Each fine-tuning result is a small JSON file in ``OUTPUT/results``, keyed by everything that it depends on, so that it
is not computed again for the same checkpoint, files and settings.
"""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import torch

from sesame.configs.errors import ConfigError
from sesame.configs.log_lines import timed
from sesame.configs.storage import digest, write_text
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation import report
from sesame.evaluation.config import EvaluationConfig, FinetuneConfig
from sesame.evaluation.encoding import TaskData, load_task
from sesame.evaluation.finetune import finetune
from sesame.evaluation.progress import Progress
from sesame.evaluation.reading import MissingFileError, write_predictions
from sesame.evaluation.results import MODELS, Result, fingerprint, key_of, read_result
from sesame.evaluation.tasks import TASKS
from sesame.pretrain import precision
from sesame.pretrain.checkpoints.load import latest, load_backbone


def evaluate(config: EvaluationConfig, output: Path | None = None) -> Path:
    """Fine-tune ``config.checkpoint`` on the tasks in ``config.data_dir`` and write the report.

    Args:
        output: folder for ``report.md``, ``report.json``, ``report.png``, ``results/*.json`` and ``submission/*.tsv``;
            None: ``config.output``.

    Returns:
        The path of ``report.md``.

    Raises:
        TaskError: a task's file breaks its layout, no task can run, or training diverged.
        CheckpointError: the checkpoint cannot be loaded.
        ConfigError: a folder is not configured, or a sequence length exceeds the positions of the model.
    """
    checkpoint = _configured(config.checkpoint, "checkpoint")
    data_dir = _configured(config.data_dir, "data_dir")
    output = _configured(output or config.output, "output")
    started = datetime.now().astimezone()
    if config.suite.threads:
        torch.set_num_threads(config.suite.threads)
    device = _device(config.suite.device)
    config = _with_precision(config, device)
    # Resolved once, because a training run may save a newer checkpoint during the evaluation.
    folder = latest(checkpoint) or checkpoint
    loaded = load_backbone(folder)
    _check_lengths(config, loaded.backbone)
    tasks, skipped = _load_tasks(config, data_dir, Tokenizer.load(loaded.tokenizer_path))
    identity = fingerprint(loaded.backbone, loaded.tokenizer_path)
    (output / "results").mkdir(parents=True, exist_ok=True)
    results = list(_results(config, folder, identity, tasks, output, device))
    run = report.RunInfo(str(checkpoint), loaded.step, identity, started)
    return report.write(output, config, tasks, results, skipped, run)


def _configured(folder: Path | None, key: str) -> Path:
    if folder is None:
        option = key.replace("_", "-")
        raise ConfigError(f"the evaluation has no {key}; use --{option} DIR, or set {key} in the TOML file")
    return folder


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("suite.device is 'cuda', but torch finds no GPU; use --set suite.device=auto")
    return torch.device("cuda" if torch.cuda.is_available() and name != "cpu" else "cpu")


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
    """One result for each task, model and seed: read from ``output/results``, or computed and written there."""
    models = [model for model in MODELS if config.suite.baseline or model == "pretrained"]
    runs = [(data, model, seed) for data in tasks for model in models for seed in config.suite.seeds]
    with Progress(len(runs)) as progress:
        for data, model, seed in runs:
            settings = config.settings(data.task.name)
            key = key_of(identity, data, settings, model, seed)
            path = output / "results" / f"{data.task.name}-{model}-{seed}-{key[:12]}.json"
            predicts_test = model == "pretrained" and seed == config.suite.seeds[0]
            files = {name: output / "submission" / f"{name}.tsv" for name in (data.test if predicts_test else {})}
            progress.begin(f"{data.title}, {model}, seed {seed}")
            result = read_result(path, files)
            status = "already computed"
            if result is None:
                result = _run(checkpoint, data, settings, model, seed, files, device, progress)
                status = f"{result.seconds:.0f} s"
                write_text(path, json.dumps(result.to_json(key), indent=2) + "\n")
            progress.end(result, status)
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
    """Fine-tune once and write the submission ``files``, by name; without any, the test sets are not predicted."""
    start = time.monotonic()
    backbone = load_backbone(checkpoint, seed=MODELS[model](seed)).backbone
    outcome = finetune(backbone, data if files else replace(data, test={}), settings, seed, device, progress.advance)
    for name, file in files.items():
        file.parent.mkdir(exist_ok=True)
        write_predictions(file, data.task, data.test[name].indices, outcome.predictions[name])
    seconds = round(time.monotonic() - start, 2)
    digests = {name: digest(file) for name, file in files.items()}
    return Result(data.task.name, model, seed, outcome.scores, outcome.epoch, seconds, digests)
