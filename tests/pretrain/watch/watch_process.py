"""One process of a run with a planted row; rank 0 prints the error, if there is one."""

import json
import sys
from pathlib import Path

import pytest

from sesame import configs
from sesame.configs.errors import TrainingError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train
from tests.pretrain.watch.planted import plant


def main(cases: str) -> None:
    """Run each case of ``cases``, a JSON file of [settings, row, effect]."""
    for settings, row, effect in json.loads(Path(cases).read_text()):
        with pytest.MonkeyPatch.context() as patch:
            plant(patch, row, effect)
            try:
                train(configs.parse(settings, RunConfig, "the test's run"))
            except TrainingError as error:
                Path(settings["output"], "error.txt").write_text(str(error))


if __name__ == "__main__":
    main(*sys.argv[1:])
