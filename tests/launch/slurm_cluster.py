"""A Slurm of two nodes on this machine, for as long as the block lasts; see https://slurm.schedmd.com/programmer_guide.html
(multiple slurmd support)."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = ("slurmctld", "slurmd", "munged", "sbatch", "srun", "scontrol")
CONFIGURATION = """
ClusterName=sesame
SlurmctldHost={host}
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=15
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdTimeout=20
KillWait=10
OverTimeLimit=0
JobRequeue=1
MpiDefault=none
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port=[{first}-{last}] CPUs=1 State=UNKNOWN
PartitionName=debug Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def why_not() -> str | None:
    """The reason why no Slurm can be started here, or None."""
    missing = [program for program in PROGRAMS if shutil.which(program) is None]
    if missing:
        return f"Slurm is not installed ({', '.join(missing)}); apt-get install slurm-wlm munge"
    return None if os.geteuid() == 0 else "Slurm's daemons need root"


@contextmanager
def slurm(folder: Path) -> Iterator[dict[str, str]]:
    """Start munge and Slurm in ``folder`` -> the environment variables that its commands need."""
    folder.chmod(0o755)
    for name in ("state", "spool-n1", "spool-n2"):
        (folder / name).mkdir()
    port = 20_000 + os.getpid() % 5_000
    values = {"host": socket.gethostname(), "folder": folder, "port": port, "first": port + 1, "last": port + 2}
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(**values))
    key = folder / "munge.key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o600)
    munge = ["--key-file", str(key), "--socket", f"{folder}/munge.socket", "--pid-file", f"{folder}/munged.pid"]
    munge += ["--log-file", f"{folder}/munged.log", "--seed-file", f"{folder}/munged.seed", "--force", "--foreground"]
    daemons = [subprocess.Popen(["munged", *munge], stderr=subprocess.DEVNULL)]
    environment = {**os.environ, "SLURM_CONF": str(configuration)}
    try:
        time.sleep(1)
        daemons.append(subprocess.Popen(["slurmctld", "-D", "-f", str(configuration)], stderr=subprocess.DEVNULL))
        daemons += [start_node(node, environment) for node in ("n1", "n2")]
        _wait_until_idle(environment)
        yield environment
    finally:
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait()


def start_node(name: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the daemon of one node."""
    return subprocess.Popen(_daemon(name, environment["SLURM_CONF"]), stderr=subprocess.DEVNULL)


def _daemon(name: str, configuration: str) -> list[str]:
    return ["slurmd", "-D", "-N", name, "-f", configuration]


def kill_node(name: str, environment: dict[str, str]) -> None:
    """End a node as a loss of power does: its daemon, and everything that runs below it."""
    killed: list[psutil.Process] = []
    configuration = environment["SLURM_CONF"]
    spool = str(Path(configuration).with_name(f"spool-{name}"))
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline() == _daemon(name, configuration):
                killed.append(process)
            # A step's socket is the only place that names its node.
            elif any(str(each.laddr).startswith(f"{spool}/") for each in _sockets_of_step(process)):
                killed += [process, *process.children(recursive=True)]
    for process in killed:
        with suppress(psutil.Error):
            process.kill()


def _sockets_of_step(process: psutil.Process) -> list[Any]:
    return process.net_connections(kind="unix") if process.cmdline()[:1] == ["slurmstepd:"] else []


def _wait_until_idle(environment: dict[str, str]) -> None:
    for _ in range(120):
        words = ["sinfo", "--noheader", "--format=%T %D"]
        result = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if result.stdout.split() == ["idle", "2"]:
            return
        time.sleep(0.5)
    raise RuntimeError("Slurm does not start: " + result.stdout + result.stderr)
