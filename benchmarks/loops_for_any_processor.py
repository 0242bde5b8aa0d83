"""Time the compiled loops as the images have them, for every processor of an architecture, against this processor's.

    .venv/bin/python benchmarks/loops_for_any_processor.py

Reads, cleans and cuts the documentation of this Python installation into rows, in one process. Seconds of processor
time; both kinds run in turn, each in a process of its own with the machine code cached, and the medians are compared.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from sesame.configs.storage import digest
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.parts import read_unit
from sesame.data_pipeline.cleaning.selection import Choice, Outcome
from sesame.data_pipeline.dataset.build import Recipe, make_examples
from sesame.data_pipeline.dataset.groups import DocumentGroup
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.examples.segment import SegmentConfig
from sesame.data_pipeline.examples.sentences import split
from sesame.data_pipeline.sources import SourceConfig, units
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train

KINDS = {"this processor": {}, "every processor": {"NUMBA_CPU_NAME": "generic"}}
"""Environment variables of each kind of machine code."""


def prepare(folder: Path, documents: int) -> tuple[float, int]:
    """Read documents and make rows of them -> (seconds of processor time, rows)."""
    source = SourceConfig(kind="python_documentation")
    found = [(number, unit) for number, unit in enumerate(units(source))][:documents]
    start = time.process_time()
    parts = [part for number, unit in found for part in read_unit(number, unit, source, CleanConfig(), folder).parts]
    seconds = time.process_time() - start
    texts = [document.text for part in parts for document in part.read(np.ones(part.pieces, bool))]
    model = folder / "tokenizer.model"
    model.write_bytes(train([each for text in texts for each in split(text)], TokenizerConfig(vocabulary_size=4000)))
    recipe = Recipe(
        1,
        SegmentConfig(kind="next_sentence", sequence_length=128, dupe_factor=5),
        CorruptConfig(kind="masked_words"),
        model,
        digest(model),
    )
    choices = [Choice(np.full(part.pieces, Outcome.TRAIN, np.int8), part.characters) for part in parts]
    places = np.concatenate([np.cumsum(part.begins) - 1 for part in parts])
    group = DocumentGroup("train", 0, places, tuple(zip(parts, choices, strict=True)), Outcome.TRAIN)
    start = time.process_time()
    rows = make_examples(group, recipe, folder).count
    return seconds + time.process_time() - start, rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=150, help="files of the documentation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        with tempfile.TemporaryDirectory() as folder:
            print(*prepare(Path(folder), arguments.documents))
        return
    times: dict[str, list[float]] = {kind: [] for kind in KINDS}
    rows = set()
    for attempt in range(arguments.rounds + 1):
        for kind, variables in KINDS.items():
            command = [sys.executable, __file__, "--child", "--documents", str(arguments.documents)]
            done = subprocess.run(command, env=os.environ | variables, stdout=subprocess.PIPE, text=True, check=True)
            seconds, count = done.stdout.split()[-2:]
            rows.add(count)
            # The first run compiles.
            if attempt:
                times[kind].append(float(seconds))
    assert len(rows) == 1, rows
    medians = {kind: statistics.median(values) for kind, values in times.items()}
    print(f"{rows.pop()} rows", *(f"{kind}: {value:.2f} s" for kind, value in medians.items()), sep="; ")
    print(f"ratio: {medians['every processor'] / medians['this processor']:.3f}")


if __name__ == "__main__":
    main()
