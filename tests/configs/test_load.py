"""Strict loading: what is right comes back typed, what is wrong is one sentence that names the file and the key."""

from pathlib import Path

import pytest

import configs
from configs.errors import ConfigError


class Optimizer(configs.Section):
    learning_rate: float = 1e-4
    steps: int = 10


class Run(configs.Section):
    name: str = "run"
    paths: tuple[Path, ...] = ()
    optimizer: Optimizer = Optimizer()


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_typed_and_the_rest_keeps_its_default(tmp_path: Path) -> None:
    run = configs.load(written(tmp_path, 'paths = ["a", "b"]\n[optimizer]\nlearning_rate = 3e-4\n'), Run)
    assert run == Run(paths=(Path("a"), Path("b")), optimizer=Optimizer(learning_rate=3e-4))


def test_dump_and_parse_are_inverse() -> None:
    run = Run(name="x", paths=(Path("a"),), optimizer=Optimizer(steps=3))
    assert configs.parse(configs.dump(run), Run, "dump") == run


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("optimizer.steps=7", Run(optimizer=Optimizer(steps=7))),
        ("optimizer.learning_rate=1e-3", Run(optimizer=Optimizer(learning_rate=1e-3))),
        ("name=a bare word", Run(name="a bare word")),
        ('name="7"', Run(name="7")),
        ('paths=["a/b"]', Run(paths=(Path("a/b"),))),
    ],
)
def test_override(tmp_path: Path, override: str, expected: Run) -> None:
    assert configs.load(written(tmp_path, ""), Run, [override]) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nmae = 'x'", ["run.toml", "unknown key 'nmae'", "name, paths, optimizer"]),
        ("[optimizer]\nrate = 1.0", ["unknown key 'optimizer.rate'", "learning_rate, steps"]),
        ("[optimizer]\nsteps = 'ten'", ["'optimizer.steps' = 'ten'", "integer"]),
        ("[optimizer]\nsteps = 1.5", ["'optimizer.steps' = 1.5", "integer"]),
        ("[optimizer]\nlearning_rate = true", ["'optimizer.learning_rate'", "number"]),
        ("name = 3", ["'name' = 3", "string"]),
        ("name = = 3", ["not valid TOML", "line 1"]),
        (b"name = '\xff'", ["not UTF-8 at byte 8"]),
    ],
)
def test_a_wrong_file_is_one_sentence(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(written(tmp_path, text), Run)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(word in sentence for word in ["run.toml", *words]), sentence


@pytest.mark.parametrize("override", ["optimizer.steps", "=3", "name.first=3", "optimizer..steps=3"])
def test_a_wrong_override_is_one_sentence(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set"):
        configs.load(written(tmp_path, "name = 'x'"), Run, [override])


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        configs.load(tmp_path / "missing.toml", Run)
    with pytest.raises(ConfigError, match="is a folder"):
        configs.load(tmp_path, Run)
