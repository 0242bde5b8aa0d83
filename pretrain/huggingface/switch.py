"""The family switch as transformers' Switch Transformers.

There an expert takes the first ``expert_capacity`` tokens of each sequence, here model.sequence_capacity says the same.
A model that counts by a capacity factor over a micro-batch is exported with so many places that nothing is left out:
that is this model where its own capacity leaves nothing out either.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from configs.errors import ConversionError
from pretrain.huggingface.conversion import (
    ACTIVATIONS,
    COUNT,
    EXPERTS,
    SHARE,
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
from pretrain.huggingface.t5 import (
    ALIASES,
    COPIES,
    EMBEDDING,
    FURTHER,
    INERT,
    SETTINGS,
    SHARED,
    feed_forward,
    two_stacks,
)

PLACES = 1_000_000
"""Of one expert in one sequence, in what is exported: more than a sequence has tokens."""
INSIDE = "mlp"
STACKS = {"encoder": ("layers", 1), "decoder": ("decoder_layers", 2)}
STEPS = {"encoder": "encoder_sparse_step", "decoder": "decoder_sparse_step"}


def _experts() -> tuple[Row, ...]:
    rows = []
    for name, (_, last) in STACKS.items():
        ours, theirs = f"backbone.{name}_blocks.*.feed_forward", f"{name}.block.*.layer.{last}.{INSIDE}"
        rows += [
            Row(f"{ours}.router", f"{theirs}.router.classifier"),
            Row(f"{ours}.experts.up", f"{theirs}.experts.expert_#.wi.weight", EXPERTS),
            Row(f"{ours}.experts.down", f"{theirs}.experts.expert_#.wo.weight", EXPERTS),
        ]
    return tuple(rows)


def sparse_there(layers: int, sparse: int) -> list[int]:
    """Numbers of the layers that transformers makes sparse (its ``SwitchTransformersStack``)."""
    step = layers // sparse if sparse else layers
    return [number for number in range(layers) if step == 1 or (step and number % step == 1)]


def _sparse(name: str, layers: int, every: int) -> dict[str, int]:
    count = layers // every
    if sparse_there(layers, count) != list(range(every - 1, layers, every)):
        raise ConversionError(
            f"model.sparse_every = {every}: transformers makes other ones of {layers} {name} layers sparse when "
            f"{count} are; there 1 and 2 can be said, of as many layers as divide by it"
        )
    return {f"num_sparse_{name}_layers": count}


def _further_there(config: Any) -> dict[str, Any]:
    values = {
        "num_decoder_layers": config.decoder_layers,
        "expert_capacity": config.sequence_capacity or PLACES,
        "tie_word_embeddings": config.tied,
    }
    for name, (field, _) in STACKS.items():
        values |= _sparse(name, getattr(config, field), config.sparse_every)
    return values


def _further_back(source: Source) -> dict[str, Any]:
    fields = {
        **two_stacks(source),
        "sequence_capacity": source.values.get("expert_capacity", 64),
        "tied": source.values.get("tie_word_embeddings", True),
    }
    layers = {"encoder": source.values["num_layers"], "decoder": fields["decoder_layers"]}
    counts = {name: source.values.get(f"num_sparse_{name}_layers", 3) for name in STACKS}
    for name, key in STEPS.items():
        _agrees(
            source, key, layers[name] // (counts[name] or 1), f"{counts[name]} sparse ones of {layers[name]} layers"
        )
    activation = source.values.get("dense_act_fn", "relu")
    _agrees(source, "feed_forward_proj", activation, f"'dense_act_fn' = {activation!r}")
    found = {name: sparse_there(layers[name], counts[name]) for name in STACKS}
    for every in (1, 2):
        if all(found[name] == list(range(every - 1, layers[name], every)) for name in STACKS):
            return {**fields, "sparse_every": every}
    raise ConversionError(
        f"{source.origin}: the sparse layers are {found['encoder']} of the encoder and {found['decoder']} of the "
        "decoder; only every layer or every second one of both can be imported"
    )


def _agrees(source: Source, key: str, value: Any, because: str) -> None:
    """A key that says again what another one says."""
    if source.values.get(key, value) != value:
        raise ConversionError(
            f"{source.origin}: '{key}' is {shown(source.values[key])}, but {because} make it {value!r}; remove the "
            "wrong one"
        )


ROWS = (*SHARED, *feed_forward(INSIDE, {"up": "wi", "down": "wo"}), *_experts())
OBJECTIVES = {"span_corruption": 1.0, "expert_balance": 0.01}


def _remarks(values: Mapping[str, Any]) -> list[str]:
    noise = values.get("router_jitter_noise", 0.01)
    return [f"router_jitter_noise is {noise} there and 0 in further training"] if noise else []


def _notes(config: Any) -> list[str]:
    if config.sequence_capacity:
        return []
    return [
        f"expert_capacity is {PLACES}: transformers counts an expert's places for each sequence, the model by capacity "
        "factors for each micro-batch, so there no token is left out"
    ]


ACTIVATION = Setting("activation", "dense_act_fn", "relu", ACTIVATIONS)
SWITCH = Counterpart(
    model_type="switch_transformers",
    family="switch",
    prefix="",
    parts={"backbone": Part(ROWS, OBJECTIVES)},
    classes={frozenset(): "SwitchTransformersForConditionalGeneration"},
    settings=(*SETTINGS, ACTIVATION, Setting("experts", "num_experts")),
    ours={"gated": (False,), "tied": (True,)},
    same={"scaled_output": "tied"},
    theirs={
        "is_encoder_decoder": (True,),
        "router_bias": (False,),
        "router_dtype": ("float32",),
        "tie_word_embeddings": (True,),
    },
    unwritten={"is_gated_act": (False,), "router_type": ("tokens_masked",)},
    inert={
        **INERT,
        "router_aux_loss_coef": "is the weight of a loss, which a run says",
        "router_ignore_padding_tokens": "is not read; there is no padding here",
        "router_z_loss_coef": "is the weight of a loss, which a run says",
    },
    aliases=ALIASES,
    further={
        **FURTHER,
        "decoder_sparse_step": COUNT,
        "decoder_start_token_id": optional(COUNT),
        "encoder_sparse_step": COUNT,
        "expert_capacity": SIZE,
        "feed_forward_proj": WORD,
        "num_sparse_decoder_layers": COUNT,
        "num_sparse_encoder_layers": COUNT,
        "router_jitter_noise": SHARE,
    },
    remarks=_remarks,
    further_there=_further_there,
    further_back=_further_back,
    copies={EMBEDDING: COPIES},
    fixed={"router_jitter_noise": 0.0, "add_router_probs": False},
    notes=_notes,
)
SWITCH_UNTIED = replace(
    SWITCH,
    parts={
        "backbone": Part(
            # Where the output is not tied, transformers ties nothing: both stacks have the embedding for themselves.
            (
                *ROWS,
                Row("backbone.token_embedding", "encoder.embed_tokens"),
                Row("backbone.token_embedding", "decoder.embed_tokens"),
            ),
            OBJECTIVES,
        )
    },
    ours={"gated": (False,), "tied": (False,)},
    theirs={**SWITCH.theirs, "tie_word_embeddings": (False,)},
    copies={},
)
