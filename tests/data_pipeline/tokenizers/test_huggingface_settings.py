"""A tokenizer's own settings decide: those in its model, and those in the files beside its vocabulary."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sentencepiece
import tokenizers

from configs import parse
from configs.errors import ConfigError
from data_pipeline.cleaning.clean import normalize
from data_pipeline.config import CorpusConfig
from data_pipeline.dataset.shards import open_dataset
from data_pipeline.examples.corrupt import CorruptConfig, Vocabulary, corrupt
from data_pipeline.prepare import prepare
from data_pipeline.ragged import Ragged
from data_pipeline.random_streams import generator
from data_pipeline.steps.tokenizer import losses
from data_pipeline.tokenizers.config import TokenizerConfig
from data_pipeline.tokenizers.given_model import given_model
from data_pipeline.tokenizers.huggingface import read_tokenizer, write_tokenizer
from data_pipeline.tokenizers.sentencepiece_engine import SentencePieceEngine
from data_pipeline.tokenizers.sentencepiece_proto import NORMAL, model_proto
from data_pipeline.tokenizers.sentencepiece_training import train
from data_pipeline.tokenizers.tokenizer import Tokenizer
from data_pipeline.verification.verify import verify
from tests.data_pipeline.given_texts import LETTERS, MERGES, random_texts

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [*"abcdehlot\u00e9", *(f"##{letter}" for letter in "abcdehlot"), "the", "T", "##\u4eca", "\u4eca"]


@pytest.fixture(scope="module")
def suffixed(sentences: list[str]) -> Tokenizer:
    """Words end in the mark of white space."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        vocab_size=320,
        minloglevel=2,
        pad_id=3,
        treat_whitespace_as_suffix=True,
        control_symbols=["<mask>", "<cls>", "<sep>"],
    )
    return Tokenizer.from_bytes(model.getvalue(), "suffixes")


