"""What containers differ in: an image without torch, and a command that is the first process."""

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sesame.configs.stopping import CONTINUE

ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
WITHOUT_TORCH = """
    import contextlib, io, json, sys

    class Missing:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] in ("torch", "deepspeed", "megatron", "safetensors", "sklearn", "tensorboard"):
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    sys.meta_path.insert(0, Missing())
    from sesame.launch.__main__ import main

    results = []
    for words in json.loads(sys.argv[1]):
        sys.argv = ["sesame", *words]
        with contextlib.redirect_stderr(io.StringIO()) as error, contextlib.redirect_stdout(io.StringIO()):
            try:
                main()
            except SystemExit as end:
                results.append((end.code, error.getvalue()))
    print(json.dumps(results))
"""
HANGING = """
    import time
    from sesame.launch.__main__ import app, main

    @app.command()
    def hang():
        print("hangs", flush=True)
        time.sleep(60)

    main()
"""


def without_torch(commands: list[list[str]], folder: Path) -> list[tuple[int, str]]:
    """Run commands of ``sesame`` where no package for training is installed -> exit code and standard error of each."""
    script = [sys.executable, "-c", textwrap.dedent(WITHOUT_TORCH), json.dumps(commands)]
    done = subprocess.run(script, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_each_command_that_needs_torch_says_so(tmp_path: Path) -> None:
    commands = [
        ["pretrain", "demo"],
        ["evaluate", "probe", "--checkpoint", "run", "--data-dir", "tasks"],
        ["export", "run", "model"],
        ["import", "model", "checkpoint"],
        ["demo", "--output", "demo"],
    ]
    results = without_torch(commands, tmp_path)
    assert len(results) == len(commands)
    for command, (code, message) in zip(commands, results, strict=True):
        assert (code, message.count("\n")) == (2, 1), f"{command}: {message}"
        assert message.startswith("sesame: this command needs torch, which is not installed here"), message
    assert list(tmp_path.iterdir()) == []


def test_a_login_node_without_torch_submits(tmp_path: Path) -> None:
    job = ["submit", "pretrain/demo", "--time", "60", "--dry-run"]
    wrong = [*job, "--set", "data.global_batch=7", "--processes", "2"]
    (code, message), (refused, sentence) = without_torch([job, wrong], tmp_path)
    assert (code or 0, message) == (0, "")
    assert refused == 2
    assert "data.global_batch 7 does not divide" in sentence


def test_a_missing_package_that_is_no_part_of_training_is_a_defect(tmp_path: Path) -> None:
    code = textwrap.dedent(WITHOUT_TORCH).replace('"torch", ', '"rich", ')
    script = [sys.executable, "-c", code, json.dumps([["inspect", "dataset"]])]
    done = subprocess.run(script, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'rich'" in done.stderr


def test_as_the_first_process_every_command_answers_a_signal() -> None:
    """The kernel gives the first process of a container no signal that it has no handler for."""
    unshare = shutil.which("unshare")
    namespace = [str(unshare), "--fork", "--pid", "--kill-child"]
    if unshare is None or subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("needs unshare and the right to make a process namespace")
    script = [*namespace, sys.executable, "-c", textwrap.dedent(HANGING), "hang"]
    process = subprocess.Popen(script, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "hangs\n"
    (first,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    subprocess.run(["kill", "-TERM", first], check=True)
    assert process.wait(timeout=300) == CONTINUE
    assert process.stderr.read() == "sesame: stopped by SIGTERM; run the same command again to resume\n"
