"""Matrices that are whole in the one process of a test, as an engine gives them to Muon."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from torch import nn

from sesame.pretrain.parallel.fragments import Fragment, ZeroOptimizer
from sesame.pretrain.parallel.matrix_exchange import MatrixExchange


def matrices_of_one_process(
    parameters: Mapping[str, nn.Parameter], device: torch.device, dtype: torch.dtype
) -> MatrixExchange:
    mesh: Any = SimpleNamespace(
        device=device, tensor=1, world=1, rank=0, data_rank=0, tensor_rank=0, gather_objects=lambda own: [own]
    )
    fragments = {name: Fragment(each, 0, 0, each.numel()) for name, each in parameters.items()}
    return MatrixExchange(parameters, fragments, ZeroOptimizer(None, False, 0), 0, mesh, dtype)
