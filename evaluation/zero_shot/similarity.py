"""Cosine of the mean-pooled states of two sentences, without training (Reimers and Gurevych 2019, section 4.1).

S sequences, D width.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows, scoring_batches
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.heads import mean
from sesame.pretrain.checkpoints.load import load_backbone


@torch.no_grad()
def similarities(
    checkpoint: Path,
    seed: int | None,
    data: TaskData,
    config: FinetuneConfig,
    device: torch.device,
    advance: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """Return for each dev set the cosine of each row's two sequences, for both of them: float32 [S, 1]."""
    backbone = load_backbone(checkpoint, seed=seed).backbone.to(device)
    outputs = {}
    for prefix, dev in data.dev.items():
        batches = scoring_batches(dev)
        states, order = [], []
        for number, rows in enumerate(batches, 1):
            batch = pack_rows(dev, rows).to(device)
            with autocast(config, device):
                states.append(mean(backbone(batch).hidden_TD, batch).cpu())
            order.append(dev.sequences(rows))
            advance(number, len(batches))
        states_SD = torch.empty(len(dev.tokens), states[0].shape[1])
        states_SD[torch.from_numpy(np.concatenate(order))] = torch.cat(states)
        cosines_B = F.cosine_similarity(states_SD[0::2], states_SD[1::2])
        outputs[prefix] = cosines_B.repeat_interleave(2)[:, None].numpy()
    return outputs
