"""Calls of torch functions that newer versions have extended use only what the oldest supported version knows.

The tests run on a newer torch than the floor in pyproject.toml, where a call with a newer keyword would pass.
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOOR = "2.11"
KEYWORDS: dict[str, set[str]] = {
    # scale and window_size are new in 2.11; 2.10 raises TypeError.
    "varlen_attn": {"return_aux", "scale", "window_size"},
    "_flash_attention_forward": {
        "is_causal",
        "return_debug_mask",
        "scale",
        "window_size_left",
        "window_size_right",
        "seqused_k",
        "alibi_slopes",
    },
    "_scaled_mm": {"scale_a", "scale_b", "bias", "scale_result", "out_dtype", "use_fast_accum"},
    "sdpa_kernel": {"backends", "set_priority"},
    "scaled_dot_product_attention": {"attn_mask", "dropout_p", "is_causal", "scale", "enable_gqa"},
    "segment_reduce": {"lengths", "indices", "offsets", "axis", "unsafe", "initial"},
    "repeat_interleave": {"dim", "output_size"},
    "checkpoint": {"use_reentrant", "context_fn", "determinism_check", "debug", "preserve_rng_state", "early_stop"},
    "graph": {"pool", "stream", "capture_error_mode"},
    "fork_rng": {"devices", "enabled", "device_type"},
}
"""Function -> its keyword arguments in the version ``FLOOR``."""


def calls(tree: ast.AST) -> list[tuple[str, set[str]]]:
    """Return (name, keywords) of every call, also of those whose arguments are bound with ``partial``."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function: ast.AST = node.func
            if getattr(function, "id", "") == "partial" and node.args:
                function = node.args[0]
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            found.append((name, {keyword.arg for keyword in node.keywords if keyword.arg}))
    return found


def test_the_table_is_that_of_the_floor() -> None:
    declared = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert declared and declared[1] == FLOOR, "look the signatures up in the new oldest version and change the table"


def test_keywords_are_those_of_the_floor() -> None:
    used: set[str] = set()
    for folder in ("pretrain", "evaluation"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name, keywords in calls(ast.parse(path.read_text(encoding="utf-8"))):
                if name in KEYWORDS:
                    used.add(name)
                    newer = keywords - KEYWORDS[name]
                    assert not newer, f"{path}: {name} has no {', '.join(sorted(newer))} in torch {FLOOR}"
    assert used == set(KEYWORDS), "remove what is not called any more"


def test_a_newer_keyword_is_found() -> None:
    (call, *_) = calls(ast.parse("varlen_attn(q, k, v, scale=1, num_splits=2)"))
    assert call[1] - KEYWORDS[call[0]] == {"num_splits"}
    assert calls(ast.parse("partial(torch.cuda.graph, pool=1)")) == [("graph", {"pool"})]
