"""The compiled loops alone: the exponential function, and compilation before the first use."""

import subprocess
import sys

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.pretrain.compiled import precompile
from sesame.pretrain.compiled.dropout import drop
from sesame.pretrain.compiled.formats import exp


@compiled
def exponentials(numbers: np.ndarray, output: np.ndarray) -> None:
    for index in range(len(numbers)):
        output[index] = exp(numbers[index])


def test_the_exponential_function() -> None:
    numbers = np.linspace(-86.9, 87.9, 200_001, dtype=np.float32)
    output = np.empty_like(numbers)
    exponentials(numbers, output)
    exact = np.exp(numbers.astype(np.float64))
    assert np.abs(output / exact - 1).max() < 2e-7
    special = np.array([-np.inf, -88, 0, 89, np.inf, np.nan], np.float32)
    exponentials(special, output[:6])
    np.testing.assert_array_equal(output[:6], [0, 0, 1, np.inf, np.inf, np.nan])


def test_all_types_are_compiled_before_the_first_use() -> None:
    precompile.precompile()
    known = len(drop.signatures)
    numbers, kept = np.zeros(70, np.uint16), np.empty(70, np.uint8)
    drop(numbers, np.zeros(70, np.int16), np.int16(3), np.float32(2), numbers.copy(), kept)
    assert len(drop.signatures) == known


def test_loops_are_compiled_without_torch() -> None:
    code = "import sys, sesame.pretrain.compiled.precompile; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
