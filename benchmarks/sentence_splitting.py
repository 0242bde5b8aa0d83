"""How fast text is split into sentences on one core.

PYTHONPATH=. python benchmarks/sentence_splitting.py TEXT.jsonl.zst [...]
"""

import json
import sys
import time
from collections import Counter

from data_pipeline.files import Range, lines
from data_pipeline.sentences import split
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


def megabytes_per_second(documents: list[str]) -> float:
    """The best of five, by the time of this process."""
    size, best = sum(len(text.encode()) for text in documents), float("inf")
    for _ in range(5):
        begin = time.process_time()
        for text in documents:
            split(text)
        best = min(best, time.process_time() - begin)
    return size / 1e6 / best


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {megabytes_per_second(texts(name)):.1f} MB/s")
