"""A run that a signal stops has a complete checkpoint and continues as if nothing had been."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.stopping import CONTINUE, Stopped, StopRequest
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.stop import StepAgreement
from sesame.pretrain.train import Run, train

Settings = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[2]


def losses(output: Path) -> dict[int, dict[str, float]]:
    path = output / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return {row["step"]: row["train"] for row in rows if "train" in row}


def test_it_stops_after_the_step_that_the_signal_meets(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = settings(steps=6, report={"every_steps": 1})
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(configs.parse(values | {"output": str(whole)}, RunConfig, "run.toml"))
    request, take_step = StopRequest(), Run.train_step

    def step(self: Run):
        if self.step == 2:
            request.note(signal.SIGUSR1)
        return take_step(self)

    config = configs.parse(values | {"output": str(parts)}, RunConfig, "run.toml")
    with monkeypatch.context() as patch:
        patch.setattr(Run, "train_step", step)
        with pytest.raises(Stopped, match="stopped by SIGUSR1 after step 4"):
            train(config, request=request)
    folder = latest(parts)
    assert folder is not None
    assert open_checkpoint(folder).record.step == 4
    train(config)
    assert losses(parts) == losses(whole)


def test_a_stopped_run_reports_its_last_steps_and_keeps_older_checkpoints(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No gradient or validation has shown yet that the last checkpoint is usable."""
    request, take_step = StopRequest(), Run.train_step

    def step(self: Run):
        if self.step == 4:
            request.note(signal.SIGTERM)
        return take_step(self)

    values = settings(steps=20, report={"every_steps": 10}, checkpoint={"save_every_steps": 2, "keep": 1})
    config = configs.parse(values, RunConfig, "run.toml")
    monkeypatch.setattr(Run, "train_step", step)
    with pytest.raises(Stopped, match="after step 6"):
        train(config, request=request)
    assert max(losses(config.output)) == 6
    assert sorted(path.name for path in (config.output / "checkpoints").iterdir()) == ["step-00000004", "step-00000006"]


def test_a_run_that_saves_by_minutes_reports_what_it_has_summed(settings: Settings) -> None:
    seconds = iter(range(0, 100_000, 45))
    values = settings(
        steps=4, report={"every_steps": 10}, checkpoint={"save_every_steps": 100, "save_every_minutes": 1}
    )
    config = configs.parse(values, RunConfig, "run.toml")
    train(config, clock=lambda: float(next(seconds)))
    saved = sorted(int(path.name.removeprefix("step-")) for path in (config.output / "checkpoints").iterdir())
    assert len(saved) > 1
    assert set(saved) <= losses(config.output).keys()


def test_a_signal_before_the_first_step_saves_nothing(settings: Settings) -> None:
    request = StopRequest()
    request.note(signal.SIGTERM)
    config = configs.parse(settings(steps=6), RunConfig, "run.toml")
    with pytest.raises(Stopped, match="before the first step"):
        train(config, request=request)
    assert latest(config.output) is None


def test_a_finished_run_is_not_stopped(settings: Settings) -> None:
    config = configs.parse(settings(steps=2), RunConfig, "run.toml")
    finished = train(config)
    request = StopRequest()
    request.note(signal.SIGTERM)
    assert train(config, request=request) == finished


def test_it_saves_after_minutes() -> None:
    seconds = 0.0
    agreement = StepAgreement(StopRequest(), 1.5, lambda values: lambda: list(values), clock=lambda: seconds)
    answers = []
    for _ in range(5):
        seconds += 30
        agreement.ask()
        answers.append(agreement.answer()[1])
        if answers[-1]:
            agreement.saved()
    assert answers == [False, False, True, False, False]


def start(run: Path, *words: str) -> subprocess.Popen[str]:
    drop = ("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(drop)}
    command = [sys.executable, "-m", "sesame", "pretrain", str(run), *words]
    return subprocess.Popen(
        command,
        env={**environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def members(session: int) -> list[int]:
    """Processes that were started by the first one of a session, which have sessions of their own."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except OSError:
            continue
        if rest.split()[0] != "Z" and int(rest.split()[1]) == session:
            found.append(int(name.split()[0]))
    return found


SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGKILL)


@pytest.mark.slow
def test_signals_at_random_moments_end_as_an_undisturbed_run(settings: Settings, tmp_path: Path) -> None:
    """To the launcher or to one of its two trainers, in every phase; ``SESAME_SIGNALS`` sets their number."""
    draw = random.Random(int(os.environ.get("SESAME_SEED", "1")))
    values = settings(steps=60, report={"every_steps": 1}, checkpoint={"save_every_steps": 10, "keep": 2})
    run = tmp_path / "run.toml"
    run.write_text("\n".join(_toml(values)))
    began = time.monotonic()
    undisturbed = start(run, "--output", str(tmp_path / "whole"), "--processes", "2")
    _, errors = undisturbed.communicate()
    assert undisturbed.returncode == 0, errors
    seconds = time.monotonic() - began

    sent: Counter[tuple[str, int]] = Counter()
    output = tmp_path / "0"
    while sum(sent.values()) < int(os.environ.get("SESAME_SIGNALS", "12")):
        number = draw.choice(SIGNALS)
        code, is_met = interrupted(run, output, number, draw.uniform(0.5, seconds), draw)
        if is_met:
            sent[number.name, code] += 1
        else:
            # The machine has become faster.
            seconds *= 0.9
        print(dict(sent), f"step {_step(output)} of {output.name}", flush=True)
        if code == 0:
            assert losses(output) == losses(tmp_path / "whole")
            output = tmp_path / str(int(output.name) + 1)
    assert any(code == CONTINUE for _, code in sent)


def interrupted(run: Path, output: Path, number: signal.Signals, delay: float, draw: random.Random) -> tuple[int, bool]:
    """Send one process of a run a signal, and check what is left.

    Args:
        delay: seconds between the start of the run and the signal.

    Returns:
        The exit code of the launcher, and whether it ran when the signal was sent.
    """
    before = _step(output)
    process = start(run, "--output", str(output), "--processes", "2")
    time.sleep(delay)
    trainers = members(process.pid)
    is_sent = process.poll() is None
    with suppress(ProcessLookupError):
        os.kill(draw.choice([process.pid, *trainers]), number)
    _, errors = process.communicate()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{pid}").exists() for pid in trainers):
        assert time.monotonic() < until, "a trainer lives on"
        time.sleep(0.1)
    assert _step(output) >= before
    if number != signal.SIGKILL:
        assert process.returncode in (0, CONTINUE), errors
        # Every step that was reported is in the checkpoint.
        assert _step(output) == max([before, *losses(output)])
    elif is_sent and process.returncode == 0:
        assert _step(output) == 60, "the signal met a run that had finished"
    return process.returncode, is_sent


def _step(output: Path) -> int:
    folder = latest(output) if output.exists() else None
    return open_checkpoint(folder).record.step if folder else 0


def _toml(values: dict[str, Any], prefix: str = "") -> list[str]:
    lines = [f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, dict)]
    for name, value in values.items():
        if isinstance(value, dict):
            lines += [f"[{prefix}{name}]", *_toml(value, f"{prefix}{name}.")]
    return lines
