"""Observed shares against what a recipe asks for."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.verification.recipe_checks import pair_findings


def findings(kind: str, share: float, rows: int = 100_000) -> list[str]:
    """Of a dataset in which this share of the pairs has label 1."""
    manifest = SimpleNamespace(recipe={"segment": {"kind": kind}})
    counted = SimpleNamespace(rows=rows, ones=round(share * rows))
    check = SimpleNamespace(counted=counted, coverage=SimpleNamespace(identities=np.arange(9)))
    dataset: Any = SimpleNamespace(path="dataset", manifest=manifest)
    checks: Any = {"train": check}
    return pair_findings(dataset, checks)


@pytest.mark.parametrize(
    ("kind", "share"), [("next_sentence", 0.4736), ("next_sentence", 0.62), ("sentence_order", 0.501)]
)
def test_a_sound_share_of_pairs(kind: str, share: float) -> None:
    assert findings(kind, share) == [
        f"pairs: {share:.2%} have label 1"
        + (", each from another document, as its label says" if "next" in kind else "")
    ]


@pytest.mark.parametrize(
    ("kind", "share"),
    [("next_sentence", 0.38), ("next_sentence", 0.95), ("sentence_order", 0.48), ("sentence_order", 0.52)],
)
def test_a_wrong_share_of_pairs(kind: str, share: float) -> None:
    with pytest.raises(DatasetError, match="have label 1, not about half"):
        findings(kind, share)
