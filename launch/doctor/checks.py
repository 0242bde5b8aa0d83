"""The table of checks of ``sesame doctor``, in their order."""

from sesame.launch.doctor import (
    clocks,
    devices,
    folder,
    hosts,
    interconnect,
    layers,
    limits,
    ports,
    shared_memory,
    speed,
    training,
    versions,
)
from sesame.launch.doctor.check import Check

CONNECTION = "connection"
CHECKS = (
    Check("processes", hosts.measure, hosts.judge, "start one process for each GPU on every machine"),
    Check("versions", versions.measure, versions.judge, "install Sesame again: pip install -c constraints.txt -e ."),
    Check(
        "devices", devices.measure, devices.judge, "run nvidia-smi, and python -c 'import torch; torch.zeros(1).cuda()'"
    ),
    Check("limits", limits.measure, limits.judge, "run ulimit -a on this machine"),
    Check("shared memory", shared_memory.measure, shared_memory.judge, "mount a tmpfs at /dev/shm"),
    Check("ports", ports.measure, ports.judge, "look at the network's configuration with ip addr"),
    Check("clocks", clocks.measure, clocks.judge, "run timedatectl on this machine"),
    Check("same files", folder.measure_visibility, folder.judge_visibility, "give --folder on a shared file system"),
    Check(
        "disk",
        folder.measure_speed,
        folder.judge_speed,
        "give --folder a writable folder with 1 GB free",
    ),
    Check("memory copy", speed.measure_memory, speed.judge_memory, "free memory on this machine and its devices"),
    Check("matrix products", speed.measure_products, speed.judge_products, "run python -c 'import torch' there"),
    Check("layers", layers.measure, layers.judge, "run the demo there: sesame demo", seconds=300.0),
    Check(
        CONNECTION,
        interconnect.measure_connection,
        interconnect.judge_connection,
        "name the network's interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, and set NCCL_DEBUG=INFO",
        needs=("processes",),
    ),
    Check(
        "all-reduce",
        interconnect.measure_reduction,
        interconnect.judge_reduction,
        "name the network's interface in GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME, and set NCCL_DEBUG=INFO",
        needs=(CONNECTION,),
    ),
    Check(
        "training",
        training.measure,
        training.judge,
        "correct what is above, then run the demo: sesame demo",
        needs=(CONNECTION,),
        seconds=900.0,
    ),
)
