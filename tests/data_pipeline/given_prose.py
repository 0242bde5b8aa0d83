"""Made-up prose of a given length, and recipes that prepare it."""

import random
from pathlib import Path
from typing import Any

from sesame.configs import parse
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.data_pipeline.prepare import CorpusConfig, prepare

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
WORDS = ["".join(random.Random(number).choices(SYLLABLES, k=2 + number % 3)) for number in range(300)]


def prose(characters: int, seed: int, end: str = " ") -> str:
    """Sentences of common words with ``end`` between them."""
    draw = random.Random(seed)
    sentences: list[str] = []
    while sum(map(len, sentences)) < characters:
        sentences.append(" ".join(draw.choices(WORDS, k=draw.randint(5, 15))).capitalize() + ".")
    return end.join(sentences)


def prepared(path: Path, output: Path, segments: str = "next_sentence", **sections: dict[str, Any]) -> Dataset:
    """A dataset of JSON lines in ``path``; ``sections`` change the recipe."""
    values: dict[str, Any] = {
        "seed": 2,
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(path)]},
        "tokenizer": {"vocabulary_size": 150, "sample_megabytes": 0.05},
        "segment": {"kind": segments, "sequence_length": 128},
        "corrupt": {"kind": "masked_tokens"},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": 1},
    }
    values |= {name: {**values.get(name, {}), **section} for name, section in sections.items()}
    return open_dataset(prepare(parse(values, CorpusConfig, "the test's corpus"), output), verify=False)
