"""The places where the sentences of texts end, as bytes of UTF-8.

The sets of words and characters are those of ``sentences.py`` and ``characters.py``, which hand them over.
"""

import numpy as np

from data_pipeline.compiled import compiled
from data_pipeline.compiled.utf8 import NEWLINE, SPACE, after_space, before, decoded, is_space

STOP, SEMICOLON = 46, 59
EXCLAMATION, QUESTION, DOUBLE_QUOTE, CAPITAL_I = 33, 63, 34, 73
ARABIC_STOP, FULL_WIDTH_STOP, CLOSING_GUILLEMET, ELLIPSIS = 0x6D4, 0xFF0E, 0xBB, 0x2026
TAGS = 0xE0000
"""Code points from here on are part of the character before them."""
BYTES_OF_SENTENCE = 64
"""Fewer than most have; for how many there is room at first."""
LONGEST_WORD = 8
"""Characters before a full stop; a longer word is no abbreviation."""
SHORT_WORD = 4
"""Bytes of another abbreviation behind one of a single letter."""
SAID_AFTER = 8
"""Words after a quotation, at most, with a verb of speech among them."""

OF_WORD, DECIMAL, DIGIT, LETTER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
"""What a character is, as bits: letter, mark or digit; decimal digit; any digit; letter or mark."""
UPPER, UNCASED, IDEOGRAPH, HANGUL, GREEK, STOPLESS = 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8, 1 << 9
"""Letters: a capital; of a script without case; East Asian; Korean; Greek; of a script whose sentences end without a
full stop."""
OPENING, CLOSING, QUOTE, BRACKET, BULLET, CONTINUES = 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15
"""Signs; the last are those before which no sentence begins, such as a comma."""
LATIN_MARK, OTHER_MARK, EASTERN_MARK, EASTERN_RUN = 1 << 16, 1 << 17, 1 << 18, 1 << 19
"""Sentence terminals with a space behind them, those of other scripts, and East Asian ones; what may follow those."""
ASKS, CLOSES_ASIDE, EASTERN_CLOSING, GOES_ON = 1 << 20, 1 << 21, 1 << 22, 1 << 23
SPEECH, AFTER_SPEECH, AFTER_SAID, PARTICLE, KOREAN_ENDING = 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28
JOINED = 1 << 29
"""Part of the character before it."""
BEGINS = UPPER | UNCASED | IDEOGRAPH | DECIMAL

NEVER_LAST, SOMETIMES_LAST, BEFORE_NUMBERS, STARTER, VERB = 1, 2, 4, 8, 16
QUOTATIVE, ORDINAL, BEFORE_ORDINAL, COMPOUND = 32, 64, 128, 256
"""What a word is, as bits."""
FIRST_CODE, FACTOR = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
"""Of the hash FNV-1a."""


@compiled
def kind_at(data, place, stop, kinds):
    """(bits of the character at ``place``, its bytes); (0, 0) at the end."""
    if place >= stop:
        return np.uint32(0), 0
    point, width = decoded(data, place)
    if point < len(kinds):
        return kinds[point], width
    return np.uint32(JOINED if point >= TAGS else 0), width


@compiled
def kind_before(data, place, start, kinds):
    """Bits of the character that ends at ``place``; 0 at the start."""
    if place <= start:
        return np.uint32(0)
    return kind_at(data, before(data, place, start), place, kinds)[0]


