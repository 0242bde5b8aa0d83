"""Compare fine-tuning steps with those of transformers, by its padding policies: the same model, rows and settings.

    .venv/bin/python benchmarks/finetuning_against_transformers.py MODEL GLUE_DIR [TASK ...]

MODEL is a folder of transformers with a BERT, such as all-MiniLM-L6-v2, which Sesame imports. Both: batches of 32 rows
of at most 128 tokens, AdamW, gradients clipped to norm 1, dropout 0.1, bf16 by autocast if the CPU computes it in
hardware, else fp32. Ours are the steps of `sesame evaluate`. Theirs are those of the Trainer without its own overhead:

    to 128           every row is padded to 128 tokens: the default of transformers' run_glue.py
    longest          rows in random order, padded to the longest one of the batch (--pad_to_max_length False)
    longest, grouped rows of similar lengths, padded in the same way (with group_by_length too)

Each side is a process of its own with the memory settings that it has in real use; `--our-memory` adds transformers
with those of `sesame evaluate`. The sides take turns, step by step. Of each side the same few batches are timed in
every round, evenly chosen from an epoch's batches in order of size; a figure is the mean over them of the median over
rounds. After the first round no batch has a new size, for which oneDNN generates code: that favours transformers. A
computed token is a position that a model computes, padding included.
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from with_transformers import CLOCKS, connected, padded

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows, shuffled_batches
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.task_model import TaskModel
from sesame.evaluation.finetuning.trainer import LocalTrainer
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.precision import of_device

CPU = torch.device("cpu")
PADDED = 128
"""Tokens of a row at most, and of every row under the first policy."""
Step = tuple[int, Callable[[], object]]
"""Computed tokens of a step, and what takes it."""
Batches = Sequence[np.ndarray]
"""Row numbers of each batch."""


class Comparison(NamedTuple):
    """What every side gets."""

    model: Path
    """Of transformers."""
    checkpoint: Path
    """The same, imported."""
    glue: Path
    tasks: tuple[str, ...]
    batches: int
    threads: int
    clock: str
    config: FinetuneConfig

    def data(self, task: str) -> TaskData:
        tokenizer = Tokenizer.load(self.checkpoint / "tokenizer.model")
        return load_task(TASKS[task], self.config, self.glue, tokenizer, False)


class Side(NamedTuple):
    """A way to fine-tune."""

    title: str
    make: Callable[..., list[Step]]
    arguments: tuple[Any, ...] = ()
    keeps_memory: bool = True
    """Use the memory settings of ``sesame evaluate``."""


def spread(batches: Batches, sizes: Sequence[int], count: int) -> list[np.ndarray]:
    """Return ``count`` batches, evenly chosen in order of size, in random order."""
    order = np.argsort(sizes, kind="stable")
    chosen = order[((np.arange(count) + 0.5) * len(order) / count).astype(int)]
    return [batches[number] for number in np.random.default_rng(2).permutation(chosen)]


def ours(comparison: Comparison, task: str) -> list[Step]:
    """Return training steps of ``sesame evaluate``."""
    data, config = comparison.data(task), comparison.config
    assert data.train is not None
    train = data.train
    model = TaskModel(load_backbone(comparison.checkpoint).backbone, data.task, config)
    trainer = LocalTrainer(model, data, config, CPU)
    batches = shuffled_batches(train.lengths, config.batch_size, np.random.default_rng(1))
    chosen = spread(batches, [int(train.lengths[rows].sum()) for rows in batches], comparison.batches)

    running = ExitStack()
    running.enter_context(trainer.running())

    def step(rows: np.ndarray) -> object:
        assert running, "entered as long as there are steps"
        return trainer.step(rows, 0, 1.0)[0].item()

    return [(len(trainer.sized(pack_rows(train, rows))["tokens"]), lambda rows=rows: step(rows)) for rows in chosen]


def theirs(comparison: Comparison, task: str, policy: str) -> list[Step]:
    """Return training steps of transformers under a padding policy."""
    import transformers

    # The head is not in the file.
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    data, config = comparison.data(task), comparison.config
    assert data.train is not None
    train = data.train
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        comparison.model, num_labels=data.task.outputs
    )
    model = model.float().train()
    optimizer = torch.optim.AdamW(
        model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True
    )

    def step(inputs: dict[str, torch.Tensor]) -> object:
        with autocast(config, CPU):
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()
        return loss.item()

    batches = POLICIES[policy](train.lengths, config.batch_size)
    sizes = [int(train.lengths[rows].max()) for rows in batches]
    width = PADDED if policy == "to 128" else 0
    inputs = [
        {**padded(train, rows, width), "labels": torch.from_numpy(train.labels[rows])}
        for rows in spread(batches, sizes, comparison.batches)
    ]
    return [(each["input_ids"].numel(), lambda each=each: step(each)) for each in inputs]


def random_order(lengths: np.ndarray, batch_size: int) -> Batches:
    order = np.random.default_rng(1).permutation(len(lengths))
    return np.split(order, range(batch_size, len(order), batch_size))


def grouped_order(lengths: np.ndarray, batch_size: int) -> Batches:
    from transformers.trainer_pt_utils import get_length_grouped_indices

    torch.manual_seed(1)
    order = np.array(get_length_grouped_indices(lengths.tolist(), batch_size))
    return np.split(order, range(batch_size, len(order), batch_size))


POLICIES: dict[str, Callable[[np.ndarray, int], Batches]] = {
    "to 128": random_order,
    "longest": random_order,
    "longest, grouped": grouped_order,
}


def serve(side: Side, comparison: Comparison, connection: Any) -> None:
    """In a process of its own: take a step for each (task, number) that is received, and send (tokens, seconds)."""
    if side.keeps_memory:
        keep_freed_memory(CPU)
    torch.set_num_threads(comparison.threads)
    made: dict[str, list[Step]] = {}
    read = CLOCKS[comparison.clock]
    while (asked := connection.recv()) is not None:
        task, number = asked
        if task not in made:
            # The model of the task before is not needed any more.
            made = {task: side.make(comparison, task, *side.arguments)}
        tokens, step = made[task][number]
        begin = read()
        step()
        connection.send((tokens, read() - begin))


def compare(comparison: Comparison, sides: Sequence[Side], rounds: int) -> Iterator[str]:
    """Take turns; yield the lines of a table, a row for each task and side."""
    yield "| task | padding | computed tokens | milliseconds a step | times ours | the same for a computed token |"
    yield "|---|---|---:|---:|---:|---:|"
    with connected(serve, [(side, comparison) for side in sides]) as connections:
        for task in comparison.tasks:
            taken = np.zeros((len(sides), rounds + 1, comparison.batches, 2))
            for turn, number, side in np.ndindex(rounds + 1, comparison.batches, len(sides)):
                connections[side].send((task, number))
                taken[side, turn, number] = connections[side].recv()
            # Without the first round.
            tokens, seconds = np.median(taken[:, 1:], axis=1).mean(1).T
            for number, side in enumerate(sides):
                relative = seconds[number] / seconds[0]
                by_token = relative * tokens[0] / tokens[number]
                ratios = f"{relative:.2f} | {by_token:.2f}" if number else " | "
                yield f"| {task} | {side.title} | {tokens[number]:,.0f} | {1e3 * seconds[number]:,.0f} | {ratios} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("glue", type=Path)
    parser.add_argument("tasks", nargs="*", default=["MRPC", "STS-B", "RTE", "CoLA"])
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3, help="after a first one that is not timed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default=of_device(CPU).name)
    parser.add_argument("--our-memory", action="store_true", help="also transformers with our memory settings")
    arguments = parser.parse_args()
    config = FinetuneConfig(precision=arguments.precision, sequence_length=PADDED, steps=1_000_000, warmup_steps=0)
    sides = [Side("sesame: none", ours)]
    for keeps_memory in (False, True) if arguments.our_memory else (False,):
        memory = ", our memory settings" if keeps_memory else ""
        sides += [Side(f"transformers: {policy}{memory}", theirs, (policy,), keeps_memory) for policy in POLICIES]
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint"
        import_model(arguments.model, checkpoint)
        comparison = Comparison(
            arguments.model, checkpoint, arguments.glue, tuple(arguments.tasks), arguments.batches, arguments.threads,
            arguments.clock, config,
        )  # fmt: skip
        print(f"{arguments.precision}, {arguments.threads} threads, {arguments.clock} time", flush=True)
        for line in compare(comparison, sides, arguments.rounds):
            print(line, flush=True)


if __name__ == "__main__":
    main()
