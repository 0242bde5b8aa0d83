"""For every kind of tokenizer and script, the concatenated ids of neighboring sentences are those that the tokenizer's
own library gives the whole text, and decode to it."""

import io
import json
import random
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from sesame.data_pipeline.cleaning.clean import normalize
from sesame.data_pipeline.examples.sentences import find_sentences
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import random_texts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WIDE = {"model_type": "bpe", "vocab_size": 1100, "byte_fallback": True}
SENTENCEPIECE: dict[str, dict[str, Any]] = {
    "unigram": {},
    "bpe": {"model_type": "bpe"},
    "bytes": {"byte_fallback": True, "vocab_size": 1100, "character_coverage": 0.98},
    "no prefix": {"add_dummy_prefix": False},
    "no prefix, bpe": {"add_dummy_prefix": False, "model_type": "bpe"},
    "suffix": {"treat_whitespace_as_suffix": True},
    "suffix, bpe": {"treat_whitespace_as_suffix": True, "model_type": "bpe"},
    "suffix, none added": {"treat_whitespace_as_suffix": True, "add_dummy_prefix": False},
    "suffix, spaces kept": {"treat_whitespace_as_suffix": True, "remove_extra_whitespaces": False},
    "spaces kept": {"remove_extra_whitespaces": False},
    "spaces kept, no prefix": {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "everything kept": {**WIDE, "remove_extra_whitespaces": False, "normalization_rule_name": "identity"},
    "not normalised": {"normalization_rule_name": "identity"},
    "folded": {"normalization_rule_name": "nfkc_cf"},
    "pieces across spaces": {"split_by_whitespace": False},
    "newlines listed": {"user_defined_symbols": ["\n", "##"]},
    "characters": {"model_type": "char"},
}
VOCABULARIES = (
    "word pieces",
    "cased word pieces",
    "gpt2",
    "gpt2, space added",
    "other cuts",
    "one cut",
    "ends of words",
)


class Kind(NamedTuple):
    """A tokenizer and its own library."""

    tokenizer: Tokenizer
    ids: Callable[[str], list[int]]
    """The library's."""
    spans: Callable[[str], list[tuple[int, int]]]
    """Spans of the library's tokens, in characters."""
    cut: Callable[[int, int], Iterable[int]]
    """(end of a sentence, start of the next) -> where a document may be cut between them."""
    scores: list[float] | None
    """Of the pieces of a unigram model."""
    shown: Callable[[str], str]
    """The text that the ids of a text decode to, without white space at its ends."""
    loses_space: bool = False
    """A word that ends with a sentence may continue in the whole text, and then has another space."""


def clean(texts: list[str]) -> list[str]:
    return [text for each in texts if (text := normalize(each, "NFC").text)]


@pytest.fixture(scope="module")
def training() -> list[str]:
    return [line for text in clean(random_texts(500, 1)) for line in text.split("\n") if line]


def sentencepiece_kind(options: dict[str, Any], training: list[str]) -> Kind:
    model = io.BytesIO()
    usual = {"vocab_size": 700, "minloglevel": 2, "num_threads": 1, "hard_vocab_limit": False}
    ids = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "pad_piece": "[PAD]", "unk_piece": "[UNK]"}
    settings = {**usual, **ids, "control_symbols": SPECIAL[2:], **options}
    sentencepiece.SentencePieceTrainer.Train(sentence_iterator=iter(training), model_writer=model, **settings)
    tokenizer = Tokenizer.from_bytes(model.getvalue(), "the test's model")
    library: Any = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())  # pyright: ignore[reportCallIssue]
    # Without a piece for a newline it would be unknown, so that words are glued: a space stands for it.
    lost = library.unk_id() in library.encode("\n")

    def given(text: str) -> str:
        return text.replace("\n", " ") if lost else text

    def spans(text: str) -> list[tuple[int, int]]:
        # The library counts bytes.
        place = {byte: number for number, byte in enumerate(np.cumsum([0, *(len(each.encode()) for each in text)]))}
        pieces = library.encode(given(text), return_type="proto").pieces
        return [(place[piece.begin], place[piece.end]) for piece in pieces]

    suffix = options.get("treat_whitespace_as_suffix")
    unigram = settings.get("model_type", "unigram") == "unigram"
    scores = [library.get_score(token) for token in range(len(tokenizer))] if unigram else None
    return Kind(
        tokenizer,
        lambda text: library.encode(given(text)),
        spans,
        anywhere if options.get("remove_extra_whitespaces", True) else after_space if suffix else before_space,
        scores,
        lambda text: library.decode(library.encode(given(text))).strip(),
    )


