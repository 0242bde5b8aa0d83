"""Sentences that are longer than a row."""

import random

import numpy as np
import pytest

from sesame.data_pipeline.examples.long_sentences import cut_to_fit
from sesame.data_pipeline.examples.sentences import as_text, find_sentences
from sesame.data_pipeline.ragged import Ragged

NO_SPACES = np.zeros(256, bool)
"""No token of :func:`one_a_character` shows a space."""
SCRIPTS = {
    "Latin": "ab\u00e9 ,",
    "Hangul": "\uac00\ub098\ub2e4 ",
    "Devanagari": "\u0915\u093f\u0924\u094d\u0930 ",
    "Thai": "\u0e01\u0e33\u0e34\u0e48\u0e40",
    "Han": "\u4eca\u5929\uff0c\u6c14",
    "Kana": "\u304b\u3099\u30ab\uff9e",
    "Arabic": "\u0628\u064e\u200c\u0631 \u060c",
    "emoji": "\U0001f468\u200d\U0001f469\U0001f3fd\U0001f1e9\U0001f1ea\u2764\ufe0f",
    "marks": "a\u0301\u0302\U000e0100",
}


def one_a_character(texts: Ragged, found: Ragged) -> Ragged:
    """Ids of a tokenizer that has a token for each character; the first and the last of a sentence depend on what
    stands beside it."""
    rows, data = [], texts.values.tobytes()
    for number in range(len(found.lengths)):
        before, begin, end = texts.offsets[number], found.offsets[number], found.offsets[number + 1]
        for place in range(begin, end):
            start, stop = found.values[place]
            after = found.values[place + 1, 0] if place + 1 < end else texts.offsets[number + 1]
            ids = bytearray(b"." * len(data[start:stop].decode()))
            ids[0] = 2 * (place == begin) + bool(data[before:start])
            ids[-1] = 8 + 16 * (place + 1 == end) + 4 * bool(data[stop:after])
            rows.append(bytes(ids))
            before = stop
    return Ragged.of_bytes(rows)


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_is_too_long_is_cut_and_nothing_of_it_lost(script: str) -> None:
    """At spaces where there are any, else between characters as a reader sees them."""
    regex = pytest.importorskip("regex", reason="comes with transformers")
    draw = random.Random(script)
    texts = ["".join(draw.choices(SCRIPTS[script], k=draw.randint(1, 400))).strip() or "a" for _ in range(200)]
    whole = Ragged.of_bytes(text.encode() for text in texts)
    longest = 40
    found, rows, counts, _ = cut_to_fit(whole, find_sentences(whole), one_a_character, longest, NO_SPACES)
    assert np.array_equal(counts, found.lengths)
    assert all(map(np.array_equal, rows, one_a_character(whole, found))), "as if encoded so from the start"
    assert rows.lengths.max() <= longest
    for number, text in enumerate(texts):
        data, end, last = text.encode(), whole.offsets[number], b""
        borders = {len(text[: each.end()].encode()) for each in regex.finditer(r"\X", text)}
        for start, stop in found.values[found.offsets[number] : found.offsets[number + 1]]:
            between = whole.values[end:start].tobytes()
            assert not between.strip(b" \n") and stop > start
            if script == "Hangul" and not between and start > whole.offsets[number]:
                assert b" " not in last[len(last) // 2 + 1 :], "there was a space to cut at"
            last = whole.values[start:stop].tobytes()
            assert int(stop - whole.offsets[number]) in borders, text
            end = stop
        assert end == whole.offsets[number] + len(data)


def test_texts_are_cut_at_spaces_where_they_have_them() -> None:
    text = " ".join(["\uac00\ub098\ub2e4\ub77c"] * 500)
    whole = Ragged.of_bytes([text.encode(), b"short"])
    found, rows, _, lengths = cut_to_fit(whole, find_sentences(whole), one_a_character, 60, NO_SPACES)
    assert lengths.tolist() == [len(text), 5]
    pieces = as_text(whole.values, found.values)
    assert " ".join(pieces) == f"{text} short" and rows.lengths.max() <= 60
    assert rows.lengths[:-2].min() > 20, "few pieces are short"


def test_what_cannot_be_cut_stays_whole() -> None:
    text = "a" + "\u0301" * 100 + "b"
    whole = Ragged.of_bytes([text.encode()])
    found, *_ = cut_to_fit(whole, find_sentences(whole), one_a_character, 10, NO_SPACES)
    assert as_text(whole.values, found.values) == [text[:-1], "b"]


def one_a_word(texts: Ragged, found: Ragged) -> Ragged:
    """Ids of a tokenizer whose pieces show spaces: a mark where one is before the character."""
    data = texts.values.tobytes()
    return Ragged.of_bytes(
        b"".join(b"_" + b"." * (len(word) - 1) for word in data[start:stop].split()) for start, stop in found.values
    )


def test_ids_that_show_spaces_are_cut_without_being_made_again() -> None:
    draw = random.Random(2)
    texts = [" ".join("a" * draw.randint(1, 15) for _ in range(draw.randint(1, 100))) for _ in range(50)]
    texts[7] = "b" * 300 + " " + "c" * 50
    whole = Ragged.of_bytes(text.encode() for text in texts)
    sentences = find_sentences(whole)
    after_space = np.arange(256) == ord("_")
    _, rows, counts, lengths = cut_to_fit(whole, sentences, one_a_word, 40, after_space)
    assert rows.lengths.max() <= 40 and counts.sum() == len(rows.lengths)
    assert lengths.tolist() == one_a_word(whole, sentences).lengths.tolist()
    for number in range(50):
        first, last = np.append(0, np.cumsum(counts))[number : number + 2]
        ids = rows.values[rows.offsets[first] : rows.offsets[last]].tobytes()
        begins = rows.values[rows.offsets[first:last]].tobytes()
        if number != 7:
            assert (
                ids
                == one_a_word(whole, sentences)
                .values[slice(*one_a_word(whole, sentences).offsets[number : number + 2])]
                .tobytes()
            )
            assert set(begins) == {ord("_")}, "cut at spaces"
        assert len(ids) == len(texts[number].replace(" ", ""))
