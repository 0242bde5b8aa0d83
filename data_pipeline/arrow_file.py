"""Arrow files, written atomically."""

from pathlib import Path

import pyarrow as pa

from configs import storage


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write one Arrow file; a worker that an interrupted run left behind may write the same one at the same time."""
    with storage.atomic_file(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
