"""One process of runs with a planted row; where one ends with an error, rank 0 writes it to ``error.txt``."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame import configs
from sesame.configs.errors import TrainingError
from sesame.launch.library_warnings import ignore_library_warnings
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.skipped import Skipped
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run, train
from tests.pretrain.watch.planted import plant


class Case(NamedTuple):
    """A run, as plain JSON."""

    settings: dict[str, Any]
    row: int = -1
    """What is planted has its effect where this row is read."""
    effect: str = ""
    skipped: Sequence[Sequence[int]] = ()
    """Ranges of samples; where there are some, nothing is planted and nobody watches."""


def main(cases: str) -> None:
    """Run each case of ``cases``, a JSON file."""
    ignore_library_warnings()
    for case in (Case(*each) for each in json.loads(Path(cases).read_text())):
        config = configs.parse(case.settings, RunConfig, "the test's run")
        if case.skipped:
            run_without(config, case.skipped)
            continue
        with pytest.MonkeyPatch.context() as patch:
            plant(patch, case.row, case.effect)
            try:
                train(config)
            except TrainingError as error:
                if os.environ["RANK"] == "0":
                    Path(case.settings["output"], "error.txt").write_text(str(error))


def run_without(config: RunConfig, skipped: Sequence[Sequence[int]]) -> None:
    """Train as if the samples did not exist."""
    mesh = Mesh(config.parallel)
    run = Run(config, mesh)
    run.batches.skipped = Skipped((first, last) for first, last in skipped)
    run.run()
    mesh.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
