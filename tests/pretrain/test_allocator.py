"""Freed memory is kept for the next step, and settings of the user are respected."""

import os
import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, torch
from sesame.pretrain.allocator import keep_freed_memory
keep_freed_memory(torch.device("cpu"))
# The C library finds places for aligned blocks after some of them.
for _ in range(12):
    torch.ones(16 << 20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    torch.ones(16 << 20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**environment: str) -> int:
    """Return the page faults of 8 tensors of 64 MB, each freed before the next one."""
    environment = {**os.environ, **environment}
    return int(subprocess.run([sys.executable, "-c", FAULTS], env=environment, capture_output=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of the GNU C library")
def test_freed_memory_is_kept() -> None:
    # 64 MB are 16,384 pages of 4 kB; a block that begins elsewhere than the one before is written anew in part.
    returned = faults(MALLOC_TRIM_THRESHOLD_="0", MALLOC_MMAP_THRESHOLD_="65536", THP_MEM_ALLOC_ENABLE="0")
    assert returned > 8 * 10_000 and faults() < returned / 10
