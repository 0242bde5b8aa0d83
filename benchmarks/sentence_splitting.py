"""How fast text is split into sentences on one core.

PYTHONPATH=. python benchmarks/sentence_splitting.py TEXT.jsonl.zst [...]
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from data_pipeline.columns import Ragged
from data_pipeline.files import Range, lines
from data_pipeline.sentences import find_sentences, split
from data_pipeline.unit import SourceConfig

MEGABYTES = 20


def texts(path: str) -> list[str]:
    """The first documents of a file of JSON lines, about ``MEGABYTES`` of them."""
    found, size = [], 0
    for line in lines(path, Range(), SourceConfig(kind="json_lines").maximum_bytes, Counter()):
        found.append(json.loads(line.content)["text"])
        size += len(found[-1].encode())
        if size > MEGABYTES * 1e6:
            break
    return found


def megabytes_per_second(split_all: Callable[[], object], megabytes: float) -> float:
    """The best of five, by the time of this process."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        split_all()
        best = min(best, time.process_time() - begin)
    return megabytes / best


if __name__ == "__main__":
    for name in sys.argv[1:]:
        documents = texts(name)
        rows = Ragged.of_bytes(text.encode() for text in documents)
        megabytes = len(rows.values) / 1e6
        places = megabytes_per_second(partial(find_sentences, rows), megabytes)
        strings = megabytes_per_second(lambda given=documents: [split(text) for text in given], megabytes)
        print(f"{name}: {places:.0f} MB/s as places in bytes, {strings:.0f} MB/s as strings")
