"""Seconds of each step of `sesame prepare` on one core, from the bytes of a file to a shard.

    taskset -c 0 .venv/bin/python benchmarks/where_the_time_goes.py TEXT.jsonl MODEL.model

Runs in one process, without Ray, with the workers' settings; the second of two rounds is shown.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sesame.data_pipeline.cleaning.clean import clean
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.parts import write_parts
from sesame.data_pipeline.cleaning.pieces import Features
from sesame.data_pipeline.cluster import KEEP_MEMORY
from sesame.data_pipeline.dataset.build import add_special_tokens
from sesame.data_pipeline.dataset.shards import write_shard
from sesame.data_pipeline.examples.corrupt import CorruptConfig, Vocabulary, corrupt
from sesame.data_pipeline.examples.segment import SegmentConfig, Sentences, segment
from sesame.data_pipeline.examples.sentences import find_sentences
from sesame.data_pipeline.ragged import Columns, Ragged
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.sources import SourceConfig, read, units
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer


def main() -> None:
    """Run two rounds and print a table of the second."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("text", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--again", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.again:
        # The C library reads its environment variables at the start of a process.
        os.execve(sys.executable, [sys.executable, *sys.argv, "--again"], {**os.environ, **KEEP_MEMORY})
    gc.disable()
    megabytes = arguments.text.stat().st_size / 1e6
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = Tokenizer.load(arguments.model)
        steps(arguments, tokenizer, Path(folder))
        step_seconds = steps(arguments, tokenizer, Path(folder))
    total = sum(step_seconds.values())
    print(f"{arguments.model.name}, {megabytes:.0f} MB")
    for name, seconds in step_seconds.items():
        print(f"  {name:24s} {seconds:6.3f} s {seconds / total:6.1%} {megabytes / seconds:8.0f} MB/s")
    print(f"  {'all':24s} {total:6.3f} s        {megabytes / total:8.1f} MB/s")
    print(f"  all steps together run at {step_seconds['encode'] / total:.0%} of the tokenizer's speed")


def steps(arguments: argparse.Namespace, tokenizer: Tokenizer, folder: Path) -> dict[str, float]:
    """Return the seconds of each step."""
    step_seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        result = step()
        step_seconds[name] = time.perf_counter() - begin
        return result

    dropped: Counter[str] = Counter()
    source = SourceConfig(kind="json_lines", paths=(str(arguments.text),))
    documents = timed("read", lambda: [each for unit in units(source) for each in read(unit, source, dropped)])
    cleaned = timed("clean", lambda: list(clean(documents, CleanConfig(), dropped)))
    parts = timed("write parts", lambda: write_parts(iter(cleaned), "unit", folder / "unit", Features()))
    texts = timed("read parts", lambda: Ragged.joined([part.texts(np.ones(part.pieces, bool)) for part in parts]))
    places = timed("split sentences", lambda: find_sentences(texts))
    rows, _ = timed("encode", lambda: tokenizer.encode_documents(texts.values, texts.offsets, places))
    sentences = Sentences(rows.values, rows.offsets, places.offsets)
    random = generator(1, "benchmark")
    spans = timed("segment", lambda: segment(sentences, SegmentConfig(), random))
    tokens = timed("lay out", lambda: add_special_tokens(sentences.ids, spans, tokenizer.special, True))
    config = CorruptConfig(kind="masked_words")
    masked = timed("mask words", lambda: corrupt(tokens, config, Vocabulary.of(tokenizer), random))
    columns: Columns = masked.columns()
    timed("write", lambda: write_shard(folder / "rows.arrow", columns))
    return step_seconds


if __name__ == "__main__":
    main()
