"""Trainers are started together and ended together, whatever ends them or what started them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sesame.launch.processes import CONTINUE, Machine, environment

SUPERVISOR = """
import sys
from sesame.launch.processes import Machine, supervise
sys.exit(supervise([sys.executable, "-c", sys.argv[1]], Machine(processes=int(sys.argv[2]))))
"""
FOLLOWER = """
import sys
from sesame.launch.processes import follow
sys.exit(follow([sys.executable, "-c", sys.argv[1]]))
"""
READY = (
    "import os, signal, sys, time; rank = int(os.environ['RANK']);"
    # With its content from the moment that it is there.
    "open(f'new-{rank}', 'w').write(str(os.getpid())); os.rename(f'new-{rank}', f'ready-{rank}');"
)
SAVES = f"{READY} signal.signal(signal.SIGUSR1, lambda *_: sys.exit({CONTINUE}));" + (
    f"signal.signal(signal.SIGTERM, lambda *_: sys.exit({CONTINUE})); open(f'armed-{{rank}}', 'w'); time.sleep(600)"
)
DEAF = f"{READY} signal.signal(signal.SIGTERM, lambda *_: open(f'heard-{{rank}}', 'w').close());" + (
    "open(f'armed-{rank}', 'w'); time.sleep(600)"
)
"""Does not end when it is asked to."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    return tmp_path


