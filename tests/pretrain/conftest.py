"""Settings of small runs, which tests change, and the datasets that they read."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.storage import digest
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.initialization import materialise
from sesame.pretrain.learner import Learner, build
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from tests.conftest import dataset_folder
from tests.pretrain.family_runs import FAMILY_RUNS

Settings = Callable[..., dict[str, Any]]
Drawn = Callable[..., Learner]
Datasets = Callable[[str], Path]

RECIPES: dict[str, dict[str, Any]] = {
    "text": {"segment": {"kind": "contiguous"}, "corrupt": {"kind": "nothing"}},
    "spans": {
        "segment": {"kind": "contiguous"},
        "corrupt": {"kind": "masked_spans", "mask_probability": 0.3},
        "tokenizer": {"sentinels": 16},
    },
}
"""Dataset -> changes of the recipe; the dataset ``pairs`` is the fixture ``dataset``."""


@pytest.fixture(scope="session")
def datasets(corpus: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Datasets:
    """``datasets(name)``: a row of ``RECIPES``, prepared at its first use."""

    @cache
    def get(name: str) -> Path:
        if name == "pairs":
            return dataset
        output, recipe = dataset_folder(name, tmp_path_factory), RECIPES[name]
        if output.exists():
            return output
        from sesame.data_pipeline.prepare import CorpusConfig, prepare

        values = {
            "seed": 1,
            "output": str(output),
            "source": {"kind": "json_lines", "paths": [str(corpus)]},
            "tokenizer": {"vocabulary_size": 320, "kind": "unigram", **recipe.get("tokenizer", {})},
            "segment": {"sequence_length": 48, **recipe["segment"]},
            "corrupt": recipe["corrupt"],
            "shards": {"validation_fraction": 0.1},
            "workers": {"count": 2},
        }
        return prepare(configs.parse(values, CorpusConfig, "the test's corpus"), output)

    return get


@pytest.fixture(scope="session")
def make_unmasked(corpus: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """``make_unmasked(kind, length)``: rows with the tokenizer of ``dataset``, whose masks are drawn in training."""

    def make(kind: str, length: int) -> Path:
        from sesame.data_pipeline.prepare import CorpusConfig, prepare

        folder = tmp_path_factory.mktemp("unmasked")
        shutil.copy(dataset / "tokenizer.model", folder)
        values = {
            "seed": 1,
            "output": str(folder / "dataset"),
            "source": {"kind": "json_lines", "paths": [str(corpus)]},
            "tokenizer": {"model": str(folder / "tokenizer.model")},
            "segment": {"kind": "next_sentence", "sequence_length": length},
            "corrupt": {"kind": kind, "mask_probability": 0.2, "drawn": "each_epoch"},
            "shards": {"validation_fraction": 0.1},
            "workers": {"count": 1},
        }
        return prepare(configs.parse(values, CorpusConfig, "the test's corpus"), folder / "dataset")

    return make


@pytest.fixture(scope="session")
def unmasked(make_unmasked: Callable[[str, int], Path]) -> Path:
    """Shorter rows than ``dataset``'s."""
    return make_unmasked("masked_tokens", 24)


@pytest.fixture
def settings(dataset: Path, tmp_path: Path) -> Settings:
    """``settings(section={key: value})``: a run of a two-layer BERT in fp32 with those changes."""

    def make(**changes: Any) -> dict[str, Any]:
        values: dict[str, Any] = {
            "output": str(tmp_path / "run"),
            "steps": 8,
            "data": {"dataset": str(dataset), "global_batch": 16, "micro_batch": 4},
            "model": {
                "family": "bert",
                "layers": 2,
                "width": 32,
                "heads": 4,
                "feed_forward_width": 64,
                "positions": 64,
                # Large enough that gradients of attention are not mostly rounding errors.
                "initial_std": 0.05,
                "dropout": 0.0,
                "attention_dropout": 0.0,
            },
            "objectives": {"masked_lm": 1.0, "sentence_pairs": 1.0},
            "optimizer": {"name": "sgd", "learning_rate": 0.1, "gradient_clipping": 1.0},
            "parallel": {"precision": "fp32", "zero_stage": 1, "threads": 1},
            "report": {"every_steps": 2, "validate_every_steps": 100, "validation_rows": 64, "tensorboard": False},
        }
        for section, change in changes.items():
            values[section] = {**values.get(section, {}), **change} if isinstance(change, dict) else change
        return values

    return make


@pytest.fixture
def drawn(dataset: Path) -> Drawn:
    """``drawn(folder, family, model, objectives)``: a learner with random weights, biases and norms of a
    trained model's size, also saved as a checkpoint in ``folder``."""
    tokenizer = dataset / "tokenizer.model"

    def make(
        folder: Path, family: str, model: dict[str, Any], objectives: tuple[str, ...], init_std: float = 0.2
    ) -> Learner:
        config = configs.parse({"family": family, **model}, FAMILIES[family].config, "the test's model")
        size = len(Tokenizer.load(tokenizer))
        learner = build(config, dict.fromkeys(objectives, 1.0), Vocabulary(size, tokenizer))
        generator = torch.Generator().manual_seed(3)

        def value(name: str, parameter: torch.nn.Parameter) -> torch.Tensor:
            mean = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            return mean + init_std * torch.randn(parameter.shape, generator=generator)

        materialise(learner, value)
        metadata = CheckpointMetadata(
            step=7,
            samples=7,
            seed=1,
            vocabulary_size=size,
            tokenizer_sha256=digest(tokenizer),
            config={"model": configs.dump(config), "objectives": dict.fromkeys(objectives, 1.0)},
        )
        folder.mkdir()
        weights = {name: value.detach() for name, value in learner.named_parameters()}
        write_weights(folder, weights, tokenizer.read_bytes(), metadata)
        return learner.eval()

    return make


@pytest.fixture
def family_settings(settings: Settings, datasets: Datasets) -> Settings:
    """``family_settings(name, section={key: value})``: a row of ``FAMILY_RUNS`` with those changes."""

    def make(name: str, **changes: Any) -> dict[str, Any]:
        run = FAMILY_RUNS[name]
        changes["data"] = {"dataset": str(datasets(run.dataset)), **changes.get("data", {})}
        return settings(**changes) | {"model": dict(run.model), "objectives": dict(run.objectives)}

    return make
