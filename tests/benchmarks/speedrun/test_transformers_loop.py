"""The loop of the baseline: masks as the library's collator draws them, and whole epochs."""

import numpy as np
import torch

from benchmarks.speedrun.transformers_loop import Rows, masked

SPECIAL = {"pad": 0, "unk": 1, "cls": 2, "sep": 3, "mask": 4}


def test_masks_have_the_shares_of_the_library() -> None:
    ids = torch.randint(5, 1000, (400, 128), generator=torch.Generator().manual_seed(1))
    ids[:, 0], ids[:, -1] = 2, 3
    inputs, labels = masked(ids, SPECIAL, 1000, 0.15, torch.Generator().manual_seed(2))
    chosen = labels >= 0
    assert not chosen[:, [0, -1]].any(), "special tokens are not predicted"
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(inputs[~chosen], ids[~chosen])
    assert abs(float(chosen[:, 1:-1].float().mean()) - 0.15) < 0.005
    at_chosen, original = inputs[chosen], ids[chosen]
    assert abs(float((at_chosen == 4).float().mean()) - 0.8) < 0.02
    assert abs(float((at_chosen == original).float().mean()) - 0.1) < 0.02


def test_an_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    class FakeSplit:
        def blocks(self):
            from sesame.data_pipeline.ragged import Ragged

            values = np.arange(40)
            # Ten rows of four tokens, and a rest of two that is dropped.
            yield {"tokens": Ragged(np.concatenate([values, [90, 91]]), np.array([*range(0, 41, 4), 42]))}

    rows = Rows(FakeSplit(), seed=3)  # pyright: ignore[reportArgumentType]
    assert rows.length == 4 and len(rows.ids) == 10
    first, second = rows.batch(0, 10)[:, 0].tolist(), rows.batch(10, 10)[:, 0].tolist()
    assert sorted(first) == sorted(second) == list(range(0, 40, 4)) and first != second
    assert rows.batch(8, 4)[:, 0].tolist() == [*first[8:], *second[:2]]
