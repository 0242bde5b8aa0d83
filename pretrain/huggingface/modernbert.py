"""The family bert with pre-norm, rotary positions, GLU and local attention, and transformers' ModernBERT."""

from collections.abc import Mapping
from typing import Any

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
from sesame.pretrain.huggingface.tensor_conversion import CONCATENATE
from sesame.pretrain.huggingface.value_types import (
    FRACTION,
    OBJECT,
    POSITIVE_INTEGER,
    POSITIVE_NUMBER,
    STRINGS,
    integer,
    optional,
)

BLOCK, HF_BLOCK = "backbone.blocks.*", "model.layers.*"
PROJECTIONS = (f"{BLOCK}.attention.query", f"{BLOCK}.attention.key", f"{BLOCK}.attention.value")
GLOBAL, LOCAL = "full_attention", "sliding_attention"
ROTARY_BASES = {
    GLOBAL: ("rotary_base", "global_rope_theta", 160_000.0),
    LOCAL: ("local_rotary_base", "local_rope_theta", 10_000.0),
}
"""Layer type -> (Sesame field, key of older files, transformers' default)."""


def _layer_types(layers: int, every: int) -> list[str]:
    return [LOCAL if number % every else GLOBAL for number in range(layers)]


def _extra_to_hf(config: Any) -> dict[str, Any]:
    return {
        "layer_types": _layer_types(config.layers, config.global_every),
        "local_attention": 2 * config.local_window,
        "rope_parameters": {
            layer_type: {"rope_type": "default", "rope_theta": getattr(config, field)}
            for layer_type, (field, _, _) in ROTARY_BASES.items()
        },
        "embedding_dropout": config.dropout,
    }


