"""The family switch as transformers' Switch Transformers.

There a sequence, and not a micro-batch, fills the places of an expert, and padding takes some of them. What is exported
gets so many places that nothing is left out: that is this model where its own capacity leaves nothing out either.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from configs.errors import ExchangeError
from pretrain.exchange.mapping import EXPERTS, Exchange, Part, Row, Setting
from pretrain.exchange.t5 import SETTINGS, SHARED, decoder_layers, feed_forward

PLACES = 1_000_000
"""Of one expert in one sequence, in what is exported: more than a sequence has tokens."""
INSIDE = "mlp"
STACKS = {"encoder": ("layers", 1), "decoder": ("decoder_layers", 2)}


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
        raise ExchangeError(
            f"model.sparse_every = {every}: transformers makes other ones of {layers} {name} layers sparse when "
            f"{count} are; there 1 and 2 can be said, of as many layers as divide by it"
        )
    return {f"num_sparse_{name}_layers": count}


def _further_there(config: Any) -> dict[str, Any]:
    values = {"num_decoder_layers": config.decoder_layers}
    for name, (field, _) in STACKS.items():
        values |= _sparse(name, getattr(config, field), config.sparse_every)
    return values


def _further_back(values: Mapping[str, Any]) -> dict[str, Any]:
    fields = decoder_layers(values)
    layers = {"encoder": values["num_layers"], "decoder": fields["decoder_layers"]}
    found = {name: sparse_there(layers[name], values.get(f"num_sparse_{name}_layers", 3)) for name in STACKS}
    for every in (1, 2):
        if all(found[name] == list(range(every - 1, layers[name], every)) for name in STACKS):
            return {**fields, "sparse_every": every}
    raise ExchangeError(
        f"config.json: the sparse layers are {found['encoder']} of the encoder and {found['decoder']} of the decoder; "
        "only every layer or every second one of both can be imported"
    )


ROWS = (*SHARED, *feed_forward(INSIDE, {"up": "wi", "down": "wo"}), *_experts())
OBJECTIVES = {"span_corruption": 1.0, "expert_balance": 0.01}
ACTIVATION = Setting(
    "activation", "dense_act_fn", "relu", {"relu": ("relu",), "gelu_tanh": ("gelu_new",), "silu": ("silu",)}
)
SWITCH = Exchange(
    model_type="switch_transformers",
    family="switch",
    prefix="",
    parts={"backbone": Part(ROWS, OBJECTIVES)},
    classes={frozenset(): "SwitchTransformersForConditionalGeneration"},
    settings=(*SETTINGS, ACTIVATION, Setting("experts", "num_experts")),
    ours={"gated": (False,), "tied": (True,)},
    theirs={
        "is_encoder_decoder": (True,),
        "router_bias": (False,),
        "router_dtype": ("float32",),
        "tie_word_embeddings": (True,),
    },
    further_there=_further_there,
    further_back=lambda values: {**_further_back(values), "tied": True},
    copies={"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")},
    fixed={"expert_capacity": PLACES, "router_jitter_noise": 0.0, "add_router_probs": False},
    notes=(
        f"expert_capacity is {PLACES}: transformers counts an expert's places for each sequence, Sesame for each "
        "micro-batch, so there no token is left out",
    ),
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
    further_back=lambda values: {**_further_back(values), "tied": False},
    copies={},
)