def vocabulary_kind(name: str, folder: Path, training: list[str]) -> Kind:
    library, config = VOCABULARY_KINDS[name](folder, training)
    if hasattr(library, "to_str"):
        # Text never makes special tokens.
        library = tokenizers.Tokenizer.from_str(json.dumps({**json.loads(library.to_str()), "added_tokens": []}))

    def encoded(text: str) -> Any:
        return library.encode(text, add_special_tokens=False)

    def words(text: str) -> list[tuple[int, int]]:
        return [span for _, span in library.pre_tokenizer.pre_tokenize_str(text)]

    def shown(text: str) -> str:
        if "word" not in name:
            return text.strip()
        # Where words are cut out of a text, white space is not kept.
        return library.decode(encoded(text).ids, skip_special_tokens=False).replace("</w>", " ").strip()

    return Kind(
        Tokenizer.from_bytes(given_model(config), name),
        lambda text: encoded(text).ids,
        # Where ends of words are marked, a word that is cut gets another end.
        lambda text: words(text) if name == "ends of words" else encoded(text).offsets,
        anywhere if "word" in name else before_space,
        None,
        shown,
        loses_space=name == "ends of words",
    )


def word_pieces(folder: Path, training: list[str], lowercase: bool = True) -> tuple[Any, TokenizerConfig]:
    library = tokenizers.BertWordPieceTokenizer(lowercase=lowercase)
    library.train_from_iterator(training, vocab_size=900, min_frequency=1, limit_alphabet=300, show_progress=False)
    (folder / "vocab.txt").write_text("".join(f"{row}\n" for row in in_order(library)), encoding="utf-8", newline="")
    return library, TokenizerConfig(model=str(folder / "vocab.txt"), lowercase=lowercase)


def in_order(library: Any) -> list[str]:
    return [piece for piece, _ in sorted(library.get_vocab().items(), key=lambda item: item[1])]


def gpt2(folder: Path, training: list[str], leading: bool | None = None) -> tuple[Any, TokenizerConfig]:
    library = tokenizers.ByteLevelBPETokenizer(add_prefix_space=bool(leading))
    library.train_from_iterator(
        training, vocab_size=700, min_frequency=1, special_tokens=["<|endoftext|>"], show_progress=False
    )
    library.save_model(str(folder))
    return library, TokenizerConfig(model=str(folder), leading_space=leading)


def by_json(folder: Path, training: list[str], cuts: list[Any], **model: Any) -> tuple[Any, TokenizerConfig]:
    """A ``tokenizer.json`` of byte-level BPE with another pre-tokenizer than GPT-2's."""
    library = tokenizers.Tokenizer(models.BPE(**model))
    library.pre_tokenizer = pre_tokenizers.Sequence(cuts)
    library.decoder = decoders.ByteLevel()
    library.normalizer = normalizers.NFC()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        special_tokens=["<|endoftext|>", "<|startoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
        **model,
    )
    library.train_from_iterator(training, trainer)
    library.save(str(folder / "tokenizer.json"))
    return library, TokenizerConfig(model=str(folder / "tokenizer.json"))


def split(pattern: str, **settings: Any) -> Any:
    return pre_tokenizers.Split(tokenizers.Regex(pattern), **settings)


PLAIN = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
LATER_GPTS = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CLIPS = r"'s|'t|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
VOCABULARY_KINDS: dict[str, Callable[[Path, list[str]], tuple[Any, TokenizerConfig]]] = {
    "word pieces": word_pieces,
    "cased word pieces": lambda folder, training: word_pieces(folder, training, False),
    "gpt2": gpt2,
    "gpt2, space added": lambda folder, training: gpt2(folder, training, True),
    "other cuts": lambda folder, training: by_json(folder, training, [split(LATER_GPTS, behavior="isolated"), PLAIN]),
    "one cut": lambda folder, training: by_json(folder, training, [PLAIN]),
    "ends of words": lambda folder, training: by_json(
        folder, training, [split(CLIPS, behavior="removed", invert=True), PLAIN], end_of_word_suffix="</w>"
    ),
}


