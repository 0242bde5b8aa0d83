"""Whether a full stop ends a sentence, or an abbreviation, an initial, an ordinal or a date."""

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import end_of_run, kind_at, kind_before
from sesame.data_pipeline.compiled.sentence_quotations import attribution_follows, speech_follows
from sesame.data_pipeline.compiled.splitting import (
    BEFORE_NUMBERS,
    BEFORE_ORDINAL,
    BRACKET,
    CAPITAL_I,
    COMPOUND,
    DECIMAL,
    DIGIT,
    HANGUL,
    IDEOGRAPH,
    JOINED,
    LETTER,
    NEVER_LAST,
    OF_WORD,
    OPENING,
    ORDINAL,
    QUOTE,
    SOMETIMES_LAST,
    STARTER,
    STOP,
    STOPLESS,
    UNCASED,
    UPPER,
)
from sesame.data_pipeline.compiled.utf8 import before, is_space
from sesame.data_pipeline.compiled.word_table import FNV_OFFSET, bits_of_code, bits_of_word, hash_word

LONGEST_WORD = 8
"""Characters before a full stop; a longer word is not an abbreviation."""
SHORT_WORD = 4
"""Bytes of another abbreviation behind one of a single letter."""


@compiled
def ends_sentence(data, places, stop, kinds, words):
    """Return whether a Latin mark ends the sentence.

    Args:
        data, stop, kinds, words: as in ``sentences.boundary``.
        places: start of the sentence, start and end of the mark, end of closing quotes, start of the next text.
    """
    start, mark, marked, closed, following = places
    if closed > marked and kind_before(data, closed, marked, kinds) & QUOTE:
        if data[following] >= 0x80 and speech_follows(data, following, stop, kinds, words):
            return False
        if data[mark] != STOP:
            return not attribution_follows(data, following, stop, kinds, words)
    if data[mark] != STOP or marked > mark + 1:
        return True
    if mark > start and data[mark - 1] >= 0x80 and kind_before(data, mark, start, kinds) & STOPLESS:
        return False
    first = start_of_word(data, start, mark, kinds)
    word = end_of_run(data, first, mark, kinds, BRACKET)
    characters, digits, letters, stops = count_characters(data, word, mark, kinds)
    number_follows = kind_at(data, following, stop, kinds)[0] & DIGIT
    if number_follows and mark - word > 3 and bits_of_word(data, mark - 3, mark, True, words) & COMPOUND:
        return False
    if not 0 < characters <= LONGEST_WORD:
        return True
    if first == start and closed == marked and digits == characters < 4:
        return False
    number = digits == characters
    is_candidate = following > closed and (characters == 1 or number or is_roman_number(data, word, mark))
    if is_candidate and is_part_of_expression(data, (start, first, word, mark, following), stop, kinds, words, number):
        return False
    use, initial = bits_of_word(data, word, mark, True, words), is_initial(data, word, mark, characters, kinds)
    if use & NEVER_LAST and not initial:
        return False
    if use & BEFORE_NUMBERS:
        return not number_follows
    second = end_of_run(data, word + kind_at(data, word, mark, kinds)[1], mark, kinds, JOINED)
    dotted = second < mark and data[second] == STOP and letters and letters + stops == characters
    if initial or dotted or use & SOMETIMES_LAST:
        return starter_follows(data, following, stop, kinds, words)
    return True


@compiled
def start_of_word(data, start, mark, kinds):
    """Return where the word before ``mark`` begins: after a space, or after the last letter of a script without
    spaces."""
    first = mark
    while first > start and not is_space(data[first - 1]):
        if data[first - 1] >= 0x80 and first < mark and kind_before(data, first, start, kinds) & IDEOGRAPH:
            break
        first = before(data, first, start)
    return first


@compiled
def count_characters(data, word, mark, kinds):
    """Return the number of (characters, digits, letters, full stops) of a word, marks counted with their letters; of
    its beginning if it is too long."""
    characters = digits = letters = stops = 0
    place = word
    while place < mark and characters <= LONGEST_WORD:
        kind, width = kind_at(data, place, mark, kinds)
        if not kind & JOINED:
            digits += (kind & DIGIT) != 0
            letters += (kind & LETTER) != 0
            stops += data[place] == STOP
            characters += 1
        place += width
    return characters, digits, letters, stops


@compiled
def is_initial(data, word, mark, characters, kinds):
    """Return whether a word is an initial of a name. Korean syllables, ideographs and I are whole words."""
    kind = kind_at(data, word, mark, kinds)[0]
    if kind & (HANGUL | IDEOGRAPH) or characters != 1:
        return False
    return (kind & UNCASED) != 0 or ((kind & UPPER) != 0 and data[word] != CAPITAL_I)


@compiled
def is_part_of_expression(data, places, stop, kinds, words, number):
    """Return whether the words around a full stop and a space show that it is part of an abbreviation of several
    letters, an ordinal or a date."""
    start, first, word, mark, following = places
    previous = first
    while previous > start and is_space(data[previous - 1]):
        previous -= 1
    begin = start_of_word(data, start, previous, kinds)
    after = end_of_run(data, following, stop, kinds, OF_WORD)
    before_stop = after < stop and data[after] == STOP
    kind, width = kind_at(data, word, mark, kinds)
    if word + width == mark and kind & LETTER and data[word] != CAPITAL_I:
        small = not kind & (UPPER | UNCASED | IDEOGRAPH)
        if small and before_stop and after - following <= SHORT_WORD:
            return True
        if small and width > 1 and kind_at(data, following, stop, kinds)[0] & DIGIT:
            return True
        if previous > begin and data[previous - 1] == STOP:
            code = hash_word(data, end_of_run(data, begin, previous, kinds, BRACKET), previous, True, FNV_OFFSET)
            return (bits_of_code(words, hash_word(data, word, mark, True, code)) & NEVER_LAST) != 0
    if number and mark - word <= 4:
        short = after - following <= 2 and kind_at(data, following, stop, kinds)[0] & DECIMAL
        if short and before_stop and not kind_at(data, after + 1, stop, kinds)[0] & DECIMAL:
            return True
        dated = (
            previous - 1 > begin
            and data[previous - 1] == STOP
            and kind_before(data, previous - 1, begin, kinds) & DECIMAL
        )
        if dated and kind_at(data, following, stop, kinds)[0] & HANGUL:
            return True
    if (number and mark - word <= 3) or is_roman_number(data, word, mark):
        if bits_of_word(data, following, after, False, words) & ORDINAL:
            return True
        if number and bits_of_word(data, begin, previous, True, words) & BEFORE_ORDINAL:
            return not bits_of_word(data, following, after, False, words) & STARTER
    return False


@compiled
def is_roman_number(data, word, mark):
    """Return whether a word is a Roman number."""
    for place in range(word, mark):
        if data[place] not in (73, 86, 88, 76, 67, 68, 77):
            return False
    return mark > word


@compiled
def starter_follows(data, place, stop, kinds, words):
    """Return whether a word that often begins a sentence follows."""
    place = end_of_run(data, place, stop, kinds, OPENING)
    after = end_of_run(data, place, stop, kinds, OF_WORD)
    if not bits_of_word(data, place, after, False, words) & STARTER:
        return False
    return after >= stop or data[after] != STOP
