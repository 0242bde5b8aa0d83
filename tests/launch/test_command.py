"""The command ``sesame``: help texts, and user errors as one sentence with exit code 2 and no output."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sesame import configs
from sesame.launch.__main__ import app
from tests.launch.conftest import Command, UserError

SHIPPED = Path(configs.__file__).parent
REPOSITORY = SHIPPED.parent
COMMANDS = (
    "prepare",
    "inspect",
    "verify",
    "pretrain",
    "evaluate",
    "probe-tasks",
    "export",
    "import",
    "fetch-glue",
    "compile",
    "doctor",
    "demo",
)


def prepare_text(folder: Path, text: bytes) -> list[str]:
    """Arguments that prepare a corpus of one text file with this content."""
    path = folder / "corpus.txt"
    path.write_bytes(text)
    return prepare_file(folder, path)


def prepare_file(folder: Path, path: Path) -> list[str]:
    """Arguments that prepare a corpus of one text file."""
    overrides = ["--set", "source.kind=text", "--set", f"source.paths=['{path}']", "--set", "workers.count=1"]
    return ["prepare", str(SHIPPED / "corpus" / "demo.toml"), *overrides, "--output", str(folder / "dataset")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: sesame {command}" in result.output


def test_without_arguments_all_commands_are_listed() -> None:
    output = CliRunner().invoke(app, []).output
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["prepare", "--help"], ["verify", "--help"], ["prepare", "no.toml"]])
def test_the_data_commands_do_not_import_torch(arguments: list[str]) -> None:
    program = (
        "import sys\nfrom sesame.launch.__main__ import main\nsys.argv = ['sesame', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'deepspeed', 'megatron', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_prepare_a_missing_config(user_error: UserError, tmp_path: Path) -> None:
    assert "no such configuration file" in user_error("prepare", tmp_path / "no.toml")


def test_prepare_an_unknown_key(user_error: UserError, tmp_path: Path) -> None:
    sentence = user_error(*prepare_file(tmp_path, tmp_path), "--set", "source.colour=red")
    assert "unknown key 'source.colour'" in sentence


def test_prepare_a_wrong_type(user_error: UserError, tmp_path: Path) -> None:
    assert "'seed' = 'seven'" in user_error(*prepare_file(tmp_path, tmp_path), "--set", "seed=seven")


def test_prepare_a_missing_corpus(user_error: UserError, tmp_path: Path) -> None:
    assert "no-such.txt" in user_error(*prepare_file(tmp_path, tmp_path / "no-such.txt"))


def test_prepare_an_empty_corpus(user_error: UserError, tmp_path: Path) -> None:
    assert "corpus.txt" in user_error(*prepare_text(tmp_path, b""))


def test_prepare_invalid_utf8(user_error: UserError, tmp_path: Path) -> None:
    sentence = user_error(*prepare_text(tmp_path, b"A good line.\nA bad \xff line.\n" * 50))
    assert "corpus.txt" in sentence
    assert "UTF-8" in sentence


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_missing_dataset(user_error: UserError, tmp_path: Path, command: str) -> None:
    assert "no-dataset" in user_error(command, tmp_path / "no-dataset")


def test_pretrain_without_its_dataset(user_error: UserError, tmp_path: Path) -> None:
    arguments = ["--set", f"data.dataset={tmp_path / 'no-dataset'}", "--output", tmp_path / "run"]
    assert "no-dataset" in user_error("pretrain", SHIPPED / "pretrain" / "demo.toml", *arguments)


def test_pretrain_an_unknown_key_is_reported_before_processes_start(user_error: UserError, tmp_path: Path) -> None:
    arguments = ["--set", "colour=red", "--output", tmp_path / "run", "--processes", "2"]
    assert "unknown key 'colour'" in user_error("pretrain", SHIPPED / "pretrain" / "demo.toml", *arguments)


@pytest.mark.parametrize("option", ["--checkpoint", "--data-dir"])
def test_evaluate_without_a_folder(user_error: UserError, tmp_path: Path, option: str) -> None:
    options = {"--checkpoint": tmp_path, "--data-dir": tmp_path, "--output": tmp_path / "evaluation"}
    del options[option]
    arguments = [argument for pair in options.items() for argument in pair]
    assert f"use {option} DIR" in user_error("evaluate", SHIPPED / "evaluation" / "probe.toml", *arguments)


def test_evaluate_takes_its_folders_from_the_file_or_the_options(
    sesame: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from sesame.evaluation import evaluate

    folders = []
    monkeypatch.setattr(
        evaluate,
        "evaluate",
        lambda config, output, command: folders.append((config.checkpoint, config.data_dir, output)),
    )
    suite = tmp_path / "small.toml"
    suite.write_text('checkpoint = "run"\ndata_dir = "tasks"\n[suite]\ntasks = ["RTE"]\n')
    sesame("evaluate", suite)
    sesame("evaluate", suite, "--checkpoint", "7", "--data-dir", "glue", "--output", "out")
    assert folders == [
        (Path("run"), Path("tasks"), Path("evaluation/run/small").absolute()),
        (Path("7"), Path("glue"), Path("out")),
    ]


def test_evaluate_a_missing_checkpoint(user_error: UserError, tmp_path: Path) -> None:
    suite = SHIPPED / "evaluation" / "probe.toml"
    arguments = ["--checkpoint", tmp_path / "no-run", "--data-dir", tmp_path, "--output", tmp_path / "evaluation"]
    assert "no-run" in user_error("evaluate", suite, *arguments)


def test_probe_tasks_without_a_dataset(user_error: UserError, tmp_path: Path) -> None:
    assert "no-dataset" in user_error("probe-tasks", tmp_path / "no-dataset", tmp_path / "tasks")


def test_fetch_glue_without_huggingface_hub(
    user_error: UserError, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "sesame.evaluation.fetch", raising=False)
    assert "sesame[hub]" in user_error("fetch-glue", tmp_path / "glue")


def test_an_output_folder_keeps_its_name(sesame: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from sesame.data_pipeline import prepare

    outputs = []
    monkeypatch.setattr(prepare, "prepare", lambda config: outputs.append(config.output))
    for name in ("7", "true", "it's", 'a "b" \\ c', "übung"):
        sesame("prepare", SHIPPED / "corpus" / "demo.toml", "--output", name)
    assert outputs == [Path(name) for name in ("7", "true", "it's", 'a "b" \\ c', "übung")]
