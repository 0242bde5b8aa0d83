"""How threads wait, which is said before torch reads it and never against the user."""

import os
import subprocess
import sys

import pytest

from sesame.launch.waiting_threads import SPINS, VARIABLE, sleep_early


@pytest.mark.parametrize("given", [{}, {VARIABLE: "7"}, {"OMP_WAIT_POLICY": "active"}], ids=str)
def test_what_the_user_says_is_kept(given: dict[str, str]) -> None:
    environment = dict(given)
    sleep_early(environment)
    assert environment == (given or {VARIABLE: SPINS})


@pytest.mark.parametrize("entry", ["sesame.launch.__main__", "sesame.launch.pretraining"])
def test_commands_say_it_before_torch_is_imported(entry: str) -> None:
    """OpenMP reads its variables when torch loads it."""
    program = f"""
import os, sys
from importlib import import_module
entry = import_module({entry!r})
def said():
    print("torch" in sys.modules, os.environ[{VARIABLE!r}])
    sys.exit()
entry.app = said
entry.start = lambda *arguments: said()
sys.argv = ["sesame", "--config", "demo"]
entry.main()
"""
    environment = {name: value for name, value in os.environ.items() if name not in (VARIABLE, "OMP_WAIT_POLICY")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=True)
    assert done.stdout.split() == ["False", SPINS]