def test_words_that_end_in_a_mark_are_hidden_whole(suffixed: Tokenizer, sentences: list[str]) -> None:
    special = suffixed.special
    texts = [" ".join(sentences[start : start + 8]) for start in range(0, 800, 8)]
    ids = [[special.cls, *suffixed.encode(each), special.sep] for each in texts]
    lengths = [len(each) for each in ids]
    rows = Ragged(np.array([token for each in ids for token in each], np.uint16), np.append(0, np.cumsum(lengths)))
    config = CorruptConfig(kind="masked_words", mask_probability=0.3, mask_share=1.0, random_share=0.0)
    found = corrupt(rows, config, Vocabulary.of(suffixed), generator(1, "test"))
    hidden = np.zeros(len(rows.values), bool)
    hidden[found.positions.values + np.repeat(rows.offsets[:-1], found.positions.lengths)] = True
    words = 0
    for row, text in enumerate(texts):
        tokens = ids[row][1:-1]
        ends = [place for place, token in enumerate(tokens, 1) if suffixed.piece(token).endswith("\u2581")]
        assert len(ends) == len(text.split()), "a word is what stands between white space"
        mine = hidden[rows.offsets[row] + 1 : rows.offsets[row + 1] - 1]
        whole = [mine[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
        assert all(each.all() or not each.any() for each in whole), text
        words += sum(bool(each.all()) for each in whole)
    assert words > 300


def test_a_dataset_of_words_that_end_in_a_mark_is_verified(suffixed: Tokenizer, corpus: Path, tmp_path: Path) -> None:
    path = tmp_path / "suffixes.model"
    assert isinstance(suffixed._engine, SentencePieceEngine)
    path.write_bytes(suffixed._engine.serialized_model_proto())
    prepare(config(tmp_path / "dataset", corpus, path, "full_sentences", "masked_ngrams"), tmp_path / "dataset")
    verify(tmp_path / "dataset")
    with pytest.raises(ConfigError, match=r"suffixes\.model: has treat_whitespace_as_suffix, which .* cannot do"):
        write_tokenizer(path, tmp_path / "there", "bert", None)


def config(output: Path, corpus: Path, model: Path, segment: str, kind: str) -> CorpusConfig:
    values = {
        "output": str(output),
        "source": {"kind": "json_lines", "paths": [str(corpus)], "limit_megabytes": 0.05},
        "clean": {"minimum_letter_share": 0.2},
        "tokenizer": {"model": str(model)},
        "segment": {"kind": segment, "sequence_length": 64},
        "corrupt": {"kind": kind},
        "workers": {"count": 1},
    }
    return parse(values, CorpusConfig, "the test's corpus")


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("fallback", [True, False])
def test_a_text_without_a_mark_before_it_has_sentencepieces_ids(kind: str, fallback: bool) -> None:
    """As sentences have them that follow another one without a space."""
    texts = [text for each in random_texts(800, 5) for text in normalize(each, "NFC").text.split("\n") if text]
    settings = {"kind": kind, "vocabulary_size": 1300, "byte_fallback": fallback, "lowercase": False}
    model = train(texts, TokenizerConfig.model_validate(settings))
    tokenizer, proto = Tokenizer.from_bytes(model, "the test's"), model_proto(model)
    proto.normalizer_spec.add_dummy_prefix = False
    library: Any = sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())  # pyright: ignore
    assert isinstance(tokenizer._engine, SentencePieceEngine)
    rows, fast = Ragged.of_bytes(text.encode() for text in texts), tokenizer._engine.fast
    assert fast is not None
    ids, left = fast.encode_spans(rows.values, rows.spans, np.zeros(len(texts), bool), tokenizer.dtype)
    compared = sorted({*range(len(texts))} - {*left.tolist()})
    assert len(compared) > 300
    for row in compared:
        assert ids.values[ids.offsets[row] : ids.offsets[row + 1]].tolist() == library.encode(texts[row]), texts[row]


def test_pieces_that_are_never_made_replace_nothing(sentences: list[str]) -> None:
    proto = model_proto(train(sentences, TokenizerConfig(vocabulary_size=320)))
    normal = next(token for token, piece in enumerate(proto.pieces) if piece.type == NORMAL and len(piece.piece) > 3)
    proto.pieces[normal].type = proto.pieces[normal].Type.Value("UNUSED")
    tokenizer = Tokenizer.from_bytes(proto.SerializeToString(), "one piece less")
    assert normal not in tokenizer.ordinary


def test_a_listed_mask_is_no_mask_in_a_text(sentences: list[str]) -> None:
    proto = model_proto(train(sentences, TokenizerConfig(vocabulary_size=320)))
    proto.pieces[4].type = proto.pieces[4].Type.Value("USER_DEFINED")
    tokenizer = Tokenizer.from_bytes(proto.SerializeToString(), "a listed mask")
    assert tokenizer.special.mask == 4 and 4 not in tokenizer.encode("the [MASK] of")


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
    """What a folder's tokenizer.json would say."""
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
def test_settings_beside_a_vocabulary_are_obeyed(words: Path, settings: dict, text: str, pieces: list[str]) -> None:
    write(words, "tokenizer_config.json", settings)
    for path in (words, words / "vocab.txt"):
        tokenizer = Tokenizer.load(path)
        assert [tokenizer.piece(token) for token in tokenizer.encode(text)] == pieces


@pytest.mark.parametrize(("settings", "text", "pieces"), WORD_SETTINGS)
def test_a_json_beside_a_vocabulary_is_obeyed(words: Path, settings: dict, text: str, pieces: list[str]) -> None:
    names = {"do_lower_case": "lowercase", "tokenize_chinese_chars": "handle_chinese_chars"}
    whole = library(words)
    whole["normalizer"] |= {names.get(key, key): value for key, value in settings.items()}
    write(words, "tokenizer.json", whole)
    for path in (words, words / "vocab.txt", words / "tokenizer.json"):
        tokenizer = Tokenizer.load(path)
        assert [tokenizer.piece(token) for token in tokenizer.encode(text)] == pieces


def test_another_prefix_of_what_continues_a_word(words: Path) -> None:
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
def test_what_a_json_asks_for_and_is_not_done_is_refused(
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
def test_settings_without_a_counterpart_are_refused(
    words: Path, pairs: Path, folder: str, file: str, values: dict, sentence: str
) -> None:
    path = {"words": words, "pairs": pairs}[folder]
    write(path, file, values)
    with pytest.raises(ConfigError, match=sentence):
        Tokenizer.load(path)


def test_a_case_that_is_asked_for_must_be_that_of_the_files(words: Path) -> None:
    write(words, "tokenizer_config.json", {"do_lower_case": False})
    with pytest.raises(ConfigError, match=r"keeps case, but tokenizer\.lowercase is true; leave tokenizer\.lowercase"):
        given_model(TokenizerConfig(model=str(words), lowercase=True))
    assert given_model(TokenizerConfig(model=str(words), lowercase=False)) == given_model(
        TokenizerConfig(model=str(words))
    )


def test_added_special_tokens_have_their_ids_and_stand_for_no_text(words: Path, tmp_path: Path) -> None:
    size = len(SPECIAL) + len(WORDS)
    write(words, "added_tokens.json", {"[E1]": size})
    write(words, "tokenizer_config.json", {"additional_special_tokens": ["[E1]"]})
    tokenizer = Tokenizer.load(words)
    assert len(tokenizer) == size + 1 and tokenizer.piece(size) == "[E1]" and size not in tokenizer.ordinary
    (tmp_path / "kept.model").write_bytes(given_model(TokenizerConfig(model=str(words))))
    write_tokenizer(tmp_path / "kept.model", tmp_path / "there", "bert", None)
    assert read_tokenizer(tmp_path / "there") == (tmp_path / "kept.model").read_bytes()


CLIP = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "th", "the</w>", "<|startoftext|>", "<|endoftext|>"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    write(folder, "vocab.json", {piece: number for number, piece in enumerate(CLIP)})
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n", encoding="utf-8")
    return folder


def test_clips_files_give_clips_ids(clip: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(clip))
    ours = Tokenizer.load(clip)
    assert ours.special == (515, 515, 514, 515, None)
    texts = ["the cat", "The  the,the\nTHE's 12!", "\u4eca\u5929\u3002 caf\u00e9", *random_texts(300, 7)]
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    ids = ours.encode("the hat the")
    assert ours.decode(ids) == "the hat the"
    assert ours.ends_word[ids].tolist() == [True, False, False, True, True]
    (clip / "vocab.json").write_text((clip / "vocab.json").read_text().replace("startof", "beginof"))
    with pytest.raises(ConfigError, match=r"clip: has pieces that end in '</w>' but is not CLIP's"):
        Tokenizer.load(clip)


def test_a_json_decides_how_byte_pairs_are_cut(pairs: Path) -> None:
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


def test_line_breaks_and_indentation_reach_byte_pairs(pairs: Path, tmp_path: Path, capsys: Any) -> None:
    """In rows that may be cut anywhere; elsewhere it is said that they are lost."""
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
    said = losses(elsewhere, Tokenizer.load(pairs))
    assert said == ["indentation and repeated line breaks (clean.white_space)"]
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


def test_what_a_tokenizer_does_not_keep_is_said(words: Path, pairs: Path, tokenizer: Tokenizer) -> None:
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


@pytest.mark.parametrize("by_json", [True, False])
@pytest.mark.parametrize("keep_accents", [True, False])
def test_alberts_folding_is_done(sentences: list[str], tmp_path: Path, by_json: bool, keep_accents: bool) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    model, text = io.BytesIO(), [*sentences, *["caf\u00e9 cafe na\u00efve naive"] * 50]
    names = {"pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "control_symbols": SPECIAL[2:]}
    sentencepiece.SentencePieceTrainer.Train(
        sentence_iterator=iter(each.lower() for each in text),
        model_writer=model,
        vocab_size=320,
        minloglevel=2,
        **names,
    )
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    theirs = transformers.AlbertTokenizer.from_pretrained(str(tmp_path), keep_accents=keep_accents)
    theirs.save_pretrained(str(tmp_path))
    (tmp_path / "spiece.model").write_bytes(model.getvalue())
    if not by_json:
        (tmp_path / "tokenizer.json").unlink()
    ours = Tokenizer.from_bytes(read_tokenizer(tmp_path), "ALBERT's kind")
    for each in ["The CAF\u00c9 is na\u00efve", "``Cafe'' \uff21 \u00c5", "e\u0301 E\u0301", *sentences[:100]]:
        assert ours.encode(each) == theirs.encode(each, add_special_tokens=False), each
    assert "capital letters" in ours.losses and ("accents" in ours.losses) != keep_accents


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
def test_files_of_other_values_are_refused_in_a_sentence(
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
