"""A record: one JSON line with what a recipe reached on a track, and all that is needed to compute it again."""

import json
import os
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError

FORMAT = 1
GLUE_5 = ("CoLA", "SST-2", "MRPC", "STS-B", "RTE")
GLUE_9 = (*GLUE_5, "QQP", "MNLI", "QNLI", "WNLI")
MEANS = {"GLUE-5": GLUE_5, "GLUE-9": GLUE_9}
"""Name of a mean over tasks -> its tasks."""


class SeedRow(Section):
    """One pretraining seed."""

    seed: int
    steps: int
    minutes: float
    tokens: float
    """Seen in training, special tokens included; of repeated text each time."""
    words: float
    """The same in words of the text."""
    flops: float
    """Of the model (``pretrain/flops.py``)."""
    validation_loss: float
    """Of masked tokens in nats; comparable only between recipes of one corpus and one mask."""
    nats_per_word: float
    """Of the held-out documents (``held_out.py``); comparable between all recipes."""
    weights_sha256: str


class Score(Section):
    """One task over the pretraining seeds, times 100."""

    by_seed: tuple[float, ...]
    """Of each pretraining seed: the mean over its fine-tuning seeds, of the task's metrics."""
    finetuning_std: float | None = None
    """Standard deviation over the fine-tuning seeds of one checkpoint, the mean over checkpoints."""
    random_init: float | None = None
    """The same model fine-tuned from random weights, where that was asked for."""
    note: str = ""
    """What differs from the official task."""
    train_rows: int | None = None
    """Of fine-tuning; fewer than the official task's where it is thinned."""
    dev_rows: int | None = None
    """That were scored."""

    @property
    def mean(self) -> float:
        return statistics.fmean(self.by_seed)

    @property
    def spread(self) -> float:
        """Largest minus smallest."""
        return max(self.by_seed) - min(self.by_seed)

    def __str__(self) -> str:
        return f"{self.mean:.1f} ({self.spread:.1f})"


class Record(Section):
    """A row of ``records.jsonl``."""

    format: int = FORMAT
    recipe: str
    kind: str
    about: str
    recipe_sha256: str
    track: str
    minutes: float
    """Of the track, or fewer in a proof."""
    date: str
    text_sha256: str
    """Of the list of documents."""
    text_words: int
    held_out_sha256: str
    """Of the held-out documents."""
    suites_sha256: str
    """Of the suites of the evaluation."""
    datasets: dict[str, str]
    """Digest of the rows and the tokenizer by corpus."""
    processor: str
    threads: int
    versions: dict[str, str]
    code: str
    """Commit of this repository, with "+changes" if files differ from it."""
    chosen: dict[str, float] = Field(default_factory=dict)
    """Validation loss by value of the recipe's choice."""
    runs: tuple[SeedRow, ...]
    scores: dict[str, Score]
    marks: tuple[str, ...] = ()
    """Why it is not comparable with the track's records; empty for a record."""

    @property
    def flops(self) -> float:
        return statistics.fmean(run.flops for run in self.runs)

    @property
    def words(self) -> float:
        return statistics.fmean(run.words for run in self.runs)

    @property
    def longest_minutes(self) -> float:
        return max(run.minutes for run in self.runs)

    @property
    def nats_per_word(self) -> Score:
        """Over the pretraining seeds."""
        return Score(by_seed=tuple(run.nats_per_word for run in self.runs))

    @property
    def title(self) -> str:
        return f"{self.recipe} on {self.track}, {self.date}"

    @property
    def summary(self) -> str:
        """What was reached, for people."""
        nats = self.nats_per_word
        parts = [f"{nats.mean:.3f} ({nats.spread:.3f}) nats per word", *(f"{n} {s}" for n, s in self.scores.items())]
        return ", ".join(parts)


def with_means(scores: Mapping[str, Score]) -> dict[str, Score]:
    """Return the scores and the means over tasks of which all are there."""
    means = {}
    for name, tasks in MEANS.items():
        if all(task in scores for task in tasks):
            by_seed = zip(*(scores[task].by_seed for task in tasks), strict=True)
            random = [scores[task].random_init for task in tasks]
            known = [value for value in random if value is not None]
            means[name] = Score(
                by_seed=tuple(statistics.fmean(values) for values in by_seed),
                random_init=statistics.fmean(known) if len(known) == len(random) else None,
            )
    return {**scores, **means}


def read_scores(reports: Iterable[list[Path]]) -> dict[str, Score]:
    """Return the score of each task from the ``report.json`` files of each pretraining seed."""
    tasks: dict[str, list[dict[str, Any]]] = {}
    for of_seed in reports:
        for path in of_seed:
            for title, values in json.loads(path.read_text(encoding="utf-8"))["tasks"].items():
                tasks.setdefault(values["task"], []).append({**values, "title": title})
    scores = {}
    for task, found in tasks.items():
        models = [values["score"] for values in found]
        deviations = [each["pretrained"]["std"] for each in models if each["pretrained"]["std"] is not None]
        random = [each["random"]["mean"] for each in models if "random" in each]
        scores[task] = Score(
            by_seed=tuple(each["pretrained"]["mean"] for each in models),
            finetuning_std=round(statistics.fmean(deviations), 3) if deviations else None,
            random_init=statistics.fmean(random) if random else None,
            note=found[0]["title"].removeprefix(task).strip(),
            train_rows=found[0]["train_rows"],
            dev_rows=sum(found[0]["dev_rows"].values()),
        )
    return with_means(scores)


def enter(path: Path, record: Record) -> None:
    """Add a record as one line, unless the file has one of the same weights and scores; it is on the disk then."""
    known = read_records(path) if path.exists() else []
    if any((each.recipe, each.runs, each.scores) == (record.recipe, record.runs, record.scores) for each in known):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(configs.dump(record)) + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_records(path: Path) -> list[Record]:
    """Read all records of a file.

    Raises:
        ConfigError: it is missing, or a line is not a record.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file of records; `run` writes it") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except ValueError:
            raise ConfigError(f"{path}:{number}: is not JSON; remove the line") from None
        records.append(configs.parse(values, Record, f"{path}:{number}"))
    return records
