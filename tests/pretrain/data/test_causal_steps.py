"""Causal steps: which they are, what they predict, and what refuses them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.batch import IGNORED, Batch
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.causal_steps import causal_columns, is_causal
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import build
from sesame.pretrain.models.bert import BertConfig
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.roles import Encoded

READS = ("tokens", "positions", "mask_positions", "mask_labels")
SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def test_one_step_of_so_many_is_causal() -> None:
    assert [step for step in range(12) if is_causal(step, 4)] == [3, 7, 11]
    assert not any(is_causal(step, 0) for step in range(12))


def test_every_token_but_special_ones_and_the_first_is_a_label() -> None:
    rows = {"tokens": Ragged(np.array([2, 7, 8, 3, 2, 9, 3, 6, 3]), np.array([0, 4, 9]))}
    columns = causal_columns(rows, SPECIAL)
    positions, labels = columns["mask_positions"], columns["mask_labels"]
    assert isinstance(positions, Ragged) and isinstance(labels, Ragged)
    assert positions.values.tolist() == [1, 2, 1, 3] and labels.values.tolist() == [7, 8, 9, 6]
    assert positions.offsets.tolist() == labels.offsets.tolist() == [0, 2, 4]


def test_the_state_before_a_masked_token_predicts_it() -> None:
    model = build(BertConfig(layers=1, width=8, heads=2, feed_forward_width=8), {"masked_next": 1.0}, Vocabulary(64))
    draw = random_value(1, lambda name, shape: 0.3)
    materialise(model, lambda name, parameter: draw(name, parameter.shape))
    rows = {
        "tokens": Ragged(np.array([2, 7, 4, 3]), np.array([0, 4])),
        "mask_positions": Ragged(np.array([2]), np.array([0, 1])),
        "mask_labels": Ragged(np.array([8]), np.array([0, 1])),
    }
    batch = assemble(rows, READS, {})
    hidden_TD = torch.randn(4, 8)
    objective = model.objectives["masked_next"]
    expected = objective.projection(objective.norm(objective.activation(objective.dense(hidden_TD[1:2]))))
    torch.testing.assert_close(objective.logits(Encoded(hidden_TD), batch), expected)


def made(folder: Path, every: int, rank: DataRank = DataRank(0, 1), micro_tokens: int = 0) -> Batches:
    """Return batches of the rows of a text, whose masks are drawn in training."""
    dataset = open_dataset(folder, verify=False)
    recipe = dataset.manifest.recipe
    recipe["corrupt"] = {"kind": "masked_tokens", "mask_probability": 0.2, "drawn": "each_epoch"}
    rows = 0 if micro_tokens else 4
    config = DataConfig(
        dataset=str(folder), global_batch=8, causal_every=every, micro_batch=rows, micro_tokens=micro_tokens
    )
    return Batches(dataset, config, READS, 3, rank)


def test_causal_steps_have_the_text_as_it_is_and_others_are_unchanged(datasets: Any) -> None:
    folder = datasets("text")
    batches, plain = made(folder, 2), made(folder, 0)
    for number in range(4):
        ours, theirs = list(batches.step(number)), list(plain.step(number))
        assert [batch.causal for batch in ours] == [number % 2 == 1] * 2
        for one, other in zip(ours, theirs, strict=True):
            if one.causal:
                assert torch.equal(one["tokens"], _restored(other))
                assert torch.equal(one["tokens"][one["mask_positions"]], one["mask_labels"])
                assert one.count("mask_labels") > 3 * other.count("mask_labels")
            else:
                assert all(torch.equal(one[name], other[name]) for name in READS)


def test_the_mean_is_over_the_labels_of_all_processes(datasets: Any) -> None:
    folder = datasets("text")
    (one,) = made_of(made(folder, 1), 1)
    parts = [made_of(made(folder, 1, DataRank(rank, 2)), 1) for rank in range(2)]
    labels = sum(batch.count("mask_labels") for part in parts for batch in part)
    total = parts[0][0].denominators["mask_labels"] * 2
    assert labels == total == one.denominators["mask_labels"] * 2


def test_a_token_budget_has_one_shape_for_each_kind_of_step(datasets: Any) -> None:
    folder = datasets("text")
    budgeted, plain = made(folder, 2, micro_tokens=256), made(folder, 2)
    shapes: dict[bool, set[Any]] = {False: set(), True: set()}
    for number in range(4):
        found = list(budgeted.step(number))
        assert {batch.causal for batch in found} == {number % 2 == 1}
        expected = _labels(list(plain.step(number)))
        assert _labels(found) == expected
        assert sum(batch.count("mask_labels") for batch in found) == len(expected)
        for batch in found:
            shapes[batch.causal].add((len(batch["tokens"]), len(batch["mask_labels"]), batch.layout.sequences))
    assert len(shapes[False]) == len(shapes[True]) == 1
    assert shapes[True] == {(256, 256, *next(iter(shapes[True]))[2:])}


def test_a_micro_batch_without_weight_is_causal_where_the_step_is(datasets: Any) -> None:
    """Processes with fewer micro-batches repeat one of theirs."""
    ranks = [made(datasets("text"), 1, DataRank(rank, 3), 256) for rank in range(3)]
    found = [batch for batches in ranks for batch in batches.step(0)]
    assert any(batch.count("mask_labels") == 0 for batch in found)
    assert all(batch.causal for batch in found)


def _labels(batches: list[Batch]) -> list[int]:
    return sorted(int(label) for batch in batches for label in batch["mask_labels"] if label != IGNORED)


def made_of(batches: Batches, number: int) -> list[Batch]:
    found = list(batches.step(number))
    return found[:1] if batches.data_rank.size == 1 else found


def _restored(batch: Batch) -> torch.Tensor:
    tokens = batch["tokens"].clone()
    tokens[batch["mask_positions"]] = batch["mask_labels"]
    return tokens


def test_a_dataset_with_masks_in_its_rows_is_refused(dataset: Path) -> None:
    config = DataConfig(dataset=str(dataset), global_batch=8, causal_every=16)
    with pytest.raises(DatasetError, match="needs the text as it is; prepare the corpus"):
        Batches(open_dataset(dataset, verify=False), config, READS, 3, DataRank(0, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objectives": {"masked_lm": 1.0}}, "needs the objective masked_next and no other"),
        ({"objectives": {"masked_next": 1.0, "sentence_pairs": 1.0}}, "needs the objective masked_next and no other"),
    ],
)
def test_what_cannot_have_causal_steps_is_refused(settings: Any, changes: dict[str, Any], message: str) -> None:
    values = settings(objectives={"masked_next": 1.0, "masked_lm": 0.0}, data={"causal_every": 16})
    values["objectives"] = {"masked_next": 1.0}
    configs.parse(values, RunConfig, "run.toml")
    values = {**values, **changes, "data": {**values["data"], **changes.get("data", {})}}
    with pytest.raises(ConfigError, match=message):
        configs.parse(values, RunConfig, "run.toml")
