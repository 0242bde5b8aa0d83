"""Damaged checkpoints, datasets and task files."""

import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sesame import configs
from sesame.data_pipeline.dataset import manifest
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify
from sesame.evaluation.reading.tables import read_table
from sesame.evaluation.tasks import TASKS
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.checkpoints.record import CheckpointMetadata
from sesame.pretrain.checkpoints.save import write_weights
from sesame.pretrain.models import FAMILIES
from sesame.pretrain.models.family import Vocabulary
from tests.fuzz import mutators
from tests.fuzz.harness import COUNTS, Case, failures, report

MODELS: list[dict[str, Any]] = [
    {"family": "bert", "layers": 1, "width": 8, "heads": 2, "feed_forward_width": 8, "positions": 8},
    {"family": "gpt", "layers": 1, "width": 8, "heads": 2, "feed_forward_width": 8, "positions": 8},
    {"family": "elmo", "layers": 1, "width": 8, "cells": 4, "filters": [[1, 4], [2, 4]], "highways": 1},
]


@pytest.fixture(scope="module")
def checkpoints(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A small checkpoint of each of ``MODELS``."""
    tokenizer = dataset / "tokenizer.model"
    pieces = len(Tokenizer.load(tokenizer))
    folders = []
    for values in MODELS:
        config = configs.parse(values, FAMILIES[values["family"]].config, "the test's model")
        with torch.device("meta"):
            module = FAMILIES[values["family"]].module(config, Vocabulary(pieces, tokenizer))
        weights = {f"backbone.{name}": torch.randn(value.shape) for name, value in module.named_parameters()}
        metadata = CheckpointMetadata(
            step=3,
            samples=24,
            seed=1,
            vocabulary_size=pieces,
            tokenizer_sha256=digest(tokenizer.read_bytes()),
            config={"model": configs.dump(config), "objectives": {}},
        )
        folder = tmp_path_factory.mktemp(values["family"]) / "checkpoint"
        folder.mkdir()
        write_weights(folder, weights, tokenizer.read_bytes(), metadata)
        folders.append(folder)
    return folders


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sealed(values: Any) -> Any:
    """A record with the checksum that it should have."""
    if not isinstance(values, dict):
        return values
    values = {name: value for name, value in values.items() if name != "record_sha256"}
    return {**values, "record_sha256": digest(json.dumps(values, sort_keys=True).encode())}


def weights_of(folder: Path) -> dict[str, Tensor]:
    return dict(load_backbone(folder).backbone.state_dict())


def damaged_checkpoint(checkpoints: list[Path]) -> Case:
    """Damage one file of a checkpoint, in part with checksums that are then corrected."""
    originals = {folder: weights_of(folder) for folder in checkpoints}

    def case(draw: random.Random, inputs: Path) -> Callable[[], Any]:
        source = draw.choice(checkpoints)
        folder = inputs / "checkpoint"
        shutil.copytree(source, folder)
        file, resealed = draw.choice(sorted(folder.iterdir())), draw.random() < 0.7
        record = json.loads((folder / "checkpoint.json").read_text())
        if file.name == "checkpoint.json":
            if resealed:
                file.write_text(json.dumps(sealed(mutators.json_value(draw, record))))
            else:
                file.write_bytes(mutators.json_text(draw, record).encode("utf-8", "surrogatepass"))
        else:
            damage = mutators.safetensors if file.suffix == ".safetensors" else mutators.data
            file.write_bytes(damage(draw, file.read_bytes()))
            if resealed:
                record["files"][file.name] = digest(file.read_bytes())
                (folder / "checkpoint.json").write_text(json.dumps(sealed(record)))

        def read() -> str | None:
            found = weights_of(folder)
            same = all(torch.equal(value, found[name]) for name, value in originals[source].items())
            return None if resealed or same else "other weights were read without an error"

        return read

    return case


def damaged_dataset(dataset: Path) -> Case:
    files = [path.relative_to(dataset) for path in sorted(dataset.rglob("*")) if path.is_file()]
    small = [file for file in files if file.parts[0] != "card"]

    def case(draw: random.Random, inputs: Path) -> Callable[[], Any]:
        folder = inputs / "dataset"
        folder.mkdir()
        for name in small:
            (folder / name).hardlink_to(dataset / name)
        file, resealed = folder / draw.choice(small), draw.random() < 0.5
        content = file.read_bytes()
        file.unlink()
        if file.name == manifest.MANIFEST:
            values = json.loads(content)
            del values["manifest_sha256"]
            changed = mutators.json_value(draw, values) if resealed else mutators.json_text(draw, values)
            written = (
                _sealed_manifest(changed) if isinstance(changed, dict) else str(changed).encode("utf-8", "replace")
            )
        else:
            written = mutators.data(draw, content)
        file.write_bytes(written)
        harmless = written == content
        return lambda: verify(folder) and (None if harmless or resealed else "the damage was not noticed")

    return case


def _sealed_manifest(values: dict[str, Any]) -> bytes:
    text = json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    whole = {**values, "manifest_sha256": digest(text.encode("utf-8", "replace"))}
    return (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "replace")


ROWS = {
    "CoLA": "gj04\t1\t\tOur friends won't buy this.\nks08\t0\t*\tThe more does Bill smoke.\n",
    "SST-2": "sentence\tlabel\nhide new secretions \t0\nof saucy \t1\n",
    "STS-B": "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n"
    "0\tmain\tMSRvid\t2012\t0001\tnone\tnone\tA plane is taking off.\tAn air plane is taking off.\t5.000\n",
    "RTE": "index\tsentence1\tsentence2\tlabel\n0\tNo weapons found.\tWeapons found.\tnot_entailment\n",
}


def damaged_tasks(draw: random.Random, inputs: Path) -> Callable[[], Any]:
    name = draw.choice(list(ROWS))
    task = TASKS[name]
    table = task.train
    assert table is not None
    file = inputs / table.file
    file.parent.mkdir(parents=True)
    if draw.random() < 0.5:
        file.write_bytes(mutators.text(draw, ROWS[name]).encode("utf-8", "surrogatepass"))
    else:
        file.write_bytes(mutators.data(draw, ROWS[name].encode()))

    def read() -> str | None:
        found = read_table(inputs, table, task)
        finite = len(found.labels) == len(found.texts) and bool(torch.isfinite(torch.as_tensor(found.labels)).all())
        return None if finite else "labels are missing or not finite"

    return read


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_checkpoints(checkpoints: list[Path], count: int, tmp_path: Path) -> None:
    found = failures(damaged_checkpoint(checkpoints), tmp_path, count)
    assert not found, report(found)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_datasets(dataset: Path, count: int, tmp_path: Path) -> None:
    found = failures(damaged_dataset(dataset), tmp_path, count)
    assert not found, report(found)


@pytest.mark.parametrize("count", COUNTS)
def test_damaged_task_files(count: int, tmp_path: Path) -> None:
    found = failures(damaged_tasks, tmp_path, count)
    assert not found, report(found)
