"""Every command of the documents is understood as it is written, and runs where one machine is enough."""

import importlib.util
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from sesame import configs
from sesame.data_pipeline.config import CorpusConfig
from sesame.data_pipeline.sources import SourceConfig, read, units
from sesame.launch import pretraining
from sesame.launch.__main__ import app
from sesame.pretrain.config import RunConfig
from tests import documents
from tests.documents import LANGUAGES, PAGES, REPOSITORY, STAGES, Command

COMMANDS = [command for page in PAGES for command in documents.commands(page)]
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""What a wrong command line raises, wherever typer takes the class from."""
GIVEN = ("corpus/documents.jsonl", "notes/documents.txt")
"""Text of the user's own that commands read."""
NOT_HERE: dict[str, str] = {
    "--hostfile": "needs several machines",
    "srun ": "needs Slurm; tests/launch/doctor/test_slurm.py",
    "sesame submit": "needs Slurm; tests/launch/test_slurm.py",
    "NNODES=": "needs several machines",
    "docker ": "needs docker; tests/docker/test_images.py",
    "kubectl ": "needs Kubernetes; tests/launch/test_kubernetes.py",
    "sesame compare": "needs two evaluations with five seeds; tests/evaluation/report/test_report_page.py",
    "glue": "needs GLUE, which is a download",
    "clue": "needs CLUE, which is a download",
    "pip ": "changes the installation",
    "tensorboard ": "serves until it is stopped",
    ". .venv/": "changes the shell",
    "make ": "`make demo` is tests/launch/test_demo.py, and the other targets run the tests",
    "pytest": "runs the tests",
    "settings_table": "is compared with docs/resume.md in tests/pretrain/checkpoints/test_changed_settings.py",
    "--help": "tests/launch/test_command.py",
}
"""What is in a command that is parsed but not run on one machine of two cores, and why."""


def override(changes: list[str]) -> list[str]:
    return [word for change in changes for word in ("--set", change)]


def check_sesame(words: list[str], _: Command) -> None:
    """Parse by the application and its configuration classes; raises what a user would be shown."""
    command: Any = typer.main.get_command(app)
    assert words[0] in command.commands, words
    if "--help" in words:
        return
    found = command.commands[words[0]].make_context(words[0], words[1:]).params
    if words[0] in STAGES:
        name, kind = STAGES[words[0]]
        configs.load(found[name], kind, found["overrides"] or ())


class Parsed(Exception):
    """Raised in place of training."""


def check_trainer(words: list[str]) -> RunConfig:
    """Parse what each process of the launch script gets, stop before it trains, and return its configuration."""
    load, found = configs.load, []

    def loaded(*given: Any) -> None:
        found.append(load(*given))
        raise Parsed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Parsed):
        patch.setenv("RANK", "0")
        patch.setattr(configs, "load", loaded)
        patch.setattr(sys, "argv", ["pretrain.sh", *words])
        pretraining.main()
    return found[0]


def check_deepspeed(words: list[str], _: Command) -> None:
    from deepspeed.launcher.runner import parse_args

    found: Any = parse_args(words)
    assert Path(found.user_script).samefile(REPOSITORY / "launch" / "pretrain.sh")
    check_trainer(found.user_args)


def check_script(words: list[str], command: Command) -> None:
    """Run the launch script with a Python that only prints what it is started with."""
    here = {"MASTER_ADDR": "host0", "SLURM_NNODES": "2", "SLURM_NODEID": "0"} if "srun" in command.text else {}
    environment = os.environ | here | command.environment | {"SESAME_PYTHON": "echo"}
    done = subprocess.run(["bash", *words], env=environment, capture_output=True, text=True, check=True)
    printed = done.stdout.split()
    if printed[0] == "-m":
        assert printed[1] == "deepspeed.launcher.runner"
        check_deepspeed(printed[2:], command)
        return
    number = printed.index("--processes") if "--processes" in printed else len(printed)
    config = check_trainer([*printed[1:number], *printed[number + 2 :]])
    if number < len(printed):
        machines = int(environment.get("NNODES") or environment.get("SLURM_NNODES") or 1)
        config.data.batch_plan(machines * int(printed[number + 1]) // config.parallel.tensor)


def check_started(words: list[str], command: Command) -> None:
    """What Slurm or torchrun starts: the command, or the launch script as bash or as Python."""
    started = next(number for number, word in enumerate(words) if word in ("sesame", "bash", "launch/pretrain.sh"))
    rest = words[started + 1 :]
    if words[started] == "sesame":
        check_sesame(rest, command)
    elif words[started] == "bash":
        check_script(rest, command)
    else:
        check_trainer(rest)


def check_make(words: list[str], _: Command) -> None:
    subprocess.run(["make", "--dry-run", *words], check=True, capture_output=True)
    variables = {word.partition("=")[0] for word in words if "=" in word}
    assert all(f"$({name})" in (REPOSITORY / "Makefile").read_text(encoding="utf-8") for name in variables)


def check_python(words: list[str], _: Command) -> None:
    """The module or script exists, and knows each option."""
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words[1]
        named = [word for word in words[2:] if "/" in word]
        assert all((REPOSITORY / word).exists() for word in named), named
    else:
        text = (REPOSITORY / words[0]).read_text(encoding="utf-8")
        assert all(word in text for word in words if word.startswith("--"))


def check_docker(words: list[str], command: Command) -> None:
    if words[0] == "build":
        text = (REPOSITORY / words[words.index("-f") + 1]).read_text(encoding="utf-8")
        given = [after for before, after in itertools.pairwise(words) if before == "--build-arg"]
        assert all(f"ARG {argument.partition('=')[0]}=" in text for argument in given), given
    elif words[0] == "compose":
        file = yaml.safe_load((REPOSITORY / words[words.index("-f") + 1]).read_text(encoding="utf-8"))
        assert words[-1] in file["services"]
    else:
        image = next(number for number, word in enumerate(words) if word.startswith("sesame-"))
        check_sesame(words[image + 1 :], command)


def check_kubectl(words: list[str], command: Command) -> None:
    if words[0] in ("apply", "delete"):
        assert words[1] == "-f"
        assert (REPOSITORY / words[2]).is_file()
        return
    shell = yaml.safe_load((REPOSITORY / "launch" / "kubernetes" / "shell.yaml").read_text(encoding="utf-8"))
    pod = next(word.partition(":")[0] for word in words[1:] if word.startswith("sesame-"))
    assert pod == shell["metadata"]["name"]
    if words[0] == "exec":
        check_sesame(words[words.index("--") + 2 :], command)


def check_pip(words: list[str], _: Command) -> None:
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = re.findall(r"\[(.*)\]", words[-1])[0].split(",")
    assert set(named) <= set(extras["optional-dependencies"])


def nothing(words: list[str], _: Command) -> None:
    """There is nothing to check that is ours."""


PROGRAMS: dict[str, Callable[[list[str], Command], None]] = {
    "sesame": check_sesame,
    "deepspeed": check_deepspeed,
    "bash": check_script,
    "srun": check_started,
    "sbatch": lambda words, command: check_started(words[words.index("--wrap") + 1].split(), command),
    "make": check_make,
    ".venv/bin/python": check_python,
    "docker": check_docker,
    "kubectl": check_kubectl,
    "mkdir": nothing,
    "pip": check_pip,
    "tensorboard": nothing,
    "torchrun": check_started,
    ".": nothing,
}


@pytest.fixture(autouse=True)
def in_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)


