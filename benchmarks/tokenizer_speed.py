"""Encoding speed of the tokenizer and of sentencepiece in MB of text per CPU-second, alternating on the same sentences.

    .venv/bin/python benchmarks/tokenizer_speed.py TEXT      (a UTF-8 text file, a sentence or paragraph a line)

CPU time of the whole process is measured, so threads do not help; the ids are compared as well.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import sentencepiece

from sesame.data_pipeline.examples.sentences import split
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

KINDS = ("bpe", "unigram")
SAMPLE = 20_000
"""Sentences that each model is trained on."""
Result = TypeVar("Result")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("text", type=Path)
    arguments.add_argument("--vocabulary-size", type=int, default=8192)
    arguments.add_argument("--megabytes", type=float, default=10.0, help="encoded in each round")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    with given.text.open(encoding="utf-8") as file:
        text = file.read(int(given.megabytes * 1e6))
    sentences = [sentence for line in text.splitlines() for sentence in split(line)]
    megabytes = sum(len(sentence.encode()) for sentence in sentences) / 1e6
    for kind in KINDS:
        config = TokenizerConfig.model_validate({"kind": kind, "vocabulary_size": given.vocabulary_size})
        compare(kind, train(sentences[:SAMPLE], config), sentences, megabytes, given.rounds)


def compare(kind: str, model: bytes, sentences: list[str], megabytes: float, rounds: int) -> None:
    """Print both speeds of one model and their ratio; the first round is a warm-up."""
    ours, reference = Tokenizer.from_bytes(model, kind), sentencepiece.SentencePieceProcessor(model_proto=model)
    fast, slow = [], []
    for _ in range(rounds + 1):
        seconds, rows = timed(lambda: ours.encode_flat(sentences))
        fast.append(seconds)
        seconds, lists = timed(lambda: reference.Encode(sentences, num_threads=1))
        slow.append(seconds)
        different = sum(
            rows.values[start:end].tolist() != ids
            for start, end, ids in zip(rows.offsets[:-1], rows.offsets[1:], lists, strict=True)
        )
    medians = np.array([statistics.median(each[1:]) for each in (fast, slow)])
    speeds = megabytes / medians
    print(
        f"{kind:8} ours {speeds[0]:6.1f} MB/s, sentencepiece {speeds[1]:5.1f} MB/s, "
        f"ratio {medians[1] / medians[0]:.2f} (medians of {rounds}; {different} of {len(sentences)} sentences differ)"
    )


def timed(call: Callable[[], Result]) -> tuple[float, Result]:
    """Return (CPU-seconds, result) of one call."""
    begin = time.process_time()
    result = call()
    return time.process_time() - begin, result


if __name__ == "__main__":
    main()
