"""A tiny run of every family, for tests that are parametrized over families: dataset, model, objectives.

Together they have every kind of layer: local and global attention, dense and sparse, encoder and decoder.
"""

from typing import Any, NamedTuple

from sesame.pretrain.huggingface import modernbert

# Large enough that gradients of attention are not mostly rounding errors.
SHAPE: dict[str, Any] = {"width": 32, "heads": 4, "feed_forward_width": 64, "initial_std": 0.05}
NO_DROPOUT: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0}
ENCODER: dict[str, Any] = {**SHAPE, **NO_DROPOUT, "layers": 2, "positions": 64}
TWO_STACKS: dict[str, Any] = {**SHAPE, **NO_DROPOUT, "layers": 2, "decoder_layers": 2, "head_width": 8}
MODERN: dict[str, Any] = {
    "layers": 3,
    "norm_placement": "pre",
    "position_kind": "rotary",
    "segments": 0,
    "local_window": 6,
    "gated": True,
    "bias": False,
}

EXCHANGED_STACK: dict[str, Any] = {"layers": 2, "width": 32, "heads": 4, "feed_forward_width": 64, **NO_DROPOUT}
EXCHANGED: dict[str, Any] = {**EXCHANGED_STACK, "positions": 64}
EXCHANGED_STACKS: dict[str, Any] = {**EXCHANGED_STACK, "decoder_layers": 2, "head_width": 16}
"""Shapes of models that are compared with transformers, of one stack and of two."""
MODERNBERT: dict[str, Any] = {**modernbert.SHAPE, "local_window": 4}


class FamilyRun(NamedTuple):
    dataset: str
    """Row of the table of recipes in ``conftest.py``."""
    objectives: dict[str, float]
    model: dict[str, Any]


PAIRS = {"masked_lm": 1.0, "sentence_pairs": 1.0}
# Switch has small initial weights; larger loss weights make its gradients large enough to be clipped.
BALANCED = {"span_corruption": 4.0, "expert_balance": 0.4}

FAMILY_RUNS: dict[str, FamilyRun] = {
    "bert": FamilyRun("pairs", PAIRS, {"family": "bert", **ENCODER}),
    "bert, modern": FamilyRun("pairs", {"masked_lm": 1.0}, {"family": "bert", **ENCODER, **MODERN}),
    "bert, RoBERTa": FamilyRun(
        "pairs", {"masked_lm": 1.0}, {"family": "bert", **ENCODER, "segments": 1, "first_position": 2}
    ),
    "bert, GPT-BERT": FamilyRun(
        "pairs", {"masked_next": 1.0}, {"family": "bert", **ENCODER, **MODERN, "norm_placement": "both"}
    ),
    "albert": FamilyRun("pairs", PAIRS, {"family": "albert", **ENCODER, "embedding_width": 16}),
    "elmo": FamilyRun(
        "text",
        {"bidirectional_lm": 8.0},
        {"family": "elmo", "width": 32, "cells": 24, "filters": [[1, 8], [3, 16]], "dropout": 0.0},
    ),
    "gpt": FamilyRun("text", {"causal_lm": 1.0}, {"family": "gpt", **ENCODER, "local_window": 6}),
    "t5": FamilyRun("spans", {"span_corruption": 1.0}, {"family": "t5", **TWO_STACKS}),
    "t5, v1.1": FamilyRun(
        "spans",
        {"span_corruption": 1.0},
        {"family": "t5", **TWO_STACKS, "layers": 1, "tied": False, "gated": True, "activation": "gelu_tanh"},
    ),
    "switch": FamilyRun("spans", BALANCED, {"family": "switch", **TWO_STACKS, "experts": 4, "capacity_factor": 1.0}),
}
"""Test id -> run."""
