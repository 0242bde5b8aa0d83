"""How well text is split into sentences, and how fast cleaning and splitting are on one core.

    PYTHONPATH=. python benchmarks/sentence_splitting.py [TEXT.jsonl.zst ...]

Well: the hard cases of ``tests/data_pipeline/examples/sentences_hard_cases.txt``, by language: right are those whose
sentences are all right. Beside them, where they are installed, ICU (the package PyICU) and pysbd; neither is needed.
"""

import importlib.util
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise

from data_pipeline.cleaning.clean import normalize
from data_pipeline.examples.sentences import find_sentences, split
from data_pipeline.ragged import Ragged
from data_pipeline.sources.config import SourceConfig
from data_pipeline.sources.files import Range
from data_pipeline.sources.lines import iterate_lines
from tests.data_pipeline.examples.sentence_cases import read

MEGABYTES = 20
CODES = {"English": "en", "German": "de", "Chinese": "zh", "Japanese": "ja", "Korean": "ko", "Hindi": "hi"}
"""The languages with enough cases to say a share of; the others count together."""
Splitter = Callable[[str, str], list[str]]
"""(text, code of ISO 639-1) -> sentences."""


def texts(path: str) -> list[str]:
    """The first documents of a file of JSON lines, about ``MEGABYTES`` of them."""
    found, size = [], 0
    for line in iterate_lines(path, Range(), SourceConfig(kind="json_lines").maximum_bytes):
        found.append(json.loads(line.content)["text"])
        size += len(found[-1].encode())
        if size > MEGABYTES * 1e6:
            break
    return found


def megabytes_per_second(run: Callable[[], object], megabytes: float) -> float:
    """The best of five, by the time of this process."""
    best = float("inf")
    for _ in range(5):
        begin = time.process_time()
        run()
        best = min(best, time.process_time() - begin)
    return megabytes / best


def splitters() -> Iterator[tuple[str, Splitter]]:
    """Ours and those of the packages that are there."""
    yield "ours", lambda text, code: split(text)
    if importlib.util.find_spec("icu"):
        import icu  # pyright: ignore[reportMissingImports]

        def by_icu(text: str, code: str) -> list[str]:
            breaks = icu.BreakIterator.createSentenceInstance(icu.Locale(code))
            # Its places count UTF-16.
            units = text.encode("utf-16-le")
            breaks.setText(text)
            places = [0, *breaks]
            return [units[2 * start : 2 * stop].decode("utf-16-le") for start, stop in pairwise(places)]

        yield f"ICU {icu.ICU_VERSION}", by_icu
    if importlib.util.find_spec("pysbd"):
        import pysbd  # pyright: ignore[reportMissingImports]
        from pysbd.languages import LANGUAGE_CODES  # pyright: ignore[reportMissingImports]

        def by_pysbd(text: str, code: str) -> list[str]:
            return pysbd.Segmenter(language=code if code in LANGUAGE_CODES else "en", clean=False).segment(text)

        yield "pysbd", by_pysbd


def accuracy(split_text: Splitter) -> dict[str, tuple[int, int]]:
    """(cases that are right, cases) of each language."""
    found: dict[str, list[bool]] = {}
    for case in read():
        language = case.language if case.language in CODES else "others"
        sentences = [" ".join(each.split()) for each in split_text(case.text, CODES.get(language, "en"))]
        found.setdefault(language, []).append([each for each in sentences if each] == case.sentences)
    return {language: (sum(right), len(right)) for language, right in found.items()}


def main(names: list[str]) -> None:
    """Print the shares of cases and the speeds."""
    for name, splitter in splitters():
        shares = accuracy(splitter).items()
        print(f"{name}: " + ", ".join(f"{language} {right}/{cases}" for language, (right, cases) in shares))
    for name in names:
        documents = texts(name)
        cleaned = [normalize(text, "NFC").text for text in documents]
        rows = Ragged.of_bytes(text.encode() for text in cleaned)
        megabytes = len(rows.values) / 1e6
        cleaning = megabytes_per_second(lambda given=documents: [normalize(text, "NFC") for text in given], megabytes)
        places = megabytes_per_second(partial(find_sentences, rows), megabytes)
        strings = megabytes_per_second(lambda given=cleaned: [split(text) for text in given], megabytes)
        split_speeds = f"split {places:.0f} MB/s as places in bytes, {strings:.0f} MB/s as strings"
        print(f"{name}: cleaned {cleaning:.0f} MB/s, {split_speeds}")


if __name__ == "__main__":
    main(sys.argv[1:])