def refused(command: Command) -> bool:
    """Whether the document shows that the command is refused."""
    return command.output.startswith("sesame: ")


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_is_understood(command: Command) -> None:
    program, *words = command.words
    try:
        PROGRAMS[program](words, command)
    except configs.ConfigError as error:
        assert refused(command), error
        assert shown(f"sesame: {error}") == shown(command.output)


def shown(text: str) -> str:
    """A message without its line breaks."""
    return " ".join(text.split())


@pytest.mark.parametrize("words", [["prepare"], ["prepare", "x.toml", "--colour"], ["pretrain", "configs/no.toml"]])
def test_a_wrong_command_is_found(words: list[str]) -> None:
    with pytest.raises((USAGE_ERROR, configs.ConfigError)):
        check_sesame(words, COMMANDS[0])


def test_every_command_stands_where_the_tests_find_it() -> None:
    for page in PAGES:
        for block in documents.blocks(page):
            assert block.language in LANGUAGES, f"{page}:{block.line}: a block of an unknown language"
            if block.language in ("text", "indented"):
                first = {line.split(" ")[0] for line in block.text.split("\n") if " " in line}
                assert not first & set(PROGRAMS), f"{page}:{block.line}: write commands into a block ```sh"


def small(command: Command) -> list[str]:
    """Changes with which a command takes seconds; ``--set`` of the last one counts."""
    words = command.words
    stage = next((name for name in STAGES if name in words or f"launch/{name}.sh" in words), None)
    if stage is None:
        return []
    if stage == "evaluate":
        return override(["finetune.limit_train_rows=32", "finetune.epochs=1", "suite.seeds=[1]", "suite.threads=1"])
    path = next(word for word in words if word.endswith(".toml"))
    given = [after for before, after in itertools.pairwise(words) if before == "--set"]
    config = configs.load(REPOSITORY / path, STAGES[stage][1], given)
    if isinstance(config, RunConfig):
        return override(
            [
                f"steps={max(1, min(20, (config.steps or 1000) // 50))}",
                "report.validation_rows=64",
                "parallel.threads=1",
            ]
        )
    assert isinstance(config, CorpusConfig)
    size = [] if config.tokenizer.model else ["tokenizer.vocabulary_size=1024"]
    limit = ["source.limit_megabytes=2"] if config.source[0].kind == "python_documentation" else []
    return override([*size, *limit, "shards.validation_fraction=0.2", "workers.count=2"])


def reason_not_to_run(command: Command) -> str | None:
    return next((reason for part, reason in NOT_HERE.items() if part in command.text), None)


def test_every_reason_not_to_run_a_command_is_one_of_some_command() -> None:
    used = Counter(part for command in COMMANDS for part in NOT_HERE if part in command.text)
    assert set(used) == set(NOT_HERE)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    """A folder as after `git clone` and `make`, with some text of the user's own."""
    for name in ("configs", "launch", "benchmarks", "docker"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    program = tmp_path / "bin" / "sesame"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m launch "$@"\n')
    program.chmod(0o755)
    source = SourceConfig(kind="python_documentation", limit_megabytes=1.0)
    texts = [text for unit in units(source)[:60] for text, _ in read(unit, source, Counter())]
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    for name, text in zip(GIVEN, (lines, "\n\n".join(texts)), strict=True):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(command.page == page for command in COMMANDS)])
def test_its_commands_run_one_after_the_other(page: str, workplace: Path) -> None:
    path = os.pathsep.join([str(workplace / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "SESAME_PYTHON": sys.executable}
    for command in documents.commands(page):
        if reason_not_to_run(command) is None:
            words = [*command.words, *small(command)] if not refused(command) else command.words
            done = subprocess.run(
                words, cwd=workplace, env=environment | command.environment, capture_output=True, text=True, check=False
            )
            assert done.returncode == (2 if refused(command) else 0), f"{command}\n{done.stdout}\n{done.stderr}"
            if refused(command):
                assert shown(done.stderr).endswith(shown(command.output)), str(command)
