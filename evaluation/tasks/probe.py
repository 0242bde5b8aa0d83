"""Rows of three small tasks in GLUE's layout, whose files ``evaluation/probe_data.py`` makes from validation documents.

They are not GLUE and their scores say nothing about GLUE. Each is named for what it asks:

    WordOrder      one sentence: is it as written, or were five neighbouring words shuffled? (after CoLA)
    SameDocument   two sentences: from the same document, or from two? (after QQP)
    WordsKept      a sentence and a copy in which words were replaced: which share was kept? (after STS-B)
"""

from sesame.evaluation.tasks.task import Table, Task


def _task(name: str, metrics: tuple[str, ...], texts: tuple[str, ...], labels: tuple[str, ...]) -> Task:
    label = "label" if labels else "score"
    return Task(
        name,
        metrics,
        train=Table(f"{name}/train.tsv", texts, label, index="index"),
        dev={"": Table(f"{name}/dev.tsv", texts, label, index="index")},
        test={name: Table(f"{name}/test.tsv", texts, index="index")},
        labels=labels,
        kind="classify" if labels else "regress",
    )


ROWS = (
    _task("WordOrder", ("matthews",), ("sentence",), ("0", "1")),
    _task("SameDocument", ("accuracy",), ("sentence1", "sentence2"), ("0", "1")),
    _task("WordsKept", ("pearson", "spearman"), ("sentence1", "sentence2"), ()),
)
