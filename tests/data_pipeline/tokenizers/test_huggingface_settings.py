"""A tokenizer's own settings are used: those in its model, and those in the files beside its vocabulary."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.prepare import prepare
from sesame.data_pipeline.steps.tokenizer import losses
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_texts import LETTERS, MERGES, random_texts
from tests.data_pipeline.tokenizers.corpus_config import config

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*"abcdehlot\u00e9", *(f"##{letter}" for letter in "abcdehlot"), "the", "T", "##\u4eca", "\u4eca"]


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A folder with a vocab.txt."""
    folder = tmp_path / "words"
    folder.mkdir()
    rows = "".join(f"{row}\n" for row in [*SPECIAL, *WORDS])
    (folder / "vocab.txt").write_text(rows, encoding="utf-8", newline="")
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A folder with GPT-2's files under RoBERTa's names."""
    folder = tmp_path / "pairs"
    folder.mkdir()
    pieces = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, *map("".join, MERGES), "<mask>"]
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, MERGES), ""]), encoding="utf-8")
    return folder


def library(folder: Path) -> dict[str, Any]:
    """Return the tokenizer.json of a folder's vocabulary files."""
    return json.loads(given_model(TokenizerConfig(model=str(folder))))


def write(folder: Path, name: str, values: dict[str, Any]) -> None:
    (folder / name).write_text(json.dumps(values))


WORD_SETTINGS: list[tuple[dict[str, Any], str, list[str]]] = [
    ({"do_lower_case": False}, "The", ["T", "##h", "##e"]),
    ({"do_lower_case": True, "strip_accents": False}, "\u00e9", ["\u00e9"]),
    ({"strip_accents": True}, "\u00e9", ["e"]),
    ({"tokenize_chinese_chars": False}, "a\u4eca", ["a", "##\u4eca"]),
    ({"tokenize_chinese_chars": True}, "a\u4eca", ["a", "\u4eca"]),
]


@pytest.mark.parametrize(("settings", "text", "pieces"), WORD_SETTINGS)
def test_settings_beside_a_vocabulary_are_used(words: Path, settings: dict, text: str, pieces: list[str]) -> None:
    write(words, "tokenizer_config.json", settings)
    for path in (words, words / "vocab.txt"):
        tokenizer = Tokenizer.load(path)
        assert [tokenizer.piece(token) for token in tokenizer.encode(text)] == pieces


@pytest.mark.parametrize(("settings", "text", "pieces"), WORD_SETTINGS)
def test_a_json_beside_a_vocabulary_is_used(words: Path, settings: dict, text: str, pieces: list[str]) -> None:
    names = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
    whole = library(words)
    whole["normalizer"] |= {names.get(key, key): value for key, value in settings.items()}
    write(words, "tokenizer.json", whole)
    for path in (words, words / "vocab.txt", words / "tokenizer.json"):
        tokenizer = Tokenizer.load(path)
        assert [tokenizer.piece(token) for token in tokenizer.encode(text)] == pieces


def test_another_continuing_subword_prefix(words: Path) -> None:
    rows = (words / "vocab.txt").read_text(encoding="utf-8").replace("##", "@@")
    (words / "vocab.txt").write_text(rows, encoding="utf-8", newline="")
    with pytest.raises(ConfigError, match=r"vocab\.txt: has no piece that begins with '##', but 10 with '@@'"):
        Tokenizer.load(words)
    model = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "@@",
        "max_input_chars_per_word": 9,
    }
    vocabulary = {row: number for number, row in enumerate(rows.splitlines())}
    cut, fold = {"type": "BertPreTokenizer"}, {"type": "BertNormalizer", "lowercase": True}
    (words / "vocab.txt").unlink()
    write(
        words,
        "tokenizer.json",
        {"model": {**model, "vocab": vocabulary}, "pre_tokenizer": cut, "normalizer": fold, "added_tokens": []},
    )
    tokenizer = Tokenizer.load(words)
    ids = tokenizer.encode("Hello theta aaaaaaaaaa")
    assert [tokenizer.piece(token) for token in ids] == ["h", "@@e", "@@l", "@@l", "@@o", "the", "@@t", "@@a", "[UNK]"]
    assert tokenizer.starts_word[ids].tolist() == [True, *[False] * 4, True, False, False, True]
    assert tokenizer.decode(ids[:-1]) == "hello theta"


Change = Callable[[dict[str, Any]], None]


def normalised_by(kind: str) -> Change:
    return lambda whole: whole.update(normalizer={"type": kind})


