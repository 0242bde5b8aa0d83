"""The table of tasks.

A task of your own needs no code: [[own_task]] in the TOML file of a suite (``own.py``). To ship one, add a
:class:`Task` row to a file with ``ROWS``, and the file to ``TASKS``. The row names the files and their columns
(``train``, ``dev``, ``test``), the ``labels`` as written in the files, the ``kind`` of task, the ``metrics`` (keys of
``evaluation/scores.py``), and the Parquet files on the Hugging Face hub from which the files can be made (``hub``,
``Table.hub_file``). Then list the task in ``suite.tasks`` of a TOML file.
"""

from sesame.evaluation.tasks import blimp, clue, fewclue, glue, probe, similarity, superglue
from sesame.evaluation.tasks.task import Column, HubDataset, Table, Task

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        *glue.ROWS,
        *glue.FROM_MNLI,
        *superglue.ROWS,
        *clue.ROWS,
        *fewclue.ROWS,
        *blimp.ROWS,
        *similarity.ROWS,
        *probe.ROWS,
    )
}

__all__ = ["TASKS", "Column", "HubDataset", "Table", "Task"]
