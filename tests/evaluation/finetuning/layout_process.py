"""One process of several that fine-tune the cases of a JSON file; the first one saves losses and outputs."""

import json
import sys
from pathlib import Path

import numpy as np

from tests.evaluation.finetuning.made_tasks import several_processes


def main(cases: str) -> None:
    """Run each [run, kind, settings, layout, tokenizer or null, file of the outcome]."""
    for run, kind, changes, layout, tokenizer, target in json.loads(Path(cases).read_text()):
        path = Path(tokenizer) if tokenizer else None
        outcome, is_first = several_processes(run, kind, changes, layout, path)
        if is_first:
            np.savez(target, losses=outcome.losses, dev=outcome.dev[""])


if __name__ == "__main__":
    main(*sys.argv[1:])
