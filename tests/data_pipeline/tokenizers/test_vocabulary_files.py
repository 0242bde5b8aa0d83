"""BERT's and GPT-2's vocabulary files give the ids of their own tokenizers, also in datasets."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.configs import parse
from sesame.configs.errors import ConfigError, SesameError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.special_tokens import Special
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_texts import LETTERS, MERGES, real_texts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*"abcdefghijklmnopqrstuvwxyz.,!?'-\u00e9", "the", "quick", "un", "\u4eca", "\u5929", "A", "\u2028"]
PIECES = [*SPECIAL, "[unused1]", *WORDS, *(f"##{letter}" for letter in "abcdefghijklmnopqrstuvwxyz"), "##able"]
ADVERSARIAL = [
    "",
    " ",
    "\u00a0\t\r\n",
    "Don't  stop-- now!?  I'll; we've",
    "caf\u00e9 cafe\u0301 \u0130stanbul \u017ftra\u00dfe \ufb01ne",
    "a\u200bb\ufeffc\u00add\u0000e\ufffdf",
    "x" * 100 + " " + "x" * 101,
    "\u4eca\u5929Hello\u5929\u6c14\U00020000\u3400",
    "\u65e5\u672c\u8a9e\u306e\u6587\u7ae0 \ud55c\uad6d\uc5b4",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f600\ufe0f",
    "1,234.56 $5 50% a_b c@d.e #f",
    "\u202eright\u202c \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "one\u2028two\u2029three\u0085four",
    "un##able ## ##a [unused1] \u0120a",
]


@pytest.fixture
def vocabulary(tmp_path: Path) -> Path:
    path = tmp_path / "vocab.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES), encoding="utf-8", newline="")
    return path


@pytest.fixture
def byte_pairs(tmp_path: Path) -> Path:
    """A folder of GPT-2's two files: all bytes and three merges."""
    pieces = [*LETTERS, *map("".join, MERGES), "<|endoftext|>"]
    folder = tmp_path / "gpt2"
    folder.mkdir()
    (folder / "encoder.json").write_text(json.dumps({piece: number for number, piece in enumerate(pieces)}))
    rows = ["#version: 0.2", *map(" ".join, MERGES), ""]
    (folder / "vocab.bpe").write_text("\n".join(rows), encoding="utf-8")
    return folder


def given(path: Path, **settings: Any) -> Tokenizer:
    return Tokenizer.from_bytes(given_model(TokenizerConfig(model=str(path), **settings)), str(path))


def bert(path: Path, lowercase: bool) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    return transformers.BertTokenizer(vocab=str(path), do_lower_case=lowercase)


def gpt2(folder: Path, leading_space: bool) -> Any:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    files = {"vocab": str(folder / "encoder.json"), "merges": str(folder / "vocab.bpe")}
    return transformers.GPT2Tokenizer(**files, add_prefix_space=leading_space)


def assert_equal_ids(ours: Tokenizer, theirs: Any, texts: list[str]) -> None:
    rows = ours.encode_flat(texts)
    for number, text in enumerate(texts):
        expected = theirs.encode(text, add_special_tokens=False)
        found = rows.values[rows.offsets[number] : rows.offsets[number + 1]].tolist()
        assert found == expected == ours.encode(text), text


@pytest.mark.parametrize("lowercase", [True, False])
def test_a_small_vocabulary_gives_berts_ids(vocabulary: Path, lowercase: bool) -> None:
    assert_equal_ids(given(vocabulary, lowercase=lowercase), bert(vocabulary, lowercase), ADVERSARIAL)


@pytest.mark.parametrize("leading_space", [True, False])
def test_small_byte_pairs_give_gpt2s_ids(byte_pairs: Path, leading_space: bool) -> None:
    ours = given(byte_pairs, leading_space=leading_space)
    assert_equal_ids(ours, gpt2(byte_pairs, leading_space), ADVERSARIAL)


