"""DeepSpeed's accelerator is set before DeepSpeed is imported, whichever module is imported first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[3]
PROGRAM = """
import sys
import sesame.pretrain.parallel.{module}
print(sys.modules["deepspeed"].accelerator.get_accelerator().device_name())
"""


@pytest.mark.parametrize("module", ["mesh", "engine"])
def test_the_accelerator_is_set_without_a_warning(module: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DS_ACCELERATOR"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(module=module)],
        env={**environment, "PYTHONPATH": str(ROOT)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[-1] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert "accelerator" not in done.stdout + done.stderr
