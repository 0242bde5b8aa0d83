"""Compare a training step with one of transformers' BertForMaskedLM of the same shape, on the same batches.

    .venv/bin/python benchmarks/step_against_transformers.py DATASET ...

Both: bf16 if the CPU computes it in hardware, else fp32; AdamW, gradients clipped to norm 1, the better of one thread
and all threads for each. transformers' batches are padded to the longest sequence, with autocast in bf16, as its
documentation recommends; ours are packed. Padding is not counted as tokens. Steps alternate, so that changes of the
machine's speed affect both. ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 limits a CPU to AVX2.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.nn.utils.rnn import pad_sequence

from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.batch import Batch
from sesame.pretrain.data.batches import Batches, DataRank
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import build
from sesame.pretrain.models.bert import BertConfig
from sesame.pretrain.models.family import Vocabulary
from sesame.pretrain.optimizers.config import OptimizerConfig
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.engine import Engine
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.precision import Precision, of_device

SHAPE: dict[str, Any] = {"layers": 4, "width": 256, "heads": 4, "feed_forward_width": 1024, "positions": 128}
SEQUENCES = 32
WARM_UP = 2
"""Steps that are not timed."""


def ours(vocabulary_size: int, mesh: Mesh, precision: Precision) -> Callable[[Batch], object]:
    """Return the training step of ``sesame pretrain``."""
    config = BertConfig(**SHAPE, dropout=0.1, attention_dropout=0.1)
    learner = build(config, {"masked_lm": 1.0}, Vocabulary(vocabulary_size))
    value = random_value(1, config.init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape))
    optimizer = OptimizerConfig(learning_rate=1e-4)
    engine = Engine(learner, optimizer, ParallelConfig(precision=precision.name), mesh, (SEQUENCES, 1))

    def step(batch: Batch) -> object:
        return engine.accumulate(batch), engine.step(1e-4)

    return step


def theirs(vocabulary_size: int, precision: Precision) -> Callable[[dict[str, torch.Tensor]], object]:
    """Return transformers' training step."""
    config = transformers.BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=SHAPE["width"],
        num_hidden_layers=SHAPE["layers"],
        num_attention_heads=SHAPE["heads"],
        intermediate_size=SHAPE["feed_forward_width"],
        max_position_embeddings=SHAPE["positions"],
    )
    model = transformers.BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step(inputs: dict[str, torch.Tensor]) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision.name == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    return step


def padded(batch: Batch) -> dict[str, torch.Tensor]:
    """Return the same sequences, labels and mask in transformers' padded layout."""
    lengths = batch.layout.cu_seqlens_B1.diff().tolist()
    labels = torch.full((batch.tokens,), -100)
    labels[batch["mask_positions"]] = batch["mask_labels"]
    columns = {"input_ids": batch["tokens"], "token_type_ids": batch["segments"], "labels": labels}
    inputs = {
        name: pad_sequence(list(column.split(lengths)), batch_first=True, padding_value=-100 if name == "labels" else 0)
        for name, column in columns.items()
    }
    inputs["attention_mask"] = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return inputs


def compare(path: Path, steps: int, mesh: Mesh) -> None:
    """Time both on the first batches of one dataset and print the rates."""
    dataset = open_dataset(path, verify=False)
    size = dataset.manifest.tokenizer.vocabulary_size
    config = DataConfig(dataset=str(path), global_batch=SEQUENCES, micro_batch=SEQUENCES)
    reads = ("tokens", "positions", "segments", "mask_positions", "mask_labels")
    source = Batches(dataset, config, reads, 1, DataRank(0, 1))
    batches = [next(iter(source.step(number))) for number in range(steps + WARM_UP)]
    pairs = [(batch, padded(batch)) for batch in batches]
    precision = of_device(torch.device("cpu"))
    step_functions = {"ours": ours(size, mesh, precision), "transformers": theirs(size, precision)}
    rates: dict[tuple[str, int], list[float]] = {}
    threads = sorted({1, len(os.sched_getaffinity(0))})
    for number, pair in enumerate(pairs):
        for count in threads:
            torch.set_num_threads(count)
            for (name, step), inputs in zip(step_functions.items(), pair, strict=True):
                begin = time.perf_counter()
                step(inputs)  # type: ignore[arg-type]
                if number >= WARM_UP:
                    rates.setdefault((name, count), []).append(pair[0].tokens / (time.perf_counter() - begin))
    fraction = sum(b.tokens for b in batches) / sum(p["input_ids"].numel() for _, p in pairs)
    print(f"{path}: {fraction:.1%} of the padded positions are real tokens; {precision}")
    for (name, count), values in rates.items():
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"  {name:13} {count} threads: {middle:8,.0f} real tokens/s (from {low:,.0f} to {high:,.0f})")
    best = {name: max(statistics.median(rates[name, count]) for count in threads) for name in step_functions}
    print(f"  ratio of the best medians: {best['ours'] / best['transformers']:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_args()
    mesh = Mesh(ParallelConfig())
    for path in arguments.datasets:
        compare(path, arguments.steps, mesh)
    mesh.close()


if __name__ == "__main__":
    main()
