"""The options of a run and their defaults."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmarks.speedrun.commands import Deadline

HERE = Path(__file__).parent
LIST = HERE / "text" / "english-10m.tsv"
SUITES = HERE / "suites"
QUICK = HERE / "quick"
"""Suites of the stage ``measure``."""
Stage = Literal["prepare", "train", "measure", "evaluate"]


@dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe and the track."""

    text: Path | None
    """Folder of the corpus; None: the datasets are there."""
    evaluation: Path | None
    """Folder of the evaluation's files: blimp/ and GLUE's, there or below glue/; None: it is not evaluated."""
    work: Path
    """Folder of everything that is computed."""
    records: Path
    trials: Path
    """Lines as in ``records``, of the stage ``measure``."""
    seeds: tuple[int, ...] = (1, 2, 3)
    """Of pretraining. If 1 is not among them, steps and choice are those of an earlier line of ``trials``."""
    minutes: float | None = None
    """Cut budget of a trial; None: the track's."""
    steps: int | None = None
    """None: the recipe's, or found by a short run."""
    list: Path = LIST
    suites: Path = SUITES
    """Folder of the suites of the stage ``evaluate``."""
    workers: int | None = None
    """Processes that fine-tune at the same time; None: as many as the track has cores."""
    random_init: bool = False
    enforces_minutes: bool = True
    """False where a record is computed again, or later seeds are added to it, on a slower machine."""
    until: Stage = "evaluate"
    """The last stage: the machine that trains need not be the one that prepares or evaluates."""
    deadline: Deadline = field(default_factory=Deadline)
    """When this command stops, to be given again."""
