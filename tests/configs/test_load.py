"""Strict loading: values are typed, and an error is one sentence that names the file and the key."""

import re
from pathlib import Path

import pytest
from pydantic import Field

from sesame import configs
from sesame.configs.errors import ConfigError


class Optimizer(configs.Section):
    learning_rate: float = 1e-4
    steps: int = 10


class Run(configs.Section):
    name: str = "run"
    paths: tuple[Path, ...] = ()
    optimizer: Optimizer = Optimizer()


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "run.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_values_are_typed_and_missing_keys_have_their_default(tmp_path: Path) -> None:
    run = configs.load(write(tmp_path, 'paths = ["a", "b"]\n[optimizer]\nlearning_rate = 3e-4\n'), Run)
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
    assert configs.load(write(tmp_path, ""), Run, [override]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nmae = 'x'", ["run.toml", "unknown key 'nmae'", "name, paths, optimizer"]),
        ("[optimizer]\nrate = 1.0", ["unknown key 'optimizer.rate'", "learning_rate, steps"]),
        ("[optimizer]\nsteps = 'ten'", ["'optimizer.steps' = 'ten'", "integer"]),
        ("[optimizer]\nsteps = 1.5", ["'optimizer.steps' = 1.5", "integer"]),
        ("[optimizer]\nlearning_rate = true", ["'optimizer.learning_rate'", "number"]),
        ("name = 3", ["'name' = 3", "string"]),
        ("name = = 3", ["not valid TOML", "line 1"]),
        (b"name = '\xff'", ["not UTF-8 at byte 8"]),
        ("[optimizer]\nlearning_rate = nan", ["'optimizer.learning_rate' = nan", "finite"]),
        ("[optimizer]\nlearning_rate = -inf", ["'optimizer.learning_rate' = -inf", "finite"]),
        ("[optimizer]\nlearning_rate = 1e999", ["'optimizer.learning_rate' = inf", "finite"]),
        ("unknown = [{a = [nan]}]", ["'unknown.0.a.0' = nan"]),
        ("[optimizer]\nsteps = " + "9" * 30, ["'optimizer.steps' is a number of 25 hexadecimal digits"]),
        ("[optimizer]\nsteps = " + "9" * 5000, ["not valid TOML"]),
        ("name = " + "[" * 100_000, ["not valid TOML"]),
        ("name = " + "[" * 300 + "]" * 300, ["run.toml"]),
        ("a." * 5000 + "b = 1", ["run.toml"]),
        ('name = "a\\u0000b"', ["'name' contains NUL"]),
        ('"n\\nm" = 1', ["unknown key 'n\\nm'"]),
        ("name = [" + "1," * 5000 + "]", ["'name' = [1, 1,", "..."]),
    ],
)
def test_an_error_in_a_file_is_one_sentence(tmp_path: Path, text: str | bytes, expected: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        configs.load(write(tmp_path, text), Run)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert all(part in sentence for part in ["run.toml", *expected]), sentence


INVALID_OVERRIDES = ["optimizer.steps", "=3", "name.first=3", "optimizer..steps=3", "name=x\noptimizer.steps=3"]
INVALID_OVERRIDES += [
    "name=x\r",
    "name=\x00",
    "optimizer.steps=" + "9" * 5000,
    "name=" + "[" * 60_000,
    "name=" + "x" * 70_000,
]


@pytest.mark.parametrize("override", INVALID_OVERRIDES, ids=range(len(INVALID_OVERRIDES)))
def test_an_error_in_an_override_is_one_sentence(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="--set") as caught:
        configs.load(write(tmp_path, "name = 'x'"), Run, [override])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "override", ["optimizer.learning_rate=nan", "a." * 3000 + "b=1", "name='\udcff'", "name=\udcff"]
)
def test_an_override_with_an_invalid_value_is_one_sentence(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match=r"run\.toml"):
        configs.load(write(tmp_path, ""), Run, [override])


class Output(configs.Section):
    output: Path
    checkpoint: Path | None = None


def test_an_empty_path_is_an_error(tmp_path: Path) -> None:
    path = write(tmp_path, 'output = "folder"')
    for key in ("output", "checkpoint"):
        for value in ("", '""'):
            with pytest.raises(ConfigError, match=f"'{key}' is empty; name a folder"):
                configs.load(path, Output, [f"{key}={value}"])


def test_devices_and_large_files_are_not_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a device or larger than"):
        configs.load("/dev/zero", Run)
    large = tmp_path / "large.toml"
    with large.open("wb") as file:
        file.truncate(configs.LARGEST_FILE + 1)
    with pytest.raises(ConfigError, match="is a device or larger than"):
        configs.load(large, Run)


def test_a_byte_order_mark_is_left_out(tmp_path: Path) -> None:
    assert configs.load(write(tmp_path, b"\xef\xbb\xbfname = 'x'"), Run).name == "x"


class Lists(configs.Section):
    numbers: tuple[int, ...] = Field(default=(), min_length=1)
    table: dict[str, int] = Field(default_factory=dict)
    section: Run = Run()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("numbers = []", "'numbers' = []: array should have at least 1 item, not 0"),
        ("numbers = 1", "'numbers' = 1: input should be a valid array"),
        ("table = 1", "'table' = 1: input should be a table"),
        ("section = 1", "'section' = 1: input should be a table"),
    ],
)
def test_types_are_named_as_in_toml(text: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=re.escape(expected)):
        configs.load(write(tmp_path, text), Lists)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration file"):
        configs.load(tmp_path / "missing.toml", Run)
    with pytest.raises(ConfigError, match="is a folder"):
        configs.load(tmp_path, Run)
