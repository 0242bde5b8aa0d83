"""The command ``sesame``: bad input is one sentence and exit code 2 with nothing half-written; help helps."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import configs
from launch.__main__ import app, main

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
    "demo",
)


@pytest.fixture
def sesame(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; returns (exit code, stdout, stderr)."""

    def run(*words: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sesame", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def refused(sesame, tmp_path: Path):
    """The sentence with which the command refuses, once it is sure that it is one and that nothing was written."""

    def run(*words: str | Path) -> str:
        before = sorted(tmp_path.rglob("*"))
        code, _, error = sesame(*words)
        assert code == 2, error
        assert error.startswith("sesame: "), error
        assert error.count("\n") == 1, error
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return run


def corpus(folder: Path, text: bytes) -> list[str]:
    """Words that prepare a corpus of one text file with these bytes."""
    path = folder / "corpus.txt"
    path.write_bytes(text)
    return prepare_words(folder, path)


def prepare_words(folder: Path, path: Path) -> list[str]:
    change = ["--set", "source.kind=text", "--set", f"source.paths=['{path}']", "--set", "workers.count=1"]
    return ["prepare", str(SHIPPED / "corpus" / "demo.toml"), *change, "--output", str(folder / "dataset")]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200"})
    assert result.exit_code == 0
    assert f"Example: sesame {command}" in result.output


def test_without_words_it_shows_every_command() -> None:
    output = CliRunner().invoke(app, []).output
    assert all(command in output for command in COMMANDS)


@pytest.mark.parametrize("words", [["prepare", "--help"], ["verify", "--help"], ["prepare", "no.toml"]])
def test_the_data_side_starts_without_torch(words: list[str]) -> None:
    program = (
        "import sys\nfrom launch.__main__ import main\nsys.argv = ['sesame', *sys.argv[1:]]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'deepspeed', 'megatron', 'transformers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_prepare_a_missing_config(refused, tmp_path: Path) -> None:
    assert "no such configuration file" in refused("prepare", tmp_path / "no.toml")


def test_prepare_an_unknown_key(refused, tmp_path: Path) -> None:
    sentence = refused(*prepare_words(tmp_path, tmp_path), "--set", "source.colour=red")
    assert "unknown key 'source.colour'" in sentence


def test_prepare_a_wrong_type(refused, tmp_path: Path) -> None:
    assert "'seed' = 'seven'" in refused(*prepare_words(tmp_path, tmp_path), "--set", "seed=seven")


def test_prepare_a_missing_corpus(refused, tmp_path: Path) -> None:
    assert "no-such.txt" in refused(*prepare_words(tmp_path, tmp_path / "no-such.txt"))


def test_prepare_an_empty_corpus(refused, tmp_path: Path) -> None:
    assert "corpus.txt" in refused(*corpus(tmp_path, b""))


def test_prepare_invalid_utf8(refused, tmp_path: Path) -> None:
    sentence = refused(*corpus(tmp_path, b"A good line.\nA bad \xff line.\n" * 50))
    assert "corpus.txt" in sentence
    assert "UTF-8" in sentence


@pytest.mark.parametrize("command", ["verify", "inspect"])
def test_a_missing_dataset(refused, tmp_path: Path, command: str) -> None:
    assert "no-dataset" in refused(command, tmp_path / "no-dataset")


def test_pretrain_without_its_dataset(refused, tmp_path: Path) -> None:
    change = ["--set", f"data.dataset={tmp_path / 'no-dataset'}", "--output", tmp_path / "run"]
    assert "no-dataset" in refused("pretrain", SHIPPED / "pretrain" / "demo.toml", *change)


def test_pretrain_an_unknown_key_is_told_before_processes_start(refused, tmp_path: Path) -> None:
    words = ["--set", "colour=red", "--output", tmp_path / "run", "--processes", "2"]
    assert "unknown key 'colour'" in refused("pretrain", SHIPPED / "pretrain" / "demo.toml", *words)


def test_evaluate_a_missing_checkpoint(refused, tmp_path: Path) -> None:
    suite = SHIPPED / "evaluation" / "probe.toml"
    words = ["--checkpoint", tmp_path / "no-run", "--data-dir", tmp_path, "--output", tmp_path / "evaluation"]
    assert "no-run" in refused("evaluate", suite, *words)


def test_probe_tasks_without_a_dataset(refused, tmp_path: Path) -> None:
    assert "no-dataset" in refused("probe-tasks", tmp_path / "no-dataset", tmp_path / "tasks")


def test_fetching_without_its_package(refused, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.delitem(sys.modules, "evaluation.fetch", raising=False)
    assert "sesame[hub]" in refused("fetch-glue", tmp_path / "glue")


def test_an_output_folder_keeps_its_name(sesame, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_pipeline import prepare

    outputs = []
    monkeypatch.setattr(prepare, "prepare", lambda config: outputs.append(config.output))
    for name in ("7", "true", "it's", 'a "b" \\ c', "übung"):
        sesame("prepare", SHIPPED / "corpus" / "demo.toml", "--output", name)
    assert outputs == [Path(name) for name in ("7", "true", "it's", 'a "b" \\ c', "übung")]
