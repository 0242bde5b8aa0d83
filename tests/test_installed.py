"""The wheel: it works from any folder, and beside other packages with the names of Sesame's folders."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCES = ("sesame", "configs", "data_pipeline", "pretrain", "evaluation", "launch", "pyproject.toml", "README.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the unpacked wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in (*SOURCES, "LICENSE"):
        if (REPOSITORY / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(REPOSITORY / name, folder / "source" / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(REPOSITORY / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-build-isolation", "--no-deps", "-w", folder]
    subprocess.run([*command, folder / "source"], check=True, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def working_folder(tmp_path: Path) -> Path:
    """Folder with packages of the user's that have the names of Sesame's folders."""
    for name in ("configs", "launch", "pretrain", "evaluation", "data_pipeline"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('another package was imported')\n")
    return tmp_path


def run(words: list[str], site: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(folder), str(site)])
    environment = os.environ | {"PYTHONPATH": paths, "SESAME_PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_one_package(site: Path) -> None:
    assert [path.name for path in site.iterdir() if not path.name.endswith(".dist-info")] == ["sesame"]
    assert (site / "sesame" / "launch" / "pretrain.sh").is_file()
    assert not any(path.is_symlink() for path in site.rglob("*"))


def test_shipped_configurations_are_listed(site: Path, working_folder: Path) -> None:
    done = run([sys.executable, "-m", "sesame", "configs"], site, working_folder)
    assert done.returncode == 0, done.stderr
    assert "pretrain/demo " in done.stdout


@pytest.mark.parametrize("form", ["command", "script"])
def test_a_bare_name_is_found(form: str, site: Path, working_folder: Path) -> None:
    script = ["bash", str(site / "sesame" / "launch" / "pretrain.sh"), "--config", "demo"]
    words = {"command": [sys.executable, "-m", "sesame", "pretrain", "demo"], "script": script}[form]
    done = run([*words, "--set", "data.dataset=absent"], site, working_folder)
    assert done.returncode == 2, done.stderr
    assert "absent" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_prepare_and_pretrain(site: Path, working_folder: Path, corpus: Path) -> None:
    lines = ['output = "dataset"', "[source]", 'kind = "json_lines"', f'paths = ["{corpus}"]']
    lines += ["[tokenizer]", "vocabulary_size = 320", "[workers]", "count = 2"]
    lines += ["[segment]", 'kind = "full_sentences"', "sequence_length = 48"]
    (working_folder / "corpus.toml").write_text("\n".join(lines) + "\n")
    done = run([sys.executable, "-m", "sesame", "prepare", "corpus.toml"], site, working_folder)
    assert done.returncode == 0, done.stderr
    words = [sys.executable, "-m", "sesame", "pretrain", "demo", "--processes", "2", "--output", "run"]
    words += ["--set", "data.dataset=dataset", "--set", "steps=2", "--set", "objectives={masked_lm=1.0}"]
    done = run(words, site, working_folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list((working_folder / "run").rglob("checkpoint.json"))
