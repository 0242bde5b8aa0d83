"""The family switch and transformers' Switch Transformers.

transformers' ``expert_capacity`` is a number of tokens in each sequence, as is model.sequence_capacity. A model whose
capacity is a factor of the micro-batch is exported with a capacity that drops no token.
"""

from collections.abc import Mapping
from dataclasses import replace
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
from sesame.pretrain.huggingface.t5 import (
    ALIASES,
    CONFIG_MAPPINGS,
    EMBEDDING,
    EXTRA_KEYS,
    IGNORED_KEYS,
    SHARED_MAPPINGS,
    TIED_TENSORS,
    feed_forward,
    shared_fields,
)
from sesame.pretrain.huggingface.tensor_conversion import UNSTACK_EXPERTS
from sesame.pretrain.huggingface.value_types import FRACTION, NON_NEGATIVE_INTEGER, POSITIVE_INTEGER, STRING, optional

UNLIMITED_CAPACITY = 1_000_000
"""Tokens of one expert in one sequence: more than a sequence has."""
HF_MODULE = "mlp"
STACKS = {"encoder": ("layers", 1), "decoder": ("decoder_layers", 2)}
STEP_KEYS = {"encoder": "encoder_sparse_step", "decoder": "decoder_sparse_step"}


def _experts() -> tuple[ParameterMapping, ...]:
    mappings = []
    for name, (_, last) in STACKS.items():
        ours, hf = f"backbone.{name}_blocks.*.feed_forward", f"{name}.block.*.layer.{last}.{HF_MODULE}"
        mappings += [
            ParameterMapping(f"{ours}.router", f"{hf}.router.classifier"),
            ParameterMapping(f"{ours}.experts.up", f"{hf}.experts.expert_#.wi.weight", UNSTACK_EXPERTS),
            ParameterMapping(f"{ours}.experts.down", f"{hf}.experts.expert_#.wo.weight", UNSTACK_EXPERTS),
        ]
    return tuple(mappings)


def sparse_layers(layers: int, count: int) -> list[int]:
    """Return the numbers of the layers that transformers makes sparse (``SwitchTransformersStack``)."""
    step = layers // count if count else layers
    return [number for number in range(layers) if step == 1 or (step and number % step == 1)]


def _sparse_to_hf(name: str, layers: int, every: int) -> dict[str, int]:
    count = layers // every
    if sparse_layers(layers, count) != list(range(every - 1, layers, every)):
        raise ConversionError(
            f"model.sparse_every = {every}: with {count} of {layers} {name} layers sparse, transformers "
            "chooses other ones; it supports 1 and 2, and numbers of layers that they divide"
        )
    return {f"num_sparse_{name}_layers": count}


def _extra_to_hf(config: Any) -> dict[str, Any]:
    values = {
        "num_decoder_layers": config.decoder_layers,
        "expert_capacity": config.sequence_capacity or UNLIMITED_CAPACITY,
        "tie_word_embeddings": config.tied,
    }
    for name, (field, _) in STACKS.items():
        values |= _sparse_to_hf(name, getattr(config, field), config.sparse_every)
    return values


def _extra_from_hf(model: HFModel) -> dict[str, Any]:
    fields = {
        **shared_fields(model),
        "sequence_capacity": model.config.get("expert_capacity", 64),
        "tied": model.config.get("tie_word_embeddings", True),
    }
    layers = {"encoder": model.config["num_layers"], "decoder": fields["decoder_layers"]}
    counts = {name: model.config.get(f"num_sparse_{name}_layers", 3) for name in STACKS}
    for name, key in STEP_KEYS.items():
        _check_redundant(
            model, key, layers[name] // (counts[name] or 1), f"{counts[name]} sparse of {layers[name]} layers"
        )
    activation = model.config.get("dense_act_fn", "relu")
    _check_redundant(model, "feed_forward_proj", activation, f"'dense_act_fn' = {activation!r}")
    sparse = {name: sparse_layers(layers[name], counts[name]) for name in STACKS}
    for every in (1, 2):
        if all(sparse[name] == list(range(every - 1, layers[name], every)) for name in STACKS):
            return {**fields, "sparse_every": every}
    raise ConversionError(
        f"{model.origin}: sparse layers are {sparse['encoder']} in the encoder and {sparse['decoder']} in the decoder; "
        "only models where every layer or every second layer is sparse can be imported"
    )


