"""Arrow files, written atomically."""

from pathlib import Path

import pyarrow as pa

from sesame.configs import storage


def write_arrow(path: Path, table: pa.Table) -> None:
    """Write one Arrow file. Atomic, because a worker left by an interrupted run may write the same file.

    It is not synced to the disk, which costs a tenth of the time of a run: it can be made again, and whoever reads a
    dataset compares its checksums.
    """
    with storage.atomic_file(path, durable=False) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
