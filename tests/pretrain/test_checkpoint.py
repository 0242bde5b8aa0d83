"""What is wrong with a checkpoint or a dataset is told in a sentence, before the first step."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import configs
from configs.errors import CheckpointError, ConfigError, DatasetError
from pretrain import checkpoint
from pretrain.config import RunConfig
from pretrain.train import train

Settings = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A finished run of two steps, as its settings."""
    values = {
        "output": str(tmp_path_factory.mktemp("trained") / "run"),
        "steps": 2,
        "data": {"dataset": str(dataset), "global_batch": 4, "micro_batch": 4},
        "model": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 32, "positions": 64},
        "objectives": {"masked_lm": 1.0},
        "optimizer": {"learning_rate": 1e-3},
        "parallel": {"precision": "fp32", "threads": 1},
        "report": {"validation_rows": 8, "tensorboard": False},
    }
    run(values)
    return values


def run(values: dict[str, Any]) -> Path:
    return train(configs.parse(values, RunConfig, "run.toml"))


@pytest.fixture
def copied(trained: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The finished run in a folder of its own, with more steps to go."""
    shutil.copytree(trained["output"], tmp_path / "run")
    return trained | {"output": str(tmp_path / "run"), "steps": 3}


def test_backbone_loads_trained_and_random(trained: dict[str, Any]) -> None:
    loaded = checkpoint.load_backbone(Path(trained["output"]))
    again = checkpoint.load_backbone(Path(trained["output"]) / "checkpoints" / "step-00000002")
    twin = checkpoint.load_backbone(Path(trained["output"]), seed=5)
    assert loaded.step == again.step == 2 and twin.step == 0
    for name, value in loaded.backbone.state_dict().items():
        assert torch.equal(value, again.backbone.state_dict()[name])
        assert value.shape == twin.backbone.state_dict()[name].shape
    assert not torch.equal(loaded.backbone.token_embedding.weight, twin.backbone.token_embedding.weight)
    assert loaded.tokenizer_path.is_file()


def test_files_of_before_there_were_several_for_a_process_are_read(copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    (folder / "weights-00000-000.safetensors").rename(folder / "weights-00000.safetensors")
    record = folder / "checkpoint.json"
    record.write_text(record.read_text().replace("weights-00000-000", "weights-00000"))
    assert checkpoint.load_backbone(folder).step == 2


def test_a_fault_that_another_process_finds_is_raised_here(copied: dict[str, Any]) -> None:
    """Each process reads its share of the files, and none goes on alone."""
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    told = ["a.safetensors: differs from its checksum; use another checkpoint"]
    with pytest.raises(CheckpointError, match=told[0]):
        checkpoint.read(folder, checkpoint.Process(0, 2, lambda mine: [mine, told]))


def test_another_shape_is_refused(copied: dict[str, Any]) -> None:
    copied["model"] = {**copied["model"], "feed_forward_width": 48}
    with pytest.raises(
        CheckpointError, match=r"blocks\.0\.feed_forward\.up\.weight is 32x16 in the checkpoint but 48x16"
    ):
        run(copied)


def test_another_tokenizer_is_refused(copied: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    from data_pipeline.prepare import CorpusConfig, prepare

    values = {
        "output": str(tmp_path / "other"),
        "source": {"kind": "json_lines", "paths": [str(corpus)]},
        "tokenizer": {"vocabulary_size": 300},
        "segment": {"sequence_length": 48},
        "workers": {"count": 1},
    }
    other = prepare(configs.parse(values, CorpusConfig, "corpus.toml"), tmp_path / "other")
    copied["data"] = {**copied["data"], "dataset": str(other)}
    with pytest.raises(CheckpointError, match="was made with another tokenizer"):
        run(copied)


@pytest.mark.parametrize("file", ["weights-00000-000.safetensors", "exp_avg-00000-000.safetensors", "tokenizer.model"])
def test_a_flipped_byte_in_a_checkpoint_is_caught(file: str, copied: dict[str, Any]) -> None:
    path = Path(copied["output"]) / "checkpoints" / "step-00000002" / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{file}: differs from its checksum"):
        run(copied)


def test_a_flipped_byte_in_a_shard_is_caught_before_the_first_step(copied: dict[str, Any], tmp_path: Path) -> None:
    damaged = tmp_path / "dataset"
    shutil.copytree(copied["data"]["dataset"], damaged)
    shard = damaged / "train-00000.arrow"
    content = bytearray(shard.read_bytes())
    content[-20] ^= 4
    shard.write_bytes(content)
    values = copied | {"data": {**copied["data"], "dataset": str(damaged)}, "output": str(tmp_path / "never")}
    with pytest.raises(DatasetError, match=r"train-00000\.arrow"):
        run(values)
    assert not (tmp_path / "never").exists()


def test_a_folder_without_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        checkpoint.load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("section", "change", "sentence"),
    [
        ("model", {"widht": 3}, "unknown key 'widht'"),
        ("model", {"width": "wide"}, "'width' = 'wide'"),
        ("model", {"heads": 3}, "width 16 does not divide by heads 3"),
        ("model", {"family": "bret"}, "family is 'bret'; the families are bert"),
        ("data", {"micro_batch": 3}, "global_batch 4 does not divide by micro_batch 3"),
        ("objectives", {"mlm": 1.0}, "masked_lm"),
        ("parallel", {"zero_stage": 0, "precision": "bf16"}, "wrong gradient norm"),
        ("optimizer", {"learning_rate": "fast"}, "learning_rate"),
    ],
)
def test_bad_configuration_names_the_key(
    section: str, change: dict[str, Any], sentence: str, trained: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(trained | {section: {**trained[section], **change}})
    assert sentence in str(caught.value) and "run.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
