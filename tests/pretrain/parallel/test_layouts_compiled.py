"""Compiled blocks compute what one process that does not compile computes, with the code that the compiler generates.

Apart from the other layouts, because the compiler takes minutes.
"""

import shutil

import pytest

from tests.pretrain.parallel.layout_cases import COMPILED, COMPILED_VARIANTS, MUON
from tests.pretrain.parallel.layout_comparison import BOUND, MUON_BOUND, Computed, assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.skipif(shutil.which("g++") is None, reason="needs a compiler")]
CASES = COMPILED


@pytest.mark.parametrize("variant", COMPILED_VARIANTS)
def test_compiled_blocks_equal_one_process(variant: str, computed: Computed) -> None:
    reference, case = COMPILED_VARIANTS[variant]
    assert_equal(computed(reference), computed(variant), MUON_BOUND if case.optimizer is MUON else BOUND)
