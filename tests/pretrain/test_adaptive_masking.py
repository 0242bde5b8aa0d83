"""Masks that follow the losses: the weights, what a checkpoint holds of them, and what cannot have them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sesame import configs
from sesame.configs.errors import CheckpointError, ConfigError, DatasetError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.adaptive_masking import AdaptiveMasking, updated
from sesame.pretrain.batch import IGNORED
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.checkpoints.record import AdaptiveMaskingState
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.layers.vocabulary import CrossEntropy, VocabularyProjection
from sesame.pretrain.train import Run, train

SIZE, WIDTH = 12, 8
EVERY = 3


class Predictions:
    """A head that is trained on random states."""

    label_column = "mask_labels"

    def __init__(self) -> None:
        self.cross_entropy, self.projection = CrossEntropy(), VocabularyProjection(SIZE, WIDTH)
        torch.manual_seed(1)
        for parameter in self.projection.parameters():
            torch.nn.init.normal_(parameter)

    def __call__(self, labels: torch.Tensor, seed: int) -> torch.Tensor:
        """Compute the loss, and return that of each label, computed by torch."""
        hidden = torch.randn(len(labels), WIDTH, generator=torch.Generator().manual_seed(seed))
        self.cross_entropy(self.projection, hidden, labels)
        logits = self.projection(hidden)
        return F.cross_entropy(logits, labels, reduction="none", ignore_index=IGNORED).detach()


def masking(head: Predictions, sum_over_data: Any = lambda tensor: tensor) -> AdaptiveMasking:
    return AdaptiveMasking(EVERY, {"masked_lm": head}, SIZE, torch.device("cpu"), sum_over_data)


def test_the_weights_follow_the_mean_loss_of_each_token() -> None:
    head = Predictions()
    ours = masking(head)
    labels = [torch.tensor([5, 6, 6, IGNORED]), torch.tensor([6, 7, IGNORED, 9])]
    losses = []
    for seed, each in enumerate(labels):
        losses.append(head(each, seed))
        ours.add(is_causal=False)
    head(torch.tensor([8, 8, 8]), 7)
    ours.add(is_causal=True)
    ours.finish_step(EVERY - 1)
    assert (ours.weights(EVERY) == 1).all(), "they change after so many steps"
    ours.finish_step(EVERY)
    all_labels, all_losses = torch.cat(labels), torch.cat(losses)
    mean = float(all_losses[all_labels != IGNORED].mean())
    expected = np.ones(SIZE)
    for token in (5, 6, 7, 9):
        of_token = all_losses[all_labels == token].tolist()
        expected[token] = 0.2 + 0.8 * (sum(of_token) + mean) / (len(of_token) + 1) / mean
    np.testing.assert_allclose(ours.weights(EVERY), expected, rtol=1e-4)
    assert (ours.weights(EVERY - 1) == 1).all(), "the step before can be computed again"


def test_a_token_that_is_always_right_is_still_masked() -> None:
    weights = np.ones(2, np.float32)
    for _ in range(50):
        weights = updated(weights, np.array([0.0, 5000.0]), np.array([10**6, 1000]))
    assert weights[0] == pytest.approx(1 / 30) and weights[1] > 900


def test_an_infinite_loss_counts_as_a_high_one() -> None:
    head = Predictions()
    ours = masking(head)
    head.cross_entropy.kept = torch.tensor([5, 6, 6]), torch.tensor([torch.inf, torch.nan, 1.0])
    ours.add(is_causal=False)
    ours.finish_step(EVERY)
    weights = ours.weights(EVERY)
    assert np.isfinite(weights).all() and weights[5] > weights[6] > 0


def test_a_step_without_an_update_does_not_count() -> None:
    head = Predictions()
    ours = masking(head)
    for labels, was_applied in (([5, 5, 6], True), ([6, 6, 6], False)):
        head(torch.tensor(labels), 1)
        ours.add(is_causal=False)
        ours.finish_step(EVERY - 1, was_applied=was_applied)
    only = masking(other := Predictions())
    other(torch.tensor([5, 5, 6]), 1)
    only.add(is_causal=False)
    for each in (ours, only):
        each.finish_step(EVERY)
    assert np.array_equal(ours.weights(EVERY), only.weights(EVERY)) and (ours.weights(EVERY) != 1).any()


def test_processes_have_the_weights_and_the_sums_of_one() -> None:
    """Whatever the order, bit for bit."""
    labels = torch.randint(5, SIZE, (40,), generator=torch.Generator().manual_seed(2))
    heads = [Predictions() for _ in range(3)]
    whole = masking(heads[0])
    head_losses = heads[0](labels, 1)
    heads[0].cross_entropy.kept = labels, head_losses
    whole.add(is_causal=False)
    parts = [masking(head) for head in heads[1:]]
    for part, head, rows in zip(parts, heads[1:], (slice(0, 25), slice(25, 40)), strict=True):
        head.cross_entropy.kept = labels[rows].flip(0), head_losses[rows].flip(0)
        part.add(is_causal=False)
    for each in (whole, *parts):
        each.finish_step(EVERY - 1)
    both = parts[0]._sums + parts[1]._sums
    for part in parts:
        part._sum_over_data = lambda tensor: tensor.copy_(both)
    assert parts[0].state == parts[1].state == whole.state
    for each in (whole, *parts):
        each.finish_step(EVERY)
    assert np.array_equal(whole.weights(EVERY), parts[0].weights(EVERY))
    assert np.array_equal(whole.weights(EVERY), parts[1].weights(EVERY))


def test_a_state_of_another_vocabulary_is_refused() -> None:
    state = masking(Predictions()).state
    assert state is not None
    message = r"runs/step-5/checkpoint\.json: adaptive_masking is not that of a vocabulary of 12"
    for wrong in ("", "no base64!", state.counts):
        damaged = AdaptiveMaskingState(**{**state.model_dump(), "weights": wrong})
        with pytest.raises(CheckpointError, match=message):
            masking(Predictions()).restore(damaged, Path("runs/step-5"))


def test_rows_are_masked_by_the_weights_and_validation_is_not(unmasked: Path) -> None:
    config = DataConfig(dataset=str(unmasked), global_batch=64, adaptive_masking_every=100)
    reads = ("tokens", "positions", "mask_positions", "mask_labels")
    batches, alike = (Batches(open_dataset(unmasked, verify=False), config, reads, 3, DataRank(0, 1)) for _ in range(2))
    size = batches.dataset.manifest.tokenizer.vocabulary_size
    weights = np.ones(size, np.float32)
    often = np.argsort(np.bincount(labels_of(alike.step(0)), minlength=size))[-3:]
    weights[often] = 8
    batches.set_mask_weights(lambda step: weights if step else np.ones(size, np.float32))
    counts = [len(labels_of(each.step(1))) for each in (batches, alike)]
    shares = [np.isin(labels_of(each.step(1)), often).mean() for each in (batches, alike)]
    assert counts[0] == pytest.approx(counts[1], rel=0.05), "the share of masked tokens stays"
    assert shares[0] > 2.5 * shares[1]
    assert labels_of(batches.validation_batches(64)) == labels_of(alike.validation_batches(64))


def labels_of(batches: Any) -> list[int]:
    return [int(label) for batch in batches for label in batch["mask_labels"]]


@pytest.fixture
def adaptive(settings: Any, unmasked: Path) -> dict[str, Any]:
    """A run of nine steps whose weights change after three and six, saved between."""
    return settings(
        steps=9,
        data={"dataset": str(unmasked), "adaptive_masking_every": EVERY},
        checkpoint={"save_every_steps": 5},
        report={"every_steps": 1},
    )


def test_a_killed_run_ends_like_an_uninterrupted_one(adaptive: dict[str, Any], tmp_path: Path) -> None:
    whole = trained(adaptive | {"output": str(tmp_path / "whole")})
    step = Run.train_step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "train_step", lambda run: step(run) if run.step < 7 else pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception, match="killed"):
            trained(adaptive | {"output": str(tmp_path / "killed")})
    assert trained(adaptive | {"output": str(tmp_path / "killed")}) == whole
    plain = {**adaptive, "data": {**adaptive["data"], "adaptive_masking_every": 0}}
    losses = trained(plain | {"output": str(tmp_path / "plain")})[1]
    assert losses != whole[1]


def trained(values: dict[str, Any]) -> tuple[Any, list[float]]:
    """Train, and return the checksums of the last checkpoint with its state, and the reported losses."""
    train(configs.parse(values, RunConfig, "run.toml"))
    folder = latest(Path(values["output"]))
    assert folder is not None
    record = open_checkpoint(folder).record
    rows = [json.loads(line) for line in (Path(values["output"]) / "metrics.jsonl").read_text().splitlines()]
    return (record.files, record.adaptive_masking), [row["train"]["masked_lm"] for row in rows if "train" in row]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"loader_processes": 1}}, "set data.loader_processes = 0"),
        ({"parallel": {"tensor": 2}}, "set parallel.tensor = 1"),
        ({"objectives": {"sentence_pairs": 1.0}}, "add one to"),
    ],
)
def test_what_cannot_have_adaptive_masks_is_refused(
    changes: dict[str, Any], message: str, adaptive: dict[str, Any]
) -> None:
    kept = {"objectives": {}}
    values = adaptive | {name: kept.get(name, adaptive[name]) | change for name, change in changes.items()}
    with pytest.raises(ConfigError, match=message):
        configs.parse(values, RunConfig, "run.toml")


def test_a_dataset_with_masks_in_its_rows_is_refused(dataset: Path) -> None:
    config = DataConfig(dataset=str(dataset), global_batch=8, adaptive_masking_every=100)
    with pytest.raises(DatasetError, match=r"data\.adaptive_masking_every 100 needs the text as it is"):
        Batches(open_dataset(dataset, verify=False), config, ("tokens",), 3, DataRank(0, 1))
