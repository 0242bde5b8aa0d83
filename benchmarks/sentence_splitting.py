"""Accuracy of sentence splitting, and the speed of cleaning and splitting on one core.

    PYTHONPATH=. python benchmarks/sentence_splitting.py [TEXT.jsonl.zst ...]

Accuracy is the share of the hard cases of ``tests/data_pipeline/examples/sentences_hard_cases.txt`` whose sentences are
all correct, by language. ICU (the package PyICU) and pysbd are compared if they are installed.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

from sesame.data_pipeline.cleaning.clean import normalize
from sesame.data_pipeline.examples.sentences import find_sentences, split
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.sources.config import SourceConfig
from sesame.data_pipeline.sources.files import Range
from sesame.data_pipeline.sources.lines import iterate_lines
from tests.data_pipeline.examples.sentence_cases import read

MEGABYTES = 20
CODES = {"English": "en", "German": "de", "Chinese": "zh", "Japanese": "ja", "Korean": "ko", "Hindi": "hi"}
"""Languages with enough cases to report; the others are counted together."""
Splitter = Callable[[str, str], list[str]]
"""(text, code of ISO 639-1) -> sentences."""


def texts(path: str) -> list[str]:
    """Return the first documents of a file of JSON lines, about ``MEGABYTES``."""
    result, size = [], 0
    for line in iterate_lines(path, Range(), SourceConfig(kind="json_lines").maximum_bytes):
        result.append(json.loads(line.content)["text"])
        size += len(result[-1].encode())
        if size > MEGABYTES * 1e6:
            break
    return result


def megabytes_per_second(run: Callable[[], object], megabytes: float) -> float:
    """Return the best speed of five runs, by the processor time of this process."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
    return megabytes / best


def splitters() -> Iterator[tuple[str, Splitter]]:
    """Yield our splitter and those of the installed packages."""
    yield "ours", lambda text, code: split(text)
    if importlib.util.find_spec("icu"):
        import icu  # pyright: ignore[reportMissingImports]

        def by_icu(text: str, code: str) -> list[str]:
            breaks = icu.BreakIterator.createSentenceInstance(icu.Locale(code))
            # Its positions count UTF-16 code units.
            units = text.encode("utf-16-le")
            breaks.setText(text)
            positions = [0, *breaks]
            return [units[2 * start : 2 * stop].decode("utf-16-le") for start, stop in pairwise(positions)]

        yield f"ICU {icu.ICU_VERSION}", by_icu
    if importlib.util.find_spec("pysbd"):
        import pysbd  # pyright: ignore[reportMissingImports]
        from pysbd.languages import LANGUAGE_CODES  # pyright: ignore[reportMissingImports]

        def by_pysbd(text: str, code: str) -> list[str]:
            return pysbd.Segmenter(language=code if code in LANGUAGE_CODES else "en", clean=False).segment(text)

        yield "pysbd", by_pysbd


def accuracy(split_text: Splitter) -> dict[str, tuple[int, int]]:
    """Return (correct cases, cases) of each language."""
    results: dict[str, list[bool]] = {}
    for case in read():
        language = case.language if case.language in CODES else "others"
        sentences = [" ".join(each.split()) for each in split_text(case.text, CODES.get(language, "en"))]
        results.setdefault(language, []).append([each for each in sentences if each] == case.sentences)
    return {language: (sum(correct), len(correct)) for language, correct in results.items()}


def main(names: list[str]) -> None:
    """Print the accuracies and the speeds."""
    for name, splitter in splitters():
        shares = accuracy(splitter).items()
        print(f"{name}: " + ", ".join(f"{language} {correct}/{cases}" for language, (correct, cases) in shares))
    for name in names:
        documents = texts(name)
        cleaned = [normalize(text, "NFC").text for text in documents]
        rows = Ragged.of_bytes(text.encode() for text in cleaned)
        megabytes = len(rows.values) / 1e6
        cleaning = megabytes_per_second(lambda given=documents: [normalize(text, "NFC") for text in given], megabytes)
        places = megabytes_per_second(partial(find_sentences, rows), megabytes)
        strings = megabytes_per_second(lambda given=cleaned: [split(text) for text in given], megabytes)
        split_speeds = f"split {places:.0f} MB/s as positions in bytes, {strings:.0f} MB/s as strings"
        print(f"{name}: cleaned {cleaning:.0f} MB/s, {split_speeds}")


if __name__ == "__main__":
    main(sys.argv[1:])
