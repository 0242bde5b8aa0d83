"""Mistakes that other preprocessors make without a word, each shown not to happen here."""

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from sesame.configs import parse
from sesame.data_pipeline.dataset.manifest import SplitRecord
from sesame.data_pipeline.dataset.shards import Split, open_dataset, write_shard
from sesame.data_pipeline.examples.balance import orders
from sesame.data_pipeline.examples.corrupt import CorruptConfig, Corrupted, Vocabulary, corrupt
from sesame.data_pipeline.examples.segment import Example, SegmentConfig, Sentences, segment
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.ragged import Ragged, boundaries
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_proto import WORD_START
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

LETTERS = {
    "digits": "0123456789",
    "latin": "abcdefghij",
    "cyrillic": "абвгдежзик",
    "greek": "αβγδεζηθικ",
    "arabic": "ابتثجحخدذر",
    "devanagari": "कखगघचछजटडत",
    "hangul": "가나다라마바사아자차",
}
"""Ten letters of each script; words of them are too many for a piece each."""
CHINESE = "今天气很好我们去公园散步看花鸟鱼虫山水木石"


def words_of(letters: str, count: int = 400) -> list[str]:
    draw = random.Random(letters)
    return ["".join(draw.choices(letters, k=draw.randint(3, 5))) for _ in range(count)]


@pytest.fixture(scope="module")
def multilingual() -> Tokenizer:
    """A sentencepiece model with few pieces, so that words of every script, numbers among them, fall apart."""
    draw = random.Random(1)
    lines = [" ".join(draw.choices(words_of(letters), k=12)) for letters in LETTERS.values() for _ in range(120)]
    lines += ["".join(draw.choices(CHINESE, k=20)) for _ in range(200)] + ["in 2048 or 2048年"] * 5
    settings = TokenizerConfig(vocabulary_size=220, character_coverage=1.0)
    return Tokenizer.from_bytes(train(lines, settings), "the test's tokenizer")


def rows_of(lines: list[str], tokenizer: Tokenizer) -> Ragged:
    """[CLS] line [SEP] of every line."""
    special = tokenizer.special
    rows = [[special.cls, *tokenizer.encode(line), special.sep] for line in lines]
    return Ragged(np.concatenate(rows).astype(np.uint16), boundaries(np.array([len(row) for row in rows])))


def masked(tokens: Ragged, vocabulary: Vocabulary, kind: str = "masked_words", seed: int = 1) -> Corrupted:
    settings = parse({"kind": kind, "mask_probability": 0.3}, CorruptConfig, "a.toml")
    return corrupt(tokens, settings, vocabulary, generator(seed, "a test"))


def torn_words(tokens: Ragged, vocabulary: Vocabulary, tokenizer: Tokenizer) -> tuple[int, int]:
    """(words that are masked in part only, words of several pieces that are masked) - words as spaces part them."""
    found = masked(tokens, vocabulary)
    chosen = np.zeros(len(tokens.values), bool)
    chosen[found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)] = True
    ends = np.isin(tokens.values, (tokenizer.special.cls, tokenizer.special.sep))
    starts = np.array([tokenizer.piece(int(token)).startswith(WORD_START) for token in tokens.values]) | ends
    word = np.cumsum(starts) - 1
    sizes, hidden = np.bincount(word), np.bincount(word, weights=chosen)
    return int(((hidden > 0) & (hidden < sizes)).sum()), int(((hidden > 1) & (hidden == sizes)).sum())


def like_megatron(tokenizer: Tokenizer) -> np.ndarray:
    """Only a leading "##" continues a word, so that every piece of sentencepiece begins one."""
    return np.array([not tokenizer.piece(token).startswith("##") for token in range(len(tokenizer))])


def like_albert(tokenizer: Tokenizer) -> np.ndarray:
    """A piece also begins a word where it holds any character but ASCII letters."""
    pieces = [tokenizer.piece(token) for token in range(len(tokenizer))]
    return np.array([piece.startswith(WORD_START) or not (piece.isascii() and piece.isalpha()) for piece in pieces])


