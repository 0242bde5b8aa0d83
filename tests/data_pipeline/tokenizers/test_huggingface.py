"""Tokenizers in transformers' files: the same ids in transformers, and the same bytes after reading them again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.huggingface import KINDS, read_tokenizer, write_tokenizer
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.special_tokens import PIECES
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import LETTERS, MERGES
from tests.data_pipeline.tokenizers.auto_tokenizer import auto_tokenizer
from tests.data_pipeline.tokenizers.compared_ids import TEXTS, assert_equal_ids, written_again

ENCODERS = ("bert", "albert", "roberta", "modernbert")
BOOKS = ("Our cat sat by the old door. ", "Le caf\u00e9 est l\u00e0. ", "\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002 ")


@pytest.fixture(scope="module")
def model(sentences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a model with these settings and return its file."""

    def make(**settings: Any) -> Path:
        size = 640 if settings.get("byte_fallback") else 360
        config = TokenizerConfig(vocabulary_size=size, character_coverage=1.0, **settings)
        text = [*sentences, *(part for part in BOOKS for _ in range(50))]
        path = tmp_path_factory.mktemp("model") / "tokenizer.model"
        path.write_bytes(train(text, config))
        return path

    return make


@pytest.fixture
def byte_pairs(tmp_path: Path) -> Path:
    """A folder of RoBERTa's two files: its special tokens, all bytes, three merges."""
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *LETTERS, *map("".join, MERGES), "<mask>"]
    folder = tmp_path / "roberta"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(vocabulary)}))
    rows = ["#version: 0.2", *map(" ".join, MERGES), ""]
    (folder / "merges.txt").write_text("\n".join(rows), encoding="utf-8")
    return folder


@pytest.fixture
def words(tmp_path: Path) -> Path:
    """A vocab.txt."""
    letters = "abcdefghijklmnopqrstuvwxyz\u00e9A\u4eca"
    rows = [*PIECES.values(), *letters, *(f"##{letter}" for letter in letters), "the", "##able"]
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("byte_fallback", [True, False])
def test_a_trained_model_gives_our_ids(
    model: Callable[..., Path], tmp_path: Path, kind: str, lowercase: bool, byte_fallback: bool, sentences: list[str]
) -> None:
    path = model(kind=kind, lowercase=lowercase, byte_fallback=byte_fallback)
    ours = Tokenizer.load(path)
    write_tokenizer(path, tmp_path, "bert", 512)
    unknown = ours.encode("\u9f98")
    assert (ours.special.unk in unknown) != byte_fallback
    assert_equal_ids(ours, auto_tokenizer(tmp_path, "bert"), [*TEXTS, *BOOKS, *sentences[:300]])


@pytest.mark.parametrize("model_type", KINDS)
def test_special_tokens_around_texts(model: Callable[..., Path], tmp_path: Path, model_type: str) -> None:
    path = model(sentinels=3)
    ours = Tokenizer.load(path)
    special = write_tokenizer(path, tmp_path, model_type, 77)
    theirs = auto_tokenizer(tmp_path, model_type)
    a, b, (pad, _, cls, sep, mask) = ours.encode("the cat"), ours.encode("our door"), ours.special
    single, pair = theirs("the cat"), theirs("the cat", "our door")
    assert (single["input_ids"], pair["input_ids"]) == {
        True: ([cls, *a, sep], [cls, *a, sep, *b, sep]),
        False: ([cls, *a], [cls, *a, *b]),
    }[model_type != "gpt2"]
    types = [0] * (len(a) + 2) + [1] * (len(b) + 1)
    assert pair.get("token_type_ids") == (types if model_type in ("bert", "albert", "roberta") else None)
    assert theirs.model_max_length == 77
    assert (theirs.pad_token_id, theirs.unk_token_id) == (pad, ours.special.unk)
    if model_type in ENCODERS:
        assert (theirs.cls_token_id, theirs.sep_token_id, theirs.mask_token_id) == (cls, sep, mask)
    if model_type not in ("bert", "modernbert"):
        assert theirs.eos_token_id == special["eos_token_id"] == sep
    assert special["pad_token_id"] == pad
    assert special.get("bos_token_id", cls) == cls
    assert special.get("decoder_start_token_id") == (pad if "t5" in model_type or "switch" in model_type else None)