def _extra_from_hf(model: HFModel) -> dict[str, Any]:
    values = model.config
    layers, every = values["num_hidden_layers"], values.get("global_attn_every_n_layers", 3)
    types = values.get("layer_types")
    types = _layer_types(layers, every) if types is None else types
    every = next((number for number, each in enumerate(types) if number and each == GLOBAL), layers)
    if types != _layer_types(layers, every):
        raise ConversionError(
            f"{model.origin}: 'layer_types' is not periodic; every n-th layer from the first must be "
            f"{GLOBAL}, the others {LOCAL}"
        )
    fields: dict[str, Any] = {"global_every": every, "local_window": values.get("local_attention", 128) // 2}
    rotary = values.get("rope_parameters") or {}
    if not rotary.keys() <= ROTARY_BASES.keys():
        raise ConversionError(
            f"{model.origin}: 'rope_parameters' is {abbreviate(rotary)}; only the keys {GLOBAL} and "
            f"{LOCAL} are supported"
        )
    for layer_type, (field, old_key, default) in ROTARY_BASES.items():
        fields[field] = _rotary_base(model, layer_type, float(values.get(old_key, default)))
    return {**SHAPE, **fields}


def _rotary_base(model: HFModel, layer_type: str, default: float) -> float:
    """Return the rotary base of a layer type; ``default`` where ``rope_parameters`` has none."""
    rotary = (model.config.get("rope_parameters") or {}).get(layer_type)
    given = {"rope_type": "default", "rope_theta": default, **(rotary or {})} if isinstance(rotary, dict | None) else {}
    if given.keys() != {"rope_type", "rope_theta"} or given["rope_type"] != "default":
        raise ConversionError(
            f"{model.origin}: 'rope_parameters' of {layer_type} is {abbreviate(rotary)}; only rope_type "
            "'default' with a rope_theta is supported"
        )
    if not POSITIVE_NUMBER.accepts(given["rope_theta"]):
        raise ConversionError(
            f"{model.origin}: 'rope_theta' of {layer_type} is {abbreviate(given['rope_theta'])}; it must be "
            f"{POSITIVE_NUMBER.description}"
        )
    return float(given["rope_theta"])


def _import_notes(values: Mapping[str, Any]) -> list[str]:
    embedding, rest = values.get("embedding_dropout", 0.0), values.get("mlp_dropout", 0.0)
    if embedding == rest:
        return []
    return [
        f"dropout is {rest} everywhere when the checkpoint is trained; config.json has {embedding} after the embedding"
    ]


SHAPE = {
    "norm_placement": "pre",
    "position_kind": "rotary",
    "gated": True,
    "bias": False,
    "segments": 0,
    "first_attention_norm": False,
}
"""Sesame fields with the same value in every ModernBERT."""

MODERNBERT = Counterpart(
    model_type="modernbert",
    family="bert",
    base_prefix="model.",
    base_class="ModernBertModel",
    components={
        "backbone": Component(
            (
                ParameterMapping("backbone.token_embedding", "model.embeddings.tok_embeddings"),
                ParameterMapping("backbone.embedding_norm", "model.embeddings.norm"),
                ParameterMapping(f"{BLOCK}.attention_norm", f"{HF_BLOCK}.attn_norm"),
                ParameterMapping(PROJECTIONS, f"{HF_BLOCK}.attn.Wqkv", CONCATENATE),
                ParameterMapping(f"{BLOCK}.attention.output", f"{HF_BLOCK}.attn.Wo"),
                ParameterMapping(f"{BLOCK}.feed_forward_norm", f"{HF_BLOCK}.mlp_norm"),
                ParameterMapping(
                    (f"{BLOCK}.feed_forward.gate", f"{BLOCK}.feed_forward.up"), f"{HF_BLOCK}.mlp.Wi", CONCATENATE
                ),
                ParameterMapping(f"{BLOCK}.feed_forward.down", f"{HF_BLOCK}.mlp.Wo"),
                ParameterMapping("backbone.final_norm", "model.final_norm"),
            )
        ),
        "masked_lm": Component(
            (
                ParameterMapping("objectives.masked_lm.dense", "head.dense"),
                ParameterMapping("objectives.masked_lm.norm", "head.norm"),
                ParameterMapping("objectives.masked_lm.projection.bias", "decoder.bias"),
            ),
            {"masked_lm": 1.0},
        ),
    },
    architectures={frozenset({"masked_lm"}): "ModernBertForMaskedLM", frozenset(): "ModernBertModel"},
    config_mappings=(
        ConfigMapping("layers", "num_hidden_layers"),
        ConfigMapping("width", "hidden_size"),
        ConfigMapping("heads", "num_attention_heads"),
        ConfigMapping("feed_forward_width", "intermediate_size"),
        ConfigMapping("positions", "max_position_embeddings"),
        ConfigMapping("dropout", "mlp_dropout", 0.0),
        ConfigMapping("attention_dropout", "attention_dropout", 0.0),
        ConfigMapping("activation", "hidden_activation", "gelu", ACTIVATIONS),
        ConfigMapping("head_activation", "classifier_activation", "gelu", ACTIVATIONS),
        ConfigMapping("norm_epsilon", "norm_eps", 1e-5),
        ConfigMapping("initial_std", "initializer_range", 0.02),
    ),
    supported_values={
        **{field: (value,) for field, value in SHAPE.items()},
        "local_window": range(1, 2**31),
        "value_embeddings": (0,),
        "inner_norm": (False,),
    },
    fixed_values={
        "norm_bias": (False,),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "classifier_bias": (False,),
        "decoder_bias": (True,),
        "tie_word_embeddings": (True,),
    },
    required_values={"position_embedding_type": ("absolute",)},
    ignored_keys={
        "classifier_pooling": "for fine-tuning heads, whose tensors are refused",
        "deterministic_flash_attn": "selects an implementation of the same function",
        "layer_norm_eps": "key of old files; norm_eps is read",
        "repad_logits_with_grad": "selects an implementation of the same function",
        "sparse_pred_ignore_index": "selects which of the computed values are returned",
        "sparse_prediction": "selects which of the computed values are returned",
    },
    extra_keys={
        "embedding_dropout": FRACTION,
        "global_attn_every_n_layers": POSITIVE_INTEGER,
        "global_rope_theta": POSITIVE_NUMBER,
        "layer_types": optional(STRINGS),
        "local_attention": integer(2),
        "local_rope_theta": POSITIVE_NUMBER,
        "rope_parameters": optional(OBJECT),
    },
    import_notes=_import_notes,
    extra_to_hf=_extra_to_hf,
    extra_from_hf=_extra_from_hf,
    tied_tensors={"model.embeddings.tok_embeddings.weight": ("decoder.weight",)},
)
