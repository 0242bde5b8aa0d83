"""The network between the processes: connecting them as a run does, and sums over all of them by size."""

import time
from collections.abc import Sequence
from statistics import median
from typing import Any

from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context

SIZES = {"cpu": (2**12, 2**18, 2**22, 2**26), "cuda": (2**12, 2**18, 2**22, 2**26, 2**28)}
"""Bytes of the tensors that are summed, by device type."""
QUICK_LARGEST = 2**24
TIMES = 5
TIMEOUT_MINUTES = 2.0
"""Of a collective; a network that is slower than this is of no use."""
LEAST_BANDWIDTH = {("cpu", True): 0.2e9, ("cpu", False): 0.1e9, ("cuda", True): 5e9, ("cuda", False): 1e9}
"""Bytes per second, by device type and whether all processes are on one machine."""
CHANGES = {
    True: "look at `nvidia-smi topo -m`, unset NCCL_P2P_DISABLE and NCCL_SHM_DISABLE, and pin processes near their GPU",
    False: "name the fast interface in NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME; NCCL_DEBUG=INFO shows what is used",
}


def measure_connection(context: Context) -> dict[str, Any]:
    """Form the process groups of a run; a collective."""
    import torch.distributed

    from sesame.pretrain.parallel.config import ParallelConfig
    from sesame.pretrain.parallel.mesh import Mesh

    begin = time.perf_counter()
    context.mesh = Mesh(ParallelConfig(timeout_minutes=TIMEOUT_MINUTES, zero_stage=1))
    context.closing.callback(context.mesh.close)
    context.mesh.barrier()
    return {"backend": torch.distributed.get_backend(), "seconds": time.perf_counter() - begin}


def judge_connection(answers: Sequence[Answer]) -> Verdict:
    slowest = max(answer.value["seconds"] for answer in answers)
    processes = "one process" if len(answers) == 1 else f"{len(answers)} processes"
    return Verdict(f"{processes} by {answers[0].value['backend']} in {slowest:.1f} s")


def measure_reduction(context: Context) -> dict[str, Any]:
    """Seconds of an all-reduce by size in bytes: over all processes, and over those of this machine; a collective."""
    if context.world == 1:
        return {"all": {}, "machine": {}}
    device = context.mesh.device
    sizes = [size for size in SIZES[device.type] if not context.quick or size <= QUICK_LARGEST]
    hosts = context.mesh.gather_objects(context.host)
    everywhere = _seconds(sizes, device, None)
    one_machine = len(set(hosts)) == 1
    local = everywhere if one_machine else _local_seconds(sizes, device, hosts, context.host)
    return {"type": device.type, "one_machine": one_machine, "all": everywhere, "machine": local}


def _local_seconds(sizes: Sequence[int], device: Any, hosts: list[str], host: str) -> dict[str, float]:
    import torch.distributed

    # Every process takes part in making every group.
    ranks = {each: [rank for rank, other in enumerate(hosts) if other == each] for each in dict.fromkeys(hosts)}
    groups = {each: torch.distributed.new_group(members) for each, members in ranks.items()}
    return _seconds(sizes, device, groups[host]) if len(ranks[host]) > 1 else {}


def _seconds(sizes: Sequence[int], device: Any, group: Any) -> dict[str, float]:
    import torch

    times: dict[str, float] = {}
    for size in sizes:
        tensor = torch.zeros(size // 4, device=device)
        measured: list[float] = []
        for _ in range(TIMES + 1):
            torch.distributed.barrier(group=group)
            begin = time.perf_counter()
            torch.distributed.all_reduce(tensor, group=group)
            if device.type == "cuda":
                torch.cuda.synchronize()
            measured.append(time.perf_counter() - begin)
        # The first one makes connections.
        times[str(size)] = median(measured[1:])
    return times


def bandwidth(seconds: dict[str, float]) -> float | None:
    """Bytes per second of the largest tensor; None where nothing was measured."""
    if not seconds:
        return None
    largest = max(seconds, key=int)
    return int(largest) / seconds[largest]


def judge_reduction(answers: Sequence[Answer]) -> Verdict:
    first = answers[0].value
    if not first["all"]:
        return Verdict("one process")
    slowest = {size: max(answer.value["all"][size] for answer in answers) for size in first["all"]}
    found: list[Finding] = []
    speed, wanted = bandwidth(slowest), LEAST_BANDWIDTH[first["type"], first["one_machine"]]
    if speed is not None and speed < wanted:
        what = f"sums over {len(answers)} processes move {speed / 1e9:.2f} GB/s; {wanted / 1e9:.1f} GB/s is the least"
        found.append(Finding(Level.SLOW, what, CHANGES[first["one_machine"]]))
    shown = (f"{_size(int(size))} {seconds * 1e3:.2f} ms" for size, seconds in slowest.items())
    return Verdict(f"{', '.join(shown)}: {(speed or 0) / 1e9:.2f} GB/s over {len(answers)} processes", found)


def _size(count: int) -> str:
    return f"{count // 2**20} MB" if count >= 2**20 else f"{count // 2**10} KB"
