"""SuperGLUE (Wang et al. 2019, table 1) in the layout of the official release: JSON lines in a folder for each task.

The training and dev files are train.jsonl and val.jsonl. AX-b and AX-g are scored and predicted with RTE's model. In
ReCoRD every entity of the passage is a candidate for the placeholder of a query, and several may be right.
"""

from typing import Any

from sesame.evaluation.tasks.task import Blank, Indices, KindName, Span, Table, Task

BOOLEAN = ("false", "true")
NLI = ("not_entailment", "entailment")
PAIR = ("premise", "hypothesis")
DIAGNOSTIC = ("sentence1", "sentence2")
COPA = ("{premise} {question}", "{choice}")
COPA_QUESTIONS = {"cause": "What was the cause of this?", "effect": "What happened as a result?"}
COPA_CHOICES = ("choice1", "choice2")
MULTIRC = "passage.questions.*.answers"
MULTIRC_TEXTS = ("{passage.text}", f"{{passage.questions.*.question}} {{{MULTIRC}.*.text}}")
MULTIRC_QUESTION = "{idx}/{passage.questions.*.idx}"
WIC = (
    Span(0, "start1", "end1"),
    Span(1, "start2", "end2"),
)
WSC = (
    Span(0, "target.span1_index", words="target.span1_text", unit="word"),
    Span(0, "target.span2_index", words="target.span2_text", unit="word"),
)
RECORD_QUERY = "qas.*.query"
RECORD_SENTENCES = ((r"(?<=[.?!\"'])\n@highlight\n", " "), (r"\n@highlight\n", ". "))
"""The passage has the highlights of its article at the end, each behind this mark (as T5's published code reads it)."""
AX_B_CATEGORIES = ("lexical-semantics", "predicate-argument-structure", "logic", "knowledge")


def _table(file: str, texts: tuple[str, ...], *, label: str | None = "label", **rest: Any) -> Table:
    return Table(f"{file}.jsonl", texts, label, index="idx", **rest)


def _task(
    name: str,
    metrics: tuple[str, ...],
    texts: tuple[str, ...],
    test_rows: int,
    *,
    folder: str = "",
    labels: tuple[str, ...] = (),
    kind: KindName = "classify",
    **rest: Any,
) -> Task:
    folder = folder or name
    return Task(
        name,
        metrics,
        train=_table(f"{folder}/train", texts, **rest),
        dev={"": _table(f"{folder}/val", texts, **rest)},
        test={folder: _table(f"{folder}/test", texts, label=None, rows=test_rows, **rest)},
        labels=labels,
        kind=kind,
    )


def _record(file: str, **rest: Any) -> Table:
    return Table(
        f"ReCoRD/{file}.jsonl",
        ("passage.text", RECORD_QUERY),
        each="qas",
        group="idx",
        choices=("passage.entities",),
        choices_in="passage.text",
        blank=Blank(RECORD_QUERY, "@placeholder"),
        replacements=RECORD_SENTENCES,
        **rest,
    )


def _rte() -> Task:
    rte = _task("SuperGLUE-RTE", ("accuracy",), PAIR, 3000, folder="RTE", labels=NLI)
    return Task(
        rte.name,
        rte.metrics,
        rte.train,
        {
            **rte.dev,
            "AX-b": _table("AX-b/AX-b", DIAGNOSTIC, metrics=("matthews",), optional=True, categories=AX_B_CATEGORIES),
            "AX-g": _table("AX-g/AX-g", PAIR, metrics=("accuracy", "parity"), optional=True, group_size=2),
        },
        {
            **rte.test,
            "AX-b": _table("AX-b/AX-b", DIAGNOSTIC, label=None, rows=1104),
            "AX-g": _table("AX-g/AX-g", PAIR, label=None, rows=356),
        },
        labels=NLI,
    )


ROWS = (
    _task("BoolQ", ("accuracy",), ("question", "passage"), 3245, labels=BOOLEAN),
    _task("CB", ("accuracy", "macro_f1"), PAIR, 250, labels=("contradiction", "entailment", "neutral")),
    _task("COPA", ("accuracy",), COPA, 500, kind="choose", words=COPA_QUESTIONS, choices=COPA_CHOICES),
    Task(
        "MultiRC",
        ("f1", "exact_match"),
        train=Table("MultiRC/train.jsonl", MULTIRC_TEXTS, f"{MULTIRC}.*.label", each=MULTIRC, group=MULTIRC_QUESTION),
        dev={"": Table("MultiRC/val.jsonl", MULTIRC_TEXTS, f"{MULTIRC}.*.label", each=MULTIRC, group=MULTIRC_QUESTION)},
        test={
            "MultiRC": Table(
                "MultiRC/test.jsonl",
                MULTIRC_TEXTS,
                index=f"{MULTIRC_QUESTION}/{{{MULTIRC}.*.idx}}",
                rows=9693,
                indices=Indices(sha256="8b5e968b1c4da8802a8689be56c233c7289136d4d85a1f9675ffe20f7ffac7c3"),
                each=MULTIRC,
            )
        },
        labels=("0", "1"),
    ),
    Task(
        "ReCoRD",
        ("squad_f1", "squad_em"),
        train=_record("train", answers="qas.*.answers"),
        dev={"": _record("val", answers="qas.*.answers")},
        test={"ReCoRD": _record("test", index="qas.*.idx", rows=10_000)},
        kind="choose",
    ),
    _rte(),
    _task("WiC", ("accuracy",), DIAGNOSTIC, 1400, labels=BOOLEAN, kind="spans", spans=WIC),
    _task("WSC", ("accuracy",), ("text",), 146, labels=BOOLEAN, kind="spans", spans=WSC),
)
