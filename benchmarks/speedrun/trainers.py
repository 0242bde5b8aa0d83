"""The table of what trains a recipe: its commands, and what they have computed."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from benchmarks.speedrun.recipe import Recipe, write_toml
from sesame.configs.errors import CheckpointError, ConfigError
from sesame.configs.json_lines import read_rows
from sesame.configs.storage import digest_of, write_text
from sesame.pretrain.checkpoints import record as records
from sesame.pretrain.checkpoints.load import latest

NO_LIMIT = 1e6
"""Minutes. A limit that is never reached makes checkpoints count the seconds of training, and changes no schedule."""
VALIDATIONS = 4
"""In a run of known length, and as many checkpoints."""
VALIDATION_ROWS = 512


class Limit(NamedTuple):
    """When a training ends: after steps, or in a short run that finds their number after minutes."""

    steps: int | None = None
    minutes: float | None = None


class Job(NamedTuple):
    """One training."""

    recipe: Recipe
    datasets: Mapping[str, Path]
    """By name in ``recipe.corpora``, the first one first."""
    folder: Path
    seed: int
    limit: Limit


class Trained(NamedTuple):
    """What a training has computed."""

    steps: int
    minutes: float
    tokens: float
    flops: float
    validation_loss: float
    """Of masked tokens, in nats."""
    weights_sha256: str
    checkpoint: str
    """Folder, for `sesame evaluate`."""
    processor: str = ""
    """That it was trained on."""
    threads: int = 0
    """CPU threads that it was trained with."""
    versions: Mapping[str, str] = MappingProxyType({})
    """Of the packages that trained it."""
    code: str = ""
    """Commit of this repository."""
    start_minutes: float = 0.0
    """Of ``minutes``: what does not grow with the steps (compilation, first steps, the last validation)."""


class Trainer(NamedTuple):
    """A row of the table."""

    commands: Callable[[Job], list[list[str]]]
    """Write the configuration and return the commands, which go on if they were stopped; the loop of transformers
    begins again, because it has no checkpoints."""
    result: Callable[[Job], Trained]
    """Read what the finished commands have written."""
    threads: Callable[[Recipe], int]
    """Return the CPU threads that a recipe asks for; 0: one for each core."""


SESAME = [sys.executable, "-m", "sesame"]


def _sesame_commands(job: Job) -> list[list[str]]:
    folders = {name: str(path.absolute()) for name, path in job.datasets.items()}
    values = dict(job.recipe.pretrain)
    data = {**values.get("data", {}), "dataset": next(iter(folders.values()))}
    if "stages" in data:
        data["stages"] = [{**stage, "dataset": folders[stage["dataset"]]} for stage in data["stages"]]
    steps = job.limit.steps
    period = max(1, steps // VALIDATIONS) if steps else 10**9
    limits: dict[str, Any] = {"stop": {"minutes": job.limit.minutes or NO_LIMIT}}
    write_toml(
        job.folder / "run.toml",
        {
            **values,
            "output": str((job.folder / "run").absolute()),
            "seed": job.seed,
            **limits,
            **({"steps": steps} if steps else {}),
            "data": data,
            "report": {
                "every_steps": max(1, (steps or 1000) // 100),
                "validate_every_steps": period,
                "validation_rows": VALIDATION_ROWS,
                "tensorboard": False,
            },
            "checkpoint": {"save_every_steps": period, "keep": 1},
        },
    )
    commands = [[*SESAME, "pretrain", str(job.folder / "run.toml")]]
    if job.recipe.averaged and steps and not (job.folder / "averaged").exists():
        output = ["--moving", "--output", str(job.folder / "averaged")]
        commands.append([*SESAME, "average", str(job.folder / "run"), *output])
    return commands


def _sesame_result(job: Job) -> Trained:
    run = job.folder / "run"
    checkpoint = latest(run)
    if checkpoint is None:
        raise CheckpointError(f"{run}: contains no checkpoint; look at {job.folder / 'log.txt'}")
    record = records.read(checkpoint)
    averaged = job.folder / "averaged"
    evaluated = averaged if averaged.exists() else checkpoint
    rows = read_rows(run / "metrics.jsonl")
    trained = [row for row in rows if "train" in row]
    tokens = sum(row["tokens_per_second"] * row["report_seconds"] for row in trained)
    flops = sum(1e12 * row["teraflops"] * row["report_seconds"] for row in trained)
    losses = next(row["validation"] for row in reversed(rows) if "validation" in row)
    return Trained(
        record.step,
        record.seconds / 60,
        tokens,
        flops,
        next(iter(losses.values())),
        weights_digest(records.read(evaluated).files),
        str(evaluated),
        start_minutes=start_seconds(trained, record.step, record.seconds) / 60,
    )


def start_seconds(reports: Sequence[Mapping[str, Any]], steps: int, seconds: float) -> float:
    """Return how much longer a training took than its steps after the first report; 0 with a single report.

    Args:
        reports: with their ``steps`` and ``report_seconds``.
        steps, seconds: of the training.
    """
    later = reports[1:]
    if not later:
        return 0.0
    # A process that goes on after a stop counts its seconds from 0, but not those of its reports.
    step_seconds = sum(each["report_seconds"] for each in later) / sum(each["steps"] for each in later)
    # Steps that grow over a run are cheapest at its beginning.
    return max(0.0, seconds - steps * step_seconds)


def _transformers_commands(job: Job) -> list[list[str]]:
    if len(job.datasets) > 1:
        raise ConfigError("a recipe of kind 'transformers' reads one corpus; remove the others from [corpora]")
    config = {
        "dataset": str(next(iter(job.datasets.values())).absolute()),
        "output": str(job.folder.absolute()),
        "seed": job.seed,
        **job.limit._asdict(),
        "settings": job.recipe.pretrain,
    }
    write_text(job.folder / "run.json", json.dumps(config, indent=1) + "\n")
    loop = [sys.executable, "-m", "benchmarks.speedrun.transformers_loop", str(job.folder / "run.json")]
    imported = [*SESAME, "import", str(job.folder / "model"), str(job.folder / "checkpoint")]
    return [loop, *([] if (job.folder / "checkpoint").exists() else [imported])]


def _transformers_result(job: Job) -> Trained:
    values = json.loads((job.folder / "result.json").read_text(encoding="utf-8"))
    checkpoint = job.folder / "checkpoint"
    return Trained(**values, weights_sha256=weights_digest(records.read(checkpoint).files), checkpoint=str(checkpoint))


def weights_digest(files: Mapping[str, str]) -> str:
    """Return one digest of all weights of a checkpoint, from the digests of its files."""
    return digest_of(json.dumps({name: files[name] for name in sorted(files) if name.startswith("weights-")}).encode())


TRAINERS: dict[str, Trainer] = {
    "sesame": Trainer(
        _sesame_commands, _sesame_result, lambda recipe: recipe.pretrain.get("parallel", {}).get("threads", 0)
    ),
    "transformers": Trainer(
        _transformers_commands, _transformers_result, lambda recipe: recipe.pretrain.get("threads", 0)
    ),
}
"""``Recipe.kind`` -> what trains it."""
