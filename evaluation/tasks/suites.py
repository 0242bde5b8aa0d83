"""Benchmarks with a server for their test sets, and the files that each server wants in one archive."""

from dataclasses import dataclass

from sesame.evaluation.tasks import clue, fewclue, glue, superglue
from sesame.evaluation.tasks.task import Table, Task


@dataclass(frozen=True)
class Suite:
    """A benchmark whose test sets are scored by a server."""

    name: str
    tasks: tuple[Task, ...]
    server: str
    optional: tuple[str, ...] = ()
    """Files that the server takes and does not want."""

    @property
    def required(self) -> list[str]:
        """Files of a complete archive."""
        return [name for name in self.files if name not in self.optional]

    @property
    def files(self) -> dict[str, tuple[Task, Table]]:
        """File of the archive -> the task, and the test set that it answers."""
        return {name: (task, table) for task in self.tasks for name, table in task.prediction_files.items()}


SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite("GLUE", glue.ROWS, "gluebenchmark.com"),
        Suite("SuperGLUE", superglue.ROWS, "super.gluebenchmark.com"),
        Suite("CLUE", clue.ROWS, "cluebenchmarks.com", ("cmnli_predict.json",)),
        Suite("FewCLUE", fewclue.ROWS, "cluebenchmarks.com"),
    )
}
