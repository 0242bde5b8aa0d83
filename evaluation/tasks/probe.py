"""Small tasks in GLUE's layout, made from documents that pretraining has not seen: for a demo without a download.

They are not GLUE and their scores say nothing about GLUE. Each is named for what it asks:

    WordOrder      one sentence: is it as written, or were five neighbouring words shuffled? (after CoLA)
    SameDocument   two sentences: from the same document, or from two? (after QQP)
    WordsKept      a sentence and a copy in which words were replaced: which share was kept? (after STS-B)

No document gives rows to more than one of train, dev and test.
"""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from configs.errors import DatasetError
from evaluation.tasks.task import Table, Task

DOCUMENTS_FILE = "validation_documents.jsonl"
SHARES = {"train": 0.6, "dev": 0.3, "test": 0.1}
"""Of the documents."""
ROWS_AT_MOST = {"train": 2000, "dev": 600, "test": 200}
WORDS = (8, 24)
"""Shortest and longest sentence, in words."""
SHUFFLED_WORDS = 5
FEWEST_SENTENCES = 40
"""In one split; fewer make no task."""

Documents = list[list[str]]
"""The sentences of each document."""
Row = tuple[str, ...]


def _table(name: str, split: str, texts: tuple[str, ...], label: str | None) -> Table:
    return Table(f"{name}/{split}.tsv", texts, label, index="index")


def _task(name: str, kind, metrics: tuple[str, ...], texts: tuple[str, ...], labels: tuple[str, ...]) -> Task:
    label = "label" if labels else "score"
    return Task(
        name,
        kind,
        metrics,
        train=_table(name, "train", texts, label),
        dev={"": _table(name, "dev", texts, label)},
        test={name: _table(name, "test", texts, None)},
        labels=labels,
    )


ROWS = (
    _task("WordOrder", "classification", ("matthews",), ("sentence",), ("0", "1")),
    _task("SameDocument", "classification", ("accuracy",), ("sentence1", "sentence2"), ("0", "1")),
    _task("WordsKept", "regression", ("pearson", "spearman"), ("sentence1", "sentence2"), ()),
)


def write_tasks(dataset: Path, output: Path, seed: int = 1) -> Path:
    """Make the three tasks from the held-out documents of a prepared dataset; returns ``output``.

    Raises:
        DatasetError: the dataset has no held-out documents, or too few sentences in them.
    """
    splits = _split(_documents(Path(dataset) / DOCUMENTS_FILE), np.random.default_rng(seed))
    for split, documents in splits.items():
        sentences = sum(map(len, documents))
        if sentences < FEWEST_SENTENCES or len(documents) < 2:
            raise DatasetError(
                f"{Path(dataset) / DOCUMENTS_FILE}: only {sentences} usable sentences for {split}, {FEWEST_SENTENCES} "
                "are needed; prepare the dataset with a larger validation_fraction or from more text"
            )
    for number, task in enumerate(ROWS):
        for split, documents in splits.items():
            # A generator for each file: a change of one task leaves the others as they were.
            generator = np.random.default_rng([seed, number, *split.encode()])
            rows = MAKERS[task.name](documents, ROWS_AT_MOST[split], generator)
            _write(Path(output) / task.name / f"{split}.tsv", task, rows, labelled=split != "test")
    return Path(output)


def _word_order(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence both ways, so that nothing but the order tells."""
    for sentence in _sample(_flat(documents), limit // 2, generator):
        yield sentence, "1"
        yield _shuffled(sentence, generator), "0"


def _same_document(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence with one of its own document and with one of another."""
    homes = [(home, sentence) for home, sentences in enumerate(documents) for sentence in sentences]
    for row in generator.permutation(len(homes))[: limit // 2]:
        home, sentence = homes[row]
        other = int(generator.integers(len(documents) - 1))
        near = [text for text in documents[home] if text != sentence]
        if near:
            yield sentence, near[generator.integers(len(near))], "1"
            far = documents[other if other < home else other + 1]
            yield sentence, far[generator.integers(len(far))], "0"


def _words_kept(documents: Documents, limit: int, generator: np.random.Generator) -> Iterator[Row]:
    """Each sentence with two copies in which random words became words of other sentences."""
    sentences = _flat(documents)
    pool = [word for sentence in sentences for word in sentence.split()]
    for sentence in _sample(sentences, limit // 2, generator):
        words = sentence.split()
        for _ in range(2):
            copy = list(words)
            for place in generator.choice(len(words), generator.integers(len(words) + 1), replace=False):
                copy[place] = pool[generator.integers(len(pool))]
            kept = float(np.mean([before == after for before, after in zip(words, copy, strict=True)]))
            yield sentence, " ".join(copy), f"{kept:.3f}"


MAKERS: dict[str, Callable[[Documents, int, np.random.Generator], Iterator[Row]]] = {
    "WordOrder": _word_order,
    "SameDocument": _same_document,
    "WordsKept": _words_kept,
}


def _documents(path: Path) -> Documents:
    """Documents that have usable sentences, each sentence once in all."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: no such file; `sesame prepare` writes it when validation_fraction is above 0"
        ) from None
    seen: set[str] = set()
    documents = []
    for line in filter(None, lines):
        sentences = [text for text in _sentences(json.loads(line)["text"]) if text not in seen]
        seen.update(sentences)
        documents.append(list(dict.fromkeys(sentences)))
    return [sentences for sentences in documents if sentences]


def _sentences(text: str) -> Iterator[str]:
    """Plain sentences of prose; tables, code and headings have no capital at the start or no stop at the end."""
    shortest, longest = WORDS
    for paragraph in re.split(r"\n\s*\n", text):
        for sentence in re.split(r"(?<=[.!?])\s+(?=[A-Z])", " ".join(paragraph.split())):
            words = sentence.split()
            if shortest <= len(words) <= longest and re.match(r"[A-Z].*[a-z].*[.!?]$", sentence):
                yield sentence


def _split(documents: Documents, generator: np.random.Generator) -> dict[str, Documents]:
    order = generator.permutation(len(documents))
    ends = np.round(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
    parts = np.split(order, ends[:-1])
    return {split: [documents[row] for row in part] for split, part in zip(SHARES, parts, strict=True)}


def _flat(documents: Documents) -> list[str]:
    return [sentence for sentences in documents for sentence in sentences]


def _sample(sentences: list[str], limit: int, generator: np.random.Generator) -> list[str]:
    return [sentences[row] for row in generator.permutation(len(sentences))[:limit]]


def _shuffled(sentence: str, generator: np.random.Generator) -> str:
    """Another order of a few neighbouring words; the first and the last word stay, so that only order tells."""
    words = sentence.split()
    start = int(generator.integers(1, len(words) - SHUFFLED_WORDS))
    window = words[start : start + SHUFFLED_WORDS]
    changed = window
    for _ in range(20):
        if changed != window:
            break
        changed = [window[place] for place in generator.permutation(SHUFFLED_WORDS)]
    return " ".join([*words[:start], *changed, *words[start + SHUFFLED_WORDS :]])


def _write(path: Path, task: Task, rows: Iterator[Row], labelled: bool) -> None:
    texts = [str(name) for name in task.train.texts]
    header = ["index", *texts, *([str(task.train.label)] if labelled else [])]
    lines = ["\t".join(header)]
    lines += ["\t".join([str(number), *row[: len(header) - 1]]) for number, row in enumerate(rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.partial")
    aside.write_text("\n".join([*lines, ""]), encoding="utf-8")
    aside.replace(path)
