"""Compare a fine-tuning step with one of transformers' BertForSequenceClassification on the same rows.

    .venv/bin/python benchmarks/finetuning_against_transformers.py DATASET GLUE_DIR [TASK ...]

DATASET gives the tokenizer. A BERT of MiniLM's shape (6 layers of 384) with random weights in both, AdamW, clipping,
dropout 0.1; bf16 by autocast if the CPU computes it in hardware, else fp32. Both have the memory settings of
`sesame evaluate`. Theirs with two kinds of batches, padded to the longest row: the rows of ours, which are of similar
length, and rows in random order, the default of the Trainer. Steps alternate in one process. A computed token is a
position that a model computes, padding included.
"""

import argparse
import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from with_transformers import CLOCKS, bert_config

from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import FinetuneConfig
from sesame.evaluation.finetuning.batches import autocast, pack_rows, shuffled_batches
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import load_task
from sesame.evaluation.finetuning.finetune import TaskModel
from sesame.evaluation.finetuning.kinds import KINDS
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.task import Task
from sesame.pretrain.allocator import keep_freed_memory
from sesame.pretrain.data.repeated_sizes import sizes_for
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.models.bert import Bert, BertConfig
from sesame.pretrain.models.family import Vocabulary, on_meta_device
from sesame.pretrain.optimizers import parameter_groups
from sesame.pretrain.precision import of_device

SHAPE: dict[str, Any] = {"layers": 6, "width": 384, "heads": 12, "feed_forward_width": 1536, "positions": 512}
CPU = torch.device("cpu")


def updated(model: torch.nn.Module, config: FinetuneConfig) -> Callable[[torch.Tensor], None]:
    """Return the rest of a step after its loss, the same for both."""
    optimizer = torch.optim.AdamW(parameter_groups(model, config.weight_decay), config.learning_rate, fused=True)

    def update(loss: torch.Tensor) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
        optimizer.step()
        optimizer.zero_grad()

    return update


def ours(vocabulary: int, task: Task, train: EncodedExamples, config: FinetuneConfig) -> Callable[[np.ndarray], int]:
    """Return the training step of ``sesame evaluate``: row numbers -> computed tokens."""
    shape = BertConfig(**SHAPE)
    with on_meta_device():
        backbone = Bert(shape, Vocabulary(vocabulary))
    value = random_value(1, shape.init_std)
    materialise(backbone, lambda name, parameter: value(name, parameter.shape))
    model = TaskModel(backbone, task, config).train()
    kind, update, sized = (
        KINDS[task.kind].of(train.labels),
        updated(model, config),
        sizes_for(model, config.precision, CPU),
    )

    def step(rows: np.ndarray) -> int:
        with autocast(config, CPU):
            batch = sized(pack_rows(train, rows))
            outputs = model(batch)
        update(kind.loss(outputs, torch.from_numpy(train.labels[rows]), torch.ones(len(rows), dtype=torch.int64)))
        return len(batch["tokens"])

    return step


def theirs(vocabulary: int, task: Task, train: EncodedExamples, config: FinetuneConfig) -> Callable[[np.ndarray], int]:
    """Return transformers' training step: row numbers -> computed tokens."""
    shape = bert_config(vocabulary, SHAPE)
    shape.num_labels = task.outputs
    model = transformers.BertForSequenceClassification(shape).train()
    update = updated(model, config)

    def step(rows: np.ndarray) -> int:
        tokens = [torch.from_numpy(train.tokens[row].astype(np.int64)) for row in rows]
        lengths = torch.tensor([len(each) for each in tokens])
        ids = pad_sequence(tokens, batch_first=True)
        places = torch.arange(ids.shape[1])
        first = torch.from_numpy(train.first_segment_lengths[rows])[:, None]
        inputs = {
            "input_ids": ids,
            "attention_mask": (places < lengths[:, None]).long(),
            "token_type_ids": ((places >= first) & (places < lengths[:, None])).long(),
            "labels": torch.from_numpy(train.labels[rows]),
        }
        with autocast(config, CPU):
            loss = model(**inputs).loss
        update(loss)
        return ids.numel()

    return step


def compare(name: str, arguments: argparse.Namespace, tokenizer: Tokenizer, vocabulary: int) -> None:
    """Time the sides in turns on one task and print their rates."""
    task = TASKS[name]
    config = FinetuneConfig(precision=of_device(CPU).name, batch_size=arguments.batch_size)  # type: ignore[arg-type]
    train = load_task(task, config, arguments.glue, tokenizer, False).train
    assert train is not None
    random = np.random.default_rng(1)
    similar = shuffled_batches(train.lengths, config.batch_size, random)
    mixed = np.array_split(random.permutation(train.rows), len(similar))
    own, other = ours(vocabulary, task, train, config), theirs(vocabulary, task, train, config)
    sides = {"sesame": (own, similar), "similar": (other, similar), "random": (other, mixed)}
    taken: dict[str, list[tuple[int, int, float]]] = {side: [] for side in sides}
    read = CLOCKS[arguments.clock]
    for number in range(arguments.warm_up + arguments.steps):
        for side, (step, batches) in sides.items():
            rows, begin = batches[number % len(batches)], read()
            computed = step(rows)
            taken[side].append((computed, int(train.lengths[rows].sum()), read() - begin))
    measured = {side: np.array(values[arguments.warm_up :]) for side, values in taken.items()}
    per_token = {side: statistics.median(values[:, 2] / values[:, 0]) for side, values in measured.items()}
    per_real = {side: statistics.median(values[:, 2] / values[:, 1]) for side, values in measured.items()}
    print(f"{name}, {config.precision}, {torch.get_num_threads()} threads, {arguments.clock} time:")
    for side in ("similar", "random"):
        print(
            f"  transformers, {side} lengths: per computed token {per_token[side] / per_token['sesame']:.2f}, per real "
            f"token {per_real[side] / per_real['sesame']:.2f} times our time ({1e6 * per_real['sesame']:.0f} us)",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("glue", type=Path)
    parser.add_argument("tasks", nargs="*", default=["MRPC", "RTE", "STS-B", "SST-2"])
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--warm-up", type=int, default=12, help="steps that are not timed")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory(CPU)
    dataset = open_dataset(arguments.dataset, verify=False)
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    for name in arguments.tasks:
        compare(name, arguments, tokenizer, dataset.manifest.tokenizer.vocabulary_size)


if __name__ == "__main__":
    main()
