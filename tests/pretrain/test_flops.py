"""FLOPs against formulas written by hand."""

from typing import Any

import numpy as np
import pytest

from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.learner import build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary

LENGTHS, TARGETS = [5, 9], [4, 6]
SHAPE = {"layers": 3, "width": 32, "heads": 4, "feed_forward_width": 48}
PROJECTIONS, FEED_FORWARD = 4 * 32 * 32, 2 * 32 * 48


def batch(reads: tuple[str, ...]) -> Batch:
    def row(lengths: list[int]) -> Ragged:
        return Ragged(np.full(sum(lengths), 7), boundaries(np.array(lengths)))

    columns = {
        "tokens": row(LENGTHS),
        "first_segment_length": np.array(LENGTHS),
        "mask_positions": row([1, 1]),
        "mask_labels": row([1, 1]),
        "target_tokens": row(TARGETS),
    }
    return assemble(columns, reads, {})


def counted(family: str, objective: str, **changes: object) -> float:
    config = FAMILIES[family].config(**{**SHAPE, **changes})
    learner = build(config, {objective: 1.0}, Vocabulary(64))
    return learner.flops(batch(learner.reads))


def attention(queries: list[int], keys: list[int]) -> float:
    return 3 * 12 * 32 * sum(query * key for query, key in zip(queries, keys, strict=True))


def test_an_encoder() -> None:
    expected = 6 * 14 * 3 * (PROJECTIONS + FEED_FORWARD) + attention(LENGTHS, LENGTHS) + 6 * 2 * (32 * 32 + 64 * 32)
    assert counted("bert", "masked_lm") == expected


def test_alberts_block_counts_once_for_every_layer() -> None:
    expected = 6 * 14 * (3 * (PROJECTIONS + FEED_FORWARD) + 16 * 32) + attention(LENGTHS, LENGTHS)
    assert counted("albert", "masked_lm", embedding_width=16) == expected + 6 * 2 * (32 * 16 + 64 * 16)


def test_a_decoder_projects_every_token_but_the_last() -> None:
    expected = 6 * 14 * 3 * (PROJECTIONS + FEED_FORWARD) + attention(LENGTHS, LENGTHS) + 6 * 12 * 64 * 32
    assert counted("gpt", "causal_lm") == expected


@pytest.mark.parametrize(
    ("family", "changes", "router"), [("t5", {}, 0), ("switch", {"experts": 4, "sparse_every": 1}, 4)]
)
def test_encoder_and_decoder_and_only_the_chosen_expert(family: str, changes: dict, router: int) -> None:
    blocks = 3 * (PROJECTIONS + FEED_FORWARD + router * 32)
    encoder = 6 * 14 * (blocks + 3 * PROJECTIONS / 2) + attention(LENGTHS, LENGTHS)
    decoder = 6 * 10 * (blocks + 3 * PROJECTIONS / 2) + attention(TARGETS, TARGETS) + attention(TARGETS, LENGTHS)
    expected = encoder + decoder + 6 * 10 * 64 * 32
    assert counted(family, "span_corruption", decoder_layers=3, head_width=8, **changes) == expected


def test_elmo_projects_onto_the_vocabulary_in_both_directions() -> None:
    elmo: Any = FAMILIES["elmo"].config
    config = elmo(width=32, cells=24, filters=((1, 8),), highways=0, character_width=4)
    learner = build(config, {"bidirectional_lm": 1.0}, Vocabulary(64))
    lstm = 2 * 16 * 4 * 24 + 24 * 16
    expected = 6 * 14 * (4 * 8 + 8 * 16 + 2 * 2 * lstm) + 2 * 6 * 12 * 64 * 16
    assert learner.flops(batch(learner.reads)) == expected
