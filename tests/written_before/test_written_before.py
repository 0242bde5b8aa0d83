"""Datasets and checkpoints that older versions wrote are read: each archive beside this file holds one of each."""

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from sesame.configs import parse
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.verification.verify import verify
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train

ARCHIVES = sorted(Path(__file__).parent.glob("*.tar.xz"))
RUN: dict[str, Any] = {
    "output": "run",
    "steps": 6,
    "model": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 32, "positions": 64},
    "objectives": {"masked_lm": 1.0, "sentence_pairs": 1.0},
    "data": {"dataset": "dataset", "global_batch": 8},
    "optimizer": {"name": "adamw", "learning_rate": 1e-3},
    "checkpoint": {"save_every_steps": 2, "keep": 1},
    "parallel": {"precision": "fp32"},
}
"""As the run was that wrote the checkpoint of step 4, but for its steps."""


@pytest.fixture(params=ARCHIVES, ids=[path.name.partition(".")[0] for path in ARCHIVES])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_an_archive() -> None:
    assert ARCHIVES


def test_a_dataset_is_read_and_verified(folder: Path) -> None:
    dataset = open_dataset(folder / "dataset", verify=True)
    assert dataset.split("train").rows == dataset.manifest.splits["train"].rows > 0
    assert any("checksums" in line for line in verify(folder / "dataset"))


def test_a_checkpoint_is_loaded(folder: Path) -> None:
    loaded = load_backbone(folder / "run")
    assert loaded.step == 4
    assert sum(parameter.numel() for parameter in loaded.backbone.parameters()) > 0


def test_a_run_is_resumed(folder: Path) -> None:
    train(parse(RUN, RunConfig, "run.toml"))
    lines = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train" in line] == [2, 4, 6]
    before, after = (
        next(line["train"] for line in lines if line["step"] == step and "train" in line) for step in (4, 6)
    )
    assert after["masked_lm"] == pytest.approx(before["masked_lm"], abs=0.1)