@pytest.mark.parametrize("script", LETTERS)
def test_all_pieces_of_a_word_are_masked_together_in_every_script(script: str, multilingual: Tokenizer) -> None:
    draw, words = random.Random(2), words_of(LETTERS[script])
    tokens = rows_of([" ".join(draw.choices(words, k=30)) for _ in range(60)], multilingual)
    ours = Vocabulary.of(multilingual)
    torn, whole = torn_words(tokens, ours, multilingual)
    assert torn == 0 and whole > 100
    assert torn_words(tokens, ours._replace(starts_word=like_megatron(multilingual)), multilingual)[0] > 100
    if script != "latin":
        assert torn_words(tokens, ours._replace(starts_word=like_albert(multilingual)), multilingual)[0] > 100


def test_a_number_in_pieces_is_one_word(multilingual: Tokenizer) -> None:
    line = " ".join(["2048 in 1379"] * 10)
    pieces = [multilingual.piece(token) for token in multilingual.encode(line)]
    number = "".join(pieces).split(WORD_START)[1]
    assert number == "2048" and len([piece for piece in pieces if piece.strip(WORD_START).isdigit()]) > 20
    torn, whole = torn_words(rows_of([line] * 50, multilingual), Vocabulary.of(multilingual), multilingual)
    assert torn == 0 and whole > 50


def test_chinese_is_masked_piece_by_piece_and_not_sentence_by_sentence(multilingual: Tokenizer) -> None:
    """No spaces part its words: of a sentence a share is hidden in several places, and digits in it stay together."""
    draw = random.Random(4)
    halves = ["".join(draw.choices(CHINESE, k=25)) for _ in range(400)]
    tokens = rows_of(
        [f"{first}13792{second}" for first, second in zip(halves[::2], halves[1::2], strict=True)], multilingual
    )
    found = masked(tokens, Vocabulary.of(multilingual))
    assert found.positions.lengths.sum() == pytest.approx(0.3 * (len(tokens.values) - 400), rel=0.05)
    scattered = [
        np.diff(row).max() > 1 for row in np.split(found.positions.values.astype(int), found.positions.offsets[1:-1])
    ]
    assert np.mean(scattered) > 0.95
    digits = np.array([multilingual.piece(int(token)).isdigit() for token in tokens.values])
    chosen = np.zeros(len(tokens.values), bool)
    chosen[found.positions.values + np.repeat(tokens.offsets[:-1], found.positions.lengths)] = True
    per_row = np.repeat(np.arange(200), tokens.lengths)
    shares = np.bincount(per_row[digits], chosen[digits], 200) / np.bincount(per_row[digits], minlength=200)
    assert set(shares) == {0.0, 1.0} and np.bincount(per_row[digits]).min() > 1


def text(documents: int, per_document: int = 30) -> Sentences:
    """Documents whose tokens count up over all of them, so that an id says where it is from."""
    lengths = np.random.default_rng(0).integers(2, 12, documents * per_document)
    return Sentences(np.arange(lengths.sum()), boundaries(lengths), np.arange(documents + 1) * per_document)


def pairs(part: Sentences) -> list[Example]:
    found = segment(part, SegmentConfig(kind="next_sentence", sequence_length=48), generator(3, "a test"))
    return [Example(*row) for row in found.tolist()]


def test_a_pair_that_is_no_pair_is_never_the_same_two_segments_swapped() -> None:
    """With label 1 the second segment is not what comes before the first one, nor anything else of its document."""
    part = text(40)
    starts = part.sentences[part.documents]
    random_pairs = [found for found in pairs(part) if found.pair_label]
    assert len(random_pairs) > 100
    for found in random_pairs:
        assert not starts[found.document] <= found.second_start < starts[found.document + 1]
    swapped = {(found.second_start, found.second_end, found.first_start, found.first_end) for found in random_pairs}
    assert not swapped & {(f.first_start, f.first_end, f.second_start, f.second_end) for f in pairs(part)}


def test_of_two_documents_each_has_its_partner_from_the_other_one() -> None:
    """Trying ten times at random would meet the own document in one of 1024 cases, and call what it drew the next."""
    part = text(2, 6000)
    middle = part.sentences[part.documents[1]]
    found = pairs(part)
    labels = Counter(pair.pair_label for pair in found)
    assert labels[0] > 1000 and labels[1] > 1000
    for pair in found:
        assert (pair.second_start >= middle) == ((pair.document == 1) != bool(pair.pair_label))
        if not pair.pair_label:
            assert 0 <= pair.second_start - pair.first_end < 48


