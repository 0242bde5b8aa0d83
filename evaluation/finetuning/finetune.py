"""Fine-tuning on one task with one seed: train all weights of a backbone and a new head, then score and predict.

T tokens, S sequences, B rows, C outputs.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from sesame.configs.errors import TaskError
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.answers import answers
from sesame.evaluation.finetuning.batches import shuffled_batches
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.optimization import epochs_of, schedule_of, steps_of
from sesame.evaluation.finetuning.task_model import TaskModel, require_blocks
from sesame.evaluation.finetuning.trainer import LocalTrainer, Trainer
from sesame.evaluation.scores import score
from sesame.evaluation.tasks.task import score_name
from sesame.pretrain.parallel.recompute import recompute_parts


class DivergedError(TaskError):
    """The gradient norm of a fine-tuning run is not finite."""


@dataclass(frozen=True)
class Outcome:
    """What one fine-tuning run computed."""

    epoch: int
    """The epoch (from 1) whose weights were scored."""
    dev: dict[str, np.ndarray]
    """Outputs float32 [S, C] by dev set, in the order of the file and in the unit of the labels."""
    test: dict[str, np.ndarray]
    """The same by file of predictions."""
    losses: np.ndarray
    """float32 [steps]: the training loss of each step."""
    dev_scores: tuple[float, ...] = ()
    """Mean dev score after each epoch, if the best one was selected."""
    pooler: dict[str, Tensor] = field(default_factory=dict)
    """Weight and bias of the head's hidden layer, if it is a pooler of the first token."""


def finetune(
    backbone: nn.Module,
    data: TaskData,
    config: FinetuneConfig,
    seed: int,
    device: torch.device,
    advance: Callable[[int, int], None] = lambda step, steps: None,
) -> Outcome:
    """Fine-tune in this process: see :func:`train`.

    Args:
        backbone: modified in place.
        config: its precision is "fp32" or "bf16"; "auto" is resolved by the caller.
        seed: determines the head's initial values, the order of the rows and dropout.
    """
    torch.manual_seed(seed)
    model = TaskModel(backbone, data.task, config).to(device)
    if config.recompute:
        require_blocks(model)
        recompute_parts(model, "block")
    return train(LocalTrainer(model, data, config, device), data, seed, advance)


def train(trainer: Trainer, data: TaskData, seed: int, advance: Callable[[int, int], None]) -> Outcome:
    """Train on ``data.train``, and compute the outputs for ``data.dev`` and ``data.test``.

    Args:
        seed: determines the order of the rows.
        advance: called with (finished steps, total steps) after each step.

    Raises:
        DivergedError: the gradient norm is not finite.
    """
    config, rows = trainer.config, trainer.train.rows
    best: tuple[float, int, dict[str, Tensor]] = (-math.inf, epochs_of(config, rows), {})
    losses: list[Tensor] = []
    dev_scores: list[float] = []
    for epoch in _epochs(trainer, data, seed, losses, advance):
        if config.select == "best":
            # Diagnostics are reported, and select nothing.
            outputs = {prefix: trainer.predict(dev) for prefix, dev in data.counted_dev.items()}
            value = float(np.nan_to_num(np.mean(list(scores_of(data, outputs).values())), nan=-1.0))
            dev_scores.append(value)
            if value > best[0]:
                best = (value, epoch, trainer.weights())
            elif config.early_stopping and epoch - best[1] >= config.early_stopping:
                break
    if best[2]:
        trainer.restore(best[2])
    test = {name: trainer.predict(examples) for name, examples in data.test.items()}
    dev = {prefix: trainer.predict(examples) for prefix, examples in data.dev.items()}
    curve = np.sum(trainer.share.gather(torch.stack(losses).float().cpu().numpy()), axis=0)
    return Outcome(best[1], dev, test, curve, tuple(dev_scores), trainer.model.head.pooler)


def scores_of(data: TaskData, outputs: dict[str, np.ndarray]) -> dict[str, float]:
    """Every metric of dev sets of the task, from the outputs for them."""
    scores = {}
    for prefix, outputs_SC in outputs.items():
        dev = data.dev[prefix]
        predictions = answers(data.task, dev, outputs_SC)
        for metric in data.task.metrics_of(prefix):
            scores[score_name(prefix, metric)] = score(metric, dev.labels, predictions, dev.groups)
    return scores


def _epochs(
    trainer: Trainer, data: TaskData, seed: int, losses: list[Tensor], advance: Callable[[int, int], None]
) -> Iterator[int]:
    """Train, append the loss of each step to ``losses``, and yield the number of each epoch after it."""
    config, lengths = trainer.config, trainer.train.lengths
    generator, steps, step = np.random.default_rng(seed), steps_of(config, len(lengths)), 0
    schedule = schedule_of(config, steps)
    for epoch in range(1, epochs_of(config, len(lengths)) + 1):
        with trainer.running():
            for rows in shuffled_batches(lengths, config.batch_size, generator)[: steps - step]:
                loss, is_finite = trainer.step(rows, step, schedule.factor(step, steps))
                if not is_finite:
                    raise DivergedError(
                        f"{data.title}: the gradient norm is not finite at step {step} of {steps} with learning_rate "
                        f"{config.learning_rate:g}; lower it under [tasks.{data.task.name}]"
                    )
                losses.append(loss)
                step += 1
                advance(step, steps)
        yield epoch
