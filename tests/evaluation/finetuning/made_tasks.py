"""Random tasks of every kind of head, and one fine-tuning run of one in this process or in several."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.finetuning.finetune import Outcome, finetune, train
from sesame.evaluation.layout_config import LayoutConfig
from sesame.evaluation.tasks.task import KindName, Span, Table, Task
from sesame.pretrain.initialization import Rows, materialise, random_rows, random_value
from sesame.pretrain.models import FAMILIES, parse_model
from sesame.pretrain.models.family import ModelConfig, Vocabulary, on_meta_device
from tests.pretrain.family_runs import FAMILY_RUNS

VOCABULARY = 64
ROWS = 22
"""Three batches of 7, and one of a single row, of which one of two processes has none."""
CONFIG = FinetuneConfig(
    learning_rate=1e-2, epochs=2, batch_size=7, epsilon=1e-3, dropout=0.0, attention_dropout=0.0, precision="fp32"
)
KINDS: tuple[KindName, ...] = ("classify", "regress", "choose", "spans", "extract")
SEED = 3


def task_data(kind: KindName) -> TaskData:
    """Return train and dev rows of random tokens."""
    table = Table("file", ("text",), "label", spans=(Span(0, "start", "end"),) if kind == "spans" else ())
    labels = ("no", "yes", "maybe") if kind in ("classify", "spans") else ()
    task = Task(kind, ("pearson" if kind == "regress" else "accuracy",), table, {"": table}, labels=labels, kind=kind)
    return TaskData(task, kind, _rows(kind, 1), {"": _rows(kind, 2)}, {})


def _rows(kind: str, seed: int) -> EncodedExamples:
    generator = np.random.default_rng(seed)
    counts = generator.integers(1, 4, ROWS) if kind in ("choose", "extract") else np.ones(ROWS, np.int64)
    sizes = generator.integers(6, 21, counts.sum())
    tokens = [generator.integers(5, VOCABULARY, size).astype(np.int32) for size in sizes]
    labels: Any = {
        "regress": lambda: generator.normal(size=ROWS).astype(np.float32),
        "choose": lambda: (generator.random(ROWS) * counts).astype(np.int64),
    }.get(kind, lambda: generator.integers(0, 3, ROWS))()
    firsts = np.array([int(generator.integers(2, len(each))) for each in tokens])
    spans = np.array([[[1, 2 + int(generator.integers(1, 4))]] for _ in tokens]) if kind == "spans" else None
    targets = np.array([sorted(generator.integers(0, len(each), 2)) for each in tokens]) if kind == "extract" else None
    indices = [str(row) for row in range(ROWS)]
    return EncodedExamples(
        tokens, firsts, labels, indices, counts if counts.max() > 1 else None, spans, targets=targets
    )


def one_process(run: str, kind: KindName, changes: dict[str, Any], tokenizer: Path | None = None) -> Outcome:
    """Fine-tune a model of a row of ``FAMILY_RUNS`` in this process alone."""
    settings = CONFIG.model_copy(update=changes)
    return finetune(backbone_of(run, tokenizer), task_data(kind), settings, SEED, torch.device("cpu"))


def backbone_of(run: str, tokenizer: Path | None = None) -> Any:
    """Return the backbone of a row of ``FAMILY_RUNS``."""
    config, backbone = _model(run, tokenizer)
    draw = random_value(SEED, config.init_std)
    materialise(backbone, lambda name, parameter: draw(f"backbone.{name}", parameter.shape))
    return backbone


def several_processes(
    run: str, kind: KindName, changes: dict[str, Any], layout: dict[str, Any], tokenizer: Path | None = None
) -> tuple[Outcome, bool]:
    """Fine-tune the same in this process, which is one of several; return whether it is the first one, too."""
    config, backbone = _model(run, tokenizer)
    return by_the_engine(config, backbone, task_data(kind), CONFIG.model_copy(update=changes), layout)


def by_the_engine(
    model: ModelConfig, backbone: Any, data: TaskData, settings: FinetuneConfig, layout: dict[str, Any]
) -> tuple[Outcome, bool]:
    """Fine-tune a backbone on the meta device, whose weights are drawn from ``SEED``."""
    from sesame.evaluation.finetuning.engine_trainer import EngineTrainer
    from sesame.evaluation.queue.processes import MeshShare
    from sesame.pretrain.parallel.mesh import Mesh

    divided = LayoutConfig(**layout)
    mesh = Mesh(divided.of_engine(1))
    share = MeshShare(mesh, divided)

    def weights(name: str, shape: torch.Size) -> Rows:
        return random_rows(SEED, name, shape, model.init_std)

    try:
        arguments = backbone, model.family, weights, data, settings, SEED, divided, mesh, share
        with closing(EngineTrainer(*arguments)) as trainer:
            outcome = train(trainer, data, SEED, lambda step, steps: None)
        mesh.barrier()
        return outcome, mesh.is_rank_zero
    finally:
        mesh.close()


def _model(run: str, tokenizer: Path | None) -> tuple[ModelConfig, Any]:
    config = parse_model(FAMILY_RUNS[run].model, "the test")
    vocabulary = Vocabulary(VOCABULARY)
    if config.family == "elmo":
        # It reads the characters of each piece.
        assert tokenizer is not None
        vocabulary = Vocabulary(len(Tokenizer.load(tokenizer)), tokenizer)
    with on_meta_device():
        return config, FAMILIES[config.family].module(config, vocabulary)
