"""The family bert in its modern form as transformers' ModernBERT: pre-norm, rotary, gated, local, without biases."""

from collections.abc import Mapping
from typing import Any

from configs.errors import ConversionError
from pretrain.huggingface.conversion import (
    ACTIVATIONS,
    FUSED,
    LARGEST,
    RATIO,
    SHARE,
    SIZE,
    TABLE,
    WORDS,
    Counterpart,
    Kind,
    Part,
    Row,
    Setting,
    Source,
    optional,
)
from pretrain.huggingface.strict_json import shown

OURS, THEIRS = "backbone.blocks.*", "model.layers.*"
PROJECTIONS = (f"{OURS}.attention.query", f"{OURS}.attention.key", f"{OURS}.attention.value")
EVERYTHING, NEARBY = "full_attention", "sliding_attention"
BASES = {
    EVERYTHING: ("rotary_base", "global_rope_theta", 160_000.0),
    NEARBY: ("local_rotary_base", "local_rope_theta", 10_000.0),
}
"""By kind of layer: our field, the key of older files, what transformers takes without one."""


def _kinds(layers: int, every: int) -> list[str]:
    return [NEARBY if number % every else EVERYTHING for number in range(layers)]


def _further_there(config: Any) -> dict[str, Any]:
    return {
        "layer_types": _kinds(config.layers, config.global_every),
        "local_attention": 2 * config.local_window,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": getattr(config, field)}
            for kind, (field, _, _) in BASES.items()
        },
        "embedding_dropout": config.dropout,
    }


def _further_back(source: Source) -> dict[str, Any]:
    values = source.values
    layers, every = values["num_hidden_layers"], values.get("global_attn_every_n_layers", 3)
    kinds = values.get("layer_types")
    kinds = _kinds(layers, every) if kinds is None else kinds
    every = next((number for number, kind in enumerate(kinds) if number and kind == EVERYTHING), layers)
    if kinds != _kinds(layers, every):
        raise ConversionError(
            f"{source.origin}: 'layer_types' is no regular change between layers that see all and others"
        )
    fields: dict[str, Any] = {"global_every": every, "local_window": values.get("local_attention", 128) // 2}
    rotary = values.get("rope_parameters") or {}
    if not rotary.keys() <= BASES.keys():
        raise ConversionError(
            f"{source.origin}: 'rope_parameters' are {shown(rotary)}; only those of {EVERYTHING} and {NEARBY} fit"
        )
    for kind, (field, older, usual) in BASES.items():
        fields[field] = _base(source, kind, float(values.get(older, usual)))
    return {**SHAPE, **fields}


def _base(source: Source, kind: str, usual: float) -> float:
    """The base of one kind of layer, whose ``rope_parameters`` may be absent."""
    rotary = (source.values.get("rope_parameters") or {}).get(kind)
    given = {"rope_type": "default", "rope_theta": usual, **(rotary or {})} if isinstance(rotary, dict | None) else {}
    if given.keys() != {"rope_type", "rope_theta"} or given["rope_type"] != "default":
        raise ConversionError(
            f"{source.origin}: 'rope_parameters' of {kind} are {shown(rotary)}; only default ones with a rope_theta fit"
        )
    if not RATIO.fits(given["rope_theta"]):
        raise ConversionError(
            f"{source.origin}: 'rope_theta' of {kind} is {shown(given['rope_theta'])}; it has to be {RATIO.what}"
        )
    return float(given["rope_theta"])


def _remarks(values: Mapping[str, Any]) -> list[str]:
    embedding, rest = values.get("embedding_dropout", 0.0), values.get("mlp_dropout", 0.0)
    if embedding == rest:
        return []
    return [f"dropout is {rest} everywhere in further training; there it is {embedding} behind the embedding"]


SHAPE = {
    "norm_placement": "pre",
    "position_kind": "rotary",
    "gated": True,
    "bias": False,
    "segments": 0,
    "first_attention_norm": False,
}
"""What every ModernBERT is in our fields."""

MODERNBERT = Counterpart(
    model_type="modernbert",
    family="bert",
    prefix="model.",
    bare="ModernBertModel",
    parts={
        "backbone": Part(
            (
                Row("backbone.token_embedding", "model.embeddings.tok_embeddings"),
                Row("backbone.embedding_norm", "model.embeddings.norm"),
                Row(f"{OURS}.attention_norm", f"{THEIRS}.attn_norm"),
                Row(PROJECTIONS, f"{THEIRS}.attn.Wqkv", FUSED),
                Row(f"{OURS}.attention.output", f"{THEIRS}.attn.Wo"),
                Row(f"{OURS}.feed_forward_norm", f"{THEIRS}.mlp_norm"),
                Row((f"{OURS}.feed_forward.gate", f"{OURS}.feed_forward.up"), f"{THEIRS}.mlp.Wi", FUSED),
                Row(f"{OURS}.feed_forward.down", f"{THEIRS}.mlp.Wo"),
                Row("backbone.final_norm", "model.final_norm"),
            )
        ),
        "masked_lm": Part(
            (
                Row("objectives.masked_lm.dense", "head.dense"),
                Row("objectives.masked_lm.norm", "head.norm"),
                Row("objectives.masked_lm.projection.bias", "decoder.bias"),
            ),
            {"masked_lm": 1.0},
        ),
    },
    classes={frozenset({"masked_lm"}): "ModernBertForMaskedLM", frozenset(): "ModernBertModel"},
    settings=(
        Setting("layers", "num_hidden_layers"),
        Setting("width", "hidden_size"),
        Setting("heads", "num_attention_heads"),
        Setting("feed_forward_width", "intermediate_size"),
        Setting("positions", "max_position_embeddings"),
        Setting("dropout", "mlp_dropout", 0.0),
        Setting("attention_dropout", "attention_dropout", 0.0),
        Setting("activation", "hidden_activation", "gelu", ACTIVATIONS),
        Setting("head_activation", "classifier_activation", "gelu", ACTIVATIONS),
        Setting("norm_epsilon", "norm_eps", 1e-5),
        Setting("initial_std", "initializer_range", 0.02),
    ),
    ours={**{field: (value,) for field, value in SHAPE.items()}, "local_window": range(1, 2**31)},
    theirs={
        "norm_bias": (False,),
        "attention_bias": (False,),
        "mlp_bias": (False,),
        "classifier_bias": (False,),
        "decoder_bias": (True,),
        "tie_word_embeddings": (True,),
    },
    unwritten={"position_embedding_type": ("absolute",)},
    inert={
        "classifier_pooling": "is of heads for tasks, whose tensors are refused",
        "deterministic_flash_attn": "says how the same values are computed",
        "layer_norm_eps": "is in old files; norm_eps is what is read",
        "repad_logits_with_grad": "says how the same values are computed",
        "sparse_pred_ignore_index": "says which of the computed values are returned",
        "sparse_prediction": "says which of the computed values are returned",
    },
    further={
        "embedding_dropout": SHARE,
        "global_attn_every_n_layers": SIZE,
        "global_rope_theta": RATIO,
        "layer_types": optional(WORDS),
        "local_attention": Kind(f"a whole number from 2 to {LARGEST}", lambda value: SIZE.fits(value) and value > 1),
        "local_rope_theta": RATIO,
        "rope_parameters": optional(TABLE),
    },
    remarks=_remarks,
    further_there=_further_there,
    further_back=_further_back,
    copies={"model.embeddings.tok_embeddings.weight": ("decoder.weight",)},
)
