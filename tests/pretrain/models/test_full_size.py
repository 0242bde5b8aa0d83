"""The papers' runs take training steps: whole if they fit into a laptop's memory, else with fewer layers and experts
of full width. Only the dataset and the batch are small. See ``make check-slow``."""

import gc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run

FOLDER = Path(configs.__file__).parent / "pretrain"
FITTING: dict[str, tuple[str, list[str]]] = {
    "bert_base": ("pairs", []),
    "bert_large": ("pairs", []),
    "roberta_large": ("pairs", []),
    "albert_xxlarge": ("pairs", []),
    "modern_base": ("pairs", []),
    "elmo": ("text", []),
    "gpt2_xl": ("text", ["model.layers=8"]),
    "megatron_8.3b": ("text", ["model.layers=4"]),
    "turing_nlg_17b": ("text", ["model.layers=3"]),
    "t5_11b": ("spans", ["model.layers=1", "model.decoder_layers=1"]),
    "switch_c": ("spans", ["model.layers=1", "model.decoder_layers=1", "model.experts=8"]),
}
"""Run -> dataset of the tests, and changed settings. GPT-3 is left out: one layer needs more than 24 GB."""
SINGLE_PROCESS = [
    "parallel.tensor=1",
    "parallel.expert=1",
    "data.global_batch=4",
    "data.micro_batch=2",
    "report.tensorboard=false",
]


@pytest.mark.slow
@pytest.mark.parametrize("name", FITTING)
def test_a_full_size_run_takes_steps(name: str, datasets: Callable[[str], Path], tmp_path: Path) -> None:
    gc.collect()  # The model of the previous test is in reference cycles.
    dataset, reductions = FITTING[name]
    changes = [f"data.dataset={datasets(dataset)}", f"output={tmp_path / 'run'}", *SINGLE_PROCESS, *reductions]
    config = configs.load(FOLDER / f"{name}.toml", RunConfig, changes)
    losses, norms = [], []
    with closing(Mesh(config.parallel)) as mesh, closing(Run(config, mesh)) as run:
        for _ in range(2):
            step_losses, norm, *_ = run.train_step()
            losses.append(sum(float(loss) for loss in step_losses.values()))
            norms.append(float(norm))
    parameters = sum(shape.numel() for shape in run.shapes.values())
    print(f"\n{name}: {parameters:,} parameters, losses {losses}, norms {norms}")
    assert all(0 < value < 100 for value in losses) and all(0 < norm < 1e4 for norm in norms)
    assert torch.isfinite(torch.tensor(losses + norms)).all()