FLAGS = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
REFUSED: list[tuple[str, Change, str]] = [
    ("words", lambda whole: whole["added_tokens"].append({"id": 34, "content": "covid", "special": False}), "'covid'"),
    ("words", lambda whole: whole["model"].update(continuing_subword_prefix=""), "continuing_subword_prefix is empty"),
    ("words", lambda whole: whole["model"].update(unk_token="<unk>"), "unk_token '<unk>' is no piece"),
    ("words", normalised_by("Prepend"), "has the normalizer 'Prepend'"),
    (
        "words",
        lambda whole: whole["model"]["vocab"].update({"a": 6, "b": 5}),
        "gives 'a' the id 6, and vocab.txt the id 5",
    ),
    (
        "words",
        lambda whole: whole["added_tokens"].append({"id": 5, "content": "a", "special": False, **FLAGS}),
        "adds 'a' to its vocabulary",
    ),
    (
        "words",
        lambda whole: whole.update(pre_tokenizer={"type": "Metaspace"}),
        "'WordPiece' behind the pre-tokenizer 'Metaspace'",
    ),
    ("pairs", lambda whole: whole["model"].update(dropout=0.1), "dropout is 0.1"),
    ("pairs", lambda whole: whole["model"].update(continuing_subword_prefix="##"), "continuing_subword_prefix is '##'"),
    ("pairs", lambda whole: whole["model"]["merges"].pop(), "other merges than pairs"),
    ("pairs", normalised_by("Strip"), "has the normalizer 'Strip'"),
    (
        "pairs",
        lambda whole: whole.update(pre_tokenizer={"type": "Whitespace"}),
        "'BPE' behind the pre-tokenizer 'Whitespace'",
    ),
    (
        "pairs",
        lambda whole: whole.update(post_processor={"type": "BertProcessing", "sep": ["</s>", 2], "cls": ["<b>", 0]}),
        "post_processor adds '<b>' to a text",
    ),
]


@pytest.mark.parametrize(("folder", "change", "sentence"), REFUSED, ids=[sentence for _, _, sentence in REFUSED])
def test_unsupported_settings_of_a_json_are_refused(
    words: Path, pairs: Path, folder: str, change: Change, sentence: str
) -> None:
    path = {"words": words, "pairs": pairs}[folder]
    whole = library(path)
    change(whole)
    write(path, "tokenizer.json", whole)
    for read in (Tokenizer.load, read_tokenizer):
        with pytest.raises(ConfigError) as raised:
            read(path)
        assert sentence in str(raised.value) and "tokenizer.json" in str(raised.value)


@pytest.mark.parametrize(
    ("folder", "file", "values", "sentence"),
    [
        ("words", "tokenizer_config.json", {"tokenizer_class": "BertJapaneseTokenizer"}, "'BertJapaneseTokenizer'"),
        ("words", "tokenizer_config.json", {"do_basic_tokenize": False}, "do_basic_tokenize is false"),
        ("words", "added_tokens.json", {"covid": 34}, "adds 'covid' to its vocabulary"),
        ("pairs", "tokenizer_config.json", {"tokenizer_class": "Qwen2Tokenizer"}, "'Qwen2Tokenizer'"),
        ("pairs", "tokenizer_config.json", {"added_tokens_decoder": {"264": {"content": "  "}}}, "adds '  '"),
    ],
)
def test_unsupported_settings_are_refused(
    words: Path, pairs: Path, folder: str, file: str, values: dict, sentence: str
) -> None:
    path = {"words": words, "pairs": pairs}[folder]
    write(path, file, values)
    with pytest.raises(ConfigError, match=sentence):
        Tokenizer.load(path)


def test_lowercase_must_agree_with_the_files(words: Path) -> None:
    write(words, "tokenizer_config.json", {"do_lower_case": False})
    with pytest.raises(ConfigError, match=r"keeps case, but tokenizer\.lowercase is true; leave tokenizer\.lowercase"):
        given_model(TokenizerConfig(model=str(words), lowercase=True))
    assert given_model(TokenizerConfig(model=str(words), lowercase=False)) == given_model(
        TokenizerConfig(model=str(words))
    )


def test_added_special_tokens_have_their_ids_and_are_not_text(words: Path, tmp_path: Path) -> None:
    size = len(SPECIAL) + len(WORDS)
    write(words, "added_tokens.json", {"[E1]": size})
    write(words, "tokenizer_config.json", {"additional_special_tokens": ["[E1]"]})
    tokenizer = Tokenizer.load(words)
    assert len(tokenizer) == size + 1 and tokenizer.piece(size) == "[E1]" and size not in tokenizer.ordinary
    (tmp_path / "kept.model").write_bytes(given_model(TokenizerConfig(model=str(words))))
    write_tokenizer(tmp_path / "kept.model", tmp_path / "there", "bert", None)
    assert read_tokenizer(tmp_path / "there") == (tmp_path / "kept.model").read_bytes()


