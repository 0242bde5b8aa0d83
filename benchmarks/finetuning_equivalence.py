"""Test that fine-tuning scores are equivalent to those of transformers' own training loop, over several seeds.

    .venv/bin/python benchmarks/finetuning_equivalence.py MODEL GLUE runs/equivalence --seeds 10

MODEL is a folder of transformers with a BERT, such as all-MiniLM-L6-v2; GLUE has the official files. Both sides get
the same token ids, rows, learning rate, schedule, batch size, epochs, dropout and precision. Each has its own head's
initial values, order of rows and padding: transformers pads a batch to its longest row, Sesame computes no padding.
Sesame trains a regression on standardized scores, so both sides do. ``--sides unscaled`` trains transformers on the
scores as they are, which is its default and another recipe.

Each run is one line of OUTPUT/runs.jsonl; started again, only what is missing runs. Files of several folders may be
joined by ``cat``, and a joined file is given by ``--runs``. The margins are those of TASKS, set before the first run:
equivalence is shown where both one-sided Welch tests (TOST, Schuirmann 1987) have p < 0.05.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import transformers
from scipy import stats
from with_transformers import padded

from sesame.configs.json_lines import read_rows
from sesame.configs.storage import append_line
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import finetune, scores_of
from sesame.evaluation.tasks import TASKS as TASK_TABLE
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.huggingface.from_hf import import_model

CPU = torch.device("cpu")
Side = Callable[[TaskData, FinetuneConfig, int], dict[str, float]]
"""(task, settings, seed) -> dev scores."""
LEVEL = 0.05


class Setting(NamedTuple):
    """How one task is fine-tuned, and the margin."""

    settings: dict[str, Any]
    margin: float
    """Points of 100 within which two mean scores count as equivalent."""


COMMON: dict[str, Any] = {"batch_size": 32, "sequence_length": 128, "attention_dropout": 0.1, "dropout": 0.1}
TASKS = {
    "MRPC": Setting({**COMMON, "learning_rate": 1e-4, "epochs": 3, "limit_train_rows": 1000}, 2.0),
    "STS-B": Setting({**COMMON, "learning_rate": 5e-5, "epochs": 2}, 1.0),
    "RTE": Setting({**COMMON, "learning_rate": 1e-4, "epochs": 3}, 3.0),
}


def ours(checkpoint: Path, data: TaskData, config: FinetuneConfig, seed: int) -> dict[str, float]:
    """Return the dev scores of ``sesame evaluate``'s fine-tuning."""
    return scores_of(data, finetune(load_backbone(checkpoint).backbone, data, config, seed, CPU).dev)


def theirs(
    model_folder: Path, data: TaskData, config: FinetuneConfig, seed: int, standardize: bool = True
) -> dict[str, float]:
    """Return the dev scores of transformers' classifier, trained as its example script does."""
    transformers.set_seed(seed)
    assert data.train is not None
    model = transformers.AutoModelForSequenceClassification.from_pretrained(model_folder, num_labels=data.task.outputs)
    model = model.float().train()
    bare = ("bias", "LayerNorm.weight")
    named = list(model.named_parameters())
    groups = [
        {"params": [p for name, p in named if not name.endswith(bare)], "weight_decay": config.weight_decay},
        {"params": [p for name, p in named if name.endswith(bare)], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, config.learning_rate, eps=1e-6, fused=True)
    steps = config.epochs * -(-data.train.rows // config.batch_size)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, round(config.warmup_fraction * steps), steps)
    generator = np.random.default_rng(seed)
    labels = torch.from_numpy(data.train.labels)
    if data.task.has_scores and standardize:
        labels = (labels - labels.mean()) / labels.std(correction=0)
    for _ in range(config.epochs):
        order = generator.permutation(data.train.rows)
        for first in range(0, len(order), config.batch_size):
            rows = order[first : first + config.batch_size]
            with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
                loss = model(**padded(data.train, rows), labels=labels[rows]).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), config.gradient_clipping)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
    return scores_of(data, {prefix: outputs(model, dev, config) for prefix, dev in data.dev.items()})


@torch.no_grad()
def outputs(model: Any, examples: EncodedExamples, config: FinetuneConfig) -> np.ndarray:
    """Return transformers' outputs for a dev set, in the order of the file."""
    model.eval()
    found = []
    for first in range(0, examples.rows, 64):
        rows = np.arange(first, min(first + 64, examples.rows))
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bf16"):
            found.append(model(**padded(examples, rows)).logits.float())
    return torch.cat(found).numpy()


def constant(data: TaskData) -> float:
    """Return the score of one answer for every row, in points; 0 for a correlation."""
    if data.train is None or data.task.has_scores:
        return 0.0
    label = int(np.bincount(data.train.labels).argmax())
    outputs_SC = np.eye(data.task.outputs, dtype=np.float32)[[label]]
    scores = scores_of(data, {prefix: outputs_SC.repeat(dev.rows, 0) for prefix, dev in data.dev.items()})
    return 100 * float(np.mean(list(scores.values())))