@compiled
def sentences(data, documents, kinds, leads, words):
    """Where the sentences of each document lie.

    Args:
        data: uint8 UTF-8 of all documents, of white space only spaces, tabs and newlines in it.
        documents: int64 [documents + 1]: where each starts.
        kinds: uint32 [code points]: bits of each character.
        leads: bool [256] of :func:`lead_bytes`.
        words: uint64 [rows, 2] of :func:`table_of`.

    Returns:
        (int64 [sentences, 2] first byte and the one after the last, int64 [documents] sentences of each).
    """
    found = np.empty((len(data) // BYTES_OF_SENTENCE + len(documents), 2), np.int64)
    counts = np.zeros(len(documents) - 1, np.int64)
    total = 0
    for document in range(len(counts)):
        stop, earlier = documents[document + 1], total
        start = place = after_space(data, documents[document], stop)
        while start < stop:
            place = next_mark(data, place, stop, leads)
            if place < stop:
                end, place = boundary(data, start, place, stop, kinds, words)
            else:
                end = stop
            if end > start:
                if total == len(found):
                    found = np.concatenate((found, np.empty_like(found)))
                found[total, 0], found[total, 1] = start, end
                total += 1
                start = place = after_space(data, place, stop)
        counts[document] = total - earlier
    return found[:total], counts


@compiled
def lead_bytes(kinds):
    """bool [256]: first bytes of the characters that may end a sentence."""
    leads = np.zeros(256, np.bool_)
    leads[NEWLINE] = leads[SEMICOLON] = True
    for point in range(len(kinds)):
        if kinds[point] & (LATIN_MARK | OTHER_MARK | EASTERN_MARK):
            if point < 0x80:
                leads[point] = True
            elif point < 0x800:
                leads[0xC0 | point >> 6] = True
            elif point < 0x10000:
                leads[0xE0 | point >> 12] = True
            else:
                leads[0xF0 | point >> 18] = True
    return leads


@compiled
def next_mark(data, place, stop, leads):
    while place < stop and not leads[data[place]]:
        place += 1
    return place


@compiled
def boundary(data, start, place, stop, kinds, words):
    """Does the sentence that began at ``start`` end with the character at ``place``? -> (its end, where to go on), or
    (-1, where to go on) where it does not."""
    if data[place] == NEWLINE:
        return (place, place + 1) if parts_blocks(data, place, stop, kinds) else (-1, place + 1)
    if data[place] == SEMICOLON and not asks_in_greek(data, start, place, stop, kinds):
        return -1, place + 1
    kind, width = kind_at(data, place, stop, kinds)
    if kind & LATIN_MARK or data[place] == SEMICOLON:
        return latin(data, start, place, stop, kinds, words)
    if kind & EASTERN_MARK:
        return eastern(data, start, place, stop, kinds)
    if kind & OTHER_MARK:
        return other(data, start, place, stop, kinds, words)
    return -1, place + width


@compiled
def asks_in_greek(data, start, place, stop, kinds):
    """Is a semicolon a question mark, between words of Greek?"""
    if place == start or data[place - 1] < 0x80 or not kind_before(data, place, start, kinds) & GREEK:
        return False
    after = run_of(data, after_space(data, place + 1, stop), stop, kinds, OPENING | CLOSING)
    return after == stop or kind_at(data, after_space(data, after, stop), stop, kinds)[0] & GREEK != 0


@compiled
def parts_blocks(data, place, stop, kinds):
    """Is the newline at ``place`` the end of a block: before a blank line, or before an item of a list?"""
    after = place + 1
    while after < stop and data[after] == SPACE:
        after += 1
    if after == stop or data[after] == NEWLINE:
        return True
    kind, width = kind_at(data, after, stop, kinds)
    if kind & BULLET:
        after += width
    elif kind & DECIMAL:
        after += width
        kind, width = kind_at(data, after, stop, kinds)
        if kind & DECIMAL:
            after += width
        if after == stop or (data[after] != STOP and data[after] != 41):
            return False
        after += 1
    else:
        return False
    return after < stop and data[after] == SPACE


@compiled
def single_space(data, place, stop, kinds):
    """Where what follows a space begins; ``place`` where there is none, or where it ends a block."""
    after = place
    while after < stop and is_space(data[after]):
        if data[after] == NEWLINE and parts_blocks(data, after, stop, kinds):
            return place
        after += 1
    return after


@compiled
def run_of(data, place, stop, kinds, bits):
    """Where a run of characters of some kind ends."""
    kind, width = kind_at(data, place, stop, kinds)
    while kind & bits:
        place += width
        kind, width = kind_at(data, place, stop, kinds)
    return place


@compiled
def behind(data, closed, stop, kinds):
    """(where the quotation marks at ``closed`` end, with a guillemet that stands after a space as in French; where what
    follows begins)."""
    following = single_space(data, closed, stop, kinds)
    after = following + 2
    last = after == stop or (after < stop and is_space(data[after]))
    if last and following > closed and data[following] == 0xC2 and data[following + 1] == CLOSING_GUILLEMET:
        return after, single_space(data, after, stop, kinds)
    return closed, following


@compiled
def latin(data, start, place, stop, kinds, words):
    """After . ! ? and the ellipsis: closing quotes, a space, and something that can begin a sentence."""
    _, width = kind_at(data, place, stop, kinds)
    marked = run_of(data, place + width, stop, kinds, LATIN_MARK)
    closed, following = behind(data, run_of(data, marked, stop, kinds, CLOSING), stop, kinds)
    last = data[marked - 1]
    fits = np.uint32(0)
    if following > closed:
        opened = run_of(data, following, stop, kinds, OPENING)
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
    if ends(data, (start, place, marked, closed, following), stop, kinds, words):
        return closed, following
    return -1, following


@compiled
def is_pause(data, place, marked):
    """Is the mark an ellipsis, after which a script without case does not say whether another sentence begins?"""
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
def other(data, start, place, stop, kinds, words):
    """After the full stops and question marks of other scripts: closing quotes, with or without a space; not before a
    comma, between digits, and not where who said it follows."""
    point, width = decoded(data, place)
    marked = run_of(data, place + width, stop, kinds, LATIN_MARK | OTHER_MARK | EASTERN_MARK)
    closed, following = behind(data, run_of(data, marked, stop, kinds, CLOSING), stop, kinds)
    kind = kind_at(data, following, stop, kinds)[0]
    if kind & CONTINUES:
        return -1, marked
    if following == closed and kind & DECIMAL and kind_before(data, place, start, kinds) & DECIMAL:
        return -1, marked
    if point == ARABIC_STOP and following == closed and kind & LETTER and is_short(data, start, place, kinds):
        return -1, marked
    if closed > marked and following > closed and is_said_by(data, following, stop, kinds, words):
        return -1, following
    return closed, following


@compiled
def is_short(data, start, mark, kinds):
    """Are at most two letters written together before the mark, as in B.B.C.?"""
    letters, place = 0, mark
    while place > start and letters <= 2:
        kind = kind_before(data, place, start, kinds)
        if not kind & LETTER:
            break
        letters += 1
        place = before(data, place, start)
    return letters <= 2


@compiled
def eastern(data, start, place, stop, kinds):
    """After a full-width mark: closing quotes, and no space; not inside of a title or of a question in parentheses,
    not between digits, and not where who said it or a particle follows."""
    point, width = decoded(data, place)
    going_on = place + width
    after = run_of(data, place, stop, kinds, EASTERN_RUN)
    closed = run_of(data, after, stop, kinds, EASTERN_CLOSING)
    if closed == after and after < stop and data[after] == DOUBLE_QUOTE and is_open(data, start, after):
        closed = after + 1
    kind, _ = kind_at(data, after, stop, kinds)
    asks = kind_before(data, after, place, kinds) & ASKS
    if kind & GOES_ON or (asks and kind & CLOSES_ASIDE and closed == after + width):
        return -1, going_on
    if point == FULL_WIDTH_STOP and kind & DECIMAL and kind_before(data, place, start, kinds) & DECIMAL:
        return -1, going_on
    if closed > after and (
        kind_at(data, closed, stop, kinds)[0] & (GOES_ON | PARTICLE) or is_said(data, closed, stop, kinds)
    ):
        return -1, going_on
    return closed, closed


@compiled
def is_open(data, start, place):
    """Is there an odd number of straight quotes before ``place``?"""
    count = 0
    for each in range(start, place):
        count += data[each] == DOUBLE_QUOTE
    return count % 2 == 1


@compiled
def is_said(data, place, stop, kinds):
    """Do up to six ideographs, a verb of speech and a mark follow?"""
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
def hashed(data, start, stop, lower, code):
    """The hash of a word, or of ``code``'s and then this one's bytes; ASCII capitals as small letters if ``lower``."""
    for place in range(start, stop):
        byte = np.uint64(data[place])
        if lower and np.uint64(65) <= byte <= np.uint64(90):
            byte |= np.uint64(32)
        code = (code ^ byte) * FACTOR
    return code


@compiled
def place_in(table, code):
    """The row of ``code`` in a table of open addressing, or the free row that it belongs in."""
    last = np.uint64(len(table) - 1)
    row = (code ^ code >> np.uint64(32)) & last
    while table[row, 0] != code and table[row, 0] != 0:
        row = (row + np.uint64(1)) & last
    return row


@compiled
def table_of(codes, bits):
    """uint64 [rows, 2], a power of two of them, of :func:`hashed` words and the bits of each; a word may come several
    times."""
    rows = 1
    while rows < 4 * len(codes):
        rows *= 2
    table = np.zeros((rows, 2), np.uint64)
    for number in range(len(codes)):
        row = place_in(table, codes[number])
        table[row, 0] = codes[number]
        table[row, 1] |= bits[number]
    return table


@compiled
def uses(table, code):
    """The bits of a word, 0 for one that is in no list."""
    return table[place_in(table, code), 1]


@compiled
def uses_of(data, start, stop, lower, words):
    return uses(words, hashed(data, start, stop, lower, FIRST_CODE)) if stop > start else np.uint64(0)


@compiled
def ends(data, places, stop, kinds, words):
    """Does the Latin mark end the sentence, so that another begins behind it?"""
    start, mark, marked, closed, following = places
    if closed > marked and kind_before(data, closed, marked, kinds) & QUOTE:
        if data[following] >= 0x80 and is_said_by(data, following, stop, kinds, words):
            return False
        if data[mark] != STOP:
            return not is_attribution(data, following, stop, kinds, words)
    if data[mark] != STOP or marked > mark + 1:
        return True
    if mark > start and data[mark - 1] >= 0x80 and kind_before(data, mark, start, kinds) & STOPLESS:
        return False
    first = start_of_word(data, start, mark, kinds)
    word = run_of(data, first, mark, kinds, BRACKET)
    characters, digits, letters, stops = counted(data, word, mark, kinds)
    number_follows = kind_at(data, following, stop, kinds)[0] & DIGIT
    if number_follows and mark - word > 3 and uses_of(data, mark - 3, mark, True, words) & COMPOUND:
        return False
    if not 0 < characters <= LONGEST_WORD:
        return True
    if first == start and closed == marked and digits == characters < 4:
        return False
    number = digits == characters
    looked_at = following > closed and (characters == 1 or number or is_roman(data, word, mark))
    if looked_at and goes_on(data, (start, first, word, mark, following), stop, kinds, words, number):
        return False
    use, initial = uses_of(data, word, mark, True, words), is_initial(data, word, mark, characters, kinds)
    if use & NEVER_LAST and not initial:
        return False
    if use & BEFORE_NUMBERS:
        return not number_follows
    second = run_of(data, word + kind_at(data, word, mark, kinds)[1], mark, kinds, JOINED)
    dotted = second < mark and data[second] == STOP and letters and letters + stops == characters
    if initial or dotted or use & SOMETIMES_LAST:
        return starts(data, following, stop, kinds, words)
    return True


@compiled
def start_of_word(data, start, mark, kinds):
    """Where the word before ``mark`` begins: behind a space, or behind the last letter of a script without spaces."""
    first = mark
    while first > start and not is_space(data[first - 1]):
        if data[first - 1] >= 0x80 and first < mark and kind_before(data, first, start, kinds) & IDEOGRAPH:
            break
        first = before(data, first, start)
    return first


@compiled
def counted(data, word, mark, kinds):
    """(characters, digits, letters, full stops) of a word, marks with their letters; those of its beginning where it is
    too long."""
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
    """Is a word the first letter of a name? Korean syllables and ideographs are whole words, and so is I."""
    kind = kind_at(data, word, mark, kinds)[0]
    if kind & (HANGUL | IDEOGRAPH) or characters != 1:
        return False
    return (kind & UNCASED) != 0 or ((kind & UPPER) != 0 and data[word] != CAPITAL_I)


@compiled
def goes_on(data, places, stop, kinds, words, number):
    """Do the words around a full stop and a space show that it belongs to an abbreviation of several letters, to an
    ordinal or to a date?"""
    start, first, word, mark, following = places
    previous = first
    while previous > start and is_space(data[previous - 1]):
        previous -= 1
    begin = start_of_word(data, start, previous, kinds)
    after = run_of(data, following, stop, kinds, OF_WORD)
    before_stop = after < stop and data[after] == STOP
    kind, width = kind_at(data, word, mark, kinds)
    if word + width == mark and kind & LETTER and data[word] != CAPITAL_I:
        small = not kind & (UPPER | UNCASED | IDEOGRAPH)
        if small and before_stop and after - following <= SHORT_WORD:
            return True
        if small and width > 1 and kind_at(data, following, stop, kinds)[0] & DIGIT:
            return True
        if previous > begin and data[previous - 1] == STOP:
            code = hashed(data, run_of(data, begin, previous, kinds, BRACKET), previous, True, FIRST_CODE)
            return (uses(words, hashed(data, word, mark, True, code)) & NEVER_LAST) != 0
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
    if (number and mark - word <= 3) or is_roman(data, word, mark):
        if uses_of(data, following, after, False, words) & ORDINAL:
            return True
        if number and uses_of(data, begin, previous, True, words) & BEFORE_ORDINAL:
            return not uses_of(data, following, after, False, words) & STARTER
    return False


@compiled
def is_roman(data, word, mark):
    """Is a word a number in Roman letters?"""
    for place in range(word, mark):
        if data[place] not in (73, 86, 88, 76, 67, 68, 77):
            return False
    return mark > word


@compiled
def starts(data, place, stop, kinds, words):
    """Does one of the words that begin a sentence follow?"""
    place = run_of(data, place, stop, kinds, OPENING)
    after = run_of(data, place, stop, kinds, OF_WORD)
    if not uses_of(data, place, after, False, words) & STARTER:
        return False
    return after >= stop or data[after] != STOP


@compiled
def is_attribution(data, place, stop, kinds, words):
    """Do one to three capitalised words and a verb of speech follow?"""
    for _ in range(3):
        if not kind_at(data, place, stop, kinds)[0] & UPPER:
            return False
        place = run_of(data, place, stop, kinds, OF_WORD)
        if place < stop and data[place] == STOP:
            place += 1
        after = single_space(data, place, stop, kinds)
        if after == place:
            return False
        place = after
        if uses_of(data, place, run_of(data, place, stop, kinds, OF_WORD), False, words) & VERB:
            return True
    return False


@compiled
def is_said_by(data, place, stop, kinds, words):
    """In a script without case: does a word such as Korean 'so' follow, or a verb of speech before the next mark?"""
    if not kind_at(data, place, stop, kinds)[0] & UNCASED:
        return False
    for number in range(SAID_AFTER):
        after = run_of(data, place, stop, kinds, OF_WORD)
        if after == place:
            return False
        use = uses_of(data, place, after, False, words)
        if use & VERB or (number == 0 and use & QUOTATIVE):
            return True
        place = single_space(data, after, stop, kinds)
        if place == after:
            return False
    return False