def test_the_pre_tokenizer_of_a_json_is_used(pairs: Path) -> None:
    whole = library(pairs)
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}|\s?\p{L}+"}, "behavior": "Isolated", "invert": False}
    plain = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    whole["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split, plain]}
    write(pairs, "tokenizer.json", whole)
    theirs = tokenizers.Tokenizer.from_str(json.dumps({**whole, "added_tokens": []}))
    ours = Tokenizer.load(pairs)
    for text in random_texts(200, 8):
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text
    plain["add_prefix_space"] = True
    write(pairs, "tokenizer.json", whole)
    with pytest.raises(ConfigError, match=r"a space to every part of a text \(add_prefix_space behind another"):
        Tokenizer.load(pairs)


def test_line_breaks_and_indentation_are_kept_with_byte_pairs(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    """In rows that may be cut anywhere; with other rows a warning says that they are lost."""
    code = (
        "The first words of it.\n\n\ndef the(he):\n    if he:\n\treturn 1\n\n    return 2\n\nThe last words of the text"
    )
    code += ", which has to be longer than a hundred characters."
    corpus = tmp_path / "code.jsonl"
    texts = [code.replace("1", str(number)) for number in range(40)]
    corpus.write_text("".join(json.dumps({"text": f"\n \n{text}  \r\n"}) + "\n" for text in texts))
    output = tmp_path / "contiguous"
    rules = config(output, corpus, pairs, "contiguous", "nothing")
    prepare(rules, output)
    assert "not kept of the text" not in capsys.readouterr().out
    verify(output)
    elsewhere = rules.model_copy(update={"segment": rules.segment.model_copy(update={"kind": "full_sentences"})})
    listed = losses(elsewhere, Tokenizer.load(pairs))
    assert listed == ["indentation and repeated line breaks (clean.white_space)"]
    dataset = open_dataset(tmp_path / "contiguous", verify=False)
    tokenizer = Tokenizer.load(dataset.tokenizer_path)
    columns = dataset.split("train").take(np.arange(dataset.split("train").rows))
    tokens: Any = columns["tokens"]
    by_document: dict[int, list[str]] = {}
    for row, document in enumerate(columns["document"]):
        ids = tokens.values[tokens.offsets[row] + 1 : tokens.offsets[row + 1] - 1]
        by_document.setdefault(int(document), []).append(tokenizer.decode(ids))
    found = {frozenset(parts) for parts in by_document.values()}
    assert len(found) > 30
    for parts in found:
        assert any(all(part in text for part in parts) and sum(map(len, parts)) == len(text) for text in texts)


def test_losses_of_a_tokenizer_are_listed(words: Path, pairs: Path, tokenizer: Tokenizer) -> None:
    assert Tokenizer.load(pairs).losses == []
    assert Tokenizer.load(words).losses == [
        "line breaks and indentation",
        "capital letters",
        "accents",
        "white space beside punctuation",
        "characters that are in no piece",
    ]
    assert [loss.partition(" (")[0] for loss in tokenizer.losses] == [
        "line breaks and indentation",
        "capital letters",
        "other forms of a character",
        "characters that are in no piece",
    ]


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "added_tokens.json"])
@pytest.mark.parametrize(
    "values",
    [
        {"model": [], "added_tokens": 3},
        {"model": {"type": "BPE", "vocab": 3, "merges": [1]}, "pre_tokenizer": {"type": "ByteLevel"}},
        {"model": {"type": "WordPiece", "vocab": {"a": "b"}}, "pre_tokenizer": {"type": "BertPreTokenizer"}},
        {"added_tokens_decoder": ["x"], "tokenizer_class": 3, "covid": "y"},
    ],
)
@pytest.mark.parametrize("folder", ["words", "pairs", "pieces"])
def test_files_with_invalid_values_are_refused(
    words: Path, pairs: Path, tmp_path: Path, sentences: list[str], folder: str, name: str, values: dict
) -> None:
    path = {"words": words, "pairs": pairs, "pieces": tmp_path}[folder]
    if folder == "pieces":
        (path / "spiece.model").write_bytes(train(sentences[:500], TokenizerConfig(vocabulary_size=200)))
    write(path, name, values)
    try:
        Tokenizer.load(path)
    except ConfigError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        assert name != "tokenizer.json" or (folder == "pieces" and "model" not in values)
