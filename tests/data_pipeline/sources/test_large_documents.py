"""Documents of 50 MB and 500 MB are counted, and the memory of workers stays small."""

import json
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from sesame.data_pipeline.dataset.manifest import read_manifest

GIGABYTE = 1e9
CORPUS = """
output = "{folder}/dataset"
[source]
kind = "{kind}"
paths = ["{path}"]
[tokenizer]
vocabulary_size = 320
sample_megabytes = 0.1
[workers]
count = 1
"""


def peak_of_workers(corpus: Path) -> float:
    """Prepare a dataset and return the largest resident set of a worker, in bytes."""
    process = subprocess.Popen([sys.executable, "-m", "sesame", "prepare", str(corpus)], stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            try:
                if " ".join(child.cmdline()).startswith("ray::"):
                    peak = max(peak, child.memory_info().rss)
            except psutil.Error:
                continue
        time.sleep(0.05)
    assert process.returncode == 0
    return peak


def prepared(folder: Path, kind: str, path: Path) -> tuple[float, dict[str, int]]:
    corpus = folder / "corpus.toml"
    corpus.write_text(CORPUS.format(folder=folder, kind=kind, path=path))
    return peak_of_workers(corpus), read_manifest(folder / "dataset").documents


def texts(corpus: Path) -> list[str]:
    return [json.loads(line)["text"] for line in corpus.open(encoding="utf-8")]


@pytest.mark.slow
def test_a_line_of_50_megabytes_becomes_examples(corpus: Path, tmp_path: Path) -> None:
    found = texts(corpus)
    line = " ".join(found)
    path = tmp_path / "corpus.txt"
    path.write_text("\n".join([*found, " ".join([line] * (50_000_000 // len(line)))]) + "\n")
    peak, documents = prepared(tmp_path, "lines", path)
    assert documents["cut because of their length"] == 1
    assert documents["read"] == len(found) + 1
    assert documents["kept for training"] > len(found) / 2
    assert not any("too large" in outcome for outcome in documents)
    assert peak < GIGABYTE


@pytest.mark.slow
def test_a_document_of_500_megabytes_is_dropped_and_counted(corpus: Path, tmp_path: Path) -> None:
    found = texts(corpus)
    path = tmp_path / "corpus.txt"
    with path.open("w") as file:
        file.write("\n\n".join(found) + "\n\n")
        block = "\n".join(found) + "\n"
        for _ in range(500_000_000 // len(block)):
            file.write(block)
        file.write("\n" + "\n\n".join(text + " Again." for text in found) + "\n")
    peak, documents = prepared(tmp_path, "text", path)
    assert documents["dropped: too large"] == 1
    assert documents["read"] == 2 * len(found) + 1
    assert peak < GIGABYTE
