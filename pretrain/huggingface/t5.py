"""The family t5 and transformers' T5: v1.0 and v1.1, whose gated feed-forward layers have other tensor names."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from sesame.configs.errors import ConversionError
from sesame.configs.strict_json import abbreviate
from sesame.pretrain.huggingface.counterpart import (
    ACTIVATIONS,
    Component,
    ConfigMapping,
    Counterpart,
    HFModel,
    ParameterMapping,
)
from sesame.pretrain.huggingface.value_types import BOOLEAN, NON_NEGATIVE_INTEGER, POSITIVE_INTEGER, STRING, optional

PROJECTIONS = {"query": "q", "key": "k", "value": "v", "output": "o"}


def stack(name: str, last: int) -> tuple[ParameterMapping, ...]:
    """Return the mappings of the encoder or decoder without cross-attention and feed-forward weights.

    Args:
        name: "encoder" or "decoder".
        last: transformers' number of the feed-forward sublayer.
    """
    ours, hf = f"backbone.{name}_blocks.*", f"{name}.block.*.layer"
    first = f"{name}.block.0.layer.0.SelfAttention.relative_attention_bias"
    return (
        *(
            ParameterMapping(f"{ours}.attention.{ours_name}", f"{hf}.0.SelfAttention.{hf_name}")
            for ours_name, hf_name in PROJECTIONS.items()
        ),
        ParameterMapping(f"backbone.{name}_position_bias", first),
        ParameterMapping(f"{ours}.attention_norm", f"{hf}.0.layer_norm"),
        ParameterMapping(f"{ours}.feed_forward_norm", f"{hf}.{last}.layer_norm"),
        ParameterMapping(f"backbone.{name}_norm", f"{name}.final_layer_norm"),
    )


def feed_forward(module: str, names: Mapping[str, str]) -> tuple[ParameterMapping, ...]:
    """Return the mappings of the feed-forward layers of both stacks.

    Args:
        module: transformers' name of the feed-forward module.
        names: Sesame name -> transformers name of each projection.
    """
    sublayers = {"encoder": 1, "decoder": 2}
    return tuple(
        ParameterMapping(
            f"backbone.{name}_blocks.*.feed_forward.{ours_name}", f"{name}.block.*.layer.{last}.{module}.{hf_name}"
        )
        for name, last in sublayers.items()
        for ours_name, hf_name in names.items()
    )


CROSS = "backbone.decoder_blocks.*.cross_attention", "decoder.block.*.layer.1"
SHARED_MAPPINGS = (
    ParameterMapping("backbone.token_embedding", "shared"),
    *stack("encoder", 1),
    *stack("decoder", 2),
    *(
        ParameterMapping(f"{CROSS[0]}.{ours_name}", f"{CROSS[1]}.EncDecAttention.{hf_name}")
        for ours_name, hf_name in PROJECTIONS.items()
    ),
    ParameterMapping(f"{CROSS[0]}_norm", f"{CROSS[1]}.layer_norm"),
    ParameterMapping("objectives.span_corruption.projection", "lm_head"),
)
"""All parameters but those of the feed-forward layers; the last exists only in untied models."""
CONFIG_MAPPINGS = (
    ConfigMapping("layers", "num_layers"),
    ConfigMapping("width", "d_model"),
    ConfigMapping("heads", "num_heads"),
    ConfigMapping("head_width", "d_kv"),
    ConfigMapping("feed_forward_width", "d_ff"),
    ConfigMapping("position_buckets", "relative_attention_num_buckets", 32),
    ConfigMapping("longest_distance", "relative_attention_max_distance", 128),
    ConfigMapping("dropout", "dropout_rate", 0.1),
    ConfigMapping("norm_epsilon", "layer_norm_epsilon", 1e-6),
)
PLAIN = ACTIVATIONS
GATED = {
    "relu": ("gated-relu",),
    # transformers uses the tanh approximation for all of these names.
    "gelu_tanh": ("gated-gelu", "gated-gelu_new", "gated-gelu_pytorch_tanh", "gated-gelu_fast", "gated-gelu_accurate"),
    "silu": ("gated-silu", "gated-swish"),
}
ACTIVATION_NAMES = tuple(name for table in (PLAIN, GATED) for names in table.values() for name in names)
OUTPUT, EMBEDDING = "lm_head.weight", "shared.weight"
EXTRA_KEYS = {"num_decoder_layers": optional(POSITIVE_INTEGER)}
ALIASES = {"hidden_size": "d_model", "num_attention_heads": "num_heads", "num_hidden_layers": "num_layers"}
IGNORED_KEYS = {
    "n_positions": "key of old files; there are no position embeddings",
    "output_past": "selects which of the computed values are returned",
}


def shared_fields(model: HFModel) -> dict[str, Any]:
    """Return the fields that T5 and Switch derive in the same way."""
    values = model.config
    layers = values.get("num_decoder_layers")
    fields = {"decoder_layers": values["num_layers"] if layers is None else layers}
    longest = values.get("relative_attention_max_distance", 128)
    exact = values.get("relative_attention_num_buckets", 32) // 2
    if longest <= exact:
        raise ConversionError(
            f"{model.origin}: 'relative_attention_max_distance' is {longest}, but must be larger than {exact}, the "
            "number of the decoder's buckets of one distance; correct it or 'relative_attention_num_buckets'"
        )
    # transformers has one key for dropout and attention dropout.
    return {**fields, "attention_dropout": values.get("dropout_rate", 0.1)}


def _extra_to_hf(config: Any) -> dict[str, Any]:
    # transformers 5 scales the output if scale_decoder_outputs, whose default is tie_word_embeddings.
    return {
        "num_decoder_layers": config.decoder_layers,
        "tie_word_embeddings": config.tied,
        "scale_decoder_outputs": config.resolved("scaled_output"),
    }


def _extra_from_hf(model: HFModel) -> dict[str, Any]:
    values = model.config
    name = values.get("feed_forward_proj", "relu")
    gated, _, activation = name.rpartition("-")
    derived = {"is_gated_act": bool(gated), "dense_act_fn": "gelu_new" if name == "gated-gelu" else activation}
    for key, value in derived.items():
        if values.get(key, value) != value:
            raise ConversionError(
                f"{model.origin}: '{key}' is {abbreviate(values[key])}, but 'feed_forward_proj' = {name!r} requires "
                f"{value!r}; remove the wrong one"
            )
    tie_key = values.get("tie_word_embeddings", True)
    scaled = values.get("scale_decoder_outputs", tie_key)
    has_output = OUTPUT in model.tensor_names
    tied = not has_output or (tie_key and scaled and _output_equals_embedding(model))
    return {
        **shared_fields(model),
        "gated": bool(gated),
        "tied": tied,
        "scaled_output": None if scaled == tied else scaled,
    }


def _output_equals_embedding(model: HFModel) -> bool:
    """Return whether the output weight equals the embedding, of which files may contain a copy."""
    embedding = next(
        (name for name in (EMBEDDING, *TIED_TENSORS) if name in model.tensor_names and name != OUTPUT), None
    )
    return embedding is None or torch.equal(model.read(OUTPUT), model.read(embedding))


TIED_TENSORS = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", OUTPUT)


T5 = Counterpart(
    model_type="t5",
    family="t5",
    base_prefix="",
    components={
        "backbone": Component(
            (*SHARED_MAPPINGS, *feed_forward("DenseReluDense", {"up": "wi", "down": "wo"})), {"span_corruption": 1.0}
        )
    },
    architectures={frozenset(): "T5ForConditionalGeneration"},
    config_mappings=(*CONFIG_MAPPINGS, ConfigMapping("activation", "feed_forward_proj", "relu", PLAIN)),
    supported_values={"gated": (False,)},
    fixed_values={
        "is_encoder_decoder": (True,),
        "feed_forward_proj": tuple(name for name in ACTIVATION_NAMES if "-" not in name),
    },
    ignored_keys=IGNORED_KEYS,
    aliases={**ALIASES, "head_dim": "d_kv"},
    extra_keys={
        **EXTRA_KEYS,
        "dense_act_fn": STRING,
        "is_gated_act": BOOLEAN,
        "scale_decoder_outputs": BOOLEAN,
        "tie_word_embeddings": BOOLEAN,
        "decoder_start_token_id": optional(NON_NEGATIVE_INTEGER),
    },
    extra_to_hf=_extra_to_hf,
    extra_from_hf=_extra_from_hf,
    tied_tensors={EMBEDDING: TIED_TENSORS},
    ignored_tensors=(r"decoder\.block\.0\.layer\.1\.EncDecAttention\.relative_attention_bias\.weight",),
)
T5_GATED = replace(
    T5,
    components={
        "backbone": Component(
            (*SHARED_MAPPINGS, *feed_forward("DenseReluDense", {"gate": "wi_0", "up": "wi_1", "down": "wo"})),
            {"span_corruption": 1.0},
        )
    },
    config_mappings=(*CONFIG_MAPPINGS, ConfigMapping("activation", "feed_forward_proj", "relu", GATED)),
    supported_values={"gated": (True,)},
    fixed_values={
        "is_encoder_decoder": (True,),
        "feed_forward_proj": tuple(name for name in ACTIVATION_NAMES if "-" in name),
    },
)
