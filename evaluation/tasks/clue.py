"""CLUE (Xu et al. 2020, table 1) in the layout of the official release: JSON lines in a folder for each task.

The names of predictions are those of the archive that the server takes, and the test sets are those of version 1.1.
CMNLI has left the leaderboard for OCNLI.
"""

from typing import Any

from sesame.evaluation.tasks.task import Blank, Indices, KindName, Span, Table, Task

PAIR = ("sentence1", "sentence2")
NLI = ("contradiction", "entailment", "neutral")
TNEWS = ("100", "101", "102", "103", "104", "106", "107", "108", "109", "110", "112", "113", "114", "115", "116")
IFLYTEK = tuple(map(str, range(119)))
NUMBERED = Indices(pattern=r"\d+")
"""Indices that are numbers, in an order that only the test file has."""
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
    rows: int,
    indices: Indices = Indices(),
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
        test={predictions: Table(test, texts, index="id", rows=rows, indices=indices, **rest)},
        labels=labels,
        kind=kind,
    )


def _c3(*files: str, **rest: Any) -> Table:
    """Lines of a dialogue or text, its questions, and a name."""
    file, *also = (f"C3/{name}.json" for name in files)
    texts = ("{0}", "{1.*.question} {choice}")
    return Table(file, texts, also=tuple(also), each="1", choices=("1.*.choice",), **rest)


def _chid(file: str, **rest: Any) -> Table:
    """Passages with gaps, and ten idioms of which each fills at most one; the answers are in a file of their own."""
    return Table(
        f"CHID/{file}.json",
        ("content.*",),
        index="{blank}",
        each="content",
        choices=("candidates",),
        blank=Blank("content.*", r"#idiom\d+#"),
        groups_lines=True,
        **rest,
    )


def _cmrc(file: str, **rest: Any) -> Table:
    """One object in the form of SQuAD."""
    questions = "data.*.paragraphs.*.qas"
    texts = (f"{questions}.*.question", "data.*.paragraphs.*.context")
    return Table(f"CMRC2018/{file}.json", texts, each=questions, group="data.*.paragraphs.*.id", **rest)


ROWS = (
    _task("AFQMC", PAIR, ("0", "1"), predictions="afqmc_predict", rows=3861),
    _task("TNEWS", ("sentence",), TNEWS, predictions="tnews11_predict", rows=10_000),
    _task("IFLYTEK", ("sentence",), IFLYTEK, predictions="iflytek_predict", rows=2600),
    _task("CMNLI", PAIR, NLI, predictions="cmnli_predict", rows=13_880, ignored_labels=("-",)),
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
    _task("CSL", ("{keyword}", "abst"), ("0", "1"), predictions="csl_predict", rows=3000, indices=NUMBERED),
    _task(
        "CLUEWSC2020",
        ("text",),
        ("false", "true"),
        predictions="cluewsc11_predict",
        rows=2574,
        indices=NUMBERED,
        kind="spans",
        spans=CLUEWSC,
    ),
    Task(
        "C3",
        ("accuracy",),
        train=_c3("d-train", "m-train", label="1.*.answer"),
        dev={"": _c3("d-dev", "m-dev", label="1.*.answer")},
        test={"c311_predict": _c3("test1.1", index="1.*.id", rows=1625, indices=NUMBERED, candidates=4)},
        kind="choose",
    ),
    Task(
        "CHID",
        ("accuracy",),
        train=_chid("train", labels_file="CHID/train_answer.json"),
        dev={"": _chid("dev", labels_file="CHID/dev_answer.json")},
        test={
            # 3,447 lines, each with at least one gap.
            "chid11_predict": _chid(
                "test1.1",
                rows=3447,
                indices=Indices(pattern=r"#idiom\d{6}#", more_rows=True),
                candidates=10,
                is_object=True,
            )
        },
        kind="choose",
        is_distinct=True,
    ),
    Task(
        "CMRC2018",
        ("cmrc_em", "cmrc_f1"),
        train=_cmrc("train", answers="data.*.paragraphs.*.qas.*.answers"),
        dev={"": _cmrc("dev", answers="data.*.paragraphs.*.qas.*.answers")},
        test={
            "cmrc2018_predict": _cmrc(
                "test",
                index="data.*.paragraphs.*.qas.*.id",
                rows=2000,
                indices=Indices(pattern=r"TEST_\d+_QUERY_\d+"),
                is_object=True,
            )
        },
        kind="extract",
    ),
)
