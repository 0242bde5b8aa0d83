"""The family bert as transformers' BERT and RoBERTa."""

from typing import Any

import torch
from torch import Tensor

from configs.errors import ConversionError
from pretrain.huggingface.conversion import (
    ACTIVATIONS,
    COUNT,
    Changes,
    Counterpart,
    Part,
    Row,
    Setting,
    Source,
    Special,
)
from pretrain.models.family import ModelConfig

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


def _backbone(name: str) -> Part:
    return Part(
        (
            *(Row(f"backbone.{ours}", f"{name}.embeddings.{theirs}") for ours, theirs in EMBEDDINGS.items()),
            *(Row(f"backbone.blocks.*.{ours}", f"{name}.encoder.layer.*.{theirs}") for ours, theirs in LAYER.items()),
        )
    )


def _masked_lm(dense: str, norm: str, bias: str) -> Part:
    return Part(
        (
            Row("objectives.masked_lm.dense", dense),
            Row("objectives.masked_lm.norm", norm),
            Row("objectives.masked_lm.projection.bias", bias),
        ),
        {"masked_lm": 1.0},
    )


SETTINGS = (
    Setting("layers", "num_hidden_layers"),
    Setting("width", "hidden_size"),
    Setting("heads", "num_attention_heads"),
    Setting("feed_forward_width", "intermediate_size"),
    Setting("dropout", "hidden_dropout_prob", 0.1),
    Setting("attention_dropout", "attention_probs_dropout_prob", 0.1),
    Setting("activation", "hidden_act", "gelu", ACTIVATIONS),
    Setting("norm_epsilon", "layer_norm_eps", 1e-12),
    Setting("initial_std", "initializer_range", 0.02),
    Setting("segments", "type_vocab_size", 2),
    Setting("positions", "max_position_embeddings"),
)
OURS = {
    "norm_placement": ("post",),
    "position_kind": ("learned",),
    "gated": (False,),
    "bias": (True,),
    "local_window": (0,),
    "segments": (1, 2),
}
THEIRS = {
    "position_embedding_type": ("absolute", None),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "tie_word_embeddings": (True,),
}

OLD_KEYS = (
    "directionality",
    "pooler_fc_size",
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
    "pooler_type",
)
INERT: dict[str, str] = dict.fromkeys(OLD_KEYS, "is in old files, and was never read")
HEAD_ACTIVATION = {"head_activation": "activation"}

BERT = Counterpart(
    model_type="bert",
    family="bert",
    prefix="bert.",
    bare="BertModel",
    parts={
        "backbone": _backbone("bert"),
        "masked_lm": _masked_lm(
            "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
        ),
        "pooler": Part((Row("objectives.sentence_pairs.pooler", "bert.pooler.dense"),)),
        "sentence_pairs": Part(
            (Row("objectives.sentence_pairs.classifier", "cls.seq_relationship"),), {"sentence_pairs": 1.0}
        ),
    },
    classes={
        frozenset({"masked_lm", "pooler", "sentence_pairs"}): "BertForPreTraining",
        frozenset({"masked_lm"}): "BertForMaskedLM",
        frozenset({"pooler", "sentence_pairs"}): "BertForNextSentencePrediction",
        frozenset({"pooler"}): "BertModel",
        frozenset(): "BertModel",
    },
    settings=SETTINGS,
    ours={**OURS, "first_position": (0,)},
    same=HEAD_ACTIVATION,
    theirs=THEIRS,
    inert=INERT,
    copies={
        "bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
        "cls.predictions.bias": ("cls.predictions.decoder.bias",),
    },
    ignored=(r"(bert\.)?embeddings\.position_ids",),
)


def _fitted(config: Any, special: Special) -> tuple[ModelConfig, Changes]:
    """Their first token takes the row behind the padding token's id; rows in front of ours are never read."""
    if "pad_token_id" not in special:
        raise ConversionError("the tokenizer has no padding token, from whose id RoBERTa counts its positions")
    first = special["pad_token_id"] + 1
    if first == config.first_position:
        return config, {}

    def moved(table: Tensor) -> Tensor:
        return torch.cat([table.new_zeros(first, table.shape[1]), table[config.first_position :]])

    return config.model_copy(update={"first_position": first}), {"backbone.position_embedding.weight": moved}


def _positions_there(config: Any) -> dict[str, Any]:
    return {"max_position_embeddings": config.positions + config.first_position}


def _positions_back(source: Source) -> dict[str, Any]:
    """Positions count from the padding token's id, and the head's activation is no setting."""
    padding, rows = source.values.get("pad_token_id", 1), source.values["max_position_embeddings"]
    if rows <= padding + 1:
        raise ConversionError(
            f"{source.origin}: 'max_position_embeddings' is {rows}, of which those up to 'pad_token_id' = {padding} "
            "are for no token; correct one of them"
        )
    return {"first_position": padding + 1, "positions": rows - padding - 1, "head_activation": "gelu"}


ROBERTA = Counterpart(
    model_type="roberta",
    family="bert",
    prefix="roberta.",
    bare="RobertaModel",
    parts={
        "backbone": _backbone("roberta"),
        "masked_lm": _masked_lm("lm_head.dense", "lm_head.layer_norm", "lm_head.bias"),
        "pooler": Part((Row("objectives.sentence_pairs.pooler", "roberta.pooler.dense"),)),
    },
    classes={
        frozenset({"masked_lm"}): "RobertaForMaskedLM",
        frozenset({"pooler"}): "RobertaModel",
        frozenset(): "RobertaModel",
    },
    settings=SETTINGS,
    ours={**OURS, "first_position": range(1, 2**31), "head_activation": ("gelu",)},
    theirs=THEIRS,
    further={"pad_token_id": COUNT},
    further_there=_positions_there,
    further_back=_positions_back,
    fitted=_fitted,
    copies={
        "roberta.embeddings.word_embeddings.weight": ("lm_head.decoder.weight",),
        "lm_head.bias": ("lm_head.decoder.bias",),
    },
    ignored=(r"(roberta\.)?embeddings\.position_ids",),
)
