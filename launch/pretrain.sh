#!/usr/bin/env bash
""":"
# Pretrains a model. This file is valid bash and valid Python, so all of these work, on CPU as on GPU:
#
#     bash launch/pretrain.sh --config configs/pretrain/demo.toml --processes 2
#     deepspeed launch/pretrain.sh --config configs/pretrain/demo.toml
#     torchrun --nproc-per-node 2 launch/pretrain.sh --config configs/pretrain/demo.toml
#
# After --config: --set SECTION.FIELD=VALUE (may be repeated), --output DIR. Without --processes, the bash form starts
# one trainer for each GPU, or one. It ends all of them together and answers signals; see docs/clusters.md.
#
# Several machines without ssh (Slurm, Kubernetes): start the bash form once on each, with these set:
#
#     NNODES=4 NODE_RANK=0 MASTER_ADDR=host-of-node-0 MASTER_PORT=29500 bash launch/pretrain.sh --config ... --processes 8
#
# Under `srun --ntasks-per-node=1` all four come from Slurm. Several machines with ssh: the deepspeed form with its own
# options, as in `deepspeed --hostfile hosts launch/pretrain.sh --config ...`.
set -euo pipefail

script=$(cd "$(dirname "$0")" && pwd)/$(basename "$0")
virtual_environment_python=$(dirname "$script")/../.venv/bin/python
python=${SESAME_PYTHON:-python3}
if [ -z "${SESAME_PYTHON:-}" ] && [ -x "$virtual_environment_python" ]; then python=$virtual_environment_python; fi
exec "$python" "$script" "$@"
":"""

import sys
from pathlib import Path

# The interpreter has put this script's folder first. The package is one level up in a checkout, and two in site-packages.
root = Path(__file__).resolve().parents[1]
sys.path[0] = str(root if (root / "sesame").is_dir() else root.parent)

from sesame.launch.pretraining import main  # noqa: E402

# A loader process imports this file again.
if __name__ == "__main__":
    main()
