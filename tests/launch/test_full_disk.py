"""A disk that becomes full: one sentence with the file, exit code 2, nothing that a later run takes for whole; and with
more space the same command continues and ends with the same bytes.

The disk is a small file system in memory, mounted where only the commands of the test see it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from sesame.configs.storage import digest
from tests.launch.conftest import TINY_RUN
from tests.launch.test_pretraining import LAUNCHERS

ROOT = Path(__file__).parents[2]
SESAME = (sys.executable, "-m", "sesame")
NAMESPACES = (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount"))
"""Ways to mount something that nobody else sees, as root and as another user."""
SCRIPT = """
disk=$1 kilobytes=$2
shift 2
mount -t tmpfs -o "size=${kilobytes}k" none "$disk" || exit
"$@" >"$disk.1.out" 2>"$disk.1.err"
echo $? >"$disk.1.code"
cp -r "$disk" "$disk.full"
mount -o remount,size=1g "$disk"
"$@" >"$disk.2.out" 2>"$disk.2.err"
echo $? >"$disk.2.code"
cp -r "$disk" "$disk.kept"
"""


class Attempt(NamedTuple):
    """What a command has done."""

    code: int
    out: str
    err: str


class Attempts(NamedTuple):
    """A command on a full disk, and again with more space."""

    full: Attempt
    left: Path
    """Copy of what the first has left."""
    again: Attempt
    kept: Path
    """Copy of the disk after the second."""


@pytest.fixture(scope="session")
def namespace() -> tuple[str, ...]:
    for words in NAMESPACES:
        if shutil.which(words[0]) and not subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
            return words
    pytest.skip("this user may not mount a file system of its own (unshare --mount)")


def run_command(*words: str | Path) -> None:
    """Run a command that must succeed, outside of any job."""
    keep = {key: value for key, value in os.environ.items() if not key.startswith(LAUNCHERS)}
    subprocess.run([*map(str, words)], check=True, cwd=ROOT, env=keep | {"OMP_NUM_THREADS": "1"})


@pytest.fixture
def on_disk(namespace: tuple[str, ...], tmp_path: Path) -> Callable[..., Attempts]:
    """``on_disk(kilobytes, *arguments)`` runs ``sesame`` twice; DISK in an argument stands for the small disk."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def run(kilobytes: int, *arguments: str | Path) -> Attempts:
        words = [str(each).replace("DISK", str(disk)) for each in arguments]
        run_command(*namespace, "sh", "-c", SCRIPT, "sh", disk, str(kilobytes), *SESAME, *words)

        def attempt(number: int) -> Attempt:
            out, err, code = (disk.with_name(f"disk.{number}.{name}").read_text() for name in ("out", "err", "code"))
            return Attempt(int(code), out, err)

        return Attempts(attempt(1), disk.with_name("disk.full"), attempt(2), disk.with_name("disk.kept"))

    return run


def require_one_sentence(attempt: Attempt) -> str:
    """Return the path in the sentence, relative to the disk."""
    assert attempt.code == 2, attempt
    lines = [line for line in attempt.err.splitlines() if "sesame" in line or "Traceback" in line]
    assert len(lines) == 1, attempt.err
    found = re.search(r"sesame: \S*/disk/(\S+): ", lines[0])
    assert found and "no space left on device" in lines[0].lower(), attempt.err
    assert "the same command" in lines[0], attempt.err
    return found[1]


