"""The family t5 as transformers' T5, plain (v1.0) and gated (v1.1): the two name their feed-forward layers apart."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pretrain.exchange.mapping import Exchange, Part, Row, Setting

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
TIED = Setting("tied", "tie_word_embeddings", True)
"""Where a file does not say it: v1.0's do not."""
PLAIN = {"relu": ("relu",), "gelu_tanh": ("gelu_new",), "silu": ("silu",)}
GATED = {"relu": ("gated-relu",), "gelu_tanh": ("gated-gelu", "gated-gelu_new"), "silu": ("gated-silu",)}
WORDS = tuple(word for table in (PLAIN, GATED) for words in table.values() for word in words)


def decoder_layers(values: Mapping[str, Any]) -> dict[str, Any]:
    """Files of models with as many layers in both stacks may leave theirs out."""
    return {"decoder_layers": values.get("num_decoder_layers") or values["num_layers"]}


T5 = Exchange(
    model_type="t5",
    family="t5",
    prefix="",
    parts={
        "backbone": Part(
            (*SHARED, *feed_forward("DenseReluDense", {"up": "wi", "down": "wo"})), {"span_corruption": 1.0}
        )
    },
    classes={frozenset(): "T5ForConditionalGeneration"},
    settings=(*SETTINGS, TIED, Setting("activation", "feed_forward_proj", "relu", PLAIN)),
    ours={"gated": (False,)},
    theirs={"is_encoder_decoder": (True,), "feed_forward_proj": tuple(word for word in WORDS if "-" not in word)},
    further_there=lambda config: {"num_decoder_layers": config.decoder_layers},
    further_back=decoder_layers,
    copies={"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")},
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
    settings=(*SETTINGS, TIED, Setting("activation", "feed_forward_proj", "relu", GATED)),
    ours={"gated": (True,)},
    theirs={"is_encoder_decoder": (True,), "feed_forward_proj": tuple(word for word in WORDS if "-" in word)},
    further_back=lambda values: {**decoder_layers(values), "gated": True},
)
