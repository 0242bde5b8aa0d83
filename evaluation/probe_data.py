"""Generator of the files of the probe tasks (``evaluation/tasks/probe.py``) from a dataset's validation documents.

Pretraining does not see these documents, and no document gives rows to more than one of train, dev and test.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from sesame.configs.errors import DatasetError
from sesame.configs.storage import write_text
from sesame.evaluation.tasks import probe
from sesame.evaluation.tasks.task import Task

DOCUMENTS_FILE = "validation_documents.jsonl"
SPLIT_SHARES = {"train": 0.6, "dev": 0.3, "test": 0.1}
"""Share of the documents in each split."""
MAX_ROWS = {"train": 2000, "dev": 600, "test": 200}
SENTENCE_WORDS = (8, 24)
"""Words of the shortest and of the longest sentence."""
SHUFFLED_WORDS = 5
MIN_SENTENCES = 40
"""Fewest sentences in one split."""

Documents = list[list[str]]
"""The sentences of each document."""
Row = tuple[str, ...]


def write_tasks(dataset: Path, output: Path, seed: int = 1) -> Path:
    """Write the files of the probe tasks below ``output``, made from the validation documents of ``dataset``.

    Returns:
        ``output``.

    Raises:
        DatasetError: the dataset has no validation documents, or too few sentences in them.
    """
    splits = _split(_documents(Path(dataset) / DOCUMENTS_FILE), np.random.default_rng(seed))
    for split, documents in splits.items():
        sentences = sum(map(len, documents))
        if sentences < MIN_SENTENCES or len(documents) < 2:
            raise DatasetError(
                f"{Path(dataset) / DOCUMENTS_FILE}: only {sentences} usable sentences for {split}, {MIN_SENTENCES} "
                "are needed; prepare the dataset with a larger validation_fraction or from more text"
            )
    for number, task in enumerate(probe.ROWS):
        for split, documents in splits.items():
            # One generator for each file, so that a change of one task leaves the other files unchanged.
            generator = np.random.default_rng([seed, number, *split.encode()])
            rows = MAKE_ROWS[task.name](documents, MAX_ROWS[split], generator)
            _write(Path(output) / task.name / f"{split}.tsv", task, rows, labelled=split != "test")
    return Path(output)


def _word_order(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence as written and shuffled, so that only the order of words differs between the classes."""
    for sentence in _sample(_flat(documents), limit // 2, generator):
        yield sentence, "1"
        yield _shuffled(sentence, generator), "0"


def _same_document(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence with one of its own document and with one of another."""
    numbered = [(number, sentence) for number, sentences in enumerate(documents) for sentence in sentences]
    for row in generator.permutation(len(numbered))[: limit // 2]:
        own, sentence = numbered[row]
        other = int(generator.integers(len(documents) - 1))
        same = [text for text in documents[own] if text != sentence]
        if same:
            yield sentence, same[generator.integers(len(same))], "1"
            different = documents[other if other < own else other + 1]
            yield sentence, different[generator.integers(len(different))], "0"


def _words_kept(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence with two copies in which random words are replaced by random words of the corpus."""
    sentences = _flat(documents)
    pool = [word for sentence in sentences for word in sentence.split()]
    for sentence in _sample(sentences, limit // 2, generator):
        words = sentence.split()
        for _ in range(2):
            copy = list(words)
            for position in generator.choice(len(words), generator.integers(len(words) + 1), replace=False):
                copy[position] = pool[generator.integers(len(pool))]
            kept = float(np.mean([before == after for before, after in zip(words, copy, strict=True)]))
            yield sentence, " ".join(copy), f"{kept:.3f}"


MAKE_ROWS: dict[str, Callable[[Documents, int, np.random.Generator], Iterator[Row]]] = {
    "WordOrder": _word_order,
    "SameDocument": _same_document,
    "WordsKept": _words_kept,
}


def _documents(path: Path) -> Documents:
    """Documents with usable sentences; a sentence that occurs in several is kept in the first only."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file; `sesame prepare` writes it if shards.validation_fraction is above 0"
        ) from None
    seen: set[str] = set()
    documents = []
    for line in filter(None, lines):
        sentences = [text for text in _sentences(json.loads(line)["text"]) if text not in seen]
        seen.update(sentences)
        documents.append(list(dict.fromkeys(sentences)))
    return [sentences for sentences in documents if sentences]


def _sentences(text: str) -> Iterator[str]:
    """Sentences of prose: a capital at the start and a stop at the end exclude tables, code and headings."""
    shortest, longest = SENTENCE_WORDS
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            words = sentence.split()
            if shortest <= len(words) <= longest and re.match(r"[A-Z].*[a-z].*[.!?]$", sentence):
                yield sentence


def _split(documents: Documents, generator: np.random.Generator) -> dict[str, Documents]:
    order = generator.permutation(len(documents))
    ends = np.round(np.cumsum(list(SPLIT_SHARES.values())) * len(order)).astype(int)
    parts = np.split(order, ends[:-1])
    return {split: [documents[row] for row in part] for split, part in zip(SPLIT_SHARES, parts, strict=True)}


def _flat(documents: Documents) -> list[str]:
    return [sentence for sentences in documents for sentence in sentences]


def _sample(sentences: list[str], limit: int, generator: np.random.Generator) -> list[str]:
    return [sentences[row] for row in generator.permutation(len(sentences))[:limit]]


def _shuffled(sentence: str, generator: np.random.Generator) -> str:
    """Shuffle a few neighbouring words; the first and the last word stay in place."""
    words = sentence.split()
    start = int(generator.integers(1, len(words) - SHUFFLED_WORDS))
    window = words[start : start + SHUFFLED_WORDS]
    changed = window
    for _ in range(20):
        if changed != window:
            break
        changed = [window[position] for position in generator.permutation(SHUFFLED_WORDS)]
    return " ".join([*words[:start], *changed, *words[start + SHUFFLED_WORDS :]])


def _write(path: Path, task: Task, rows: Iterator[Row], labelled: bool) -> None:
    table = task.dev[""]
    texts = [str(name) for name in table.texts]
    header = ["index", *texts, *([str(table.label)] if labelled else [])]
    lines = ["\t".join(header)]
    lines += ["\t".join([str(number), *row[: len(header) - 1]]) for number, row in enumerate(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join([*lines, ""]))
