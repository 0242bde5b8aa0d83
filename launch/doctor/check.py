"""A check of ``sesame doctor``: what it measures in each process, and what it finds in the values of all."""

from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any, NamedTuple

from sesame.launch.doctor.context import Context


class Level(Enum):
    """How bad a finding is; the value is how the report shows it."""

    GOOD = "good"
    SLOW = "could be better"
    BAD = "must change"
    LEFT_OUT = "left out"


class Finding(NamedTuple):
    """Something that is not as a run needs it."""

    level: Level
    what: str
    change: str
    """The way out."""


class Answer(NamedTuple):
    """What one process measured."""

    rank: int
    host: str
    value: Any
    """Made of JSON's types."""

    @property
    def process(self) -> str:
        return f"process {self.rank} ({self.host})"


class Verdict(NamedTuple):
    """The result of a check."""

    text: str
    """What was measured, on one line."""
    findings: Sequence[Finding] = ()
    is_left_out: bool = False

    @property
    def level(self) -> Level:
        if self.is_left_out:
            return Level.LEFT_OUT
        levels = [each.level for each in self.findings]
        return next((level for level in (Level.BAD, Level.SLOW) if level in levels), Level.GOOD)


class Check(NamedTuple):
    """A row of the table in ``checks.py``."""

    name: str
    measure: Callable[[Context], Any]
    """Called in every process at about the same time; returns JSON's types."""
    judge: Callable[[Sequence[Answer]], Verdict]
    """Called in the first process, with the answers of at least one process."""
    change: str
    """What to do where the check itself fails in a process."""
    needs: tuple[str, ...] = ()
    """Checks before it that must have succeeded in every process, because it is a collective."""
    seconds: float = 120.0
    """Time after which a process counts as silent."""


def by_host(answers: Sequence[Answer]) -> list[Answer]:
    """Return one answer of each machine, its first."""
    first: dict[str, Answer] = {}
    for answer in answers:
        first.setdefault(answer.host, answer)
    return list(first.values())
