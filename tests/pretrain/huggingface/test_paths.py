"""Input and output paths of export and import that are special, invalid, full or protected."""

import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import ConversionError, SesameError
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.model_folder import WEIGHTS
from sesame.pretrain.huggingface.to_hf import export
from tests.pretrain.huggingface.damage import assert_refused, imported

transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")


@pytest.mark.parametrize("name", ["config.json", WEIGHTS, "vocab.txt"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "loop", "zero"])
def test_special_files_are_refused(name: str, kind: str, model: Path) -> None:
    (model / name).unlink()
    create: dict[str, Callable[[Path], Any]] = {
        "fifo": os.mkfifo,
        "folder": Path.mkdir,
        "loop": lambda path: path.symlink_to(path.name),
        "zero": lambda path: path.symlink_to("/dev/zero"),
    }
    create[kind](model / name)
    assert_refused(model, "regular file|cannot be read|has no|no such file")


def test_symbolic_links_are_read(model: Path) -> None:
    """As in the Hugging Face cache."""
    (model.parent / "blob").write_bytes((model / WEIGHTS).read_bytes())
    (model / WEIGHTS).unlink()
    (model / WEIGHTS).symlink_to("../blob")
    assert imported(model).family == "bert"


def test_files_beside_the_output_are_not_changed(model: Path) -> None:
    for name in ("keep.partial", "model-again.partial"):
        (model.parent / name).mkdir()
        (model.parent / name / "mine").write_text("x")
    import_model(model, model.parent / "keep")
    export(model.parent / "keep", model.parent / "model-again")
    for name in ("keep.partial", "model-again.partial"):
        assert (model.parent / name / "mine").read_text() == "x"
    assert len(list(model.parent.iterdir())) == 5


@pytest.mark.parametrize("command", [import_model, export])
@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("file", "exists and is not empty"),
        ("file/below", "cannot be written"),
        ("loop", "exists and is not empty"),
        ("loop/below", "cannot be written|exists and is not empty"),
        ("x" * 300, "cannot be written"),
        ("new/" + "x" * 300, "cannot be written"),
        ("a\0b", "is not a valid path"),
    ],
    ids=["file", "below", "loop", "below a loop", "long", "long below", "null"],
)
def test_invalid_output_paths_are_refused(command: Any, output: str, sentence: str, model: Path) -> None:
    source = imported(model).folder if command is export else model
    (model.parent / "file").write_text("x")
    (model.parent / "loop").symlink_to("loop")
    before = sorted(model.parent.rglob("*"))
    with pytest.raises(ConversionError, match=sentence):
        command(source, model.parent / output)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.parametrize("command", [import_model, export])
@pytest.mark.parametrize("source", ["file", "loop", "x" * 300, "nothing", "a\0b"])
def test_invalid_input_paths_are_refused(command: Any, source: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "loop").symlink_to("loop")
    expected = r"is not a folder|cannot be read|is not a valid path|does not contain a checkpoint"
    with pytest.raises(SesameError, match=expected):
        command(tmp_path / source, tmp_path / "made")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "loop"]


@pytest.mark.parametrize("command", [import_model, export])
def test_a_full_disk_leaves_no_output(command: Any, model: Path) -> None:
    source = imported(model).folder if command is export else model
    before, limits = sorted(model.parent.rglob("*")), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
    try:
        with pytest.raises(ConversionError, match="made: cannot be written"):
            command(source, model.parent / "new" / "made")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(model.parent.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root has all permissions")
def test_folders_without_permission_are_refused(model: Path) -> None:
    (model.parent / "closed").mkdir(0o500)
    with pytest.raises(ConversionError, match="cannot be written"):
        import_model(model, model.parent / "closed" / "checkpoint")
    (model / "config.json").chmod(0)
    assert_refused(model, r"config\.json: cannot be read")


def test_output_to_a_link_to_an_empty_folder(model: Path) -> None:
    (model.parent / "empty").mkdir()
    (model.parent / "link").symlink_to("empty")
    import_model(model, model.parent / "link")
    assert (model.parent / "empty" / "checkpoint.json").is_file()
