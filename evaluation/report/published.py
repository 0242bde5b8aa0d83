"""Published figures of the shipped tasks, to show beside a checkpoint's own: each with its source and kind.

A figure belongs to one row of the table of tasks: one of RTE that starts from MNLI is of "RTE-from-MNLI".
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple


class Published(NamedTuple):
    """One published score."""

    task: str
    """Name of the task's row."""
    metric: str
    """As in the report, "m accuracy"; empty: the task's score, or a metric that the source does not name."""
    value: float
    """Times 100."""
    model: str
    kind: str
    """Such as "dev, single model, median of 5"."""
    source: str


METRICS = {
    "CoLA": "matthews",
    "SST-2": "accuracy",
    "MRPC": "accuracy",
    "STS-B": "pearson",
    "QQP": "accuracy",
    "MNLI": "m accuracy",
    "QNLI": "accuracy",
    "RTE": "accuracy",
}
"""What the papers report of each task, where they do not say otherwise (RoBERTa, table 8)."""
ORDER = ("MNLI", "QNLI", "QQP", "RTE", "SST-2", "MRPC", "CoLA", "STS-B")
STARTED = ("RTE", "MRPC", "STS-B")


def _rows(
    model: str, kind: str, source: str, values: Iterable[float], metrics: Mapping[str, str] = METRICS, first: str = ""
) -> Iterator[Published]:
    """Figures in the order of ``ORDER``; with ``first`` the small tasks start from the model of that task."""
    for task, value in zip(ORDER, values, strict=True):
        name = f"{task}-from-{first}" if first and task in STARTED else task
        yield Published(name, metrics.get(task, ""), value, model, kind, source)


def _single(model: str, source: str, figures: Iterable[tuple[str, str, float]]) -> Iterator[Published]:
    """Figures of a single model on dev rows, by task and metric."""
    for task, metric, value in figures:
        yield Published(task, metric, value, model, "dev, single model", source)


FAIRSEQ = "fairseq, examples/roberta"
LIU = f"Liu et al. 2019, table 8; {FAIRSEQ}"
LAN = "google-research/albert, README"
WARNER = "Warner et al. 2024, table 5"
CASED = "transformers, examples, README of run_glue.py"
CRAMMING, CRAMMED = "JonasGeiping/cramming, model_card.md", "crammed BERT, best of 24 h"
UNNAMED = {**METRICS, "MNLI": "", "QQP": "", "MRPC": "", "STS-B": ""}
"""Where the source does not name the metrics of MRPC, STS-B and QQP."""

PUBLISHED: tuple[Published, ...] = (
    *_rows(
        "BERT-large", "dev, single model", LAN, (86.6, 92.3, 91.3, 70.4, 93.2, 88.0, 60.6, 90.0)
    ),
    *_rows(
        "XLNet-large", "dev, single model", LAN, (89.8, 93.9, 91.8, 83.8, 95.6, 89.2, 63.6, 91.8)
    ),
    *_rows(
        "RoBERTa-base", "dev, single model, median of 5", LIU, (87.6, 92.8, 91.9, 78.7, 94.8, 90.2, 63.6, 91.2)
    ),
    *_rows(
        "RoBERTa-large", "dev, single model, median of 5", LIU, (90.2, 94.7, 92.2, 86.6, 96.4, 90.9, 68.0, 92.4)
    ),
    *_rows(
        "ALBERT-xxlarge", "dev, single model", LAN, (90.8, 95.3, 92.2, 89.2, 96.9, 90.9, 71.4, 93.0)
    ),
    *_rows(
        "MosaicBERT-base", "dev, single model, mean of 5 pretraining runs", "mosaicml/mosaic-bert-base, model card",
        (84.95, 90.74, 90.29, 81.36, 92.46, 90.03, 55.11, 89.27), UNNAMED, "MNLI",
    ),
    *_rows(
        "ModernBERT-base", "dev, single model, searched on dev", WARNER,
        (89.1, 93.9, 92.1, 87.4, 96.0, 92.2, 65.1, 91.8), UNNAMED, "MNLI",
    ),
    *_rows(
        "ModernBERT-large", "dev, single model, searched on dev", WARNER,
        (90.8, 95.2, 92.7, 92.1, 97.1, 91.7, 71.4, 92.8), UNNAMED, "MNLI",
    ),
    *_rows(
        CRAMMED, "dev, single model, median of 5", CRAMMING,
        (84.1, 90.2, 87.5, 58.5, 92.0, 88.9, 53.3, 87.4), {**UNNAMED, "MNLI": "m accuracy"},
    ),
    Published(
        "MNLI", "mm accuracy", 84.6, CRAMMED, "dev, single model, median of 5", CRAMMING,
    ),
    *_single(
        "BERT-base-cased", CASED,
        (
            ("MNLI", "m accuracy", 83.91),
            ("MNLI", "mm accuracy", 84.10),
            ("QNLI", "accuracy", 90.66),
            ("QQP", "accuracy", 90.71),
            ("QQP", "f1", 87.49),
            ("RTE", "accuracy", 65.70),
            ("SST-2", "accuracy", 92.32),
            ("MRPC", "accuracy", 84.07),
            ("MRPC", "f1", 88.85),
            ("CoLA", "matthews", 56.53),
            ("STS-B", "pearson", 88.64),
            ("STS-B", "spearman", 88.48),
        ),
    ),
    *_single(
        "RoBERTa-large", FAIRSEQ,
        (
            ("BoolQ", "accuracy", 86.9),
            ("CB", "", 98.2),
            ("COPA", "accuracy", 94.0),
            ("MultiRC", "", 85.7),
            ("SuperGLUE-RTE", "accuracy", 89.5),
            ("WiC", "accuracy", 75.6),
            ("WSC", "accuracy", 91.3),
        ),
    ),
    *_single(
        "BERT-base, Chinese", "CLUEbenchmark/CLUE, README",
        (
            ("AFQMC", "accuracy", 74.16),
            ("TNEWS", "accuracy", 56.09),
            ("IFLYTEK", "accuracy", 60.37),
            ("CMNLI", "accuracy", 79.47),
            ("CSL", "accuracy", 79.63),
        ),
    ),
    *(
        Published("BLiMP", "", value, model, "dev, without fine-tuning, of 10 million words", source)
        for model, value, source in (
            ("GPT-2", 65.1, "babylm-org/babylm-eval, baselines of 2026"),
            ("GPT-BERT, 33 M", 70.4, "BabyLM 2025, official baseline"),
        )
    ),
    Published(
        "STS-B-cosine", "spearman", 82.03, "all-MiniLM-L6-v2", "test, single model, without training",
        "sentence-transformers, table of pretrained models",
    ),
)  # fmt: skip


def published_of(task: str) -> list[Published]:
    """Return the figures of a task's row, the lowest first."""
    return sorted((each for each in PUBLISHED if each.task == task), key=lambda each: (each.metric, each.value))
