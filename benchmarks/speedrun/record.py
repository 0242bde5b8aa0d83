"""A record: one JSON line with what a recipe reached on a track, and all that is needed to compute it again."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from sesame import configs
from sesame.configs import Section
from sesame.configs.errors import ConfigError
from sesame.configs.storage import append_line, sync_file

FORMAT = 1
SEEDS = 3
"""Of pretraining: fewer are no record, and no difference between two recipes is believed."""
GLUE_5 = ("CoLA", "SST-2", "MRPC", "STS-B", "RTE")
GLUE_9 = (*GLUE_5, "QQP", "MNLI", "QNLI", "WNLI")
OF_SEEDS = ("by_seed", "finetuning_std", "random_init")
"""Fields of a ``Score`` that depend on its seeds."""
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

    def with_decimals(self, count: int) -> str:
        """Return the mean, and the spread of several seeds in parentheses."""
        spread = f" ({self.spread:.{count}f})" if len(self.by_seed) > 1 else ""
        return f"{self.mean:.{count}f}{spread}"

    def __str__(self) -> str:
        return self.with_decimals(1)


class Record(Section):
    """A row of ``records.jsonl``."""

    format: int = FORMAT
    recipe: str
    kind: str
    about: str
    recipe_sha256: str
    track: str
    minutes: float
    """Of the track, or fewer in a trial."""
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
    """Why it is not comparable with the track's records, but for its seeds."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """Why it is no record; empty for a record."""
        seeds, longest = len(self.runs), self.longest_minutes
        reasons = {
            f"took {longest:.1f} of {self.minutes:g} minutes": longest > self.minutes and not self.marks,
            f"{seeds} seed{'s' * (seeds > 1)}": seeds < SEEDS,
        }
        return (*self.marks, *(reason for reason, holds in reasons.items() if holds))

    @property
    def conditions(self) -> str:
        """What seeds must share to stand in one record."""
        values = configs.dump(self)
        asked = {task: {**score, **dict.fromkeys(OF_SEEDS)} for task, score in values["scores"].items()}
        own = dict.fromkeys(("date", "code", "runs", "scores"))
        return json.dumps({**values, **own, "steps": self.runs[0].steps, "asked": asked}, sort_keys=True)

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
        parts = [f"{nats.with_decimals(3)} nats per word", *(f"{n} {s}" for n, s in self.scores.items())]
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


def joined(records: Iterable[Record]) -> list[Record]:
    """Return the records, with seeds that were trained apart under the same conditions in one.

    Of a seed that is there twice the later line counts.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        # The group of the last line is the last one.
        groups[record.conditions] = [*groups.pop(record.conditions, ()), record]
    return [_joined(group) for group in groups.values()]


def _joined(parts: Sequence[Record]) -> Record:
    rows = {run.seed: (part, number) for part in parts for number, run in enumerate(part.runs)}
    found = [rows[seed] for seed in sorted(rows)]
    scores = {}
    for task, score in parts[-1].scores.items():
        of_seeds = [part.scores[task] for part, _ in found]
        changes = {
            "by_seed": tuple(each.by_seed[number] for each, (_, number) in zip(of_seeds, found, strict=True)),
            "finetuning_std": _deviation(each.finetuning_std for each in of_seeds),
            "random_init": _mean_of_known(each.random_init for each in of_seeds),
        }
        scores[task] = score.model_copy(update=changes)
    codes = " and ".join(dict.fromkeys(part.code for part in parts))
    runs = tuple(part.runs[number] for part, number in found)
    return parts[-1].model_copy(update={"runs": runs, "scores": scores, "code": codes})


def read_scores(reports: Iterable[list[Path]]) -> dict[str, Score]:
    """Return the score of each task from the ``report.json`` files of each pretraining seed.

    Raises:
        ConfigError: two suites have the same task.
    """
    tasks: dict[str, list[dict[str, Any]]] = {}
    for number, of_seed in enumerate(reports, 1):
        for path in of_seed:
            for title, values in json.loads(path.read_text(encoding="utf-8"))["tasks"].items():
                found = tasks.setdefault(values["task"], [])
                found.append({**values, "title": title})
                if len(found) > number:
                    raise ConfigError(f"{path}: another suite has {values['task']} as well; remove it from one of them")
    scores = {}
    for task, found in tasks.items():
        models = [values["score"] for values in found]
        scores[task] = Score(
            by_seed=tuple(each["pretrained"]["mean"] for each in models),
            finetuning_std=_deviation(each["pretrained"]["std"] for each in models),
            random_init=_mean_of_known(each["random"]["mean"] for each in models if "random" in each),
            note=found[0]["title"].removeprefix(task).strip(),
            train_rows=found[0]["train_rows"],
            dev_rows=sum(found[0]["dev_rows"].values()),
        )
    return with_means(scores)


def _mean_of_known(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _deviation(values: Iterable[float | None]) -> float | None:
    mean = _mean_of_known(values)
    return None if mean is None else round(mean, 3)


def enter(path: Path, record: Record) -> None:
    """Add a record as one line, unless the file has one of the same weights and scores; it is on the disk then."""
    known = records_so_far(path)
    if any((each.recipe, each.runs, each.scores) == (record.recipe, record.runs, record.scores) for each in known):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    append_line(path, json.dumps(configs.dump(record)))
    sync_file(path)


def records_so_far(path: Path) -> list[Record]:
    """Read all records of a file; nothing if no run has written it yet."""
    return read_records(path) if path.exists() else []


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
