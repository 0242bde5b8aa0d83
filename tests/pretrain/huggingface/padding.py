"""Rows of different lengths as one padded tensor, which transformers reads."""

import numpy as np
import torch

from sesame.data_pipeline.ragged import Ragged


def padded(values: Ragged, padding: int) -> torch.Tensor:
    parts = [torch.from_numpy(part) for part in np.split(values.values, values.offsets[1:-1])]
    return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=padding)
