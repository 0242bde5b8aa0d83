"""The family gpt and transformers' GPT-2, with transposed weights and one tensor for query, key and value."""

from collections.abc import Mapping
from typing import Any

from sesame.pretrain.huggingface.counterpart import (
    ACTIVATIONS,
    Component,
    ConfigMapping,
    Counterpart,
    HFModel,
    ParameterMapping,
)
from sesame.pretrain.huggingface.tensor_conversion import CONCATENATE_TRANSPOSE, TRANSPOSE
from sesame.pretrain.huggingface.value_types import FRACTION, POSITIVE_INTEGER, optional

BLOCK, HF_BLOCK = "backbone.blocks.*", "transformer.h.*"
PROJECTIONS = (f"{BLOCK}.attention.query", f"{BLOCK}.attention.key", f"{BLOCK}.attention.value")


HEADS = "for fine-tuning heads, whose tensors are refused"


def _extra_to_hf(config: Any) -> dict[str, Any]:
    return {"n_inner": config.feed_forward_width, "embd_pdrop": config.dropout}


def _extra_from_hf(model: HFModel) -> dict[str, Any]:
    inner = model.config.get("n_inner")
    return {"feed_forward_width": 4 * model.config["n_embd"] if inner is None else inner}


def _import_notes(values: Mapping[str, Any]) -> list[str]:
    embedding, rest = values.get("embd_pdrop", 0.1), values.get("resid_pdrop", 0.1)
    if embedding == rest:
        return []
    return [
        f"dropout is {rest} everywhere when the checkpoint is trained; config.json has {embedding} after the embedding"
    ]


GPT2 = Counterpart(
    model_type="gpt2",
    family="gpt",
    base_prefix="transformer.",
    base_class="GPT2Model",
    components={
        "backbone": Component(
            (
                ParameterMapping("backbone.token_embedding", "transformer.wte"),
                ParameterMapping("backbone.position_embedding", "transformer.wpe"),
                ParameterMapping(f"{BLOCK}.attention_norm", f"{HF_BLOCK}.ln_1"),
                ParameterMapping(PROJECTIONS, f"{HF_BLOCK}.attn.c_attn", CONCATENATE_TRANSPOSE),
                ParameterMapping(f"{BLOCK}.attention.output", f"{HF_BLOCK}.attn.c_proj", TRANSPOSE),
                ParameterMapping(f"{BLOCK}.feed_forward_norm", f"{HF_BLOCK}.ln_2"),
                ParameterMapping(f"{BLOCK}.feed_forward.up", f"{HF_BLOCK}.mlp.c_fc", TRANSPOSE),
                ParameterMapping(f"{BLOCK}.feed_forward.down", f"{HF_BLOCK}.mlp.c_proj", TRANSPOSE),
                ParameterMapping("backbone.final_norm", "transformer.ln_f"),
            ),
            {"causal_lm": 1.0},
        )
    },
    architectures={frozenset(): "GPT2LMHeadModel"},
    config_mappings=(
        ConfigMapping("layers", "n_layer"),
        ConfigMapping("width", "n_embd"),
        ConfigMapping("heads", "n_head"),
        ConfigMapping("positions", "n_positions"),
        ConfigMapping("dropout", "resid_pdrop", 0.1),
        ConfigMapping("attention_dropout", "attn_pdrop", 0.1),
        ConfigMapping("activation", "activation_function", "gelu_new", ACTIVATIONS),
        ConfigMapping("norm_epsilon", "layer_norm_epsilon", 1e-5),
        ConfigMapping("initial_std", "initializer_range", 0.02),
    ),
    supported_values={"local_window": (0,)},
    fixed_values={
        "scale_attn_weights": (True,),
        "scale_attn_by_inverse_layer_idx": (False,),
        "add_cross_attention": (False,),
        "tie_word_embeddings": (True,),
    },
    ignored_keys={
        "n_ctx": "old name of n_positions, which is read",
        "reorder_and_upcast_attn": "selects an implementation of the same function",
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
    extra_keys={"n_inner": optional(POSITIVE_INTEGER), "embd_pdrop": FRACTION},
    import_notes=_import_notes,
    extra_to_hf=_extra_to_hf,
    extra_from_hf=_extra_from_hf,
    tied_tensors={"transformer.wte.weight": ("lm_head.weight", "transformer.lm_head.weight")},
    ignored_tensors=(r"(transformer\.)?h\.\d+\.attn\.(bias|masked_bias)",),
)
