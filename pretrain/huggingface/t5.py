"""The family t5 as transformers' T5, plain (v1.0) and gated (v1.1): the two name their feed-forward layers apart."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from configs.errors import ConversionError
from pretrain.huggingface.conversion import (
    ACTIVATIONS,
    COUNT,
    FLAG,
    SIZE,
    WORD,
    Counterpart,
    Part,
    Row,
    Setting,
    Source,
    optional,
)
from pretrain.huggingface.strict_json import shown

PROJECTIONS = {"query": "q", "key": "k", "value": "v", "output": "o"}


def stack(name: str, last: int) -> tuple[Row, ...]:
    """The rows of the encoder or the decoder, whose feed-forward layers are their layers ``last``, without these."""
    ours, theirs = f"backbone.{name}_blocks.*", f"{name}.block.*.layer"
    first = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return (
        *(Row(f"{ours}.attention.{mine}", f"{theirs}.0.SelfAttention.{other}") for mine, other in PROJECTIONS.items()),
        Row(f"backbone.{name}_position_bias", first),
        Row(f"{ours}.attention_norm", f"{theirs}.0.layer_norm"),
        Row(f"{ours}.feed_forward_norm", f"{theirs}.{last}.layer_norm"),
        Row(f"backbone.{name}_norm", f"{name}.final_layer_norm"),
    )


def feed_forward(inside: str, names: Mapping[str, str]) -> tuple[Row, ...]:
    """The rows of the feed-forward layers of both stacks; ``inside`` is the module that theirs are in."""
    places = {"encoder": 1, "decoder": 2}
    return tuple(
        Row(f"backbone.{name}_blocks.*.feed_forward.{mine}", f"{name}.block.*.layer.{last}.{inside}.{other}")
        for name, last in places.items()
        for mine, other in names.items()
    )


CROSS = "backbone.decoder_blocks.*.cross_attention", "decoder.block.*.layer.1"
SHARED = (
    Row("backbone.token_embedding", "shared"),
    *stack("encoder", 1),
    *stack("decoder", 2),
    *(Row(f"{CROSS[0]}.{mine}", f"{CROSS[1]}.EncDecAttention.{other}") for mine, other in PROJECTIONS.items()),
    Row(f"{CROSS[0]}_norm", f"{CROSS[1]}.layer_norm"),
    Row("objectives.span_corruption.projection", "lm_head"),
)
"""What a model has whatever its feed-forward layers; only an untied one has the last."""
SETTINGS = (
    Setting("layers", "num_layers"),
    Setting("width", "d_model"),
    Setting("heads", "num_heads"),
    Setting("head_width", "d_kv"),
    Setting("feed_forward_width", "d_ff"),
    Setting("position_buckets", "relative_attention_num_buckets", 32),
    Setting("longest_distance", "relative_attention_max_distance", 128),
    Setting("dropout", "dropout_rate", 0.1),
    Setting("norm_epsilon", "layer_norm_epsilon", 1e-6),
)
PLAIN = ACTIVATIONS
GATED = {
    "relu": ("gated-relu",),
    # Not the exact one, whatever the name says.
    "gelu_tanh": ("gated-gelu", "gated-gelu_new", "gated-gelu_pytorch_tanh", "gated-gelu_fast", "gated-gelu_accurate"),
    "silu": ("gated-silu", "gated-swish"),
}
WORDS = tuple(word for table in (PLAIN, GATED) for words in table.values() for word in words)
OUTPUT, EMBEDDING = "lm_head.weight", "shared.weight"
FURTHER = {"num_decoder_layers": optional(SIZE)}
ALIASES = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
INERT = {
    "n_positions": "is in old files; there is no table of positions",
    "output_past": "says which of the computed values are returned",
}


def two_stacks(source: Source) -> dict[str, Any]:
    """What T5 and Switch have in common."""
    values = source.values
    layers = values.get("num_decoder_layers")
    fields = {"decoder_layers": values["num_layers"] if layers is None else layers}
    longest = values.get("relative_attention_max_distance", 128)
    exact = values.get("relative_attention_num_buckets", 32) // 2
    if longest <= exact:
        raise ConversionError(
            f"{source.origin}: 'relative_attention_max_distance' is {longest}, but the decoder's first {exact} buckets "
            "have one distance each; correct one of the two"
        )
    # One key for both, there.
    return {**fields, "attention_dropout": values.get("dropout_rate", 0.1)}


def _further_there(config: Any) -> dict[str, Any]:
    # transformers 5 ties what is not in the file, and reads from tie_word_embeddings, or else from the second key,
    # whether states are scaled.
    return {
        "num_decoder_layers": config.decoder_layers,
        "tie_word_embeddings": config.tied,
        "scale_decoder_outputs": config.resolved("scaled_output"),
    }


def _further_back(source: Source) -> dict[str, Any]:
    values = source.values
    word = values.get("feed_forward_proj", "relu")
    gated, _, activation = word.rpartition("-")
    derived = {"is_gated_act": bool(gated), "dense_act_fn": "gelu_new" if word == "gated-gelu" else activation}
    for key, value in derived.items():
        if values.get(key, value) != value:
            raise ConversionError(
                f"{source.origin}: '{key}' is {shown(values[key])}, but 'feed_forward_proj' = {word!r} makes it "
                f"{value!r}; remove the wrong one"
            )
    said = values.get("tie_word_embeddings", True)
    scaled = values.get("scale_decoder_outputs", said)
    own = OUTPUT in source.names
    tied = not own or (said and scaled and _same(source))
    return {
        **two_stacks(source),
        "gated": bool(gated),
        "tied": tied,
        "scaled_output": None if scaled == tied else scaled,
    }


def _same(source: Source) -> bool:
    """Whether the output's weight is the embedding, which files may hold twice."""
    embedding = next((name for name in (EMBEDDING, *COPIES) if name in source.names and name != OUTPUT), None)
    return embedding is None or torch.equal(source.read(OUTPUT), source.read(embedding))


COPIES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", OUTPUT)


T5 = Counterpart(
    model_type="t5",
    family="t5",
    prefix="",
    parts={
        "backbone": Part(
            (*SHARED, *feed_forward("DenseReluDense", {"up": "wi", "down": "wo"})), {"span_corruption": 1.0}
        )
    },
    classes={frozenset(): "T5ForConditionalGeneration"},
    settings=(*SETTINGS, Setting("activation", "feed_forward_proj", "relu", PLAIN)),
    ours={"gated": (False,)},
    theirs={"is_encoder_decoder": (True,), "feed_forward_proj": tuple(word for word in WORDS if "-" not in word)},
    inert=INERT,
    aliases={**ALIASES, "head_dim": "d_kv"},
    further={
        **FURTHER,
        "dense_act_fn": WORD,
        "is_gated_act": FLAG,
        "scale_decoder_outputs": FLAG,
        "tie_word_embeddings": FLAG,
        "decoder_start_token_id": optional(COUNT),
    },
    further_there=_further_there,
    further_back=_further_back,
    copies={EMBEDDING: COPIES},
    ignored=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
)
T5_GATED = replace(
    T5,
    parts={
        "backbone": Part(
            (*SHARED, *feed_forward("DenseReluDense", {"gate": "wi_0", "up": "wi_1", "down": "wo"})),
            {"span_corruption": 1.0},
        )
    },
    settings=(*SETTINGS, Setting("activation", "feed_forward_proj", "relu", GATED)),
    ours={"gated": (True,)},
    theirs={"is_encoder_decoder": (True,), "feed_forward_proj": tuple(word for word in WORDS if "-" in word)},
)
