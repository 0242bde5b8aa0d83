"""The nine GLUE tasks (Wang et al. 2019, table 1) in the layout of the official release; AX is a test set of MNLI.

With AX/diagnostic-full.tsv, its labels, AX is scored by category.

Metrics are the paper's. File and column names, and the rows of each test set, are those of the archives on
gluebenchmark.com/tasks.
"""

from sesame.evaluation.tasks.task import HubDataset, Table, Task, started

NLI = ("not_entailment", "entailment")
MNLI = ("contradiction", "entailment", "neutral")
PAIR = ("sentence1", "sentence2")
QUESTIONS = ("question1", "question2")
STRINGS = ("#1 String", "#2 String")

AX_CATEGORIES = ("Lexical Semantics", "Predicate-Argument Structure", "Logic", "Knowledge")
"""Coarse categories of the diagnostic set; a row is in each whose column is filled in."""

HUB = "nyu-mll/glue"
HUB_NLI = ("entailment", "not_entailment")


def parquet(split: str) -> str:
    """The repository's file of one split, such as "mnli/validation_matched"."""
    return f"{split}-00000-of-00001.parquet"


ROWS = (
    Task(
        "CoLA",
        ("matthews",),
        train=Table("CoLA/train.tsv", (3,), 1, cells=4, hub_file=parquet("cola/train")),
        dev={"": Table("CoLA/dev.tsv", (3,), 1, cells=4, hub_file=parquet("cola/validation"))},
        test={"CoLA": Table("CoLA/test.tsv", ("sentence",), index="index", hub_file=parquet("cola/test"), rows=1063)},
        labels=("0", "1"),
        hub=HubDataset(HUB, ("sentence",)),
    ),
    Task(
        "SST-2",
        ("accuracy",),
        train=Table("SST-2/train.tsv", ("sentence",), "label", hub_file=parquet("sst2/train")),
        dev={"": Table("SST-2/dev.tsv", ("sentence",), "label", hub_file=parquet("sst2/validation"))},
        test={"SST-2": Table("SST-2/test.tsv", ("sentence",), index="index", hub_file=parquet("sst2/test"), rows=1821)},
        labels=("0", "1"),
        hub=HubDataset(HUB, ("sentence",)),
    ),
    Task(
        "MRPC",
        ("accuracy", "f1"),
        train=Table("MRPC/train.tsv", STRINGS, "Quality", hub_file=parquet("mrpc/train")),
        dev={"": Table("MRPC/dev.tsv", STRINGS, "Quality", hub_file=parquet("mrpc/validation"))},
        test={"MRPC": Table("MRPC/test.tsv", STRINGS, index="index", hub_file=parquet("mrpc/test"), rows=1725)},
        labels=("0", "1"),
        hub=HubDataset(HUB, PAIR),
    ),
    Task(
        "STS-B",
        ("pearson", "spearman"),
        train=Table("STS-B/train.tsv", PAIR, "score", hub_file=parquet("stsb/train")),
        dev={"": Table("STS-B/dev.tsv", PAIR, "score", hub_file=parquet("stsb/validation"))},
        test={"STS-B": Table("STS-B/test.tsv", PAIR, index="index", hub_file=parquet("stsb/test"), rows=1379)},
        kind="regress",
        score_range=(0.0, 5.0),
        hub=HubDataset(HUB, PAIR),
    ),
    Task(
        "QQP",
        ("accuracy", "f1"),
        train=Table("QQP/train.tsv", QUESTIONS, "is_duplicate", hub_file=parquet("qqp/train")),
        dev={"": Table("QQP/dev.tsv", QUESTIONS, "is_duplicate", hub_file=parquet("qqp/validation"))},
        test={"QQP": Table("QQP/test.tsv", QUESTIONS, index="id", hub_file=parquet("qqp/test"), rows=390_965)},
        labels=("0", "1"),
        broken_rows=True,
        hub=HubDataset(HUB, QUESTIONS),
    ),
    Task(
        "MNLI",
        ("accuracy",),
        train=Table("MNLI/train.tsv", PAIR, "gold_label", hub_file=parquet("mnli/train")),
        dev={
            "m": Table("MNLI/dev_matched.tsv", PAIR, "gold_label", hub_file=parquet("mnli/validation_matched")),
            "mm": Table("MNLI/dev_mismatched.tsv", PAIR, "gold_label", hub_file=parquet("mnli/validation_mismatched")),
            # The diagnostic set with its labels, which are published apart from it; R3 (section 4).
            "AX": Table(
                "AX/diagnostic-full.tsv",
                ("Premise", "Hypothesis"),
                "Label",
                metrics=("matthews",),
                categories=AX_CATEGORIES,
                optional=True,
            ),
        },
        test={
            "MNLI-m": Table(
                "MNLI/test_matched.tsv", PAIR, index="index", hub_file=parquet("mnli/test_matched"), rows=9796
            ),
            "MNLI-mm": Table(
                "MNLI/test_mismatched.tsv", PAIR, index="index", hub_file=parquet("mnli/test_mismatched"), rows=9847
            ),
            # The diagnostic set has no training data and is predicted with the model fine-tuned on MNLI (section 4).
            "AX": Table("AX/AX.tsv", PAIR, index="index", hub_file=parquet("ax/test"), rows=1104),
        },
        labels=MNLI,
        hub=HubDataset(HUB, ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
    ),
    Task(
        "QNLI",
        ("accuracy",),
        train=Table("QNLI/train.tsv", ("question", "sentence"), "label", hub_file=parquet("qnli/train")),
        dev={"": Table("QNLI/dev.tsv", ("question", "sentence"), "label", hub_file=parquet("qnli/validation"))},
        test={
            "QNLI": Table(
                "QNLI/test.tsv", ("question", "sentence"), index="index", hub_file=parquet("qnli/test"), rows=5463
            )
        },
        labels=NLI,
        hub=HubDataset(HUB, ("question", "sentence"), HUB_NLI),
    ),
    Task(
        "RTE",
        ("accuracy",),
        train=Table("RTE/train.tsv", PAIR, "label", hub_file=parquet("rte/train")),
        dev={"": Table("RTE/dev.tsv", PAIR, "label", hub_file=parquet("rte/validation"))},
        test={"RTE": Table("RTE/test.tsv", PAIR, index="index", hub_file=parquet("rte/test"), rows=3000)},
        labels=NLI,
        hub=HubDataset(HUB, PAIR, HUB_NLI),
    ),
    Task(
        "WNLI",
        ("accuracy",),
        train=Table("WNLI/train.tsv", PAIR, "label", hub_file=parquet("wnli/train")),
        dev={"": Table("WNLI/dev.tsv", PAIR, "label", hub_file=parquet("wnli/validation"))},
        test={"WNLI": Table("WNLI/test.tsv", PAIR, index="index", hub_file=parquet("wnli/test"), rows=146)},
        labels=("0", "1"),
        hub=HubDataset(HUB, PAIR),
    ),
)

FROM_MNLI = tuple(started(task, "MNLI") for task in ROWS if task.name in ("MRPC", "STS-B", "RTE"))
"""RTE-from-MNLI and so on: RoBERTa's leaderboard, MosaicBERT and ModernBERT start these small tasks from the model that
is fine-tuned on MNLI (Liu et al. 2019, section 5.1), which is worth several points."""