@pytest.mark.parametrize(("name", "lowercase"), [("uncased", True), ("cased", False), ("chinese", True)])
def test_real_text_gets_berts_ids(shared: Path, name: str, lowercase: bool) -> None:
    path = shared / "vectors" / f"bert-base-{name}-vocab.txt"
    books = "zh/classical_modern" if name == "chinese" else "en/classic_books"
    texts = [*real_texts(shared / "text" / f"{books}.jsonl.zst", 300_000), *ADVERSARIAL]
    assert_equal_ids(given(path, lowercase=lowercase), bert(path, lowercase), texts)


@pytest.mark.parametrize(("books", "leading_space"), [("en/classic_books", True), ("zh/classical_modern", False)])
def test_real_text_gets_gpt2s_ids(shared: Path, books: str, leading_space: bool) -> None:
    texts = [*real_texts(shared / "text" / f"{books}.jsonl.zst", 200_000), *ADVERSARIAL]
    ours = given(shared / "vectors", leading_space=leading_space)
    assert len(ours) == 50257
    assert_equal_ids(ours, gpt2(shared / "vectors", leading_space), texts)


def test_ids_are_those_of_the_files(vocabulary: Path) -> None:
    tokenizer = given(vocabulary)
    assert tokenizer.special == Special(0, 1, 2, 3, 4)
    assert [tokenizer.piece(token) for token in tokenizer.encode("The unable")] == ["the", "un", "##able"]
    assert [tokenizer.piece(token) for token in given(vocabulary, lowercase=False).encode("A The")] == ["A", "[UNK]"]
    assert tokenizer.decode(tokenizer.encode("The unable, quick")) == "the unable, quick"
    assert len(tokenizer) == len(PIECES)


def test_text_never_makes_a_special_token(vocabulary: Path, byte_pairs: Path) -> None:
    words = given(vocabulary)
    assert not set(words.encode("[CLS] a [MASK] [SEP][PAD]")) & {0, 2, 3, 4}
    assert set(range(len(words))) - set(words.ordinary.tolist()) == {0, 1, 2, 3, 4, PIECES.index("[unused1]")}
    pairs = given(byte_pairs)
    assert pairs.special == Special(259, 259, 259, 259, None)
    assert pairs.special.pad not in pairs.encode("a<|endoftext|>b")
    assert pairs.ordinary.tolist() == list(range(259))


def test_the_content_of_a_file_chooses_its_engine(vocabulary: Path, byte_pairs: Path, tmp_path: Path) -> None:
    for path in (vocabulary, byte_pairs):
        model = given_model(TokenizerConfig(model=str(path)))
        assert model == given_model(TokenizerConfig(model=str(path)))
        kept = tmp_path / "tokenizer.model"
        kept.write_bytes(model)
        assert Tokenizer.load(kept).encode_batch(ADVERSARIAL) == given(path).encode_batch(ADVERSARIAL)
        assert given_model(TokenizerConfig(model=str(kept))) == model


def test_words_start_where_each_kind_marks_it(vocabulary: Path, byte_pairs: Path) -> None:
    words = given(vocabulary)
    ids = np.array(words.encode("unable the\u4eca\u5929"))
    assert words.starts_word[ids].tolist() == [True, False, True, True, True]
    pairs = given(byte_pairs, leading_space=True)
    assert pairs.starts_word[np.array(pairs.encode("the he"))].tolist() == [True, True, False]


def test_inspect_shows_spaces_and_no_marks(vocabulary: Path, byte_pairs: Path) -> None:
    words, pairs = given(vocabulary), given(byte_pairs, leading_space=True)
    assert [words.shown(token) for token in words.encode("the unable \u4eca")] == [
        (True, "the"),
        (True, "un"),
        (False, "able"),
        (False, "\u4eca"),
    ]
    assert [pairs.shown(token) for token in pairs.encode("the he")] == [(True, "the"), (True, ""), (False, "he")]


def test_byte_pairs_decode_to_the_text(byte_pairs: Path) -> None:
    exact = given(byte_pairs, leading_space=False)
    for text in ADVERSARIAL:
        assert exact.decode(exact.encode(text)) == text


def corpus_config(output: Path, corpus: Path, tokenizer: dict[str, Any], corrupt: dict[str, Any]) -> CorpusConfig:
    values = {
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(corpus)], "limit_megabytes": 0.05},
        "tokenizer": tokenizer,
        "segment": {"kind": "full_sentences", "sequence_length": 256},
        "corrupt": corrupt,
        "workers": {"count": 1},
    }
    return parse(values, CorpusConfig, "the test's corpus")


