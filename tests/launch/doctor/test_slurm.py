"""``srun sesame doctor`` on a real Slurm of two nodes."""

import subprocess
import sys
from pathlib import Path

import pytest

from sesame.configs.machine import Machine
from tests.launch.slurm_cluster import slurm, why_not
from tests.launch.test_pretraining import LAUNCHERS

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=why_not() or "")]
ROOT = Path(__file__).parents[3]


def test_every_machine_of_a_job_takes_part(tmp_path: Path) -> None:
    (tmp_path / "daemons").mkdir()
    with slurm(tmp_path / "daemons") as environment:
        keep = {
            key: value for key, value in environment.items() if not key.startswith(LAUNCHERS) or key == "SLURM_CONF"
        }
        keep |= {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        words = ["srun", "--nodes=2", "--ntasks-per-node=1", "--time=10", sys.executable, "-m", "sesame", "doctor"]
        words += ["--quick", "--folder", str(tmp_path / "runs"), "--output", str(tmp_path / "machine.json")]
        done = subprocess.run(words, env=keep, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 on 2 machines: n1, n2" in done.stdout
    assert "all processes see the same files" in done.stdout
    assert len(Machine.load(tmp_path / "machine.json").devices) == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["daemons", "machine.json"]
