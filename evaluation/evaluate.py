"""A suite of tasks x models x seeds -> results -> a report.

Each result is a small JSON file under ``OUTPUT/results``, keyed by everything that it depends on: what was computed
once for the same checkpoint, files and settings is not computed again.
"""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import torch

from configs.errors import ConfigError
from data_pipeline.tokenizers.tokenizer import Tokenizer
from evaluation import report
from evaluation.config import EvaluationConfig, FinetuneConfig
from evaluation.encoding import TaskData, load_task
from evaluation.finetune import finetune
from evaluation.progress import Progress
from evaluation.reading import MissingFileError, write_predictions, write_whole
from evaluation.results import MODELS, Result, file_digest, fingerprint, key_of, recorded
from evaluation.tasks import TASKS
from pretrain import precision
from pretrain.checkpoints.load import latest, load_backbone


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
