"""Similarity of sentences without training: the cosine of their mean-pooled states against the people's scores.

``all-MiniLM-L6-v2`` has a published value on the public test set of STS-B: a Spearman correlation of 82.03.
"""

from sesame.evaluation.tasks.task import Table, Task

ROWS = (
    Task(
        "STS-B-cosine",
        ("spearman", "pearson"),
        train=None,
        dev={"": Table("STS-B/dev.tsv", ("sentence1", "sentence2"), "score")},
        kind="similarity",
        score_range=(0.0, 5.0),
    ),
)
