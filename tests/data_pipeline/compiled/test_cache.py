"""Loops are compiled once: by one of the processes that start together, or before by `sesame compile`."""

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from sesame import configs
from sesame.data_pipeline.compiled import cache
from sesame.data_pipeline.config import CorpusConfig

REPOSITORY = Path(__file__).parents[3]
COUNT = """
import numpy as np
from sesame.data_pipeline.compiled.random_numbers import random_bits
print("ready", flush=True)
random_bits(np.zeros(1, np.uint64))
print(sum(random_bits.stats.cache_misses.values()), sum(random_bits.stats.cache_hits.values()))
"""
"""Calls one small loop and prints how often it was compiled and loaded."""


def started(kept: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """Start a Python process that caches compiled loops in ``kept``."""
    variables = os.environ | {"NUMBA_CACHE_DIR": str(kept), "PYTHONPATH": str(REPOSITORY)} | environment
    return subprocess.Popen(
        [sys.executable, *words], env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def counts(process: subprocess.Popen[str]) -> tuple[int, int]:
    """Return (compilations, loads) of :data:`COUNT`."""
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    compiled, loaded = out.split()[-2:]
    return int(compiled), int(loaded)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Clear this process's knowledge of folders before and after."""
    known: tuple[Any, ...] = (cache.folders, cache.folder_name, cache.announce)
    for each in known:
        each.cache_clear()
    yield
    for each in known:
        each.cache_clear()


def test_processes_that_start_together_compile_once(tmp_path: Path) -> None:
    folder = tmp_path / cache.folder_name()
    folder.mkdir()
    with FileLock(folder / "lock"):
        processes = [started(tmp_path, "-c", COUNT) for _ in range(2)]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
    assert sorted(map(counts, processes)) == [(0, 1), (1, 0)]


def test_a_process_killed_while_it_compiles_does_not_block_others(tmp_path: Path) -> None:
    holding = """
from sesame.data_pipeline.compiled.random_numbers import random_bits
random_bits._cache._acquire()
print("held", flush=True)
input()
"""
    killed = subprocess.Popen(
        [sys.executable, "-c", holding],
        env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == b"held\n"
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert counts(started(tmp_path, "-c", COUNT)) == (1, 0)
    for kept in tmp_path.rglob("*.nbc"):
        kept.write_bytes(kept.read_bytes()[:100])
    assert counts(started(tmp_path, "-c", COUNT)) == (1, 0), "damaged code is compiled again"
    assert counts(started(tmp_path, "-c", COUNT)) == (0, 1)


def test_an_error_while_compiling_releases_the_lock(tmp_path: Path) -> None:
    failing = """
from sesame.data_pipeline.compiled.random_numbers import random_bits, uniform
try:
    uniform("no array")
except Exception as error:
    print(type(error).__name__, uniform._cache._lock, random_bits._cache._lock)
"""
    out, _ = started(tmp_path, "-c", failing).communicate(timeout=300)
    assert out.split()[-3:] == ["TypingError", "None", "None"]


@pytest.mark.usefixtures("fresh")
def test_a_changed_source_file_changes_the_folder_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = cache.folder_name()
    copied = shutil.copytree(cache.SOURCES, tmp_path / "compiled", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "SOURCES", copied)
    cache.folder_name.cache_clear()
    assert cache.folder_name() == before, "independent of the folder's place and times"
    (copied / "trie.py").write_text((copied / "trie.py").read_text() + "\n")
    cache.folder_name.cache_clear()
    assert cache.folder_name() != before
    assert cache.folder_name().split("-")[2] == before.split("-")[2], "the processor is the same"


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("installed", "writable", "chosen", "warning"),
    [
        (False, ("installed", "home"), False, None),
        (True, ("installed", "home"), False, None),
        (True, ("home",), False, None),
        (True, (), False, None),
        (False, ("home",), False, r"installed cannot be written; compiled loops are cached in .*home"),
        (False, (), False, r"cannot be cached .*installed and .*home cannot be written; set NUMBA_CACHE_DIR"),
        (True, ("installed",), True, r"chosen cannot be written; compiled loops are cached in .*installed"),
    ],
)
def test_unwritable_folders_are_reported_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    installed: bool,
    writable: tuple[str, ...],
    chosen: bool,
    warning: str | None,
) -> None:
    names = ("chosen", "installed", "home") if chosen else ("installed", "home")
    monkeypatch.setattr(cache, "parents", lambda: [tmp_path / name for name in names])
    monkeypatch.setattr(cache, "_can_be_written", lambda folder: folder.parent.name in writable)
    monkeypatch.delenv(cache.CHOSEN, raising=False)
    monkeypatch.setenv(cache.LAST_RESORT, "")
    if chosen:
        monkeypatch.setenv(cache.CHOSEN, str(tmp_path / "chosen"))
    if installed:
        folder = tmp_path / "installed" / cache.folder_name()
        folder.mkdir(parents=True)
        (folder / "random_numbers.random_bits.nbi").touch()
    for _ in range(2):
        cache.share(tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (warning is not None)
    assert warning is None or re.search(warning, lines[0])
    assert os.environ[cache.LAST_RESORT] == ("" if writable else str(tmp_path / "run"))
    if installed and not chosen:
        assert cache.folders()[0][0] == folder, "an installed cache is read even if it cannot be written"


CORPORA = {
    "pairs": {
        "tokenizer": {"kind": "unigram", "vocabulary_size": 320},
        "segment": {"kind": "next_sentence", "sequence_length": 32, "dupe_factor": 2},
        "corrupt": {"kind": "masked_ngrams"},
        "clean": {"drop_repeated_paragraphs": True, "repair_unicode": True},
    },
    "text": {
        "tokenizer": {"kind": "bpe", "vocabulary_size": 320, "sentinels": 20},
        "segment": {"kind": "contiguous", "sequence_length": 16, "dupe_factor": 2},
        "corrupt": {"kind": "masked_spans"},
    },
}


@pytest.mark.parametrize("recipe", ["pairs", pytest.param("text", marks=pytest.mark.slow)])
def test_after_sesame_compile_a_run_compiles_nothing(
    tmp_path: Path, corpus: Path, compiled_ahead: Callable[[Path], Path], recipe: str
) -> None:
    kept = compiled_ahead(tmp_path / "kept")
    values = CORPORA[recipe] | {"output": str(tmp_path / "made"), "workers": {"count": 2}}
    values |= {"source": {"kind": "json_lines", "paths": [str(corpus)]}, "shards": {"validation_fraction": 0.1}}
    config = configs.parse(values, CorpusConfig, "the test's corpus")
    before = {path.name for path in kept.rglob("*.nbc")}
    code = (
        "import sys, configs\n"
        "from sesame.data_pipeline.prepare import CorpusConfig, prepare\n"
        "config = configs.parse(__import__('json').loads(sys.argv[1]), CorpusConfig, 'the test')\n"
        "prepare(config, config.output)"
    )
    run = started(kept, "-c", code, config.model_dump_json())
    out, err = run.communicate(timeout=300)
    assert run.returncode == 0, err
    assert "compiling" not in out
    assert {path.name for path in kept.rglob("*.nbc")} - before == set()


@pytest.fixture(scope="module")
def compiled_ahead() -> Callable[[Path], Path]:
    """Copy only the files that `sesame compile` uses to a folder and return it."""
    run = subprocess.run(
        [sys.executable, "-m", "sesame", "compile"],
        env=os.environ | {"NUMBA_DEBUG_CACHE": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    used = {Path(path) for path in re.findall(r"^\[cache\] data (?:loaded from|saved to) '(.*)'$", run.stdout, re.M)}
    assert len(used) > 10

    def copy(kept: Path) -> Path:
        folder = kept / cache.folder_name()
        folder.mkdir(parents=True)
        for path in used:
            shutil.copy(path, folder)
            index = path.name.rsplit(".", 2)[0] + ".nbi"
            shutil.copy(path.with_name(index), folder)
        return kept

    return copy
