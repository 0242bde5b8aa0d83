#!/usr/bin/env bash
""":"
# Pretrain a model, on CPUs or GPUs. This file is valid bash and valid Python, so that both of these work:
#
#     deepspeed launch/pretrain.sh --config configs/pretrain/demo.toml
#     bash launch/pretrain.sh --config configs/pretrain/demo.toml --processes 2
#
# After --config: --set SECTION.FIELD=VALUE (may be repeated), --output DIR. Without --processes, DeepSpeed starts one
# process per GPU or, without a GPU, one per NUMA node of the CPU.
#
# Several machines without ssh (Slurm, Kubernetes): run the bash form once on each, with --processes and these variables:
#
#     NNODES=4 NODE_RANK=0 MASTER_ADDR=host-of-node-0 MASTER_PORT=29500 bash launch/pretrain.sh --config ... --processes 8
#
# Under `srun --ntasks-per-node=1` Slurm sets NNODES and NODE_RANK. Several machines with ssh: the deepspeed form
# with its own options, as in `deepspeed --hostfile hosts launch/pretrain.sh --config ...`.
set -euo pipefail

script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
virtual_environment_python=$(dirname "$script")/../.venv/bin/python
python=${SESAME_PYTHON:-python3}
if [ -z "${SESAME_PYTHON:-}" ] && [ -x "$virtual_environment_python" ]; then python=$virtual_environment_python; fi

processes=
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
        --processes) processes=${2:?--processes needs a number}; shift 2 ;;
        --processes=*) processes=${1#*=}; shift ;;
        *) arguments+=("$1"); shift ;;
    esac
done

nodes=${NNODES:-${SLURM_NNODES:-1}}
launcher=(--quiet)
if [ "$nodes" -gt 1 ]; then
    node_rank=${NODE_RANK:-${SLURM_NODEID:-}}
    if [ -z "$processes" ] || [ -z "${MASTER_ADDR:-}" ] || [ -z "$node_rank" ]; then
        echo "launch/pretrain.sh: $nodes machines need --processes (the number on each machine), MASTER_ADDR and NODE_RANK" >&2
        exit 2
    fi
    hosts=$(mktemp)
    for ((node = 0; node < nodes; node++)); do echo "node-$node slots=$processes"; done > "$hosts"
    # Deleted while open, so that no file is left however the run ends.
    exec 3< "$hosts"
    rm "$hosts"
    launcher+=(--no_ssh --hostfile /dev/fd/3 --node_rank "$node_rank")
    launcher+=(--master_addr "$MASTER_ADDR" --master_port "${MASTER_PORT:-29500}")
else
    # A random port, so that two runs can share one machine.
    launcher+=(--master_port "${MASTER_PORT:-$((20000 + RANDOM % 10000))}")
    if [ -n "$processes" ]; then launcher+=(--num_accelerators "$processes"); fi
fi

exec "$python" -m deepspeed.launcher.runner "${launcher[@]}" "$script" "${arguments[@]}"
":"""

import sys
from pathlib import Path

# The interpreter puts this script's folder first; the packages are one level up, installed or not.
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from launch.pretraining import main  # noqa: E402

main()
