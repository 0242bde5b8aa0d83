"""The table of tasks.

To add a task, add a :class:`Task` row to ``ROWS`` in ``glue.py``, or a file with its own ``ROWS`` to ``TASKS``. Nothing
else is needed. The row names the files and their columns (``train``, ``dev``, ``test``), the ``labels`` as written in
the files (none for a regression, which has a ``span`` instead), the ``metrics`` (keys of ``evaluation/scores.py``), and
the Parquet files on the Hugging Face hub from which the files can be made (``hub``, ``Table.hub_file``). Then list the
task in ``suite.tasks`` of a TOML file.
"""

from sesame.evaluation.tasks import glue, probe, similarity
from sesame.evaluation.tasks.task import Column, HubDataset, Table, Task

TASKS: dict[str, Task] = {task.name: task for task in (*glue.ROWS, *probe.ROWS, *similarity.ROWS)}

__all__ = ["TASKS", "Column", "HubDataset", "Table", "Task"]
