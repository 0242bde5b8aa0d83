"""The line that a run prints when it starts."""

from collections.abc import Mapping, Sequence

import torch

from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.precision import Precision


def start_message(
    config: RunConfig, mesh: Mesh, shapes: Mapping[str, Sequence[int]], precision: Precision, rows: int, budget: str
) -> str:
    """Return model, layout, precision, number of training ``rows`` and ``budget`` in one sentence."""
    parameters = sum(torch.Size(shape).numel() for shape in shapes.values())
    experts = f", experts over {mesh.expert}" if mesh.expert > 1 else ""
    return (
        f"{config.model.family} with {parameters:,} parameters on {mesh.world} x {mesh.device.type} "
        f"(tensor {mesh.tensor} x data {mesh.data}{experts}, ZeRO {config.parallel.zero_stage}) in "
        f"{precision}; {rows:,} training rows; {budget}"
    )