def digests(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*") if path.is_file()}


PREPARE = {
    "seed": "1",
    "segment.kind": "next_sentence",
    "segment.sequence_length": "48",
    "tokenizer.vocabulary_size": "320",
    "shards.rows_per_shard": "500",
    "workers.count": "1",
}


@pytest.fixture(scope="session")
def prepare_words(corpus: Path) -> list[str | Path]:
    changes = {**PREPARE, "source.paths": json.dumps([str(corpus)]), "source.kind": "json_lines"}
    words = [word for key, value in changes.items() for word in ("--set", f"{key}={value}")]
    return ["prepare", "configs/corpus/books.toml", *words]


@pytest.fixture(scope="session")
def prepared(prepare_words: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Digests of what is prepared undisturbed."""
    output = tmp_path_factory.mktemp("prepared") / "whole"
    run_command(*SESAME, *prepare_words, "--output", output)
    return digests(output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kilobytes", "file"),
    [
        (8, r"dataset\.partial/"),
        (300, r"dataset\.partial/work/"),
        (900, r"dataset\.partial/"),
    ],
)
def test_prepare_continues_when_the_disk_has_space(
    on_disk: Callable[..., Attempts],
    prepare_words: list[str | Path],
    prepared: dict[str, str],
    kilobytes: int,
    file: str,
) -> None:
    attempts = on_disk(kilobytes, *prepare_words, "--output", "DISK/dataset")
    assert re.match(file, require_one_sentence(attempts.full))
    assert not (attempts.left / "dataset").exists()
    assert attempts.again.code == 0, attempts.again
    assert digests(attempts.kept / "dataset") == prepared
    assert sorted(each.name for each in attempts.kept.iterdir()) == ["dataset"]


REPORTS = """
[report]
every_steps = 1
validate_every_steps = 3
validation_rows = 8
[checkpoint]
save_every_steps = 1
"""


@pytest.fixture(scope="session")
def run_file(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "run.toml"
    path.write_text(TINY_RUN.format(dataset=dataset, steps=3) + REPORTS)
    return path


@pytest.fixture(scope="session")
def trained(run_file: Path) -> Path:
    """The output of an undisturbed run."""
    output = run_file.with_name("undisturbed")
    run_command(*SESAME, "pretrain", run_file, "--output", output)
    return output


def weights(run: Path) -> dict[str, str]:
    last = run / "checkpoints" / "step-00000003"
    return {path.name: digest(path) for path in last.glob("*.safetensors")}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kilobytes", "processes", "file"),
    [
        (4, 1, r"run/tensorboard/"),
        (300, 1, r"run/checkpoints/step-00000001"),
        (1000, 1, r"run/checkpoints/step-0000000[23]"),
        (1000, 2, r"run/checkpoints/step-0000000[23]"),
    ],
)
def test_pretrain_continues_when_the_disk_has_space(
    on_disk: Callable[..., Attempts], run_file: Path, trained: Path, kilobytes: int, processes: int, file: str
) -> None:
    several = ["--processes", str(processes)] if processes > 1 else []
    attempts = on_disk(kilobytes, "pretrain", run_file, "--output", "DISK/run", *several)
    assert re.match(file, require_one_sentence(attempts.full))
    complete = [each for each in (attempts.left / "run" / "checkpoints").glob("step-*") if each.suffix != ".partial"]
    assert all((each / "checkpoint.json").read_text().endswith("}") for each in complete)
    assert attempts.again.code == 0, attempts.again
    steps = [json.loads(line) for line in (attempts.kept / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in steps if "train" in row] == [1, 2, 3]
    if processes == 1:
        assert weights(attempts.kept / "run") == weights(trained)


SUITE = """
[suite]
tasks = ["Letters"]
seeds = [1, 2]
baseline = false
[finetune]
learning_rate = 1e-3
epochs = 1
batch_size = 8
sequence_length = 16
[[own_task]]
name = "Letters"
metrics = ["accuracy"]
labels = ["a", "z"]
train = { file = "letters/train.jsonl", texts = ["text"], label = "label" }
dev = { file = "letters/dev.jsonl", texts = ["text"], label = "label" }
"""


@pytest.fixture(scope="session")
def evaluate_words(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    folder = tmp_path_factory.mktemp("letters")
    (folder / "tasks" / "letters").mkdir(parents=True)
    rows = [{"text": label * 3 + " " + label, "label": label} for label in "azazazaz" * 8]
    for split, mark in (("train", ""), ("dev", "z")):
        # Other rows than those that it is trained on.
        lines = [json.dumps({**row, "text": row["text"] + mark}) for row in rows]
        (folder / "tasks" / "letters" / f"{split}.jsonl").write_text("\n".join(lines) + "\n")
    suite = folder / "suite.toml"
    suite.write_text(SUITE)
    return ["evaluate", suite, "--checkpoint", trained, "--data-dir", folder / "tasks", "--output"]


def scores(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())["tasks"]["Letters"]["metrics"]


@pytest.fixture(scope="session")
def scored(evaluate_words: list[str | Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Scores of an undisturbed evaluation."""
    output = tmp_path_factory.mktemp("scored") / "whole"
    run_command(*SESAME, *evaluate_words, output)
    return scores(output)


@pytest.mark.slow
@pytest.mark.parametrize(("kilobytes", "file"), [(4, r"scores/results/"), (16, r"scores/\S+")])
def test_evaluate_continues_when_the_disk_has_space(
    on_disk: Callable[..., Attempts],
    evaluate_words: list[str | Path],
    scored: dict[str, Any],
    kilobytes: int,
    file: str,
) -> None:
    attempts = on_disk(kilobytes, *evaluate_words, "DISK/scores")
    assert re.match(file, require_one_sentence(attempts.full))
    assert not (attempts.left / "scores" / "report.md").exists()
    assert attempts.again.code == 0, attempts.again
    assert scores(attempts.kept / "scores") == scored
