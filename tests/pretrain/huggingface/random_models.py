"""Transformers models with a random valid configuration and random weights, saved as a folder.

Everything that changes what a class computes is random. If Sesame does not support a value, the case names the key that
the import must refuse.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import transformers

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnop", *(f"##{letter}" for letter in "abcdefgh")]
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_python", "gelu_fast", "gelu_accurate", "relu", "silu")
REFUSED = 0.1
"""Fraction of models with an unsupported value."""

Values = dict[str, Any]


class Case(NamedTuple):
    architecture: str
    model: Any
    """The transformers model, in evaluation mode."""
    refused: str
    """Key that the import must refuse; empty if it must succeed."""


class Drawn(NamedTuple):
    architecture: str
    values: Values
    refusals: dict[str, Values]
    """Key that the import must refuse -> changes to ``values``."""


def _shape(draw: random.Random) -> Values:
    heads = draw.randint(1, 4)
    return {
        "vocab_size": len(PIECES) + draw.choice((0, 0, 1, 3, 35)),
        "heads": heads,
        # Norms over fewer numbers amplify rounding.
        "width": heads * draw.randint(-(-12 // heads), 14),
        "inner": draw.randint(1, 48),
        "layers": draw.randint(1, 3),
        "epsilon": 10 ** draw.uniform(-12, -2),
        "positions": draw.randint(20, 40),
    }


def _encoder(draw: random.Random, *, types: int = 2) -> Values:
    shape = _shape(draw)
    return {
        "vocab_size": shape["vocab_size"],
        "num_attention_heads": shape["heads"],
        "hidden_size": shape["width"],
        "intermediate_size": shape["inner"],
        "num_hidden_layers": shape["layers"],
        "layer_norm_eps": shape["epsilon"],
        "max_position_embeddings": shape["positions"],
        "hidden_act": draw.choice(ACTIVATIONS),
        "hidden_dropout_prob": draw.choice((0.0, 0.1, 0.3)),
        "attention_probs_dropout_prob": draw.choice((0.0, 0.1, 0.3)),
        "initializer_range": draw.uniform(0.01, 0.1),
        "type_vocab_size": draw.randint(1, types),
        "pad_token_id": 0,
    }


def _bert(draw: random.Random) -> Drawn:
    names = ("BertForPreTraining", "BertForMaskedLM", "BertForNextSentencePrediction", "BertModel")
    refusals = {"hidden_act": {"hidden_act": "tanh"}, "tie_word_embeddings": {"tie_word_embeddings": False}}
    return Drawn(draw.choice(names), _encoder(draw), {**refusals, "type_vocab_size": {"type_vocab_size": 3}})


def _roberta(draw: random.Random) -> Drawn:
    values = _encoder(draw)
    padding = draw.randint(0, 4)
    values |= {"pad_token_id": padding, "max_position_embeddings": values["max_position_embeddings"] + padding + 1}
    refusals = {"hidden_act": {"hidden_act": "quick_gelu"}, "is_decoder": {"is_decoder": True}}
    return Drawn(draw.choice(("RobertaForMaskedLM", "RobertaModel")), values, refusals)


def _albert(draw: random.Random) -> Drawn:
    values = {**_encoder(draw), "type_vocab_size": 2, "embedding_size": draw.randint(12, 24)}
    refusals = {
        "num_hidden_groups": {"num_hidden_groups": 2, "num_hidden_layers": 2},
        "inner_group_num": {"inner_group_num": 2},
    }
    return Drawn(draw.choice(("AlbertForPreTraining", "AlbertForMaskedLM", "AlbertModel")), values, refusals)


def _modernbert(draw: random.Random) -> Drawn:
    values = _encoder(draw)
    layers, every = draw.randint(1, 5), draw.randint(1, 4)
    kinds = ["sliding_attention" if number % every else "full_attention" for number in range(layers)]
    for key in (
        "layer_norm_eps",
        "hidden_act",
        "hidden_dropout_prob",
        "attention_probs_dropout_prob",
        "type_vocab_size",
    ):
        del values[key]
    values |= {
        "hidden_size": 2 * values["hidden_size"],
        "num_hidden_layers": layers,
        "norm_eps": 10 ** draw.uniform(-12, -2),
        "hidden_activation": draw.choice(ACTIVATIONS),
        "classifier_activation": draw.choice(ACTIVATIONS),
        "layer_types": kinds,
        "local_attention": draw.randint(2, 24),
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10 ** draw.uniform(1, 6)}
            for kind in ("full_attention", "sliding_attention")
        },
        "attention_dropout": draw.choice((0.0, 0.1)),
        "mlp_dropout": draw.choice((0.0, 0.1)),
        "embedding_dropout": draw.choice((0.0, 0.1)),
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    }
    linear = {"rope_type": "linear", "rope_theta": 100.0, "factor": 2.0}
    refusals: dict[str, Values] = {
        "norm_bias": {"norm_bias": True},
        "mlp_bias": {"mlp_bias": True},
        "attention_bias": {"attention_bias": True},
        "decoder_bias": {"decoder_bias": False},
        "layer_types": {"layer_types": ["sliding_attention"] * layers},
        "rope_parameters": {"rope_parameters": {**values["rope_parameters"], "full_attention": linear}},
    }
    return Drawn(draw.choice(("ModernBertForMaskedLM", "ModernBertModel")), values, refusals)


def _gpt2(draw: random.Random) -> Drawn:
    shape = _shape(draw)
    values = {
        "vocab_size": shape["vocab_size"],
        "n_head": shape["heads"],
        "n_embd": shape["width"],
        "n_inner": draw.choice((None, shape["inner"])),
        "n_layer": shape["layers"],
        "n_positions": shape["positions"],
        "layer_norm_epsilon": shape["epsilon"],
        "activation_function": draw.choice(ACTIVATIONS),
        "resid_pdrop": draw.choice((0.0, 0.1)),
        "embd_pdrop": draw.choice((0.0, 0.1)),
        "attn_pdrop": draw.choice((0.0, 0.1)),
        "reorder_and_upcast_attn": draw.random() < 0.3,
    }
    keys = ("scale_attn_by_inverse_layer_idx", "scale_attn_weights", "tie_word_embeddings")
    refusals = {key: {key: key == "scale_attn_by_inverse_layer_idx"} for key in keys}
    return Drawn(draw.choice(("GPT2LMHeadModel", "GPT2Model")), values, refusals)


def _two_stacks(draw: random.Random) -> Values:
    shape, buckets = _shape(draw), draw.randint(4, 40)
    return {
        "vocab_size": shape["vocab_size"],
        "num_heads": shape["heads"],
        "d_model": draw.randint(12, 40),
        "d_kv": draw.randint(1, 12),
        "d_ff": shape["inner"],
        "num_layers": shape["layers"],
        "num_decoder_layers": draw.choice((None, draw.randint(1, 3))),
        "relative_attention_num_buckets": buckets,
        "relative_attention_max_distance": draw.randint(max(9, buckets // 2 + 1), 64),
        "layer_norm_epsilon": shape["epsilon"],
        "dropout_rate": draw.choice((0.0, 0.1)),
        "decoder_start_token_id": 0,
        "pad_token_id": 0,
        "eos_token_id": 3,
    }


def _t5(draw: random.Random) -> Drawn:
    gated = [f"gated-{name}" for name in ACTIVATIONS if name not in ("gelu_python",)]
    values = {
        **_two_stacks(draw),
        "feed_forward_proj": draw.choice((*ACTIVATIONS, *gated)),
        "tie_word_embeddings": draw.random() < 0.5,
    }
    return Drawn("T5ForConditionalGeneration", values, {"feed_forward_proj": {"feed_forward_proj": "gated-tanh"}})


def _switch(draw: random.Random) -> Drawn:
    values = _two_stacks(draw)
    # Every layer or every second one is sparse.
    layers = {"encoder": values["num_layers"], "decoder": values["num_decoder_layers"] or values["num_layers"]}
    every = draw.choice((1, 2)) if min(layers.values()) > 1 else 1
    layers = {name: max(every, count - count % every) for name, count in layers.items()}
    values |= {
        "num_layers": layers["encoder"],
        "num_decoder_layers": layers["decoder"],
        "num_sparse_encoder_layers": layers["encoder"] // every,
        "num_sparse_decoder_layers": layers["decoder"] // every,
        "num_experts": draw.randint(2, 6),
        "expert_capacity": draw.randint(1, 12),
        "dense_act_fn": draw.choice(ACTIVATIONS),
        "router_jitter_noise": draw.choice((0.0, 0.01)),
        "router_ignore_padding_tokens": draw.random() < 0.5,
        "tie_word_embeddings": draw.random() < 0.6,
    }
    refusals: dict[str, Values] = {
        "router_bias": {"router_bias": True},
        "router_dtype": {"router_dtype": "bfloat16"},
        "dense_act_fn": {"dense_act_fn": "tanh"},
    }
    return Drawn("SwitchTransformersForConditionalGeneration", values, refusals)


DRAWS: dict[str, Callable[[random.Random], Drawn]] = {
    "Bert": _bert,
    "Roberta": _roberta,
    "ModernBert": _modernbert,
    "Albert": _albert,
    "GPT2": _gpt2,
    "T5": _t5,
    "SwitchTransformers": _switch,
}


def drawn(seed: int, folder: Path) -> Case:
    """Save the model of a seed with its tokenizer in ``folder``; successive seeds have different model types."""
    draw = random.Random(seed)
    kind = list(DRAWS)[seed % len(DRAWS)]
    architecture, values, refusals = DRAWS[kind](draw)
    refused = draw.choice(list(refusals)) if draw.random() < REFUSED else ""
    config = getattr(transformers, f"{kind}Config")(**{**values, **refusals.get(refused, {})})
    config._attn_implementation = "eager"
    model = getattr(transformers, architecture)(config).eval()
    _fill(model, torch.Generator().manual_seed(seed))
    if kind == "T5" and draw.random() < 0.5:
        # An untied output as in v1.1, which transformers' configuration cannot express.
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.flip(0).clone())
        model.all_tied_weights_keys.pop("lm_head.weight", None)
    if kind == "SwitchTransformers" and not config.tie_word_embeddings:
        # Three embeddings in transformers, one in Sesame.
        for stack in (model.encoder, model.decoder):
            stack.embed_tokens.weight.data.copy_(model.shared.weight)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in PIECES))
    return Case(architecture, model, refused)


@torch.no_grad()
def _fill(model: torch.nn.Module, draw: torch.Generator) -> None:
    """Fill the weights with values as large as in trained models, including norms and biases."""
    for name, value in model.named_parameters():
        if value.dim() == 1:
            middle = 1.0 if ("norm" in name.lower() and name.endswith("weight")) or ".ln_" in name else 0.0
            value.copy_(middle + 0.2 * torch.randn(value.shape, generator=draw))
        else:
            value.copy_(torch.randn(value.shape, generator=draw) / max(value.shape) ** 0.5)
