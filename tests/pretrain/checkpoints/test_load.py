"""Errors in a checkpoint or a dataset are reported in one message, before the first step."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import CheckpointError, ConfigError, DatasetError
from sesame.evaluation.zero_shot.language_model import load_language_model
from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints.load import Process, load_backbone, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.huggingface.to_hf import export
from sesame.pretrain.train import train
from tests.pretrain.checkpoints.records import as_format_1, write_record

Settings = Callable[..., dict[str, Any]]
WEIGHTS = "weights-00000-000.safetensors"


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a finished run of two steps."""
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


def test_backbone_loads_trained_and_random(trained: dict[str, Any]) -> None:
    loaded = load_backbone(Path(trained["output"]))
    again = load_backbone(Path(trained["output"]) / "checkpoints" / "step-00000002")
    random = load_backbone(Path(trained["output"]), seed=5)
    assert loaded.step == again.step == 2 and random.step == 0
    for name, value in loaded.backbone.state_dict().items():
        assert torch.equal(value, again.backbone.state_dict()[name])
        assert value.shape == random.backbone.state_dict()[name].shape
    assert not torch.equal(loaded.backbone.token_embedding.weight, random.backbone.token_embedding.weight)
    assert loaded.tokenizer_path.is_file()


def test_one_file_per_process_as_in_format_1_is_read(copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    (folder / "weights-00000-000.safetensors").rename(folder / "weights-00000.safetensors")
    as_format_1(
        folder, lambda values: values["files"].update({"weights-00000.safetensors": values["files"].pop(WEIGHTS)})
    )
    assert load_backbone(folder).step == 2


def test_an_error_that_another_process_finds_is_raised(copied: dict[str, Any]) -> None:
    """Each process checks its share of the files, and all raise the same error."""
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    errors = ["a.safetensors: differs from its checksum; use another checkpoint"]
    with pytest.raises(CheckpointError, match=errors[0]):
        open_checkpoint(folder, Process(0, 2, lambda mine: [mine, errors]))


def test_later_stages_need_only_the_weights(copied: dict[str, Any], tmp_path: Path) -> None:
    """The moments of the optimizer, most of a checkpoint, may be left on the machine that trained."""
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    moments = sorted(folder.glob("exp_avg*"))
    assert len(moments) == 2
    for file in moments:
        file.unlink()
    assert load_backbone(folder).step == 2
    assert load_language_model(folder)[1] == "masked_lm"
    assert export(folder, tmp_path / "exported").architecture == "BertForMaskedLM"
    started = {**copied, "output": str(tmp_path / "started"), "initial_checkpoint": str(folder)}
    assert run(started).exists()
    with pytest.raises(CheckpointError, match=r"exp_avg-00000-000\.safetensors: is missing"):
        run({**copied, "steps": 3})
    with (folder / WEIGHTS).open("ab") as file:
        file.write(b"0")
    with pytest.raises(CheckpointError, match="differs from its checksum"):
        load_backbone(folder)


def test_another_shape_is_refused(copied: dict[str, Any]) -> None:
    """Even if the setting is accepted, because the weights do not fit."""
    copied["model"] = {**copied["model"], "feed_forward_width": 48}
    copied["resume"] = {"accept": ["model.feed_forward_width"]}
    with pytest.raises(
        CheckpointError, match=r"blocks\.0\.feed_forward\.up\.weight is 32x16 in the checkpoint but 48x16"
    ):
        run(copied)


def test_another_tokenizer_is_refused(copied: dict[str, Any], corpus: Path, tmp_path: Path) -> None:
    from sesame.data_pipeline.prepare import CorpusConfig, prepare

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


DAMAGED_RECORDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a later format": (lambda values: values.update(format_version=99), "has format 99, but this Sesame reads"),
    "a device": (
        lambda values: values["files"].update({"../../../../../dev/zero": "0" * 64}),
        "is not a file name inside",
    ),
    "an absolute path": (lambda values: values["files"].update({"/dev/zero": "0" * 64}), "is not a file name inside"),
    "no tokenizer": (lambda values: values["files"].pop("tokenizer.model"), "lacks tokenizer.model"),
    "no model": (lambda values: values["config"].pop("model"), "has no [model]"),
    "a model of another kind": (lambda values: values["config"].update(model=[1]), "has no [model]"),
    "an unknown family": (lambda values: values["config"]["model"].update(family=["bert"]), "the families are bert"),
    "a wrong width": (lambda values: values["config"]["model"].update(width=-1), "'width' = -1"),
    "another width": (lambda values: values["config"]["model"].update(width=24), "320x16 in the checkpoint but 320x24"),
    "a dimension of 0": (lambda values: values["shapes"].update(a=[0]), "'shapes.a.0' = 0"),
    "no dimension": (lambda values: values["shapes"].update(a=[]), "'shapes.a' = []"),
    "a size as text": (lambda values: values.update(vocabulary_size="many"), "'vocabulary_size' = 'many'"),
    "no vocabulary": (lambda values: values.update(vocabulary_size=-4), "'vocabulary_size' = -4"),
    "a parameter too many": (lambda values: values["shapes"].update(a=[4, 4]), "lacks some of rows 0 to 3 of a"),
    "a parameter too few": (lambda values: values["shapes"].popitem(), "which is not a parameter"),
    "another shape": (
        lambda values: values["shapes"].update({next(reversed(values["shapes"])): [2, 2]}),
        "but checkpoint.json says F32 of (2, 2)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGED_RECORDS)
def test_a_wrong_record_is_refused(damage: str, copied: dict[str, Any]) -> None:
    change, message = DAMAGED_RECORDS[damage]
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    write_record(folder, change)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_backbone(folder)


def deep(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize(
    "text", ["", "[]", "1", "{", "NaN", deep(500), deep(100_000), "9" * 5000, "\x00", '{"a": "\\ud800"}']
)
def test_a_file_that_is_not_a_record_is_refused(text: str, copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    (folder / "checkpoint.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json"):
        load_backbone(folder)


def test_every_flipped_byte_of_a_record_is_caught(copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    file = folder / "checkpoint.json"
    content = file.read_bytes()
    values = json.loads(content)
    for position in range(0, len(content), 7):
        file.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
        try:
            record.read(folder)
        except CheckpointError:
            continue
        # A space between two values may be a line break.
        assert json.loads(file.read_bytes()) == values


@pytest.mark.parametrize("name", ["weights-00000-000.safetensors", "checkpoint.json"])
def test_only_regular_files_are_read(name: str, copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_checkpoint(folder)
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match="not a regular file"):
        open_checkpoint(folder)


def test_an_output_folder_that_is_a_checkpoint_is_refused(copied: dict[str, Any]) -> None:
    folder = Path(copied["output"]) / "checkpoints" / "step-00000002"
    before = sorted(folder.iterdir())
    with pytest.raises(CheckpointError, match=r"is a checkpoint itself.*initial_checkpoint="):
        run(copied | {"output": str(folder)})
    assert sorted(folder.iterdir()) == before


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not contain a checkpoint"):
        load_backbone(tmp_path)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("model", {"widht": 3}, "unknown key 'widht'"),
        ("model", {"width": "wide"}, "'width' = 'wide'"),
        ("model", {"heads": 3}, "width 16 is not divisible by heads 3"),
        ("model", {"family": "bret"}, "family is 'bret'; the families are bert"),
        ("data", {"micro_batch": 3}, "global_batch 4 does not divide by micro_batch 3"),
        ("objectives", {"mlm": 1.0}, "masked_lm"),
        ("parallel", {"zero_stage": 0, "precision": "bf16"}, "wrong gradient norm"),
        ("optimizer", {"learning_rate": "fast"}, "learning_rate"),
    ],
)
def test_bad_configuration_names_the_key(
    section: str, change: dict[str, Any], message: str, trained: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(trained | {section: {**trained[section], **change}})
    assert message in str(caught.value) and "run.toml" in str(caught.value)
    assert "\n" not in str(caught.value)
