"""Tokens per second of packed batches on one core, and the time to the first batch at a distant step.

    .venv/bin/python benchmarks/loader.py

Synthetic BERT rows of 128 tokens with 15 % predictions, in several shards, read in the shuffled order of training. With
``--dataset DIR`` the rows are those of a prepared dataset.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from sesame.data_pipeline.dataset.manifest import SplitRecord
from sesame.data_pipeline.dataset.shards import Split, open_dataset, write_shard
from sesame.data_pipeline.ragged import Ragged
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig

LENGTH, PREDICTED = 128, 19
READS = ("tokens", "positions", "segments", "mask_positions", "mask_labels", "pair_labels")


def synthetic(folder: Path, shards: int, rows: int) -> Any:
    """Write ``shards`` shards of ``rows`` rows, and return the parts of a dataset that ``Batches`` uses."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(shards):
        starts = np.arange(rows + 1, dtype=np.int64)
        positions = np.sort(generator.integers(0, LENGTH, (rows, PREDICTED), np.uint16), axis=1)
        columns = {
            "tokens": Ragged(generator.integers(5, 8192, rows * LENGTH, np.uint16), starts * LENGTH),
            "first_segment_length": generator.integers(3, LENGTH, rows, np.uint16),
            "mask_positions": Ragged(positions.ravel(), starts * PREDICTED),
            "mask_labels": Ragged(generator.integers(5, 8192, rows * PREDICTED, np.uint16), starts * PREDICTED),
            "pair_labels": generator.integers(0, 2, rows, np.uint8),
        }
        records.append(write_shard(folder / f"train-{number:05d}.arrow", columns))
    total = shards * rows
    record = SplitRecord(rows=total, tokens=total * LENGTH, predictions=total * PREDICTED, shards=tuple(records))
    split = Split(folder, record, tuple(columns))
    tokenizer = SimpleNamespace(special={"pad": 0}, vocabulary_size=8192)
    return SimpleNamespace(
        path=folder,
        manifest=SimpleNamespace(columns=tuple(columns), recipe={}, tokenizer=tokenizer),
        split=lambda name: split,
    )


def measure(dataset: Any, batch: int, steps: int) -> None:
    """Print the rate of whole steps when all pages are in memory, and the time to the first batch at a distant step."""
    config = DataConfig(dataset="", global_batch=batch)
    start = time.perf_counter()
    source = Batches(dataset, config, READS, 1, DataRank(0, 1))
    list(source.step(123_456_789))
    print(f"first batch after opening, at step 123,456,789: {(time.perf_counter() - start) * 1e3:.1f} ms")
    for number in range(steps):
        list(source.step(number))
    rates = []
    for number in range(steps):
        start = time.perf_counter()
        tokens = sum(each.tokens for each in source.step(number))
        rates.append(tokens / (time.perf_counter() - start))
    low, middle, high = (float(np.quantile(rates, share)) for share in (0.1, 0.5, 0.9))
    print(
        f"batch {batch}: {middle / 1e6:.2f} million tokens/s (10th percentile {low / 1e6:.2f}, 90th {high / 1e6:.2f}; "
        f"{batch * source.train.lengths('tokens').mean() / statistics.median(rates) * 1e3:.3f} ms a step)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", type=Path, help="a prepared dataset instead of synthetic rows")
    parser.add_argument("--batch", type=int, default=256, help="sequences of a step")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--shards", type=int, default=4)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of a shard")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        if options.dataset:
            dataset = open_dataset(options.dataset, verify=False)
        else:
            dataset = synthetic(Path(folder), options.shards, options.rows)
        measure(dataset, options.batch, options.steps)


if __name__ == "__main__":
    main()