def _check_redundant(model: HFModel, key: str, value: Any, reason: str) -> None:
    """Check a key whose value follows from other keys."""
    if model.config.get(key, value) != value:
        raise ConversionError(
            f"{model.origin}: '{key}' is {abbreviate(model.config[key])}, but {reason} requires {value!r}; remove the "
            "wrong one"
        )


MAPPINGS = (*SHARED_MAPPINGS, *feed_forward(HF_MODULE, {"up": "wi", "down": "wo"}), *_experts())
OBJECTIVES = {"span_corruption": 1.0, "expert_balance": 0.01}


def _import_notes(values: Mapping[str, Any]) -> list[str]:
    noise = values.get("router_jitter_noise", 0.01)
    return [f"router_jitter_noise is {noise} in config.json and 0 when the checkpoint is trained"] if noise else []


def _export_notes(config: Any) -> list[str]:
    if config.sequence_capacity:
        return []
    return [
        f"expert_capacity is {UNLIMITED_CAPACITY}: no token is dropped, because transformers has no capacity "
        "factor of the micro-batch"
    ]


ACTIVATION = ConfigMapping("activation", "dense_act_fn", "relu", ACTIVATIONS)
SWITCH = Counterpart(
    model_type="switch_transformers",
    family="switch",
    base_prefix="",
    components={"backbone": Component(MAPPINGS, OBJECTIVES)},
    architectures={frozenset(): "SwitchTransformersForConditionalGeneration"},
    config_mappings=(*CONFIG_MAPPINGS, ACTIVATION, ConfigMapping("experts", "num_experts")),
    supported_values={"gated": (False,), "tied": (True,)},
    equal_fields={"scaled_output": "tied"},
    fixed_values={
        "is_encoder_decoder": (True,),
        "router_bias": (False,),
        "router_dtype": ("float32",),
        "tie_word_embeddings": (True,),
    },
    required_values={"is_gated_act": (False,), "router_type": ("tokens_masked",)},
    ignored_keys={
        **IGNORED_KEYS,
        "router_aux_loss_coef": "loss weight, part of the run's configuration",
        "router_ignore_padding_tokens": "padding does not exist in packed batches",
        "router_z_loss_coef": "loss weight, part of the run's configuration",
    },
    aliases=ALIASES,
    extra_keys={
        **EXTRA_KEYS,
        "decoder_sparse_step": NON_NEGATIVE_INTEGER,
        "decoder_start_token_id": optional(NON_NEGATIVE_INTEGER),
        "encoder_sparse_step": NON_NEGATIVE_INTEGER,
        "expert_capacity": POSITIVE_INTEGER,
        "feed_forward_proj": STRING,
        "num_sparse_decoder_layers": NON_NEGATIVE_INTEGER,
        "num_sparse_encoder_layers": NON_NEGATIVE_INTEGER,
        "router_jitter_noise": FRACTION,
    },
    import_notes=_import_notes,
    extra_to_hf=_extra_to_hf,
    extra_from_hf=_extra_from_hf,
    tied_tensors={EMBEDDING: TIED_TENSORS},
    constant_keys={"router_jitter_noise": 0.0, "add_router_probs": False},
    export_notes=_export_notes,
)
SWITCH_UNTIED = replace(
    SWITCH,
    components={
        "backbone": Component(
            # If the output is not tied, transformers ties nothing: each stack has its own embedding.
            (
                *MAPPINGS,
                ParameterMapping("backbone.token_embedding", "encoder.embed_tokens"),
                ParameterMapping("backbone.token_embedding", "decoder.embed_tokens"),
            ),
            OBJECTIVES,
        )
    },
    supported_values={"gated": (False,), "tied": (False,)},
    fixed_values={**SWITCH.fixed_values, "tie_word_embeddings": (False,)},
    tied_tensors={},
)
