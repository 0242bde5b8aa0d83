"""Checks of the keys of ``config.json``.

A key that is neither in the tables of its model type nor here is refused: it might change what the model computes.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sesame.configs.errors import ConversionError
from sesame.configs.strict_json import abbreviate
from sesame.pretrain.huggingface.counterpart import Counterpart

REASONS: Mapping[str, tuple[str, ...]] = {
    "metadata of the file; the components are known from the tensors": (
        "_commit_hash",
        "_name_or_path",
        "architectures",
        "dtype",
        "name_or_path",
        "tokenizer_class",
        "torch_dtype",
        "transformers_version",
    ),
    "selects which of the computed values are returned": (
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "return_dict",
        "tie_last_hidden_states",
        "torchscript",
        "use_cache",
        "use_return_dict",
    ),
    "selects an implementation of the same function": (
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
    "for fine-tuning heads, whose tensors are refused": (
        "_num_labels",
        "classifier_dropout",
        "finetuning_task",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "task_specific_params",
    ),
    "for text generation": (
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
    "read from the tokenizer's files": (
        "bos_token_id",
        "cls_token_id",
        "eos_token_id",
        "mask_token_id",
        "pad_token_id",
        "sep_token_id",
        "unk_token_id",
    ),
    "for initialization": ("initializer_cutoff_factor", "initializer_factor", "initializer_range"),
}
"""Reason -> keys that do not change what Sesame computes."""

IGNORED_KEYS: Mapping[str, str] = {key: reason for reason, keys in REASONS.items() for key in keys}

REQUIRED_VALUES: Mapping[str, tuple[Any, ...]] = {
    "add_cross_attention": (False,),
    "cross_attention_hidden_size": (None,),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "per_layer_config": (None,),
    "pruned_heads": ({}, None),
    "rope_scaling": (None,),
    "tie_encoder_decoder": (False,),
}
"""Key -> values that can be imported: those that do not change the model of its class."""


def resolve_aliases(counterpart: Counterpart, values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return ``values`` with aliases replaced by the usual keys.

    Raises:
        ConversionError: a key and its alias have different values.
    """
    resolved = {key: value for key, value in values.items() if key not in counterpart.aliases}
    for alias, key in counterpart.aliases.items():
        if alias in values and resolved.setdefault(key, values[alias]) != values[alias]:
            raise ConversionError(
                f"{origin}: '{alias}' is {abbreviate(values[alias])}, but '{key}', another name of it, is "
                f"{abbreviate(values[key])}; remove the wrong one"
            )
    return resolved


def check_keys(counterpart: Counterpart, values: Mapping[str, Any], origin: str) -> None:
    """Check all keys of ``config.json`` and the values that no configuration mapping reads.

    Raises:
        ConversionError: a key is unknown, or its value is not supported.
    """
    known = {"model_type", "vocab_size", *counterpart.mapped_keys, *counterpart.constant_keys, *counterpart.extra_keys}
    known |= {*counterpart.ignored_keys, *IGNORED_KEYS}
    required = {**REQUIRED_VALUES, **counterpart.required_values, **counterpart.fixed_values}
    for key, value in values.items():
        if key in required and not any(_equal(value, allowed) for allowed in required[key]):
            raise ConversionError(
                f"{origin}: '{key}' is {abbreviate(value)}; only {_listed(required[key])} can be imported"
            )
        if key not in known and key not in required:
            raise ConversionError(
                f"{origin}: the key {abbreviate(key)} is unknown for {counterpart.model_type}; remove it if it does "
                "not change what the model computes"
            )
        value_type = counterpart.extra_keys.get(key)
        if value_type is not None and not value_type.accepts(value):
            raise ConversionError(f"{origin}: '{key}' is {abbreviate(value)}; it must be {value_type.description}")


def unsupported_keys(counterpart: Counterpart, values: Mapping[str, Any]) -> int:
    """Count the keys of ``config.json`` whose values contradict the fixed values of ``counterpart``."""
    return sum(
        not any(_equal(values[key], value) for value in allowed)
        for key, allowed in counterpart.fixed_values.items()
        if key in values
    )


def _equal(value: Any, allowed: Any) -> bool:
    """Compare without taking True for 1."""
    return type(value) is type(allowed) and value == allowed


def _listed(allowed: Iterable[Any]) -> str:
    return " or ".join(repr(value) for value in allowed)
