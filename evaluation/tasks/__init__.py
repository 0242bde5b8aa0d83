"""The table of tasks. To add one, add a row to ``glue.py`` or a file with rows of its own."""

from evaluation.tasks import glue, probe
from evaluation.tasks.task import Column, Table, Task

TASKS: dict[str, Task] = {task.name: task for task in (*glue.ROWS, *probe.ROWS)}

__all__ = ["TASKS", "Column", "Table", "Task"]
