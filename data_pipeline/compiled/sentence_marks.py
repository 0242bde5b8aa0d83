"""Whether a sentence terminal ends a sentence, by the script that it belongs to."""

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import end_of_run, kind_at, kind_before
from sesame.data_pipeline.compiled.sentence_abbreviations import ends_sentence
from sesame.data_pipeline.compiled.sentence_gaps import after_closing_quotes
from sesame.data_pipeline.compiled.sentence_quotations import (
    east_asian_speech_follows,
    is_inside_quotes,
    speech_follows,
)
from sesame.data_pipeline.compiled.splitting import (
    ARABIC_STOP,
    ASKS,
    BEGINS,
    CLOSING,
    CLOSING_PARENTHESIS,
    CONTINUES,
    CONTINUES_EASTERN,
    DECIMAL,
    DOUBLE_QUOTE,
    EASTERN_CLOSING,
    EASTERN_MARK,
    EASTERN_RUN,
    ELLIPSIS,
    EXCLAMATION,
    FULL_WIDTH_STOP,
    GREEK,
    HANGUL,
    IDEOGRAPH,
    KOREAN_ENDING,
    LATIN_MARK,
    LETTER,
    OPENING,
    OTHER_MARK,
    PARTICLE,
    QUESTION,
    STOP,
    UNCASED,
)
from sesame.data_pipeline.compiled.utf8 import after_space, before, decoded


@compiled
def latin_mark(data, start, place, stop, kinds, words):
    """Evaluate . ! ? and the ellipsis: a sentence ends before closing quotes, a space and something that can begin a
    sentence. Returns as ``sentences.boundary``."""
    _, width = kind_at(data, place, stop, kinds)
    marked = end_of_run(data, place + width, stop, kinds, LATIN_MARK)
    closed, following = after_closing_quotes(data, end_of_run(data, marked, stop, kinds, CLOSING), stop, kinds)
    last = data[marked - 1]
    fits = np.uint32(0)
    if following > closed:
        opened = end_of_run(data, following, stop, kinds, OPENING)
        fits = kind_at(data, opened, stop, kinds)[0] & BEGINS
        if fits & UNCASED and is_pause(data, place, marked):
            fits = np.uint32(0)
    elif closed == marked < stop and data[marked] >= 0x80:
        near = kind_at(data, marked, stop, kinds)[0]
        if last in (EXCLAMATION, QUESTION):
            fits = near & (IDEOGRAPH | UNCASED)
        elif last == STOP and near & IDEOGRAPH:
            fits = kind_before(data, marked - 1, start, kinds) & IDEOGRAPH
        elif last == STOP and near & HANGUL:
            fits = kind_before(data, marked - 1, start, kinds) & KOREAN_ENDING
    if not fits:
        return -1, marked
    if ends_sentence(data, (start, place, marked, closed, following), stop, kinds, words):
        return closed, following
    return -1, following


@compiled
def is_pause(data, place, marked):
    """Return whether the mark is an ellipsis; scripts without case do not show whether a sentence begins after it."""
    count = 0
    while place < marked:
        point, width = decoded(data, place)
        if point == ELLIPSIS:
            count += 1
        elif point != STOP:
            return False
        count, place = count + 1, place + width
    return count > 1


@compiled
def other_mark(data, start, place, stop, kinds, words):
    """Evaluate full stops and question marks of other scripts: closing quotes may follow, with or without a space; no
    sentence ends before a comma, between digits, or before the speaker of a quotation."""
    point, width = decoded(data, place)
    marked = end_of_run(data, place + width, stop, kinds, LATIN_MARK | OTHER_MARK | EASTERN_MARK)
    closed, following = after_closing_quotes(data, end_of_run(data, marked, stop, kinds, CLOSING), stop, kinds)
    kind = kind_at(data, following, stop, kinds)[0]
    if kind & CONTINUES:
        return -1, marked
    if following == closed and kind & DECIMAL and kind_before(data, place, start, kinds) & DECIMAL:
        return -1, marked
    if point == ARABIC_STOP and following == closed and kind & LETTER and is_short_word(data, start, place, kinds):
        return -1, marked
    if closed > marked and following > closed and speech_follows(data, following, stop, kinds, words):
        return -1, following
    return closed, following


@compiled
def is_short_word(data, start, mark, kinds):
    """Return whether at most two letters are before the mark, as in B.B.C."""
    letters, place = 0, mark
    while place > start and letters <= 2:
        kind = kind_before(data, place, start, kinds)
        if not kind & LETTER:
            break
        letters += 1
        place = before(data, place, start)
    return letters <= 2


@compiled
def east_asian_mark(data, start, place, stop, kinds):
    """Evaluate full-width marks: closing quotes may follow, without a space; no sentence ends inside a title or a
    question in parentheses, between digits, or before the speaker of a quotation or a particle."""
    point, width = decoded(data, place)
    next_place = place + width
    after = end_of_run(data, place, stop, kinds, EASTERN_RUN)
    closed = end_of_run(data, after, stop, kinds, EASTERN_CLOSING)
    if closed == after and after < stop and data[after] == DOUBLE_QUOTE and is_inside_quotes(data, start, after):
        closed = after + 1
    kind, _ = kind_at(data, after, stop, kinds)
    asks = kind_before(data, after, place, kinds) & ASKS
    if kind & CONTINUES_EASTERN or (asks and kind & CLOSING_PARENTHESIS and closed == after + width):
        return -1, next_place
    if point == FULL_WIDTH_STOP and kind & DECIMAL and kind_before(data, place, start, kinds) & DECIMAL:
        return -1, next_place
    if closed > after and (
        kind_at(data, closed, stop, kinds)[0] & (CONTINUES_EASTERN | PARTICLE)
        or east_asian_speech_follows(data, closed, stop, kinds)
    ):
        return -1, next_place
    return closed, closed


@compiled
def is_greek_question(data, start, place, stop, kinds):
    """Return whether a semicolon between Greek words is a question mark."""
    if place == start or data[place - 1] < 0x80 or not kind_before(data, place, start, kinds) & GREEK:
        return False
    after = end_of_run(data, after_space(data, place + 1, stop), stop, kinds, OPENING | CLOSING)
    return after == stop or kind_at(data, after_space(data, after, stop), stop, kinds)[0] & GREEK != 0
