"""FewCLUE (Xu et al. 2021): tasks with few training rows, scored on the public test set.

The training and dev files are all five of the release together (train_few_all.json, dev_few_all.json), and the score is
that of test_public.json, as in the paper. The names end in "few-shot", so that they are not taken for CLUE's.
"""

from typing import Any

from sesame.evaluation.tasks.clue import CLUEWSC, IFLYTEK, NLI, PAIR, TNEWS
from sesame.evaluation.tasks.task import KindName, Table, Task


def _task(
    name: str, texts: tuple[str, ...], labels: tuple[str, ...], *, kind: KindName = "classify", **rest: Any
) -> Task:
    folder = f"FewCLUE/{name}"
    return Task(
        f"{name}-few-shot",
        ("accuracy",),
        train=Table(f"{folder}/train_few_all.json", texts, "label", **rest),
        dev={"": Table(f"{folder}/test_public.json", texts, "label", **rest)},
        labels=labels,
        kind=kind,
    )


ROWS = (
    _task("tnews", ("sentence",), TNEWS),
    _task("iflytek", ("sentence",), IFLYTEK),
    _task("ocnli", PAIR, NLI),
    _task("bustm", PAIR, ("0", "1")),
    _task("csl", ("{keyword}", "abst"), ("0", "1")),
    _task("cluewsc", ("text",), ("false", "true"), kind="spans", spans=CLUEWSC),
)
