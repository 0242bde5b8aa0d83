"""The family bert and transformers' BERT and RoBERTa."""

from typing import Any

import torch
from torch import Tensor

from sesame.configs.errors import ConversionError
from sesame.pretrain.huggingface.counterpart import (
    ACTIVATIONS,
    Component,
    ConfigMapping,
    Counterpart,
    HFModel,
    ParameterChanges,
    ParameterMapping,
    SpecialIds,
)
from sesame.pretrain.huggingface.value_types import NON_NEGATIVE_INTEGER
from sesame.pretrain.models.family import ModelConfig

LAYER = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
EMBEDDINGS = {
    "token_embedding": "word_embeddings",
    "position_embedding": "position_embeddings",
    "segment_embedding": "token_type_embeddings",
    "embedding_norm": "LayerNorm",
}


def _backbone(name: str) -> Component:
    return Component(
        (
            *(ParameterMapping(f"backbone.{ours}", f"{name}.embeddings.{hf}") for ours, hf in EMBEDDINGS.items()),
            *(
                ParameterMapping(f"backbone.blocks.*.{ours}", f"{name}.encoder.layer.*.{hf}")
                for ours, hf in LAYER.items()
            ),
        )
    )


def _masked_lm(dense: str, norm: str, bias: str) -> Component:
    return Component(
        (
            ParameterMapping("objectives.masked_lm.dense", dense),
            ParameterMapping("objectives.masked_lm.norm", norm),
            ParameterMapping("objectives.masked_lm.projection.bias", bias),
        ),
        {"masked_lm": 1.0},
    )


CONFIG_MAPPINGS = (
    ConfigMapping("layers", "num_hidden_layers"),
    ConfigMapping("width", "hidden_size"),
    ConfigMapping("heads", "num_attention_heads"),
    ConfigMapping("feed_forward_width", "intermediate_size"),
    ConfigMapping("dropout", "hidden_dropout_prob", 0.1),
    ConfigMapping("attention_dropout", "attention_probs_dropout_prob", 0.1),
    ConfigMapping("activation", "hidden_act", "gelu", ACTIVATIONS),
    ConfigMapping("norm_epsilon", "layer_norm_eps", 1e-12),
    ConfigMapping("initial_std", "initializer_range", 0.02),
    ConfigMapping("segments", "type_vocab_size", 2),
    ConfigMapping("positions", "max_position_embeddings"),
)
SUPPORTED_VALUES = {
    "norm_placement": ("post",),
    "position_kind": ("learned",),
    "gated": (False,),
    "inner_norm": (False,),
    "bias": (True,),
    "local_window": (0,),
    "value_embeddings": (0,),
    "segments": (1, 2),
}
FIXED_VALUES = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}

UNUSED_KEYS = (
    "directionality",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
)
IGNORED_KEYS: dict[str, str] = dict.fromkeys(UNUSED_KEYS, "unused key of old files")
HEAD_ACTIVATION = {"head_activation": "activation"}

BERT = Counterpart(
    model_type="bert",
    family="bert",
    base_prefix="bert.",
    base_class="BertModel",
    components={
        "backbone": _backbone("bert"),
        "masked_lm": _masked_lm(
            "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
        ),
        "pooler": Component((ParameterMapping("objectives.sentence_pairs.pooler", "bert.pooler.dense"),)),
        "sentence_pairs": Component(
            (ParameterMapping("objectives.sentence_pairs.classifier", "cls.seq_relationship"),), {"sentence_pairs": 1.0}
        ),
    },
    architectures={
        frozenset({"masked_lm", "pooler", "sentence_pairs"}): "BertForPreTraining",
        frozenset({"masked_lm"}): "BertForMaskedLM",
        frozenset({"pooler", "sentence_pairs"}): "BertForNextSentencePrediction",
        frozenset({"pooler"}): "BertModel",
        frozenset(): "BertModel",
    },
    config_mappings=CONFIG_MAPPINGS,
    supported_values={**SUPPORTED_VALUES, "first_position": (0,)},
    equal_fields=HEAD_ACTIVATION,
    fixed_values=FIXED_VALUES,
    ignored_keys=IGNORED_KEYS,
    tied_tensors={
        "bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
        "cls.predictions.bias": ("cls.predictions.decoder.bias",),
    },
    ignored_tensors=(r"(bert\.)?embeddings\.position_ids",),
)


def _adapt(config: Any, special: SpecialIds) -> tuple[ModelConfig, ParameterChanges]:
    """Shift the position table: RoBERTa's first position is the padding token's id + 1; earlier rows are not used."""
    if "pad_token_id" not in special:
        raise ConversionError("the tokenizer has no padding token, which RoBERTa's positions depend on; add one")
    first = special["pad_token_id"] + 1
    if first == config.first_position:
        return config, {}

    def shifted(table: Tensor) -> Tensor:
        return torch.cat([table.new_zeros(first, table.shape[1]), table[config.first_position :]])

    return config.model_copy(update={"first_position": first}), {"backbone.position_embedding.weight": shifted}


def _positions_to_hf(config: Any) -> dict[str, Any]:
    return {"max_position_embeddings": config.positions + config.first_position}


def _positions_from_hf(model: HFModel) -> dict[str, Any]:
    """Return the fields for positions, which start after the padding token's id, and for the head's activation."""
    padding, rows = model.config.get("pad_token_id", 1), model.config["max_position_embeddings"]
    if rows <= padding + 1:
        raise ConversionError(
            f"{model.origin}: 'max_position_embeddings' is {rows}, but must be larger than 'pad_token_id' + 1 = "
            f"{padding + 1}; correct one of them"
        )
    return {"first_position": padding + 1, "positions": rows - padding - 1, "head_activation": "gelu"}


ROBERTA = Counterpart(
    model_type="roberta",
    family="bert",
    base_prefix="roberta.",
    base_class="RobertaModel",
    components={
        "backbone": _backbone("roberta"),
        "masked_lm": _masked_lm("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        "pooler": Component((ParameterMapping("objectives.sentence_pairs.pooler", "roberta.pooler.dense"),)),
    },
    architectures={
        frozenset({"masked_lm"}): "RobertaForMaskedLM",
        frozenset({"pooler"}): "RobertaModel",
        frozenset(): "RobertaModel",
    },
    config_mappings=CONFIG_MAPPINGS,
    supported_values={**SUPPORTED_VALUES, "first_position": range(1, 2**31), "head_activation": ("gelu",)},
    fixed_values=FIXED_VALUES,
    extra_keys={"pad_token_id": NON_NEGATIVE_INTEGER},
    extra_to_hf=_positions_to_hf,
    extra_from_hf=_positions_from_hf,
    adapt=_adapt,
    tied_tensors={
        "roberta.embeddings.word_embeddings.weight": ("lm_head.decoder.weight",),
        "lm_head.bias": ("lm_head.decoder.bias",),
    },
    ignored_tensors=(r"(roberta\.)?embeddings\.position_ids",),
)