@pytest.fixture(scope="module", params=[*SENTENCEPIECE, *VOCABULARY_KINDS])
def kind(request: pytest.FixtureRequest, training: list[str], tmp_path_factory: pytest.TempPathFactory) -> Kind:
    if request.param in SENTENCEPIECE:
        return sentencepiece_kind(SENTENCEPIECE[request.param], training)
    return vocabulary_kind(request.param, tmp_path_factory.mktemp("vocabulary"), training)


class Encoded(NamedTuple):
    """One document."""

    text: str
    sentences: list[tuple[int, int]]
    """Their spans, in characters."""
    ids: list[list[int]]
    """Of each sentence."""
    whole: list[int]
    """Of the document encoded as a whole."""


def encoded(tokenizer: Tokenizer, texts: list[str]) -> Iterator[Encoded]:
    """Encode all documents as one group of the pipeline."""
    rows = Ragged.of_bytes(text.encode() for text in texts)
    found = find_sentences(rows)
    ids, counts = tokenizer.encode_documents(rows.values, rows.offsets, found)
    assert np.array_equal(counts, found.lengths)
    wholes, pieces = tokenizer.encode_documents(rows.values, rows.offsets, found, whole=True)
    whole_at = np.concatenate([[0], np.cumsum(pieces)])
    for number, text in enumerate(texts):
        data, places = text.encode(), found.values[found.offsets[number] : found.offsets[number + 1]]
        spans = [
            (len(data[: start - rows.offsets[number]].decode()), len(data[: stop - rows.offsets[number]].decode()))
            for start, stop in places.tolist()
        ]
        each = range(found.offsets[number], found.offsets[number + 1])
        first, last = wholes.offsets[whole_at[[number, number + 1]]]
        yield Encoded(
            text,
            spans,
            [ids.values[ids.offsets[row] : ids.offsets[row + 1]].tolist() for row in each],
            wholes.values[first:last].tolist(),
        )


def anywhere(stop: int, start: int) -> Iterable[int]:
    return range(stop, start + 1)


def before_space(stop: int, start: int) -> Iterable[int]:
    return (stop,)


def after_space(stop: int, start: int) -> Iterable[int]:
    return (start,)


def crosses(kind: Kind, found: Encoded) -> bool:
    """Return whether a token of the library extends over two sentences."""
    spans = kind.spans(found.text)
    inner = {place for start, stop in spans for place in range(start + 1, stop)}
    return any(inner.issuperset(kind.cut(one[1], other[0])) for one, other in pairwise(found.sentences))


def same(kind: Kind, ours: list[int], library: list[int]) -> bool:
    """Return whether ids are equal, or two segmentations of a unigram model whose scores differ by rounding only: the
    library chooses between those by sums over the whole text that it encodes."""
    if ours == library or kind.scores is None:
        return ours == library
    pair = [sum(kind.scores[token] for token in ids) for ids in (ours, library)]
    return abs(pair[0] - pair[1]) < 1e-5 * abs(pair[1]) and kind.tokenizer.decode(ours) == kind.tokenizer.decode(
        library
    )


def check(kind: Kind, texts: list[str]) -> int:
    """Compare each document with the library and return those whose sentences have the library's ids of the whole."""
    draw, alike = random.Random(3), 0
    for found in encoded(kind.tokenizer, texts):
        text, library = found.text, kind.ids(found.text)
        covered = "".join(text[start:stop] for start, stop in found.sentences)
        assert covered.split() and "".join(covered.split()) == "".join(text.split()), text
        assert same(kind, found.whole, library), text
        together = [token for ids in found.ids for token in ids]
        if not crosses(kind, found):
            assert same(kind, together, library), text
            alike += 1
        first = draw.randrange(len(found.ids))
        last = draw.randrange(first, len(found.ids))
        span = text[found.sentences[first][0] : found.sentences[last][1]]
        row = [token for ids in found.ids[first : last + 1] for token in ids]
        decoded, expected = kind.tokenizer.decode(row).strip(), kind.shown(span)
        if kind.loses_space:
            decoded, expected = ("".join(each.split()) for each in (decoded, expected))
        assert decoded == expected, (text, span)
    return alike


def test_random_texts_keep_their_ids_and_their_text(kind: Kind) -> None:
    texts = clean(random_texts(200, 2))
    assert check(kind, texts) > 0.5 * len(texts)


@pytest.mark.slow
def test_ten_thousand_random_texts_keep_their_ids_and_their_text(kind: Kind) -> None:
    texts = clean(random_texts(10_000, 4))
    assert check(kind, texts) > 0.5 * len(texts)
