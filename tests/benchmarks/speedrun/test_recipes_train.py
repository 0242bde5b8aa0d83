"""Every shipped recipe fits its corpora, and a narrow copy of its model takes a step with its optimizer."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.speedrun.options import HERE
from benchmarks.speedrun.recipe import load_recipe
from benchmarks.speedrun.trainers import TRAINERS, Job, Limit
from sesame import configs
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.examples.segment import PAIRS
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.batch import Batch
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers import optimizer_kind

VOCABULARY = 64
RECIPES = [path for path in sorted((HERE / "recipes").glob("*.toml")) if load_recipe(path).kind == "sesame"]


def run_of(path: Path, folder: Path) -> RunConfig:
    recipe = load_recipe(path)
    datasets = {name: folder / name for name in recipe.corpora}
    TRAINERS["sesame"].commands(Job(recipe, datasets, folder, 1, Limit(steps=1000)))
    return configs.load(folder / "run.toml", RunConfig)


def narrow(run: RunConfig) -> Learner:
    """The learner with four entries a head, so that a step takes milliseconds."""
    changes = {"width": 4 * run.model.heads, "feed_forward_width": 24}  # pyright: ignore[reportAttributeAccessIssue]
    learner = build(run.model.model_copy(update=changes), run.objectives, Vocabulary(VOCABULARY))
    value = random_value(1, lambda name, shape: 0.2)
    materialise(learner, lambda name, parameter: value(name, parameter.shape))
    return learner


def batch_of(learner: Learner, *, causal: bool) -> Batch:
    draw, offsets, masks = np.random.default_rng(1), np.array([0, 12, 24, 33]), np.array([0, 3, 6, 8])
    columns = {
        "tokens": Ragged(draw.integers(5, VOCABULARY, 33), offsets),
        "first_segment_length": np.array([5, 6, 4]),
        "mask_positions": Ragged(np.array([1, 4, 9, 2, 3, 11, 5, 7]), masks),
        "mask_labels": Ragged(draw.integers(5, VOCABULARY, 8), masks),
        "pair_labels": np.array([0, 1, 1]),
    }
    return replace(assemble(columns, learner.reads, {"mask_labels": 8.0, "pair_labels": 3.0}), causal=causal)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_fits_its_corpora(path: Path, tmp_path: Path) -> None:
    run, recipe = run_of(path, tmp_path), load_recipe(path)
    learner = narrow(run)
    for values in recipe.corpora.values():
        source = {"kind": "json_lines", "paths": ["text.jsonl"]}
        corpus = configs.parse({**values, "output": "dataset", "source": source}, CorpusConfig, str(path))
        written = {"tokens", "first_segment_length", "mask_positions", "mask_labels"}
        written |= {"pair_labels"} if corpus.segment.kind in PAIRS else set()
        assert corpus.corrupt.kind.startswith("masked_") and corpus.corrupt.kind != "masked_spans"
        assert {COLUMNS[name].source for name in learner.reads} <= written
        assert corpus.segment.sequence_length <= learner.backbone.positions
        # Rates that fall and causal steps are drawn by training.
        if run.schedule.mask_rate is not None or run.data.causal_every:
            assert corpus.corrupt.drawn == "each_epoch"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_takes_a_step(path: Path, tmp_path: Path) -> None:
    run = run_of(path, tmp_path)
    learner, kind = narrow(run), optimizer_kind(run.optimizer)
    optimizer = kind.create(kind.groups(learner, run.optimizer.weight_decay), run.optimizer)
    before = {name: parameter.detach().clone() for name, parameter in learner.named_parameters()}
    loss, losses = learner(batch_of(learner, causal=run.data.causal_every > 0))
    loss.backward()
    assert losses.keys() == run.objectives.keys() and bool(torch.isfinite(loss))
    assert [name for name, parameter in learner.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    # Muon gets its whole matrices from the engine, and a bias of the keys adds the same to all scores of a query.
    later = {id(each) for group in optimizer.param_groups if group.get("is_matrix") for each in group["params"]}
    moved = {name: not torch.equal(each, before[name]) for name, each in learner.named_parameters()}
    assert all(moved[n] for n, each in learner.named_parameters() if id(each) not in later and "key.bias" not in n)
