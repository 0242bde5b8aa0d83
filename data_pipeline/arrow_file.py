"""Arrow files, written atomically."""

from pathlib import Path

import pyarrow as pa

from configs import storage


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write one Arrow file. Atomic, because a worker left by an interrupted run may write the same file."""
    with storage.atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
