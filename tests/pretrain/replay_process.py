"""One process of runs and of their replays; rank 0 writes what each replay found."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.replay import plan, replay
from sesame.pretrain.train import Run, train


def main(cases: str, step: str) -> None:
    """Run and replay each case of ``cases``, a JSON file of [settings, step before which a bit is flipped or 0]."""
    for settings, flipped in json.loads(Path(cases).read_text()):
        config = configs.parse(settings, RunConfig, "the test's run")
        with pytest.MonkeyPatch.context() as patch:
            flip_a_bit_before(flipped, patch)
            train(config)
        planned = plan(config.output, int(step))
        mesh = Mesh(planned.config.parallel)
        result = replay(planned, mesh)
        if mesh.is_rank_zero:
            (config.output / "replay.json").write_text(json.dumps([result.is_same, result.lines]))
        mesh.barrier()
        mesh.close()


def flip_a_bit_before(step: int, patch: pytest.MonkeyPatch, rank: int = 1) -> None:
    """Flip the lowest bit of the exponent of one weight of the optimizer of process ``rank`` before ``step`` (from
    1)."""
    train_step = Run.train_step

    def corrupted(run: Run) -> Any:
        if run.step == step - 1 and run.mesh.rank == rank:
            part = next(part for part in run.engine.state(None) if part.rows.numel() > 5)
            part.rows.view(torch.int32).view(-1)[5] ^= 1 << 23
        return train_step(run)

    patch.setattr(Run, "train_step", corrupted)


if __name__ == "__main__":
    main(*sys.argv[1:])
