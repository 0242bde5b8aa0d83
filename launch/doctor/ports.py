"""TCP ports: those that a run listens on are free, and the name of each machine leads to the machine."""

import os
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict, by_host
from sesame.launch.doctor.context import Context
from sesame.launch.place import FIRST_PORT, PORTS

TORCHRUN = 29500
"""Port of torchrun and of the DeepSpeed launcher, unless they are given another one."""


def measure(context: Context) -> dict[str, Any]:
    """The ports of this list that something listens on, and the addresses of the host's name."""
    in_use = [port for port in ports(context) if not is_free(port)] if context.local_rank == 0 else []
    return {"checked": ports(context), "in_use": in_use, "addresses": addresses(socket.gethostname())}


def ports(context: Context, variables: Mapping[str, str] = os.environ) -> list[int]:
    """Ports that the first machine needs: those that launchers take by themselves, and this job's own."""
    wanted = {TORCHRUN, *context.instruments.ports}
    if (job := variables.get("SLURM_JOB_ID", "")).isdecimal():
        wanted.add(FIRST_PORT + int(job) % PORTS)
    # The port of these processes themselves.
    return sorted(wanted - {int(variables.get("MASTER_PORT") or 0)})


def is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("", port))
        except OSError:
            return False
    return True


def addresses(host: str) -> list[str]:
    """IP addresses that the name of this host resolves to; empty if it does not."""
    try:
        return sorted({str(info[4][0]) for info in socket.getaddrinfo(host, None)})
    except OSError:
        return []


def judge(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    hosts = by_host(answers)
    for answer in hosts:
        for port in answer.value["in_use"]:
            what = f"port {port} of {answer.host} is in use"
            change = "start torchrun or deepspeed with --master-port, or set MASTER_PORT; Sesame's launcher finds one"
            found.append(Finding(Level.SLOW, what, change))
        found_at = answer.value["addresses"]
        if len(hosts) > 1 and all(address.startswith(("127.", "::1")) for address in found_at):
            where = f"leads to {found_at[0]}" if found_at else "does not resolve"
            what = f"the host name of {answer.host} {where} there: other machines cannot connect to it"
            found.append(
                Finding(Level.SLOW, what, "set GLOO_SOCKET_IFNAME to the network's interface, or mend /etc/hosts")
            )
    checked, name = answers[0].value["checked"], answers[0].host
    where = ", ".join(answers[0].value["addresses"]) or "no address"
    return Verdict(f"{', '.join(map(str, checked))} looked at; {name} is {where}", found)
