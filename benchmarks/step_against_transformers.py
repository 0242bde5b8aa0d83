"""Compare a training step with one of transformers' BertForMaskedLM of the same shape, on rows of the same datasets.

    .venv/bin/python benchmarks/step_against_transformers.py DATASET ...

Both: bf16 if the CPU computes it in hardware, else fp32; AdamW, gradients clipped to norm 1. Ours are packed batches in
the order of `sesame pretrain`. Theirs are the step of the Trainer without its own overhead: under autocast in bf16,
with the eager or the fused attention, with batches in random order or of similar lengths (its "group_by_length"); the
best of these counts. Padding is not counted as tokens.

Each side is a process of its own with the memory settings that it has in real use; "+ memory" are transformers' steps
with those of `sesame pretrain`. The sides take turns, step by step, so that changes of the machine's speed affect all.
`--clock processor` counts processor time of one thread, for a machine with other work. ATEN_CPU_CAPABILITY=avx2 and
ONEDNN_MAX_CPU_ISA=AVX2 in the environment limit a CPU to AVX2.
"""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from with_transformers import CLOCKS, bert_config, connected

from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain.allocator import keep_freed_memory
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
from sesame.pretrain.precision import of_device

SHAPE: dict[str, Any] = {"layers": 4, "width": 256, "heads": 4, "feed_forward_width": 1024, "positions": 128}
SEQUENCES = 32
GROUPED_BATCHES = 50
"""Batches whose rows the Trainer sorts together."""
CPU = torch.device("cpu")
Step = tuple[int, Callable[[], object]]
"""Real tokens of a step, and what takes it."""


class Task(NamedTuple):
    """What every side gets."""

    dataset: Path
    threads: int
    steps: int
    warm_up: int
    clock: str
    precision: str


class Side(NamedTuple):
    """A way to train."""

    make: Callable[..., list[Step]]
    arguments: tuple[Any, ...] = ()
    keeps_memory: bool = False
    """Use the memory settings of ``sesame pretrain``, which sets them itself."""


def batches_of(task: Task) -> tuple[Batches, int]:
    dataset = open_dataset(task.dataset, verify=False)
    config = DataConfig(dataset=str(task.dataset), global_batch=SEQUENCES, micro_batch=SEQUENCES)
    reads = ("tokens", "positions", "segments", "mask_positions", "mask_labels")
    return Batches(dataset, config, reads, 1, DataRank(0, 1)), dataset.manifest.tokenizer.vocabulary_size


def ours(task: Task) -> list[Step]:
    """Return training steps of ``sesame pretrain``."""
    source, size = batches_of(task)
    mesh = Mesh(ParallelConfig(threads=task.threads))
    learner = build(BertConfig(**SHAPE, dropout=0.1, attention_dropout=0.1), {"masked_lm": 1.0}, Vocabulary(size))
    value = random_value(1, BertConfig().init_std)
    materialise(learner, lambda name, parameter: value(name, parameter.shape))
    parallel = ParallelConfig(precision=task.precision)  # type: ignore[arg-type]
    engine = Engine(learner, OptimizerConfig(learning_rate=1e-4), parallel, mesh, (SEQUENCES, 1))

    def step(batch: Batch) -> object:
        return engine.accumulate(batch), float(engine.step(1e-4))

    batches = [next(iter(source.step(number))) for number in range(task.warm_up + task.steps)]
    return [(batch.tokens, lambda batch=batch: step(batch)) for batch in batches]


