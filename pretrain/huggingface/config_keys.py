"""The keys of ``config.json`` that are known whatever the model type: no other key is passed over.

A key that is in no table of its model type and not here is refused: it may change what the model computes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from configs.errors import ConversionError
from pretrain.huggingface.conversion import Counterpart
from pretrain.huggingface.strict_json import shown

REASONS: Mapping[str, tuple[str, ...]] = {
    "says what wrote the file, or with which class; the tensors show what is there": (
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "dtype",
        "name_or_path",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
    ),
    "says which of the computed values are returned": (
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "return_dict",
        "tie_last_hidden_states",
        "torchscript",
        "use_cache",
        "use_return_dict",
    ),
    "says how the same values are computed": (
        "_attn_implementation",
        "_attn_implementation_autoset",
        "_attn_implementation_internal",
        "_experts_implementation",
        "_experts_implementation_internal",
        "attn_implementation",
        "chunk_size_feed_forward",
        "experts_implementation",
        "gradient_checkpointing",
        "reference_compile",
        "use_bfloat16",
    ),
    "is of heads for tasks, whose tensors are refused": (
        "_num_labels",
        "classifier_dropout",
        "finetuning_task",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "task_specific_params",
    ),
    "is of generating text": (
        "bad_words_ids",
        "begin_suppress_tokens",
        "diversity_penalty",
        "do_sample",
        "early_stopping",
        "encoder_no_repeat_ngram_size",
        "exponential_decay_length_penalty",
        "forced_bos_token_id",
        "forced_eos_token_id",
        "length_penalty",
        "max_length",
        "min_length",
        "no_repeat_ngram_size",
        "num_beam_groups",
        "num_beams",
        "num_return_sequences",
        "output_scores",
        "prefix",
        "remove_invalid_values",
        "repetition_penalty",
        "return_dict_in_generate",
        "suppress_tokens",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
    ),
    "is said by the tokenizer's files": (
        "bos_token_id",
        "cls_token_id",
        "eos_token_id",
        "mask_token_id",
        "pad_token_id",
        "sep_token_id",
        "unk_token_id",
    ),
    "is of initial values": ("initializer_cutoff_factor", "initializer_factor", "initializer_range"),
}
"""Reason -> keys that cannot change what is computed here."""

INERT: Mapping[str, str] = {key: reason for reason, keys in REASONS.items() for key in keys}

UNWRITTEN: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "per_layer_config": (None,),
    "pruned_heads": ({}, None),
    "rope_scaling": (None,),
    "tie_encoder_decoder": (False,),
}
"""Keys that are known only with these values, which leave the model as its class makes it."""


def resolved(exchange: Counterpart, values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """``values`` under their usual names.

    Raises:
        ConversionError: a key is there under two names with two values.
    """
    usual = {key: value for key, value in values.items() if key not in exchange.aliases}
    for alias, key in exchange.aliases.items():
        if alias in values and usual.setdefault(key, values[alias]) != values[alias]:
            raise ConversionError(
                f"{origin}: '{alias}' is {shown(values[alias])} and '{key}', which is the same, {shown(values[key])}; "
                "remove the wrong one"
            )
    return usual


def check(exchange: Counterpart, values: Mapping[str, Any], origin: str) -> None:
    """
    Raises:
        ConversionError: a key is unknown, or has a value that means a model of another kind.
    """
    known = {*exchange.settings_keys, *exchange.theirs, *exchange.fixed, *exchange.further, *exchange.inert, *INERT}
    only = {**UNWRITTEN, **exchange.unwritten, **exchange.theirs}
    for key, value in values.items():
        if key in only and not any(_equal(value, allowed) for allowed in only[key]):
            raise ConversionError(f"{origin}: '{key}' is {shown(value)}; only {_listed(only[key])} can be imported")
        if key not in known and key not in only and key not in ("model_type", "vocab_size"):
            raise ConversionError(
                f"{origin}: the key {shown(key)} is not known for {exchange.model_type}; remove it if it does not "
                "change what the model computes"
            )
        kind = exchange.further.get(key)
        if kind is not None and not kind.fits(value):
            raise ConversionError(f"{origin}: '{key}' is {shown(value)}; it has to be {kind.what}")


def breaches(exchange: Counterpart, values: Mapping[str, Any]) -> int:
    """TensorConversion many keys of ``config.json`` have values that this model type does not have here."""
    return sum(
        not any(_equal(values[key], value) for value in allowed)
        for key, allowed in exchange.theirs.items()
        if key in values
    )


def _equal(value: Any, allowed: Any) -> bool:
    """True is no 1 here."""
    return type(value) is type(allowed) and value == allowed


def _listed(allowed: Iterable[Any]) -> str:
    return " or ".join(repr(value) for value in allowed)
