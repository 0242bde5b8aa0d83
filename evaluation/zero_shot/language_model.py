"""The language model of a checkpoint: its backbone with the head that predicts tokens."""

from pathlib import Path

from sesame.configs.errors import TaskError
from sesame.pretrain import learner
from sesame.pretrain.checkpoints.load import WEIGHTS_ONLY, latest, open_checkpoint
from sesame.pretrain.checkpoints.record import TOKENIZER_FILE
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.learner import Learner
from sesame.pretrain.models.family import Vocabulary

HEADS = ("causal_lm", "masked_lm", "masked_next")
"""Objectives whose predictions are used, the preferred one first."""


def load_language_model(path: Path, *, seed: int | None = None) -> tuple[Learner, str]:
    """Load the backbone and the language-modelling head of a run's newest checkpoint, on the CPU, for evaluation.

    Args:
        seed: of random weights for the same architecture; None: the checkpoint's weights.

    Returns:
        (the model, the name of its objective).

    Raises:
        TaskError: the checkpoint has no such head.
    """
    checkpoint = open_checkpoint(latest(path) or path, kinds=WEIGHTS_ONLY)
    record, config = checkpoint.record, checkpoint.model()
    name = next((each for each in HEADS if each in record.config.get("objectives", {})), None)
    if name is None:
        raise TaskError(
            f"{path}: has none of the heads {', '.join(HEADS)}, and minimal pairs need one; use a checkpoint that "
            "has, or leave these tasks out"
        )
    model = learner.build(config, {name: 1.0}, Vocabulary(record.vocabulary_size, checkpoint.folder / TOKENIZER_FILE))
    weights, draw = checkpoint.tensors("weights"), random_value(seed or 0, config.init_std)
    materialise(model, lambda name, parameter: weights.whole(name) if seed is None else draw(name, parameter.shape))
    return model.eval(), name