def test_a_dataset_keeps_the_vocabulary(vocabulary: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    config = corpus_config(output, corpus, {"model": str(vocabulary)}, {"kind": "masked_words"})
    prepare(config, output)
    dataset = open_dataset(output, verify=True)
    verify(output)
    assert Tokenizer.load(dataset.tokenizer_path).encode("The unable") == given(vocabulary).encode("The unable")
    assert dataset.manifest.tokenizer.vocabulary_size == len(PIECES)
    prepare(config, output)
    vocabulary.write_text(vocabulary.read_text(encoding="utf-8") + "new\n", encoding="utf-8")
    with pytest.raises(SesameError, match="input has changed"):
        prepare(config, output)


def test_byte_pairs_make_a_dataset_without_masks(byte_pairs: Path, corpus: Path, tmp_path: Path) -> None:
    output = tmp_path / "dataset"
    with pytest.raises(ConfigError, match=r"gpt2: has no mask token.* set corrupt\.kind to 'nothing'"):
        prepare(corpus_config(output, corpus, {"model": str(byte_pairs)}, {"kind": "masked_tokens"}), output)
    prepare(corpus_config(output, corpus, {"model": str(byte_pairs)}, {"kind": "nothing"}), output)
    dataset = open_dataset(output, verify=True)
    verify(output)
    assert dataset.manifest.tokenizer.special == {"pad": 259, "unk": 259, "cls": 259, "sep": 259}
    tokens: Any = dataset.split("train").take(np.arange(100))["tokens"]
    text = Tokenizer.load(dataset.tokenizer_path).decode(tokens.values)
    assert text.count(". ") > 10, "sentences follow each other with a space"
    assert not re.search(r"\.\w", text)


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8", newline="")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("[MASK]\n", "", r"vocab\.txt: has no mask token \(\[MASK\], <mask>\)"),
        ("[UNK]\n", "", r"vocab\.txt: has no unk token"),
        ("quick\n", "the\n", r"vocab\.txt: row 41 repeats 'the' of row 40"),
        ("quick\n", "\n", r"vocab\.txt: row \d+ is empty"),
    ],
)
def test_a_broken_vocabulary_is_refused(vocabulary: Path, old: str, new: str, sentence: str) -> None:
    replaced(vocabulary, old, new)
    with pytest.raises(ConfigError, match=sentence):
        Tokenizer.load(vocabulary)


def test_other_files_are_refused(tmp_path: Path, byte_pairs: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(ConfigError, match=r"x\.txt: is not UTF-8 at byte 6"):
        Tokenizer.load(tmp_path / "x.txt")
    with pytest.raises(ConfigError, match=r"y\.txt: no such file; name the file or folder of a tokenizer"):
        Tokenizer.load(tmp_path / "y.txt")
    (tmp_path / "z.model").write_text('{"model": {"type": "Unigram"}}')
    with pytest.raises(ConfigError, match=r"z\.model: is no usable tokenizer"):
        Tokenizer.load(tmp_path / "z.model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty: has no tokenizer; add a sentencepiece model, vocab\.txt"):
        Tokenizer.load(tmp_path / "empty")
    with (byte_pairs / "vocab.bpe").open("a", encoding="utf-8") as file:
        file.write("no piece\n")
    with pytest.raises(ConfigError, match=r"vocab\.bpe: row 5 is no merge of two pieces of encoder\.json"):
        Tokenizer.load(byte_pairs)
    (byte_pairs / "vocab.bpe").unlink()
    with pytest.raises(ConfigError, match=r"gpt2: has encoder\.json but no vocab\.bpe"):
        Tokenizer.load(byte_pairs)
    replaced(byte_pairs / "encoder.json", '"!": 0, ', "")
    (byte_pairs / "vocab.bpe").write_text("")
    with pytest.raises(ConfigError, match=r"encoder\.json: its ids are not 0 to 258"):
        Tokenizer.load(byte_pairs)
