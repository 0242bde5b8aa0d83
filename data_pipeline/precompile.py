"""Compiles the loops before their first use, for an installation or an image.

The functions of the workers process a small text, once for each type of arrays, so that the compiled signatures are
those of real runs.
"""

import builtins
import json
import tempfile
from collections.abc import Iterator
from itertools import islice, product
from pathlib import Path

import numpy as np

from sesame.configs.errors import ConfigError
from sesame.configs.storage import digest
from sesame.data_pipeline.cleaning.config import CleanConfig
from sesame.data_pipeline.cleaning.parts import Part, read_unit
from sesame.data_pipeline.cleaning.selection import Choice, Outcome
from sesame.data_pipeline.compiled import cache
from sesame.data_pipeline.dataset.build import Recipe, gather_shard, make_examples
from sesame.data_pipeline.dataset.groups import DocumentGroup
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.examples.segment import KINDS, SegmentConfig
from sesame.data_pipeline.examples.sentences import split
from sesame.data_pipeline.examples.spans import special_ids
from sesame.data_pipeline.sources import SourceConfig, units
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_proto import NORMAL, model_proto
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

DOCUMENTS, SENTENCES = 40, 12
"""Of the small text."""
VOCABULARY = 100
KINDS_OF_MODEL = ("unigram", "bpe")
PIECES_OF_WIDE_IDS = 2**16
"""Added pieces: ids of a vocabulary over 65,536 have 32 bits, for which the loops are compiled again."""


def precompile() -> Path:
    """Compile all loops that are not cached for this processor, and return the folder of the machine code.

    Raises:
        ConfigError: no folder can be written.
    """
    folders, written = cache.folders()
    if written is None and (reason := cache.trouble()):
        raise ConfigError(reason)
    with tempfile.TemporaryDirectory() as folder:
        _run_loops(Path(folder))
    return folders[-1]


def _run_loops(folder: Path) -> None:
    path = folder / "text.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in _texts()), encoding="utf-8")
    source = SourceConfig(kind="json_lines", paths=(str(path),))
    (unit,) = units(source)
    rules = CleanConfig(minimum_characters=0, minimum_letter_share=0)
    parts = read_unit(0, unit, source, rules, folder).parts
    for number, recipe in enumerate(_recipes(folder, parts)):
        choices = [Choice(np.full(part.pieces, Outcome.TRAIN, np.int8), part.characters) for part in parts]
        documents = np.concatenate([np.cumsum(part.begins) - 1 for part in parts])
        group = DocumentGroup("train", number, documents, tuple(zip(parts, choices, strict=True)), Outcome.TRAIN)
        rows = make_examples(group, recipe, folder)
        tokenizer = Tokenizer.from_bytes(recipe.tokenizer.read_bytes(), "the small text's tokenizer")
        order, special = np.arange(rows.count), special_ids(tokenizer)
        gather_shard(folder / f"{number}.arrow", order, [rows], len(tokenizer), special, folder)


def _texts() -> Iterator[str]:
    """Yield documents of a hundred different words."""
    words = [word for word in dir(builtins) if word.isalpha()]
    for document in range(DOCUMENTS):
        places = range(document, document + 7 * SENTENCES, 7)
        pairs = [(words[place % len(words)], words[place * place % len(words)]) for place in places]
        yield " ".join(f"{first.title()} is not {second}." for first, second in pairs)


def _recipes(folder: Path, parts: list[Part]) -> Iterator[Recipe]:
    """Yield each way to cut the text into rows, and each kind of tokenizer."""
    every = [np.ones(part.pieces, bool) for part in parts]
    texts = [document.text for part, keep in zip(parts, every, strict=True) for document in part.read(keep)]
    sentences = [sentence for text in texts for sentence in split(text)]
    models = {kind: train(sentences, TokenizerConfig(vocabulary_size=VOCABULARY, kind=kind)) for kind in KINDS_OF_MODEL}
    models["wide"] = _with_wide_ids(models["unigram"])
    for name, model in models.items():
        path = folder / f"{name}.model"
        path.write_bytes(model)
        for kind in KINDS if name == "unigram" else ("next_sentence",):
            # Several passes over the text: numpy is used instead of loops for few rows.
            cut = SegmentConfig.model_validate({"kind": kind, "sequence_length": 16, "dupe_factor": 4})
            yield Recipe(1, cut, CorruptConfig(kind="masked_tokens"), path, digest(path))


def _with_wide_ids(model: bytes) -> bytes:
    """Return the model with so many more pieces that its ids have 32 bits."""
    proto = model_proto(model)
    known = {piece.piece for piece in proto.pieces}
    letters = sorted(piece for piece in known if piece in set("abcdefghijklmnopqrstuvwxyz"))
    least = min(piece.score for piece in proto.pieces)
    spelled = map("".join, product(letters[:16], repeat=5))
    for piece in islice((each for each in spelled if each not in known), PIECES_OF_WIDE_IDS):
        proto.pieces.add(piece=piece, score=least, type=NORMAL)
    return proto.SerializeToString()
