"""The card shows the manifest and does not change the dataset."""

import shutil
from pathlib import Path

import pytest

from sesame.configs.errors import DatasetError
from sesame.data_pipeline.dataset.manifest import read_manifest
from sesame.data_pipeline.inspection.card import FOLDER, write_card
from sesame.data_pipeline.verification.verify import verify


def test_the_card_shows_the_manifest_and_does_not_change_the_dataset(dataset: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(dataset, tmp_path / "copy"))
    before = {path.name: path.read_bytes() for path in copy.iterdir()}
    findings = verify(copy)
    folder = write_card(copy, copy / FOLDER, findings)
    text, manifest = (folder / "README.md").read_text("utf-8"), read_manifest(copy)
    for shown in (
        f"| train | {manifest.splits['train'].rows:,} |",
        f"| held out | {manifest.documents['held out']:,} |",
        *(f"- {finding}" for finding in findings),
        manifest.sources[0]["sha256"][:16],
        '"mask_probability": 0.2',
    ):
        assert shown in text
    for name in ("lengths", "documents", "masking"):
        assert f"({name}.png)" in text
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()} == before
    assert verify(copy) == findings, "the card does not change the findings"
    assert write_card(copy, folder, ["once more"]) == folder
    assert "- once more" in (folder / "README.md").read_text("utf-8")


def test_a_folder_that_cannot_be_written_is_reported(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DatasetError, match=r"file/card: the card cannot be written \(.*\); name another .*--card DIR"):
        write_card(dataset, tmp_path / "file" / "card", [])