def tost(first: np.ndarray, second: np.ndarray, margin: float) -> tuple[float, float, float]:
    """Return the difference of means, its standard error and the larger p-value of both one-sided Welch tests."""
    parts = [np.var(each, ddof=1) / len(each) for each in (first, second)]
    error = float(np.sqrt(sum(parts)))
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(each) - 1) for part, each in zip(parts, (first, second), strict=True)
    )
    difference = float(first.mean() - second.mean())
    nearer = (margin - abs(difference)) / error
    return difference, error, float(stats.t.sf(nearer, freedom))


def report(runs: list[dict[str, Any]], constants: dict[str, float]) -> Iterator[str]:
    """Yield a line of a table for each task with two seeds or more on both sides, and one for unscaled scores."""
    yield "| task | seeds | ours | transformers | constant | difference | margin | TOST p | equivalent | CPU seconds |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---|---:|"
    for (task, setting), peer in itertools.product(TASKS.items(), ("theirs", "unscaled")):
        sides = {side: [run for run in runs if (run["task"], run["side"]) == (task, side)] for side in ("ours", peer)}
        if min(map(len, sides.values())) < 2:
            continue
        values = {side: np.array([run["score"] for run in some]) for side, some in sides.items()}
        difference, _, p_value = tost(values["ours"], values[peer], setting.margin)
        columns = [f"{each.mean():.2f} ± {each.std(ddof=1):.2f}" for each in values.values()]
        seconds = [float(np.median([run["cpu_seconds"] for run in some])) for some in sides.values()]
        above = min(each.mean() for each in values.values()) > constants[task]
        verdict = "yes" if p_value < LEVEL and above else "not shown" if above else "below the constant answer"
        title = f"{task}, unscaled scores" if peer == "unscaled" else task
        yield (
            f"| {title} | {'/'.join(str(len(some)) for some in sides.values())} | {' | '.join(columns)} | "
            f"{constants[task]:.1f} | {difference:+.2f} | {setting.margin:g} | {p_value:.3f} | {verdict} | "
            f"{seconds[0]:.0f} and {seconds[1]:.0f} ({seconds[1] / seconds[0]:.2f} ×) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("glue", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--seeds", type=int, default=10, help="the last seed")
    parser.add_argument("--first-seed", type=int, default=1, help="for another process, with its own output")
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", default="bf16", choices=["fp32", "bf16"])
    parser.add_argument("--sides", nargs="+", default=["theirs", "ours"], choices=["theirs", "ours", "unscaled"])
    parser.add_argument("--runs", type=Path, help="file of the runs; default: OUTPUT/runs.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    checkpoint = arguments.output / "checkpoint"
    if not checkpoint.exists():
        import_model(arguments.model, checkpoint)
    tokenizer, prepared = Tokenizer.load(checkpoint / "tokenizer.model"), {}
    for name in arguments.tasks:
        config = FinetuneConfig(**TASKS[name].settings, precision=arguments.precision)
        prepared[name] = load_task(TASK_TABLE[name], config, arguments.glue, tokenizer, False), config
    # transformers first, so that its loop is read from the model's own folder and not from ours.
    functions: dict[str, Side] = {
        "theirs": partial(theirs, arguments.model),
        "unscaled": partial(theirs, arguments.model, standardize=False),
        "ours": partial(ours, checkpoint),
    }
    path = arguments.runs or arguments.output / "runs.jsonl"
    seeds = range(arguments.first_seed, arguments.seeds + 1)
    run_missing(path, prepared, {side: functions[side] for side in arguments.sides}, seeds)
    print("\n".join(report(read_rows(path), {name: constant(data) for name, (data, _) in prepared.items()})))


def run_missing(
    path: Path, prepared: Mapping[str, tuple[TaskData, FinetuneConfig]], sides: Mapping[str, Side], seeds: range
) -> None:
    """Fine-tune with each seed on each task by each side, and append a line to ``path`` for each that it lacks."""
    done = {(run["task"], run["side"], run["seed"]) for run in read_rows(path)}
    for seed, (name, (data, config)), (side, function) in itertools.product(seeds, prepared.items(), sides.items()):
        if (name, side, seed) in done or (side == "unscaled" and not data.task.has_scores):
            continue
        begin, processor = time.monotonic(), time.process_time()
        scores = function(data, config, seed)
        run = {
            "task": name,
            "side": side,
            "seed": seed,
            "score": round(100 * float(np.mean(list(scores.values()))), 3),
            "seconds": round(time.monotonic() - begin, 1),
            "cpu_seconds": round(time.process_time() - processor, 1),
        }
        append_line(path, json.dumps(run))
        print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
