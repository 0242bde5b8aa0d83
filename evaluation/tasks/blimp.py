"""BLiMP (Warstadt et al. 2020): is the grammatical one of two sentences more likely? 67 paradigms of 1,000 pairs.

Scored without fine-tuning, by the language model's own head. The release has a file for each paradigm; this row reads
all of them as one: ``cat data/*.jsonl > blimp.jsonl``.
"""

from sesame.evaluation.tasks.task import Table, Task

SENTENCES = ("sentence_good", "sentence_bad")

ROWS = (
    Task(
        "BLiMP",
        ("pair_accuracy",),
        train=None,
        dev={"": Table("blimp/blimp.jsonl", ("{choice}",), choices=SENTENCES, categories=("UID",))},
        kind="minimal_pairs",
    ),
)