def start(folder: Path, trainer: str, count: int = 2, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    words = [*prefix, sys.executable, "-c", SUPERVISOR, trainer, str(count)]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_single_command_gets_signals(folder: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    words = [sys.executable, "-c", FOLLOWER, SAVES]
    follower = subprocess.Popen(words, cwd=folder, stderr=subprocess.PIPE, text=True)
    wait_for(folder, "armed", 1)
    follower.send_signal(number)
    _, errors = follower.communicate()
    assert follower.returncode == CONTINUE, errors


def test_a_single_command_ends_with_its_parent(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    follower = subprocess.Popen([sys.executable, "-c", FOLLOWER, SAVES], cwd=folder)
    wait_for(folder, "armed", 1)
    follower.kill()
    follower.wait()
    assert all_end(trainers(folder))


def wait_for(folder: Path, name: str, count: int = 2) -> None:
    while len(list(folder.glob(f"{name}-*"))) < count:
        time.sleep(0.05)


def trainers(folder: Path) -> list[int]:
    return [int(path.read_text()) for path in folder.glob("ready-*")]


def all_end(pids: list[int]) -> bool:
    """Wait for processes of others; False if one is alive after a minute."""
    for _ in range(600):
        if not any(is_alive(pid) for pid in pids):
            return True
        time.sleep(0.1)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_trainers_know_their_place() -> None:
    assert environment(Machine(processes=4, machines=3, rank=1, address="host", port=2), 3) == {
        "RANK": "7",
        "WORLD_SIZE": "12",
        "LOCAL_RANK": "3",
        "LOCAL_WORLD_SIZE": "4",
        "MASTER_ADDR": "host",
        "MASTER_PORT": "2",
    }


def test_all_succeed(folder: Path) -> None:
    run = start(folder, f"{READY} os.write(1, f'{{rank}} {{os.environ[\"MASTER_PORT\"]}}'.encode() + bytes([10]))")
    output, errors = run.communicate()
    (first, port), (second, other) = sorted(line.split() for line in output.splitlines())
    assert (run.returncode, first, second, errors) == (0, "0", "1", "")
    assert port == other != "0"


def test_a_failure_ends_the_others_and_its_reason_is_printed_once(folder: Path) -> None:
    trainer = (
        f"{READY} signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "print('a warning', file=sys.stderr) if rank else None;"
        "1 / 0 if rank == 1 else time.sleep(600)"
    )
    run = start(folder, trainer, 3)
    errors = run.communicate()[1]
    assert run.returncode == 1
    assert errors.count("ZeroDivisionError") == errors.count("Traceback") == errors.count("a warning") == 1
    assert all_end(trainers(folder))


def test_the_rank_before_a_traceback_is_known(folder: Path) -> None:
    """torch prints it; the reason is that of the process that failed first, once."""
    trainer = (
        f"{READY} [time.sleep(0.05) for _ in iter(lambda: rank == 1 or os.path.exists('said'), True)];"
        "print(f'[rank{rank}]: Traceback (most recent call last):', file=sys.stderr, flush=True);"
        "open('said', 'w').close(); time.sleep(0 if rank == 0 else 2); sys.exit(1)"
    )
    run = start(folder, trainer)
    errors = run.communicate()[1]
    assert (run.returncode, errors) == (1, "[rank1]: Traceback (most recent call last):\n")


def test_the_reason_is_the_first_one(folder: Path) -> None:
    """The others fail because of it, when its reason has been read, and end before it."""
    trainer = (
        f"{READY} import array, fcntl, termios; first = rank == 1; unread = array.array('i', [1]);"
        "was_read = lambda: fcntl.ioctl(2, termios.FIONREAD, unread) or not unread[0];"
        "[time.sleep(0.05) for _ in iter(lambda: first or os.path.exists('said'), True)];"
        "print(f'sesame: reason {rank}', file=sys.stderr, flush=True);"
        "[time.sleep(0.05) for _ in iter(was_read, True)]; open('said', 'w').close();"
        "time.sleep(600 if first else 0); sys.exit(2)"
    )
    run = start(folder, trainer, 3)
    errors = run.communicate()[1]
    assert (run.returncode, errors) == (2, "sesame: reason 1\n")


def test_a_killed_trainer_is_a_failure(folder: Path) -> None:
    run = start(folder, f"{READY} time.sleep(600)")
    wait_for(folder, "ready")
    os.kill(trainers(folder)[0], signal.SIGKILL)
    run.communicate()
    assert run.returncode == 128 + signal.SIGKILL
    assert all_end(trainers(folder))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_reaches_every_trainer(folder: Path, number: int) -> None:
    run = start(folder, SAVES)
    wait_for(folder, "armed")
    run.send_signal(number)
    run.communicate()
    assert run.returncode == CONTINUE
    assert all_end(trainers(folder))


def test_a_signal_to_one_trainer_stops_all(folder: Path) -> None:
    run = start(folder, SAVES)
    wait_for(folder, "armed")
    os.kill(trainers(folder)[1], signal.SIGUSR1)
    run.communicate()
    assert run.returncode == CONTINUE
    assert all_end(trainers(folder))


def test_the_sentence_of_a_stopped_trainer_is_printed_once(folder: Path) -> None:
    ends = f"(print(f'sesame: stopped {{rank}}', file=sys.stderr), sys.exit({CONTINUE}))"
    trainer = SAVES.replace(f"sys.exit({CONTINUE})", ends)
    run = start(folder, trainer)
    wait_for(folder, "armed")
    run.terminate()
    assert (run.communicate()[1], run.returncode) == ("sesame: stopped 0\n", CONTINUE)


def test_a_signal_before_the_trainers_can_answer_it_loses_nothing(folder: Path) -> None:
    run = start(folder, f"{READY} time.sleep(600)")
    wait_for(folder, "ready")
    run.send_signal(signal.SIGUSR2)
    run.communicate()
    assert run.returncode == CONTINUE


def test_the_others_do_not_wait_for_a_trainer_that_a_signal_has_ended(folder: Path) -> None:
    """The first one notes signals, as training does, and waits for the second, which does not know them yet."""
    notes = "[signal.signal(each, lambda *_: None) for each in (signal.SIGTERM, signal.SIGUSR1)] if rank == 0 else 0;"
    trainer = READY.replace("open(", f"{notes} open(", 1) + "\nwhile True: time.sleep(1)"
    launcher = start(folder, trainer)
    wait_for(folder, "ready")
    os.kill(int((folder / "ready-1").read_text()), signal.SIGUSR1)
    _, errors = launcher.communicate(timeout=60)
    assert launcher.returncode == CONTINUE, errors
    assert all_end(trainers(folder))


def test_the_second_signal_kills(folder: Path) -> None:
    run = start(folder, DEAF)
    wait_for(folder, "armed")
    run.terminate()
    # Two signals that a process has not answered yet are one.
    wait_for(folder, "heard")
    run.terminate()
    run.communicate()
    assert run.returncode == 128 + signal.SIGKILL
    assert all_end(trainers(folder))


def test_a_signal_to_stop_and_then_one_to_end_do_not_kill(folder: Path) -> None:
    """As from Slurm: before the time of a job ends, and when it ends."""
    notes = "".join(
        f"signal.signal(signal.{name}, lambda *_: open(f'{name}-{{rank}}', 'w').close());"
        for name in ("SIGUSR1", "SIGTERM")
    )
    checkpoint = (
        f"[time.sleep(0.05) for _ in iter(lambda: os.path.exists(f'SIGTERM-{{rank}}'), True)]; sys.exit({CONTINUE})"
    )
    run = start(folder, f"{READY} {notes} open(f'armed-{{rank}}', 'w'); {checkpoint}")
    wait_for(folder, "armed")
    run.send_signal(signal.SIGUSR1)
    wait_for(folder, "SIGUSR1")
    run.terminate()
    run.communicate()
    assert run.returncode == CONTINUE
    assert all_end(trainers(folder))


def test_no_trainer_outlives_its_supervisor(folder: Path) -> None:
    run = start(folder, SAVES)
    wait_for(folder, "armed")
    run.kill()
    run.communicate()
    assert run.returncode == -signal.SIGKILL
    assert all_end(trainers(folder))


def test_what_a_trainer_started_ends_with_it(folder: Path) -> None:
    child = "import subprocess; open('ready-9', 'w').write(str(subprocess.Popen(['sleep', '600']).pid));"
    run = start(folder, f"{child} {DEAF}", 1)
    wait_for(folder, "armed", 1)
    run.terminate()
    wait_for(folder, "heard", 1)
    run.terminate()
    run.communicate()
    assert all_end(trainers(folder))


def test_as_the_first_process_of_a_container(folder: Path) -> None:
    unshare = ("unshare", "--pid", "--fork", "--mount-proc")
    try:
        subprocess.run([*unshare, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("processes cannot get a namespace of their own here")
    run = start(folder, SAVES, prefix=(*unshare, "--kill-child"))
    wait_for(folder, "armed")
    children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGTERM)
    run.communicate()
    assert run.returncode == CONTINUE
