"""Whether the sentence continues behind a quotation with its speaker."""

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import end_of_run, kind_at
from sesame.data_pipeline.compiled.sentence_gaps import after_single_space
from sesame.data_pipeline.compiled.splitting import (
    AFTER_SAID,
    AFTER_SPEECH,
    DOUBLE_QUOTE,
    IDEOGRAPH,
    OF_WORD,
    QUOTATIVE,
    SPEECH,
    STOP,
    UNCASED,
    UPPER,
    VERB,
)
from sesame.data_pipeline.compiled.word_table import bits_of_word

SAID_AFTER = 8
"""Most words behind a quotation with a verb of speech among them."""


@compiled
def attribution_follows(data, place, stop, kinds, words):
    """Return whether one to three capitalized words and a verb of speech follow."""
    for _ in range(3):
        if not kind_at(data, place, stop, kinds)[0] & UPPER:
            return False
        place = end_of_run(data, place, stop, kinds, OF_WORD)
        if place < stop and data[place] == STOP:
            place += 1
        after = after_single_space(data, place, stop, kinds)
        if after == place:
            return False
        place = after
        if bits_of_word(data, place, end_of_run(data, place, stop, kinds, OF_WORD), False, words) & VERB:
            return True
    return False


@compiled
def speech_follows(data, place, stop, kinds, words):
    """Return whether a quotative particle or a verb of speech before the next mark follows, in scripts without case."""
    if not kind_at(data, place, stop, kinds)[0] & UNCASED:
        return False
    for number in range(SAID_AFTER):
        after = end_of_run(data, place, stop, kinds, OF_WORD)
        if after == place:
            return False
        use = bits_of_word(data, place, after, False, words)
        if use & VERB or (number == 0 and use & QUOTATIVE):
            return True
        place = after_single_space(data, after, stop, kinds)
        if place == after:
            return False
    return False


@compiled
def east_asian_speech_follows(data, place, stop, kinds):
    """Return whether up to six ideographs, a verb of speech and punctuation follow."""
    for _ in range(7):
        kind, width = kind_at(data, place, stop, kinds)
        after = place + width
        if kind & SPEECH:
            next_kind, next_width = kind_at(data, after, stop, kinds)
            if next_kind & AFTER_SAID:
                return True
            if next_kind & AFTER_SPEECH and kind_at(data, after + next_width, stop, kinds)[0] & AFTER_SAID:
                return True
        if not kind & IDEOGRAPH:
            return False
        place = after
    return False


@compiled
def is_inside_quotes(data, start, place):
    """Return whether there is an odd number of straight quotes before ``place``."""
    count = 0
    for each in range(start, place):
        count += data[each] == DOUBLE_QUOTE
    return count % 2 == 1
