"""BERT: sequences are independent, rotary positions depend on distances, initial values on names."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sesame.data_pipeline.dataset.shards import Ragged
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models.bert import BertConfig
from sesame.pretrain.models.family import Vocabulary

VOCABULARY = 128


def learner(**changes) -> Learner:
    shape = {"layers": 2, "width": 32, "heads": 4, "feed_forward_width": 64, "positions": 64}
    config = BertConfig(**{**shape, "dropout": 0.0, "attention_dropout": 0.0, **changes})
    model = build(config, {"masked_lm": 1.0, "sentence_pairs": 1.0}, Vocabulary(VOCABULARY))
    value = random_value(3, lambda name, shape: 0.2)
    materialise(model, lambda name, parameter: value(name, parameter.shape))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def rows(lengths: list[int], seed: int = 0):
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = [max(1, length // 5) for length in lengths]
    positions = [
        np.sort(generator.choice(length, count, replace=False)) for length, count in zip(lengths, counts, strict=True)
    ]
    mask_offsets = np.concatenate([[0], np.cumsum(counts)])
    columns = {
        "tokens": Ragged(generator.integers(5, VOCABULARY, offsets[-1]), offsets),
        "first_segment_length": np.array(lengths) // 2,
        "mask_positions": Ragged(np.concatenate(positions), mask_offsets),
        "mask_labels": Ragged(generator.integers(5, VOCABULARY, mask_offsets[-1]), mask_offsets),
        "pair_labels": generator.integers(0, 2, len(lengths)),
    }
    denominators = {"mask_labels": float(mask_offsets[-1]), "pair_labels": float(len(lengths))}
    return columns, denominators


@pytest.mark.parametrize("norm", ["post", "pre", "both"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_sequences_do_not_attend_to_each_other(norm: str, positions: str) -> None:
    model = learner(norm_placement=norm, position_kind=positions)
    original, _ = rows([6, 6, 6, 6, 11, 30])
    changed, _ = rows([6, 6, 6, 6, 11, 30])
    changed["tokens"].values[:24] = 7
    reads = ("tokens", "positions", "segments")
    hidden = model.backbone(assemble(original, reads, {})).hidden_TD
    other = model.backbone(assemble(changed, reads, {})).hidden_TD
    torch.testing.assert_close(hidden[24:], other[24:])
    assert not torch.allclose(hidden[:24], other[:24])


def test_norms_before_and_after_both_layers() -> None:
    """x + norm(layer(norm(x))), computed from the parts of a block."""
    model = learner(norm_placement="both", position_kind="rotary")
    block = model.backbone.blocks[0]
    columns, _ = rows([9, 9])
    batch = assemble(columns, ("tokens", "positions", "segments"), {})
    pattern, _ = model.backbone._patterns(batch, torch.float32)
    hidden_TD = torch.randn(18, 32)
    attended = block.attention(block.attention_norm(hidden_TD), pattern)
    first = hidden_TD + block.attention_output_norm(attended)
    expected = first + block.feed_forward_output_norm(block.feed_forward(block.feed_forward_norm(first)))
    torch.testing.assert_close(block(hidden_TD, pattern), expected)


@pytest.mark.parametrize("gated", [False, True])
def test_a_norm_over_the_inner_width(gated: bool) -> None:
    model = learner(norm_placement="pre", inner_norm=True, gated=gated)
    layer, hidden_TD = model.backbone.blocks[1].feed_forward, torch.randn(5, 32)
    gate = layer.gate(hidden_TD) if gated else layer.up(hidden_TD)
    inner_TF = F.gelu(gate) * (layer.up(hidden_TD) if gated else 1.0)
    centred_TF = inner_TF - inner_TF.mean(-1, keepdim=True)
    normalized_TF = centred_TF / (centred_TF.square().mean(-1, keepdim=True) + 1e-12).sqrt()
    assert inner_TF.shape[1] != 32 and not torch.allclose(inner_TF, normalized_TF)
    torch.testing.assert_close(layer(hidden_TD), layer.down(normalized_TF + layer.inner_norm.bias))
    assert not any("inner_norm" in name for name, _ in learner(norm_placement="pre").named_parameters())


def test_a_norm_over_the_inner_width_is_not_split() -> None:
    assert "model.inner_norm" in learner(inner_norm=True).backbone.unsplittable
    assert learner().backbone.unsplittable == ""


def test_a_causal_batch_hides_later_tokens() -> None:
    model = learner(position_kind="rotary", local_window=4)
    columns, _ = rows([12, 12, 7])
    batch = replace(assemble(columns, ("tokens", "positions", "segments"), {}), causal=True)
    hidden = model.backbone(batch).hidden_TD
    tokens = batch["tokens"].clone()
    tokens[8:12] = 7
    other = model.backbone(replace(batch, columns={**batch.columns, "tokens": tokens})).hidden_TD
    torch.testing.assert_close(hidden[:8], other[:8])
    assert not torch.allclose(hidden[8:12], other[8:12])
    torch.testing.assert_close(hidden[12:], other[12:])


def test_value_embeddings_are_added_in_the_first_and_last_layers() -> None:
    config = BertConfig(layers=7, value_embeddings=2)
    assert [config.value_table(layer) for layer in range(7)] == [0, 1, -1, -1, -1, 0, 1]
    assert BertConfig(layers=4).value_table(3) == -1
    with pytest.raises(
        ValueError, match="value_embeddings 2 need two layers each, but there are 3 layers; use at most 1"
    ):
        BertConfig(layers=3, value_embeddings=2)


@pytest.mark.parametrize("lengths", [[8, 8], [5, 9]], ids=["equal", "padded"])
def test_value_embeddings_equal_values_that_were_added_before(lengths: list[int]) -> None:
    """A table whose rows are all one vector is a bias of the values."""
    model = learner(value_embeddings=1, position_kind="rotary")
    plain = learner(position_kind="rotary")
    plain.load_state_dict(model.state_dict(), strict=False)
    vector = torch.randn(32)
    with torch.no_grad():
        model.backbone.value_embeddings[0].weight[:] = vector
        for block in plain.backbone.blocks:
            block.attention.value.bias += vector
    columns, _ = rows(lengths)
    batch = assemble(columns, ("tokens", "positions", "segments"), {})
    torch.testing.assert_close(model.backbone(batch).hidden_TD, plain.backbone(batch).hidden_TD)


def test_rotary_attention_depends_on_distances_only() -> None:
    from sesame.pretrain.layers.positions import apply_rotary, rotary

    query, key = torch.randn(2, 1, 1, 8).unbind(0)
    products = []
    for shift in (0, 5, 40):
        angles = (
            rotary(torch.tensor([3 + shift]), 8, 10_000.0, torch.float32),
            rotary(torch.tensor([7 + shift]), 8, 10_000.0, torch.float32),
        )
        products.append((apply_rotary(query, *angles[0]) * apply_rotary(key, *angles[1])).sum())
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2], rtol=1e-4, atol=1e-5)


def init_std(name: str, shape: torch.Size) -> float:
    return 0.02


def test_initial_values_depend_on_name_and_seed_only() -> None:
    first, second = random_value(1, init_std), random_value(1, init_std)
    shape = torch.Size([4, 4])
    second("another.weight", shape)
    assert torch.equal(first("a.weight", shape), second("a.weight", shape))
    assert not torch.equal(first("a.weight", shape), first("b.weight", shape))
    assert not torch.equal(first("a.weight", shape), random_value(2, init_std)("a.weight", shape))
    assert float(first("big.weight", torch.Size([400, 400])).abs().max()) <= 0.04