def theirs(task: Task, attention: str, groups: bool) -> list[Step]:
    """Return training steps of transformers.

    Args:
        groups: batches of similar lengths.
    """
    import transformers

    source, size = batches_of(task)
    config = bert_config(size, SHAPE)
    config._attn_implementation = attention
    model = transformers.BertForMaskedLM(config).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def step(inputs: dict[str, torch.Tensor]) -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=task.precision == "bf16"):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    count = task.warm_up + task.steps
    rows = [row for number in range(max(count, GROUPED_BATCHES)) for row in split(next(iter(source.step(number))))]
    chosen = grouped(rows)[:: GROUPED_BATCHES // count] if groups else [rows]
    flat = [row for batch in chosen for row in batch]
    parts = [padded(flat[start : start + SEQUENCES]) for start in range(0, count * SEQUENCES, SEQUENCES)]
    return [(int(inputs["attention_mask"].sum()), lambda inputs=inputs: step(inputs)) for inputs in parts]


def split(batch: Batch) -> list[dict[str, torch.Tensor]]:
    """Return the columns of each sequence of a packed batch, by transformers' names."""
    labels = torch.full((batch.tokens,), -100)
    labels[batch["mask_positions"]] = batch["mask_labels"]
    columns = {"input_ids": batch["tokens"], "token_type_ids": batch["segments"], "labels": labels}
    lengths = batch.layout.cu_seqlens_B1.diff().tolist()
    parts = zip(*(column.split(lengths) for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in parts]


def grouped(rows: list[dict[str, torch.Tensor]]) -> list[list[dict[str, torch.Tensor]]]:
    """Return batches in random order, made of rows that are sorted by length."""
    from transformers.trainer_pt_utils import get_length_grouped_indices

    indices = get_length_grouped_indices([len(row["input_ids"]) for row in rows], SEQUENCES, GROUPED_BATCHES)
    batches = [indices[start : start + SEQUENCES] for start in range(0, len(indices), SEQUENCES)]
    order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(1)).tolist()
    return [[rows[index] for index in batches[number]] for number in order]


def padded(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Return rows in transformers' padded layout."""
    inputs = {
        name: torch.nn.utils.rnn.pad_sequence(
            [row[name] for row in rows], batch_first=True, padding_value=-100 if name == "labels" else 0
        )
        for name in rows[0]
    }
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    inputs["attention_mask"] = (torch.arange(inputs["input_ids"].shape[1]) < lengths[:, None]).long()
    return inputs


def serve(side: Side, task: Task, connection: Any) -> None:
    """In a process of its own: take a step for each number that is received, and send (tokens, seconds)."""
    if side.keeps_memory:
        keep_freed_memory(CPU)
    steps = side.make(task, *side.arguments)
    torch.set_num_threads(task.threads)
    read = CLOCKS[task.clock]
    while (number := connection.recv()) is not None:
        tokens, step = steps[number]
        begin = read()
        step()
        connection.send((tokens, read() - begin))
    # Without the clean-up of process groups.
    os._exit(0)


def compare(task: Task, sides: dict[str, Side]) -> None:
    """Take turns and print the rate of each side."""
    taken: dict[str, list[tuple[int, float]]] = {name: [] for name in sides}
    with connected(serve, [(side, task) for side in sides.values()]) as connections:
        for number in range(task.warm_up + task.steps):
            for connection, values in zip(connections, taken.values(), strict=True):
                connection.send(number)
                values.append(connection.recv())
    rates = {}
    print(f"{task.dataset}: {task.precision}, {task.threads} threads, {task.clock} time")
    for name, values in taken.items():
        each = [tokens / seconds for tokens, seconds in values[task.warm_up :]]
        # Batches differ in size, so the rate is that of a step of median cost per token.
        rates[name] = statistics.median(each)
        print(f"  {name:45} {rates[name]:8,.0f} real tokens/s (from {min(each):,.0f} to {max(each):,.0f})", flush=True)
    own = rates.pop("sesame")
    plain = {name: rate for name, rate in rates.items() if not name.endswith("+ memory")}
    for title, others in (("", plain), (" with our memory settings", rates)):
        best = max(others, key=others.__getitem__)
        print(f"  ratio to the best of theirs{title} ({best}): {own / others[best]:.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", type=Path, nargs="+")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm-up", type=int, default=12, help="steps that are not timed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=of_device(CPU).name)
    parser.add_argument("--attention", nargs="+", default=["eager", "sdpa"])
    arguments = parser.parse_args()
    sides = {"sesame": Side(ours)}
    for attention in arguments.attention:
        for groups in (False, True):
            name = f"transformers, {attention}{', grouped' if groups else ''}"
            sides[name] = Side(theirs, (attention, groups))
            sides[f"{name} + memory"] = Side(theirs, (attention, groups), keeps_memory=True)
    for path in arguments.datasets:
        task = Task(path, arguments.threads, arguments.steps, arguments.warm_up, arguments.clock, arguments.precision)
        compare(task, sides)


if __name__ == "__main__":
    main()
