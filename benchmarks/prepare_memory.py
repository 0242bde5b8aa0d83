"""Peak memory of `sesame prepare` for two sizes of the corpus: of the driver and of each worker.

    python benchmarks/prepare_memory.py --text BOOKS.txt --megabytes 20
    python benchmarks/prepare_memory.py --text BOOKS.txt --megabytes 20 --kind lines

It prepares MEGABYTES and ten times as much. The input consists of copies of the text, in each of which every sixth word
is replaced at random by another word of the text, so that there are no duplicate documents. With `--kind lines` each
line is a document: a million small ones are about 80 MB. Memory is the resident set, sampled by psutil.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from sesame.data_pipeline.random_streams import generator

INTERVAL = 0.1
CHANGED = 6
CORPUS = """
[source]
kind = "{kind}"
paths = ["{path}"]
[clean]
minimum_characters = 1
[tokenizer]
vocabulary_size = 8192
sample_megabytes = 1.0
[workers]
count = {workers}
"""


def write_varied(text: Path, path: Path, size: int) -> int:
    """Write changed copies of ``text``, up to ``size`` bytes, and return their number."""
    paragraphs = [paragraph.split() for paragraph in text.read_text("utf-8", "replace").split("\n\n")]
    lengths = np.array([len(words) for words in paragraphs])
    words = np.array([word for paragraph in paragraphs for word in paragraph], dtype=object)
    bounds = np.cumsum(lengths)[:-1]
    copy = 0
    with path.open("w", encoding="utf-8") as file:
        while file.tell() < size:
            draw = generator(1, "copies of a text", copy)
            changed = np.where(draw.random(len(words)) < 1 / CHANGED, words[draw.permutation(len(words))], words)
            for paragraph in np.split(changed, bounds):
                file.write(" ".join(paragraph) + "\n\n")
                if file.tell() >= size:
                    break
            copy += 1
    return copy


def peaks(command: list[str]) -> tuple[dict[str, int], float]:
    """Run a command.

    Returns:
        (largest resident set of the driver and of each worker, in bytes; seconds).
    """
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    driver = psutil.Process(process.pid)
    largest: dict[str, int] = {"driver": 0}
    while process.poll() is None:
        try:
            largest["driver"] = max(largest["driver"], driver.memory_info().rss)
            for child in driver.children(recursive=True):
                title = " ".join(child.cmdline())
                if title.startswith("ray::"):
                    name = f"worker {child.pid}"
                    largest[name] = max(largest.get(name, 0), child.memory_info().rss)
        except psutil.Error:
            pass
        time.sleep(INTERVAL)
    if process.returncode:
        sys.exit(f"sesame prepare exited with code {process.returncode}")
    return largest, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True, help="plain text to vary")
    parser.add_argument("--megabytes", type=float, default=20, help="size of the smaller input")
    parser.add_argument("--times", type=float, nargs="+", default=[1, 10], help="sizes, as multiples of it")
    parser.add_argument(
        "--kind", choices=("text", "lines"), default="text", help="what separates documents: blank lines, or line ends"
    )
    parser.add_argument("--workers", type=int, default=2)
    arguments = parser.parse_args()
    for times in arguments.times:
        megabytes = arguments.megabytes * times
        with tempfile.TemporaryDirectory() as folder:
            path, corpus = Path(folder) / "varied.txt", Path(folder) / "corpus.toml"
            copies = write_varied(arguments.text, path, int(megabytes * 1e6))
            recipe = CORPUS.format(kind=arguments.kind, path=path, workers=arguments.workers)
            corpus.write_text(f'output = "{folder}/dataset"\n{recipe}', "utf-8")
            largest, seconds = peaks([sys.executable, "-m", "sesame", "prepare", str(corpus)])
        listed = ", ".join(f"{name} {peak / 1e6:.0f} MB" for name, peak in largest.items())
        print(f"{megabytes:.0f} MB ({copies} copies) in {seconds:.0f} s, peak resident: {listed}", flush=True)


if __name__ == "__main__":
    main()
