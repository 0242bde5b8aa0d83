"""Shipped configurations are found by name from any folder; files of the user come first."""

from pathlib import Path

import pytest

from sesame.configs.shipped import FOLDER, descriptions, find


@pytest.mark.parametrize(
    ("text", "kind", "expected"),
    [
        ("demo", "pretrain", "pretrain/demo.toml"),
        ("demo", "corpus", "corpus/demo.toml"),
        ("demo.toml", "corpus", "corpus/demo.toml"),
        ("pretrain/bert_large", None, "pretrain/bert_large.toml"),
        ("pretrain/bert_large", "pretrain", "pretrain/bert_large.toml"),
        ("configs/evaluation/glue.toml", "evaluation", "evaluation/glue.toml"),
        ("megatron_8.3b", "pretrain", "pretrain/megatron_8.3b.toml"),
    ],
)
def test_a_shipped_file_is_found(
    text: str, kind: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(text, kind) == FOLDER / expected


@pytest.mark.parametrize("text", ["own.toml", "other/demo.toml", "../pretrain/demo.toml", "/pretrain/demo", "", "glue"])
def test_other_paths_stay(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(text, "pretrain") == Path(text)


def test_a_file_of_the_user_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo.toml").touch()
    assert find("demo.toml", "pretrain") == Path("demo.toml")


@pytest.mark.parametrize(("text", "kind"), [("demo", "pretrain"), ("demo", "corpus"), ("pretrain/demo", None)])
def test_a_folder_of_the_same_name_is_no_file(
    text: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / text).mkdir(parents=True)
    assert find(text, kind) == FOLDER / (kind or "") / f"{text}.toml"


def test_every_shipped_file_is_described_in_a_line() -> None:
    listed = dict(descriptions())
    assert {f"{path.parent.name}/{path.stem}" for path in FOLDER.glob("*/*.toml")} == listed.keys()
    assert all(10 < len(text) < 300 for text in listed.values()), listed
