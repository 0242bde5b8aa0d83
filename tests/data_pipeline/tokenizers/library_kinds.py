"""Every kind of tokenizer beside its own library."""

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sentencepiece
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from sesame.data_pipeline.cleaning.clean import normalize
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

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


def anywhere(stop: int, start: int) -> Iterable[int]:
    return range(stop, start + 1)


def before_space(stop: int, start: int) -> Iterable[int]:
    return (stop,)


def after_space(stop: int, start: int) -> Iterable[int]:
    return (start,)
