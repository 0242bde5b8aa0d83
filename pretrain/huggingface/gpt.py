"""The family gpt as transformers' GPT-2, whose weights are transposed and whose query, key and value are one tensor."""

from collections.abc import Mapping
from typing import Any

from pretrain.huggingface.conversion import (
    ACTIVATIONS,
    FUSED_TRANSPOSED,
    SHARE,
    SIZE,
    TRANSPOSED,
    Counterpart,
    Part,
    Row,
    Setting,
    Source,
    optional,
)

OURS, THEIRS = "backbone.blocks.*", "transformer.h.*"
PROJECTIONS = (f"{OURS}.attention.query", f"{OURS}.attention.key", f"{OURS}.attention.value")


HEADS = "is of heads for tasks, whose tensors are refused"


def _further_there(config: Any) -> dict[str, Any]:
    return {"n_inner": config.feed_forward_width, "embd_pdrop": config.dropout}


def _further_back(source: Source) -> dict[str, Any]:
    inner = source.values.get("n_inner")
    return {"feed_forward_width": 4 * source.values["n_embd"] if inner is None else inner}


def _remarks(values: Mapping[str, Any]) -> list[str]:
    embedding, rest = values.get("embd_pdrop", 0.1), values.get("resid_pdrop", 0.1)
    if embedding == rest:
        return []
    return [f"dropout is {rest} everywhere in further training; there it is {embedding} behind the embedding"]


GPT2 = Counterpart(
    model_type="gpt2",
    family="gpt",
    prefix="transformer.",
    bare="GPT2Model",
    parts={
        "backbone": Part(
            (
                Row("backbone.token_embedding", "transformer.wte"),
                Row("backbone.position_embedding", "transformer.wpe"),
                Row(f"{OURS}.attention_norm", f"{THEIRS}.ln_1"),
                Row(PROJECTIONS, f"{THEIRS}.attn.c_attn", FUSED_TRANSPOSED),
                Row(f"{OURS}.attention.output", f"{THEIRS}.attn.c_proj", TRANSPOSED),
                Row(f"{OURS}.feed_forward_norm", f"{THEIRS}.ln_2"),
                Row(f"{OURS}.feed_forward.up", f"{THEIRS}.mlp.c_fc", TRANSPOSED),
                Row(f"{OURS}.feed_forward.down", f"{THEIRS}.mlp.c_proj", TRANSPOSED),
                Row("backbone.final_norm", "transformer.ln_f"),
            ),
            {"causal_lm": 1.0},
        )
    },
    classes={frozenset(): "GPT2LMHeadModel"},
    settings=(
        Setting("layers", "n_layer"),
        Setting("width", "n_embd"),
        Setting("heads", "n_head"),
        Setting("positions", "n_positions"),
        Setting("dropout", "resid_pdrop", 0.1),
        Setting("attention_dropout", "attn_pdrop", 0.1),
        Setting("activation", "activation_function", "gelu_new", ACTIVATIONS),
        Setting("norm_epsilon", "layer_norm_epsilon", 1e-5),
        Setting("initial_std", "initializer_range", 0.02),
    ),
    ours={"local_window": (0,)},
    theirs={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    },
    inert={
        "n_ctx": "is an old name of n_positions, which is read",
        "reorder_and_upcast_attn": "says in which order the same product is computed",
        "summary_activation": HEADS,
        "summary_first_dropout": HEADS,
        "summary_proj_to_labels": HEADS,
        "summary_type": HEADS,
        "summary_use_proj": HEADS,
    },
    aliases={
        "hidden_size": "n_embd",
        "max_position_embeddings": "n_positions",
        "num_attention_heads": "n_head",
        "num_hidden_layers": "n_layer",
    },
    further={"n_inner": optional(SIZE), "embd_pdrop": SHARE},
    remarks=_remarks,
    further_there=_further_there,
    further_back=_further_back,
    copies={"transformer.wte.weight": ("lm_head.weight", "transformer.lm_head.weight")},
    ignored=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
)