@pytest.mark.parametrize("model_type", ENCODERS)
def test_a_mask_in_a_text_is_the_mask(model: Callable[..., Path], tmp_path: Path, model_type: str) -> None:
    path = model()
    ours = Tokenizer.load(path)
    write_tokenizer(path, tmp_path, model_type, None)
    theirs = auto_tokenizer(tmp_path, model_type)
    assert ours.special.mask is not None
    expected = [*ours.encode("The old"), ours.special.mask, *ours.encode("sat by")]
    assert theirs.encode(f"The old {theirs.mask_token} sat by", add_special_tokens=False) == expected


def test_sentinels_are_special_tokens(model: Callable[..., Path], tmp_path: Path) -> None:
    path = model(sentinels=3)
    ours = Tokenizer.load(path)
    write_tokenizer(path, tmp_path, "t5", 512)
    theirs = auto_tokenizer(tmp_path, "t5")
    expected = [*ours.encode("the cat"), ours.sentinels[1], *ours.encode("door")]
    assert theirs.encode("the cat <extra_id_1> door", add_special_tokens=False) == expected
    assert {"<extra_id_0>", "<extra_id_1>", "<extra_id_2>"} <= set(theirs.all_special_tokens)
    assert theirs.decode(expected, skip_special_tokens=True) == "the cat door"


def test_a_model_of_one_segment_has_no_token_types(model: Callable[..., Path], tmp_path: Path) -> None:
    write_tokenizer(model(), tmp_path, "roberta", 512, segments=1)
    encoded = auto_tokenizer(tmp_path, "roberta")("the cat", "our door", return_token_type_ids=True)
    assert set(encoded["token_type_ids"]) == {0}
    assert "token_type_ids" not in auto_tokenizer(tmp_path, "roberta")("the cat")


