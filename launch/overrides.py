"""What the command line changes in a configuration file."""

import json
from collections.abc import Sequence
from pathlib import Path


def with_output(overrides: Sequence[str] | None, output: Path | str | None) -> list[str]:
    """The overrides, and ``--output`` as one more; quoted, because a folder may be named 7."""
    changes = list(overrides or ())
    return changes if output is None else [*changes, f"output={json.dumps(str(output), ensure_ascii=False)}"]
