"""Micro-batches of a fixed number of tokens: one shape, every row once, and dummies that count for nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.batch import Batch
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.token_budget import first_fit_decreasing
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.family import Vocabulary
from tests.pretrain.family_runs import FAMILY_RUNS

BUDGET: dict[str, Any] = {"micro_batch": 0, "micro_tokens": 300}
FamilySettings = Callable[..., dict[str, Any]]


def test_first_fit_decreasing_packs_every_row_once_within_the_room() -> None:
    sizes = np.random.default_rng(1).integers(1, 50, (200, 2))
    room = np.array([128, 90])
    groups = first_fit_decreasing(sizes, room)
    assert sorted(np.concatenate(groups).tolist()) == list(range(200))
    filled = np.array([sizes[group].sum(0) for group in groups])
    assert (filled <= room).all()
    # No two groups could be one: the first row of the later one would have been put into the earlier one.
    largest = max(filled.sum(0) / room)
    assert len(groups) <= 1.25 * largest + 1


def made(family_settings: FamilySettings, name: str, rank: DataRank = DataRank(0, 1), **data: Any) -> Any:
    config = configs.parse(family_settings(name, data=data), RunConfig, "run.toml")
    dataset = open_dataset(config.data.dataset, verify=False)
    vocabulary = Vocabulary(dataset.manifest.tokenizer.vocabulary_size, dataset.tokenizer_path)
    learner = build(config.model, config.objectives, vocabulary)
    value = random_value(1, config.model.init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape))
    return learner, Batches(dataset, config.data, learner.reads, 1, rank)


def shape(batch: Batch) -> dict[str, Any]:
    """All but what ELMo, which is not compiled, reads of distinct tokens."""
    sizes: dict[str, Any] = {name: len(value) for name, value in batch.columns.items() if name != "distinct_tokens"}
    layouts = {"layout": batch.layout, "targets": batch.targets}
    return sizes | {name: (part.sequences, part.longest, part.dummies) for name, part in layouts.items() if part}


def loss_and_gradients(learner: Learner, batches: list[Batch]) -> tuple[float, dict[str, torch.Tensor]]:
    learner.zero_grad()
    total = sum((learner(batch)[0] for batch in batches), torch.zeros(()))
    total.backward()
    return total.item(), {
        name: value.grad.clone() for name, value in learner.named_parameters() if value.grad is not None
    }


def assert_same(learner: Learner, plain: list[Batch], filled: list[Batch]) -> None:
    expected, gradients = loss_and_gradients(learner, plain)
    loss, others = loss_and_gradients(learner, filled)
    assert loss == pytest.approx(expected, rel=1e-6)
    assert gradients.keys() == others.keys()
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, gradient in gradients.items():
        assert float((others[name] - gradient).abs().max()) < 2e-6 * largest, name
    for measure in (lambda batch: batch.tokens, learner.flops):
        assert sum(map(measure, filled)) == sum(map(measure, plain))


@pytest.mark.parametrize("name", FAMILY_RUNS)
def test_dummies_count_for_nothing_and_shapes_are_one(name: str, family_settings: FamilySettings) -> None:
    """Each micro-batch is compared with its rows alone, which also holds for the capacity of experts."""
    learner, batches = made(family_settings, name, **BUDGET)
    _, plain = made(family_settings, name, micro_batch=0)
    shapes = []
    for number in (0, 5):
        filled = list(batches.step(number))
        rows = plain._rows(plain.position(number), plain.position(number + 1))
        parts = batches.budget.parts(batches.train, rows)
        assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
        denominators = batches._denominators(batches.train, rows, 1, None)
        assert_same(learner, [plain._batch(plain.train, rows, part, denominators, None) for part in parts], filled)
        if name != "switch":
            assert_same(learner, list(plain.step(number)), filled)
        assert [batch.ends_step for batch in filled] == [False] * (len(filled) - 1) + [True]
        shapes += [shape(batch) for batch in filled]
    shapes += [shape(batch) for batch in batches.validation_batches(16)]
    for each in shapes:
        assert each == shapes[0]
    assert shapes[0]["tokens"] == 300


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_micro_batches(processes: int, family_settings: FamilySettings) -> None:
    """A process without one left has a micro-batch that changes no loss, so that all have the same number."""
    learner, one = made(family_settings, "bert", **BUDGET)
    alone = list(one.step(2))
    ranks = [
        list(made(family_settings, "bert", DataRank(rank, processes), **BUDGET)[1].step(2)) for rank in range(processes)
    ]
    assert len({len(each) for each in ranks}) == 1
    dealt = [batch for round_ in zip(*ranks, strict=True) for batch in round_]
    for batch, other in zip(dealt, alone, strict=False):
        assert torch.equal(batch["tokens"], other["tokens"])
    surplus = dealt[len(alone) :]
    assert len(dealt) % processes == 0 and all(batch.tokens == 0 for batch in surplus)
    for batch in surplus:
        assert float(learner(batch)[0].detach()) == 0.0 and learner.flops(batch) == 0
    # Losses are averaged over processes, so the denominators are smaller by their number.
    same = [replace(batch, denominators=alone[0].denominators) for batch in dealt]
    assert_same(learner, alone, same)


def test_masks_of_an_epoch_fit(family_settings: FamilySettings) -> None:
    """The number of predictions is not known when rows are packed, only their share of the tokens."""
    _, batches = made(family_settings, "bert", **BUDGET)
    batches.budget = replace(batches.budget, drawn=0.15, limits={"mask_labels": 90})
    assert {len(batch["mask_labels"]) for number in range(3) for batch in batches.step(number)} == {90}
    batches.budget = replace(batches.budget, drawn=0.01, limits={"mask_labels": 20})
    with pytest.raises(DatasetError, match=r"predictions, more than the 20 that were expected for data\.micro_tokens"):
        list(batches.step(0))


def test_wrong_settings_are_refused(family_settings: FamilySettings) -> None:
    with pytest.raises(DatasetError, match=r"do not fit into data\.micro_tokens 20; set it to"):
        made(family_settings, "bert", micro_batch=0, micro_tokens=20)
    with pytest.raises(ConfigError, match="set one of them"):
        made(family_settings, "bert", micro_batch=4, micro_tokens=300)