def test_an_added_token_that_is_text_is_refused(tmp_path: Path) -> None:
    added = {"id": 3, "content": "    ", "special": False}
    model = {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}
    whole = {"model": model, "pre_tokenizer": {"type": "ByteLevel"}, "added_tokens": [added]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match=r"tokenizer\.json adds '    ' to its vocabulary.* special ones"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize("lowercase", [True, False])
def test_word_pieces_are_written_and_read(words: Path, tmp_path: Path, lowercase: bool) -> None:
    given = given_model(TokenizerConfig(model=str(words), lowercase=lowercase))
    assert written_again(given, tmp_path, "bert") == given
    folder = tmp_path / "there"
    assert (folder / "vocab.txt").read_bytes() == words.read_bytes()
    assert_equal_ids(Tokenizer.from_bytes(given, "given"), auto_tokenizer(folder, "bert"), TEXTS)
    transformers = pytest.importorskip("transformers")
    assert_equal_ids(
        Tokenizer.from_bytes(given, "given"), transformers.BertTokenizer.from_pretrained(str(folder)), TEXTS
    )
    (folder / "tokenizer.json").unlink()
    assert read_tokenizer(folder) == given, "tokenizer_config.json says how to fold"


@pytest.mark.parametrize("leading_space", [True, False])
def test_byte_pairs_are_written_and_read(byte_pairs: Path, tmp_path: Path, leading_space: bool) -> None:
    given = given_model(TokenizerConfig(model=str(byte_pairs), leading_space=leading_space))
    assert written_again(given, tmp_path, "roberta") == given
    folder = tmp_path / "there"
    assert_equal_ids(Tokenizer.from_bytes(given, "given"), auto_tokenizer(folder, "roberta"), TEXTS)
    (folder / "tokenizer.json").unlink()
    assert read_tokenizer(folder) == given


def test_robertas_files_give_transformers_ids(byte_pairs: Path) -> None:
    ours = Tokenizer.from_bytes(read_tokenizer(byte_pairs), "RoBERTa's files")
    assert ours.special == (1, 3, 0, 2, len(ours) - 1)
    (byte_pairs / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
    theirs = auto_tokenizer(byte_pairs, "roberta")
    assert type(theirs).__name__ == "RobertaTokenizer"
    assert_equal_ids(ours, theirs, TEXTS)


@pytest.mark.parametrize("kind", ["words", "byte_pairs"])
def test_a_tokenizer_json_needs_no_other_file(words: Path, byte_pairs: Path, tmp_path: Path, kind: str) -> None:
    given = given_model(TokenizerConfig(model=str(words if kind == "words" else byte_pairs), leading_space=False))
    written_again(given, tmp_path, "bert" if kind == "words" else "roberta")
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "tokenizer.json").write_bytes((tmp_path / "there" / "tokenizer.json").read_bytes())
    assert read_tokenizer(alone) == given


@pytest.mark.parametrize("model_type", KINDS)
def test_a_trained_model_is_read_byte_for_byte(model: Callable[..., Path], tmp_path: Path, model_type: str) -> None:
    given = model(kind="bpe").read_bytes()
    assert written_again(given, tmp_path, model_type) == given
    file = (
        tmp_path
        / "there"
        / ("spiece.model" if KINDS[model_type].sentencepiece == "spiece.model" else "tokenizer.model")
    )
    assert file.read_bytes() == given


def test_added_tokens_of_a_lone_file_are_pieces(byte_pairs: Path, tmp_path: Path) -> None:
    given = json.loads(given_model(TokenizerConfig(model=str(byte_pairs), leading_space=False)))
    size = len(given["model"]["vocab"])
    given["added_tokens"] = [
        {"id": size + number, "content": piece, "special": True} for number, piece in enumerate(PIECES.values())
    ]
    given["normalizer"] = {"type": "NFC"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(given))
    ours = Tokenizer.from_bytes(read_tokenizer(tmp_path), "ModernBERT's kind")
    assert ours.special == tuple(range(size, size + 5))
    assert ours.encode("e\u0301") == ours.encode("\u00e9")


def test_unknown_folders_are_refused(model: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no tokenizer; add a sentencepiece model, vocab\.txt"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "WordLevel"}, "pre_tokenizer": {"type": "Split"}}')
    with pytest.raises(
        ConfigError, match=r"tokenizer\.json has the model 'WordLevel' behind the pre-tokenizer 'Split'"
    ):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE"}, "pre_tokenizer": {"type": "ByteLevel"}}')
    with pytest.raises(ConfigError, match=r"tokenizer\.json: is incomplete \(KeyError\('vocab'\)\); copy it again"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: is not valid JSON"):
        read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "spiece.model").write_bytes(b"\xff\xfe no model")
    with pytest.raises(ConfigError, match=r"spiece\.model: is no tokenizer"):
        read_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match=r"spiece\.model: is no tokenizer"):
        write_tokenizer(tmp_path / "spiece.model", tmp_path / "there", "bert", None)
    with pytest.raises(ConfigError, match="model type 'elmo' is not supported; the types are bert, albert"):
        write_tokenizer(model(), tmp_path / "there", "elmo", None)


def test_pieces_with_other_ids_are_refused(model: Callable[..., Path], tmp_path: Path) -> None:
    given = model()
    write_tokenizer(given, tmp_path, "bert", None)
    whole = json.loads((tmp_path / "tokenizer.json").read_bytes())
    whole["model"]["vocab"].insert(0, ["<s>", 0.0])
    (tmp_path / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match="transformers gives the pieces of this model other ids"):
        read_tokenizer(tmp_path)
    alone = tmp_path / "xlm-roberta"
    alone.mkdir()
    (alone / "sentencepiece.bpe.model").write_bytes(given.read_bytes())
    with pytest.raises(ConfigError, match=r"sentencepiece\.bpe\.model: transformers gives the pieces"):
        read_tokenizer(alone)


def test_unsupported_normalization_is_refused(words: Path, byte_pairs: Path) -> None:
    for folder in (words.parent, byte_pairs):
        whole = json.loads(read_tokenizer(folder))
        (folder / "tokenizer.json").write_text(json.dumps({**whole, "normalizer": {"type": "Prepend", "prepend": "a"}}))
        with pytest.raises(ConfigError, match=r"tokenizer\.json has the normalizer 'Prepend'"):
            read_tokenizer(folder)
