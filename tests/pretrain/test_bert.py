"""BERT is transformers' BERT: the same weights give the same losses, padded there and packed here."""

import numpy as np
import pytest
import torch

from data_pipeline.shards import Ragged
from pretrain.batches import assemble
from pretrain.initial import materialise, random_value
from pretrain.learner import Learner, build
from pretrain.models.bert import BertConfig
from pretrain.models.family import Vocabulary

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
    draw = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    counts = [max(1, length // 5) for length in lengths]
    positions = [
        np.sort(draw.choice(length, count, replace=False)) for length, count in zip(lengths, counts, strict=True)
    ]
    mask_offsets = np.concatenate([[0], np.cumsum(counts)])
    columns = {
        "tokens": Ragged(draw.integers(5, VOCABULARY, offsets[-1]), offsets),
        "first_segment_length": np.array(lengths) // 2,
        "mask_positions": Ragged(np.concatenate(positions), mask_offsets),
        "mask_labels": Ragged(draw.integers(5, VOCABULARY, mask_offsets[-1]), mask_offsets),
        "pair_labels": draw.integers(0, 2, len(lengths)),
    }
    denominators = {"mask_labels": float(mask_offsets[-1]), "pair_labels": float(len(lengths))}
    return columns, denominators


NAMES = {
    "backbone.token_embedding": "bert.embeddings.word_embeddings",
    "backbone.position_embedding": "bert.embeddings.position_embeddings",
    "backbone.segment_embedding": "bert.embeddings.token_type_embeddings",
    "backbone.embedding_norm": "bert.embeddings.LayerNorm",
    "objectives.masked_lm.dense": "cls.predictions.transform.dense",
    "objectives.masked_lm.norm": "cls.predictions.transform.LayerNorm",
    "objectives.masked_lm.projection.bias": "cls.predictions.bias",
    "objectives.sentence_pairs.pooler": "bert.pooler.dense",
    "objectives.sentence_pairs.classifier": "cls.seq_relationship",
    ".attention_norm.": ".attention.output.LayerNorm.",
    ".feed_forward_norm.": ".output.LayerNorm.",
    ".feed_forward.up.": ".intermediate.dense.",
    ".feed_forward.down.": ".output.dense.",
    ".attention.output.w": ".attention.output.dense.w",
    ".attention.output.b": ".attention.output.dense.b",
    ".attention.query.": ".attention.self.query.",
    ".attention.key.": ".attention.self.key.",
    ".attention.value.": ".attention.self.value.",
    "backbone.blocks.": "bert.encoder.layer.",
}


def theirs(name: str) -> str:
    for ours, other in NAMES.items():
        name = name.replace(ours, other)
    return name


def padded(columns, lengths: list[int]) -> dict[str, torch.Tensor]:
    shape = (len(lengths), max(lengths))
    ids, types, mask, labels = (torch.zeros(shape, dtype=torch.long) for _ in range(4))
    labels -= 100
    tokens, positions, wanted = columns["tokens"], columns["mask_positions"], columns["mask_labels"]
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.from_numpy(tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]])
        types[row, int(columns["first_segment_length"][row]) : length] = 1
        mask[row, :length] = 1
        span = slice(positions.offsets[row], positions.offsets[row + 1])
        labels[row, torch.from_numpy(positions.values[span])] = torch.from_numpy(wanted.values[span])
    pairs = torch.from_numpy(columns["pair_labels"])
    return {
        "input_ids": ids,
        "token_type_ids": types,
        "attention_mask": mask,
        "labels": labels,
        "next_sentence_label": pairs,
    }


def test_loss_and_gradients_equal_transformers() -> None:
    transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
    ours = learner()
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    other = transformers.BertForPreTraining(config)
    values = {theirs(name): value for name, value in ours.state_dict().items() if "projection.weight" not in name}
    missing, unexpected = other.load_state_dict(values, strict=False)
    assert not unexpected and all("decoder" in name or "position_ids" in name for name in missing)
    other.tie_weights()
    lengths = [9, 9, 9, 9, 17, 18, 40]
    columns, denominators = rows(lengths)
    batch = assemble(columns, ours.reads, denominators)
    total, _ = ours(batch)
    reference = other(**padded(columns, lengths)).loss
    torch.testing.assert_close(total, reference, rtol=1e-5, atol=1e-6)
    total.backward()
    reference.backward()
    gradients = dict(other.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[theirs(name)].grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_sequences_do_not_see_each_other(norm: str, positions: str) -> None:
    model = learner(norm_placement=norm, position_kind=positions)
    together, _ = rows([6, 6, 6, 6, 11, 30])
    alone, _ = rows([6, 6, 6, 6, 11, 30])
    alone["tokens"].values[:24] = 7
    reads = ("tokens", "positions", "segments")
    hidden = model.backbone(assemble(together, reads, {})).hidden_TD
    other = model.backbone(assemble(alone, reads, {})).hidden_TD
    torch.testing.assert_close(hidden[24:], other[24:])
    assert not torch.allclose(hidden[:24], other[:24])


def test_rotary_attention_knows_distances_only() -> None:
    from pretrain.layers.positions import Rotary, turn

    rotary = Rotary(8)
    query, key = torch.randn(2, 1, 1, 8).unbind(0)
    products = []
    for shift in (0, 5, 40):
        angles = (
            rotary.angles(torch.tensor([3 + shift]), torch.float32),
            rotary.angles(torch.tensor([7 + shift]), torch.float32),
        )
        products.append((turn(query, *angles[0]) * turn(key, *angles[1])).sum())
    torch.testing.assert_close(products[0], products[1])
    torch.testing.assert_close(products[0], products[2], rtol=1e-4, atol=1e-5)


def small(name: str, shape: torch.Size) -> float:
    return 0.02


def test_initial_values_follow_name_and_seed_only() -> None:
    first, second = random_value(1, small), random_value(1, small)
    shape = torch.Size([4, 4])
    second("another.weight", shape)
    assert torch.equal(first("a.weight", shape), second("a.weight", shape))
    assert not torch.equal(first("a.weight", shape), first("b.weight", shape))
    assert not torch.equal(first("a.weight", shape), random_value(2, small)("a.weight", shape))
    assert float(first("big.weight", torch.Size([400, 400])).abs().max()) <= 0.04
