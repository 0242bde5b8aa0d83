"""Every dataset of these tests can be made; a machine without Ray gets them as ``benchmarks/gpu_campaign.py`` says."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sesame.data_pipeline.dataset.shards import open_dataset
from tests.pretrain.conftest import RECIPES


@pytest.mark.parametrize("name", ["pairs", *RECIPES])
def test_a_dataset_has_rows_of_both_splits(name: str, datasets: Callable[[str], Path]) -> None:
    opened = open_dataset(datasets(name), verify=True)
    assert opened.split("train").rows > 16 and opened.split("validation").rows > 0
