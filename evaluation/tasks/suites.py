"""Benchmarks with a server for their test sets, and the files that each server wants in one archive."""

from dataclasses import dataclass

from sesame.evaluation.tasks import clue, glue, superglue
from sesame.evaluation.tasks.task import Table, Task


@dataclass(frozen=True)
class Suite:
    """A benchmark whose test sets are scored by a server."""

    name: str
    tasks: tuple[Task, ...]
    server: str
    others: tuple[str, ...] = ()
    """Files that the server also wants, of tasks that are not in the table; only their presence is checked."""

    @property
    def files(self) -> dict[str, tuple[Task, Table]]:
        """File of the archive -> the task, and the test set that it answers."""
        return {f"{name}{table.suffix}": (task, table) for task in self.tasks for name, table in task.test.items()}


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("GLUE", glue.ROWS, "gluebenchmark.com"),
        Suite("SuperGLUE", superglue.ROWS, "super.gluebenchmark.com", ("ReCoRD.jsonl",)),
        Suite("CLUE", clue.ROWS, "cluebenchmarks.com", ("chid11_predict.json", "cmrc2018_predict.json")),
    )
}
