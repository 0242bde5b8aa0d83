"""The nine GLUE tasks (Wang et al. 2019, table 1) in the layout of the official release, and where AX is predicted.

Metrics are the paper's. File and column names are those of the archives behind gluebenchmark.com/tasks.
"""

from evaluation.tasks.task import Table, Task

NLI = ("not_entailment", "entailment")
MNLI = ("contradiction", "entailment", "neutral")
PAIR = ("sentence1", "sentence2")
QUESTIONS = ("question1", "question2")
STRINGS = ("#1 String", "#2 String")

ROWS = (
    Task(
        "CoLA",
        "classification",
        ("matthews",),
        train=Table("CoLA/train.tsv", (3,), 1, cells=4),
        dev={"": Table("CoLA/dev.tsv", (3,), 1, cells=4)},
        test={"CoLA": Table("CoLA/test.tsv", ("sentence",), index="index")},
        labels=("0", "1"),
    ),
    Task(
        "SST-2",
        "classification",
        ("accuracy",),
        train=Table("SST-2/train.tsv", ("sentence",), "label"),
        dev={"": Table("SST-2/dev.tsv", ("sentence",), "label")},
        test={"SST-2": Table("SST-2/test.tsv", ("sentence",), index="index")},
        labels=("0", "1"),
    ),
    Task(
        "MRPC",
        "classification",
        ("accuracy", "f1"),
        train=Table("MRPC/train.tsv", STRINGS, "Quality"),
        dev={"": Table("MRPC/dev.tsv", STRINGS, "Quality")},
        test={"MRPC": Table("MRPC/test.tsv", STRINGS, index="index")},
        labels=("0", "1"),
    ),
    Task(
        "STS-B",
        "regression",
        ("pearson", "spearman"),
        train=Table("STS-B/train.tsv", PAIR, "score"),
        dev={"": Table("STS-B/dev.tsv", PAIR, "score")},
        test={"STS-B": Table("STS-B/test.tsv", PAIR, index="index")},
        span=(0.0, 5.0),
    ),
    Task(
        "QQP",
        "classification",
        ("accuracy", "f1"),
        train=Table("QQP/train.tsv", QUESTIONS, "is_duplicate"),
        dev={"": Table("QQP/dev.tsv", QUESTIONS, "is_duplicate")},
        test={"QQP": Table("QQP/test.tsv", QUESTIONS, index="id")},
        labels=("0", "1"),
        broken_rows=True,
    ),
    Task(
        "MNLI",
        "classification",
        ("accuracy",),
        train=Table("MNLI/train.tsv", PAIR, "gold_label"),
        dev={
            "m": Table("MNLI/dev_matched.tsv", PAIR, "gold_label"),
            "mm": Table("MNLI/dev_mismatched.tsv", PAIR, "gold_label"),
        },
        test={
            "MNLI-m": Table("MNLI/test_matched.tsv", PAIR, index="index"),
            "MNLI-mm": Table("MNLI/test_mismatched.tsv", PAIR, index="index"),
            # The diagnostic set has no training data: the head that was trained on MNLI predicts it (section 4).
            "AX": Table("AX/AX.tsv", PAIR, index="index"),
        },
        labels=MNLI,
    ),
    Task(
        "QNLI",
        "classification",
        ("accuracy",),
        train=Table("QNLI/train.tsv", ("question", "sentence"), "label"),
        dev={"": Table("QNLI/dev.tsv", ("question", "sentence"), "label")},
        test={"QNLI": Table("QNLI/test.tsv", ("question", "sentence"), index="index")},
        labels=NLI,
    ),
    Task(
        "RTE",
        "classification",
        ("accuracy",),
        train=Table("RTE/train.tsv", PAIR, "label"),
        dev={"": Table("RTE/dev.tsv", PAIR, "label")},
        test={"RTE": Table("RTE/test.tsv", PAIR, index="index")},
        labels=NLI,
    ),
    Task(
        "WNLI",
        "classification",
        ("accuracy",),
        train=Table("WNLI/train.tsv", PAIR, "label"),
        dev={"": Table("WNLI/dev.tsv", PAIR, "label")},
        test={"WNLI": Table("WNLI/test.tsv", PAIR, index="index")},
        labels=("0", "1"),
    ),
)
