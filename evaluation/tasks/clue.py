"""CLUE (Xu et al. 2020, table 1) in the layout of the official release: JSON lines in a folder for each task.

The names of the test files are those of the archive that the server takes. CMRC2018 and CHID are not here yet: the one
needs the places of tokens in the text, the other keeps its answers in a file of their own.
"""

from typing import Any

from sesame.evaluation.tasks.task import KindName, Span, Table, Task

PAIR = ("sentence1", "sentence2")
NLI = ("contradiction", "entailment", "neutral")
TNEWS = ("100", "101", "102", "103", "104", "106", "107", "108", "109", "110", "112", "113", "114", "115", "116")
IFLYTEK = tuple(map(str, range(119)))
CLUEWSC = (
    Span(0, "target.span1_index", words="target.span1_text"),
    Span(0, "target.span2_index", words="target.span2_text"),
)


def _task(
    name: str,
    texts: tuple[str, ...],
    labels: tuple[str, ...],
    *,
    folder: str = "",
    files: tuple[str, str, str] = ("train", "dev", "test"),
    predictions: str,
    rows: int | None = None,
    kind: KindName = "classify",
    **rest: Any,
) -> Task:
    """A task whose test rows are named by their id; ``files`` are those of train, dev and test."""
    train, dev, test = (f"{folder or name}/{file}.json" for file in files)
    return Task(
        name,
        ("accuracy",),
        train=Table(train, texts, "label", **rest),
        dev={"": Table(dev, texts, "label", **rest)},
        test={predictions: Table(test, texts, index="id", rows=rows, **rest)},
        labels=labels,
        kind=kind,
    )


C3 = Table("C3/dev.json", ("{0}", "{1.*.question} {choice}"), "1.*.answer", each="1", choices=("1.*.choice",))

ROWS = (
    _task("AFQMC", PAIR, ("0", "1"), predictions="afqmc_predict"),
    _task(
        "TNEWS",
        ("sentence",),
        TNEWS,
        files=("train", "dev", "test1.1"),
        predictions="tnews11_predict",
    ),
    _task("IFLYTEK", ("sentence",), IFLYTEK, predictions="iflytek_predict", rows=2600),
    _task("CMNLI", PAIR, NLI, predictions="cmnli_predict", ignored_labels=("-",)),
    _task(
        "OCNLI",
        PAIR,
        NLI,
        files=("train.50k", "dev", "test"),
        predictions="ocnli_50k_predict",
        rows=3000,
        ignored_labels=("-",),
    ),
    Task(
        "OCNLI-10k",
        ("accuracy",),
        train=Table("OCNLI/train.10k.json", PAIR, "label", ignored_labels=("-",)),
        dev={"": Table("OCNLI/dev.json", PAIR, "label", ignored_labels=("-",))},
        labels=NLI,
    ),
    _task("CSL", ("{keyword}", "abst"), ("0", "1"), predictions="csl_predict", rows=3000),
    _task(
        "CLUEWSC2020",
        ("text",),
        ("false", "true"),
        files=("train", "dev", "test1.1"),
        predictions="cluewsc11_predict",
        kind="spans",
        spans=CLUEWSC,
    ),
    Task(
        "C3",
        ("accuracy",),
        train=Table("C3/train.json", C3.texts, C3.label, each=C3.each, choices=C3.choices),
        dev={"": C3},
        test={"c311_predict": Table("C3/test1.1.json", C3.texts, index="1.*.id", each=C3.each, choices=C3.choices)},
        kind="choose",
    ),
)
