"""Print the kernel launches of a micro-batch of the papers' runs, traced without a device.

    .venv-cuda/bin/python -m tests.pretrain.launch_counts [NAME ...]

How they are counted says ``fake_cuda.py``. Attention's kernels are those that a GPU gets in bf16.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.learner import build
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.parallel.fp8 import use_fp8
from tests.pretrain.fake_cuda import backward, fake_cuda, place, random_batch

FOLDER = Path(configs.__file__).parent / "pretrain"
NO_DROPOUT = ("model.dropout=0.0", "model.attention_dropout=0.0")
EVEN = (512,) * 32
UNEVEN = tuple(sorted(np.random.default_rng(0).integers(128, 512, 48, endpoint=True).tolist()))
SHORT = tuple(sorted(np.random.default_rng(0).integers(8, 64, 32, endpoint=True).tolist()))


class Row(NamedTuple):
    run: str
    """Name of a file in configs/pretrain."""
    lengths: Sequence[int]
    changes: tuple[str, ...] = ()
    fp8: bool = False


ROWS: dict[str, Row] = {
    "BERT-large, 32 x 512": Row("bert_large", EVEN, NO_DROPOUT),
    "BERT-large, 32 x 512, products in fp8": Row("bert_large", EVEN, NO_DROPOUT, fp8=True),
    "BERT-large, 32 x 512, dropout 0.1": Row("bert_large", EVEN),
    "BERT-large, 48 rows of 128 to 512": Row("bert_large", UNEVEN, NO_DROPOUT),
    "BERT-large, 48 rows of 128 to 512, dropout 0.1": Row("bert_large", UNEVEN),
    "ALBERT-xxlarge, 48 rows": Row("albert_xxlarge", UNEVEN),
    "ModernBERT-base, 48 rows": Row("modern_base", UNEVEN),
    "GPT-2 XL, 48 rows": Row("gpt2_xl", UNEVEN),
    "T5-11B, 48 rows, dropout 0.1": Row("t5_11b", UNEVEN),
    "Switch-C, 48 rows, dropout 0.1": Row("switch_c", UNEVEN),
    "ELMo, 32 rows of 8 to 64": Row("elmo", SHORT),
}


def count(row: Row) -> list[Any]:
    """Return launches of the forward and of the backward pass, and what the host waits for."""
    config = configs.load(FOLDER / f"{row.run}.toml", RunConfig, list(row.changes))
    learner = build(config.model, config.objectives, Vocabulary(30_522))
    if row.fp8:
        use_fp8(learner)
    batch = random_batch(learner.reads, row.lengths, 30_522)
    with fake_cuda(raises=False) as launches:
        place(learner, torch.bfloat16)
        total, _ = learner(batch.to(torch.device("cuda")))
        forward = launches.total
        backward(total)
    return [forward, launches.total - forward, dict(launches.waits) or "none"]


def main(names: Sequence[str]) -> None:
    print("| micro-batch | forward | backward | the host waits for |\n|---|---:|---:|---|")
    for name in names or ROWS:
        forward, back, waits = count(ROWS[name])
        print(f"| {name} | {forward:,} | {back:,} | {waits} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