@pytest.mark.parametrize("kind", ["masked_tokens", "masked_words", "masked_ngrams"])
def test_the_global_random_numbers_change_no_mask(kind: str, multilingual: Tokenizer) -> None:
    tokens = rows_of([" ".join(words_of("abcdefghij"))] * 5, multilingual)
    found = []
    for disturbance in (1, 2):
        np.random.seed(disturbance)
        random.seed(disturbance)
        np.random.random(disturbance)
        found.append(masked(tokens, Vocabulary.of(multilingual), kind))
    for first, second in zip(*found, strict=True):
        assert np.array_equal(first.values, second.values) and np.array_equal(first.offsets, second.offsets)


def test_one_file_and_one_worker_are_done_in_one_run(
    json_lines: Callable[..., Path], sentences: list[str], tmp_path: Path
) -> None:
    """A single part is not left lying between two steps of the work."""
    path = json_lines(" ".join(sentences[first : first + 20]) for first in range(0, 1000, 20))
    values = {
        "output": str(tmp_path / "made"),
        "source": {"kind": "json_lines", "paths": [str(path)]},
        "tokenizer": {"vocabulary_size": 300},
        "workers": {"count": 1},
    }
    output = prepare(parse(values, CorpusConfig, "a.toml"), tmp_path / "made")
    opened = open_dataset(output, verify=True)
    assert opened.split("train").rows > 50 and opened.manifest.documents["read"] == 50


@pytest.mark.parametrize(("rows", "per_shard"), [(1000, 100), (1003, 100), (999, 100)])
def test_even_shards_are_read_by_any_number_of_readers(rows: int, per_shard: int, tmp_path: Path) -> None:
    """Shards of exactly one size, and of two; each reader's share is there whatever their number, and none is lost."""
    cut = orders(rows, per_shard, generator(1, "a test"))
    sizes = {len(order) for order in cut}
    assert len(sizes) == (1 if rows % per_shard == 0 else 2)
    shards = [write_shard(tmp_path / f"{number}.arrow", {"document": order}) for number, order in enumerate(cut)]
    split = Split(tmp_path, SplitRecord(rows=rows, tokens=0, predictions=0, shards=tuple(shards)), ("document",))
    whole = np.concatenate(cut)
    for readers in (1, 2, 3, 7, 16):
        shares = [split.take(np.arange(reader, rows, readers))["document"] for reader in range(readers)]
        for reader, share in enumerate(shares):
            assert np.array_equal(np.asarray(share), whole[reader::readers])


@pytest.mark.parametrize("bound", [10**9, 3 * 10**9, 3 * 2**61])
def test_draws_stay_even_at_any_size(bound: int) -> None:
    """What is drawn below a large number is even; the remainder of a 32-bit number is not, as its share shows."""
    draw, bins = generator(1, "a test"), 8
    counts = np.bincount(draw.integers(0, bound, 200_000) // (bound // bins), minlength=bins)[:bins]
    assert stats.chisquare(counts * 1.0, np.full(bins, counts.sum() / bins)).pvalue > 1e-4
    remainders = draw.integers(0, 2**32, 200_000, np.uint64) % bound // (bound // bins)
    counts = np.bincount(remainders.astype(np.int64), minlength=bins)[:bins]
    if bound > 2**31:
        assert stats.chisquare(counts * 1.0, np.full(bins, counts.sum() / bins)).pvalue < 1e-4


def test_a_shuffle_of_files_brings_every_row_everywhere() -> None:
    """A million rows in order: where a row lands says nothing of the file that it was in."""
    rows, cells = 1_000_000, 50
    order = np.concatenate(orders(rows, rows // 7, generator(2, "a test")))
    table = np.zeros((cells, cells))
    np.add.at(table, (np.arange(rows) * cells // rows, order * cells // rows), 1)
    assert stats.chisquare(table.ravel()).pvalue > 1e-4
    assert np.abs(np.diff(order)).mean() == pytest.approx(rows / 3, rel=0.01)
