"""Text as bytes of UTF-8: its white space put in order, and the places where sentences end.

The rules and the sets of words and characters are those of ``clean.py`` and ``sentences.py``, which hand them over.
"""

import numpy as np

from data_pipeline.compiled import compiled, inlined

SPACE, NEWLINE, RETURN, STOP = 32, 10, 13, 46
BLOCK = 32
"""Bytes that are looked at together, in a loop without branches."""
EXCLAMATION, QUESTION = 33, 63
WORD_BYTES = 9
"""Longest word of the sets, as many characters of 7 bits as a number of 63 bits holds."""

LETTER, DECIMAL, DIGIT, OF_WORD = 1, 2, 4, 8
"""What a character is, as bits: str.isalpha, a decimal digit, str.isdigit, or what ``re`` calls a word character."""
OPENING, CLOSING, QUOTE, BRACKET, CAPITAL, IDEOGRAPH = 16, 32, 64, 128, 256, 512
EASTERN_MARK, EASTERN_CLOSING, SPEECH, AFTER_SPEECH, AFTER_SAID = 1024, 2048, 4096, 8192, 16384
GOES_ON, BULLET, LATIN_MARK = 32768, 65536, 131072
REMOVED, WHITE = 262144, 524288
EASTERN_RUN, ASKS, CLOSES_ASIDE = 1048576, 2097152, 4194304

NEVER_LAST, SOMETIMES_LAST, BEFORE_NUMBERS, STARTER, VERB = 1, 2, 4, 8, 16
"""What a word is, as bits."""


@compiled
def decoded(data, place):
    """(code point, bytes) of the character at ``place``."""
    byte = np.int64(data[place])
    if byte < 0x80:
        return byte, 1
    if byte < 0xE0:
        return (byte & 0x1F) << 6 | np.int64(data[place + 1]) & 0x3F, 2
    if byte < 0xF0:
        return (byte & 0x0F) << 12 | (np.int64(data[place + 1]) & 0x3F) << 6 | np.int64(data[place + 2]) & 0x3F, 3
    high = (byte & 0x07) << 18 | (np.int64(data[place + 1]) & 0x3F) << 12
    return high | (np.int64(data[place + 2]) & 0x3F) << 6 | np.int64(data[place + 3]) & 0x3F, 4


@compiled
def kind_at(data, place, stop, kinds):
    """(bits of the character at ``place``, its bytes); (0, 0) at the end."""
    if place >= stop:
        return np.uint32(0), 0
    point, width = decoded(data, place)
    return (kinds[point] if point < len(kinds) else np.uint32(0)), width


@compiled
def before(data, place, start):
    """Where the character before ``place`` begins; ``place`` where there is none."""
    if place <= start:
        return place
    place -= 1
    while place > start and data[place] & 0xC0 == 0x80:
        place -= 1
    return place


@compiled
def is_space(byte):
    return byte in (SPACE, NEWLINE)


@inlined
def is_plain(byte):
    """Is it an ASCII character that is seen?"""
    return np.uint8(byte - np.uint8(0x21)) < np.uint8(0x5E)


@inlined
def write_space(out, end, newlines, since):
    """What a run of white space becomes: nothing at the start of a text -> the new end of ``out``."""
    if end == 0:
        return end
    for _ in range(min(newlines, 2)):
        out[end] = NEWLINE
        end += 1
    if newlines == 0 or (newlines == 1 and since):
        out[end] = SPACE
        end += 1
    return end


@inlined
def is_regular(data, place):
    """Are the bytes of a block plain characters, and white space that stays as it is?"""
    wrong = 0
    for each in range(BLOCK):
        # Numbers without a sign: only then are several bytes compared at once.
        here = np.uint64(place + each)
        byte, last, one_before = data[here], data[here - np.uint64(1)], data[here - np.uint64(2)]
        space, newline = byte == np.uint8(SPACE), byte == np.uint8(NEWLINE)
        wrong += not (is_plain(byte) | space | newline)
        wrong += (last == np.uint8(SPACE)) & (space | newline)
        wrong += (last == np.uint8(NEWLINE)) & (space | (newline & (one_before == np.uint8(NEWLINE))))
    return wrong == 0


@inlined
def copy_block(data, place, out, end):
    """Copy a block -> (its letters, its white space)."""
    letters = gaps = 0
    for each in range(BLOCK):
        byte = data[np.uint64(place + each)]
        out[np.uint64(end + each)] = byte
        letters += np.uint8((byte | np.uint8(32)) - np.uint8(97)) < np.uint8(26)
        gaps += not is_plain(byte)
    return letters, gaps


@inlined
def copy_plain(data, place, out, end):
    """Copy plain characters and white space between them that stays as it is -> (where they end, their letters, the
    white space)."""
    letters = gaps = 0
    while 2 <= place <= len(data) - BLOCK and is_regular(data, place):
        last = place + BLOCK
        while not is_plain(data[last - 1]):
            last -= 1
        found, white = copy_block(data, place, out, end)
        letters, gaps = letters + found, gaps + white - (place + BLOCK - last)
        end, place = end + last - place, last
    while place < len(data):
        byte = data[place]
        gap = byte == SPACE and place + 1 < len(data) and is_plain(data[place + 1])
        if not (gap or is_plain(byte)):
            break
        out[end] = byte
        letters += np.uint8((byte | 32) - 97) < 26
        gaps += gap
        end, place = end + 1, place + 1
    return place, letters, gaps


@compiled
def tidied(data, kinds):
    """White space in order: single spaces, none at the end of a line, one blank line between paragraphs, none at the
    ends; without control characters.

    Args:
        data: uint8 UTF-8 of one text.
        kinds: uint32 [code points]: bits of each character.

    Returns:
        (uint8, its letters, its characters that are not white space).
    """
    out = np.empty(len(data) + BLOCK, np.uint8)
    end = letters = visible = 0
    place, spaces, newlines, since = 0, 0, 0, 0
    while place < len(data):
        byte = data[place]
        kind, width = np.uint32(0), 1
        if byte == SPACE:
            kind = np.uint32(WHITE)
        elif byte in (NEWLINE, RETURN):
            # A carriage return ends a line, alone or together with the newline after it.
            place += 2 if byte == RETURN and place + 1 < len(data) and data[place + 1] == NEWLINE else 1
            newlines, since = newlines + 1, 0
            continue
        elif not is_plain(byte):
            kind, width = kind_at(data, place, len(data), kinds)
        if kind & (WHITE | REMOVED):
            seen = not kind & REMOVED
            place, spaces, since = place + width, spaces + seen, since + seen
            continue
        if spaces + newlines:
            end = write_space(out, end, newlines, since)
            spaces = newlines = since = 0
        if is_plain(byte):
            before_it = place
            place, found, gaps = copy_plain(data, place, out, end)
            end, letters, visible = end + place - before_it, letters + found, visible + place - before_it - gaps
            continue
        letters += (kind & LETTER) != 0
        for each in range(width):
            out[end + each] = data[place + each]
        end, place, visible = end + width, place + width, visible + 1
    return out[:end], letters, visible


@compiled
def sentences(data, documents, kinds, words):
    """Where the sentences of each document lie.

    Args:
        data: uint8 UTF-8 of all documents, of white space only spaces and newlines in it.
        documents: int64 [documents + 1]: where each starts.
        kinds: uint32 [code points]: bits of each character.
        words: uint64 [256, 2] of :func:`table_of`.

    Returns:
        (int64 [sentences, 2] first byte and the one after the last, int64 [documents] sentences of each).
    """
    marks = of_marks()
    found = np.empty((many(data, marks) + len(documents), 2), np.int64)
    counts = np.zeros(len(documents) - 1, np.int64)
    total = 0
    for document in range(len(counts)):
        stop, earlier = documents[document + 1], total
        start = place = after_space(data, documents[document], stop)
        while start < stop:
            place = next_mark(data, place, stop, marks)
            if place < stop:
                end, place = boundary(data, start, place, stop, kinds, words)
            else:
                end = stop
            if end > start:
                found[total, 0], found[total, 1] = start, end
                total += 1
                start = place = after_space(data, place, stop)
        counts[document] = total - earlier
    return found[:total], counts


@compiled
def of_marks():
    """bool [256]: bytes that a mark at the end of a sentence may begin with."""
    marks = np.zeros(256, np.bool_)
    for byte in (NEWLINE, STOP, EXCLAMATION, QUESTION, 0xE2, 0xE3, 0xEF):
        marks[byte] = True
    return marks


@compiled
def many(data, marks):
    count = 0
    for byte in data:
        count += marks[byte]
    return count


@compiled
def next_mark(data, place, stop, marks):
    while place < stop and not marks[data[place]]:
        place += 1
    return place


@compiled
def after_space(data, place, stop):
    while place < stop and is_space(data[place]):
        place += 1
    return place


@compiled
def boundary(data, start, place, stop, kinds, words):
    """Does the sentence that began at ``start`` end with the character at ``place``? -> (its end, where to go on), or
    (-1, where to go on) where it does not."""
    if data[place] == NEWLINE:
        return (place, place + 1) if parts_blocks(data, place, stop, kinds) else (-1, place + 1)
    kind, width = kind_at(data, place, stop, kinds)
    if kind & LATIN_MARK:
        return latin(data, start, place, stop, kinds, words)
    if kind & EASTERN_MARK:
        return eastern(data, place, stop, kinds)
    return -1, place + width


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
def latin(data, start, place, stop, kinds, words):
    """After . ! ? and the ellipsis: closing quotes, a space, and something that can begin a sentence."""
    _, width = kind_at(data, place, stop, kinds)
    marked = run_of(data, place + width, stop, kinds, LATIN_MARK)
    closed = run_of(data, marked, stop, kinds, CLOSING)
    last = data[marked - 1]
    following = single_space(data, closed, stop, kinds)
    ideograph = kind_at(data, closed, stop, kinds)[0] & IDEOGRAPH
    if following > closed:
        opened = run_of(data, following, stop, kinds, OPENING)
        fits = kind_at(data, opened, stop, kinds)[0] & CAPITAL
    elif ideograph and closed == marked and last in (EXCLAMATION, QUESTION):
        fits = ideograph
    elif ideograph and closed == marked and last == STOP and marked - 1 > start:
        fits = kind_at(data, before(data, marked - 1, start), stop, kinds)[0] & IDEOGRAPH
    else:
        fits = np.uint32(0)
    if not fits:
        return -1, marked
    if ends(data, (start, place, marked, closed, following), stop, kinds, words):
        return closed, following
    return -1, following


@compiled
def eastern(data, place, stop, kinds):
    """After a full-width mark: closing quotes, and no space; not inside of a title or of a question in parentheses, and
    not where who said it follows."""
    going_on = place + kind_at(data, place, stop, kinds)[1]
    after = run_of(data, place, stop, kinds, EASTERN_RUN)
    closed = run_of(data, after, stop, kinds, EASTERN_CLOSING)
    kind, _ = kind_at(data, after, stop, kinds)
    asks = kind_at(data, before(data, after, place), stop, kinds)[0] & ASKS
    if kind & GOES_ON or (asks and kind & CLOSES_ASIDE):
        return -1, going_on
    if closed > after and is_said(data, closed, stop, kinds):
        return -1, going_on
    return closed, closed


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
def packed(data, start, stop, lower):
    """A word of up to nine ASCII characters as one number; 0 for other words."""
    if stop - start > WORD_BYTES:
        return np.uint64(0)
    code = np.uint64(0)
    for place in range(start, stop):
        byte = data[place]
        if byte >= 0x80:
            return np.uint64(0)
        if lower and 65 <= byte <= 90:
            byte |= 32
        code = code << np.uint64(7) | np.uint64(byte)
    return code


@compiled
def place_in(table, code):
    """The row of ``code`` in a table of open addressing, or the free row that it belongs in."""
    row = (code * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(56)
    while table[row, 0] != code and table[row, 0] != 0:
        row = (row + np.uint64(1)) & np.uint64(0xFF)
    return row


@compiled
def table_of(codes, bits):
    """uint64 [256, 2] of :func:`packed` words and the bits of each; a word may come several times."""
    table = np.zeros((256, 2), np.uint64)
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
def ends(data, places, stop, kinds, words):
    """Does the Latin mark end the sentence, so that another begins behind it?"""
    start, mark, marked, closed, following = places
    if data[mark] != STOP:
        quoted = closed > marked and kind_at(data, before(data, closed, marked), stop, kinds)[0] & QUOTE
        return not (quoted and is_attribution(data, following, stop, kinds, words))
    if marked > mark + 1:
        return True
    first = mark
    while first > start and not is_space(data[first - 1]):
        first -= 1
    word = run_of(data, first, mark, kinds, BRACKET)
    characters = digits = letters = stops = 0
    place = word
    while place < mark and characters <= 8:
        kind, width = kind_at(data, place, mark, kinds)
        digits += (kind & DIGIT) != 0
        letters += (kind & LETTER) != 0
        stops += data[place] == STOP
        characters, place = characters + 1, place + width
    if not 0 < characters <= 8:
        return True
    if first == start and closed == marked and digits == characters < 4:
        return False
    use = uses(words, packed(data, word, mark, True))
    if use & NEVER_LAST:
        return False
    if use & BEFORE_NUMBERS:
        return not kind_at(data, following, stop, kinds)[0] & DIGIT
    initial = characters == 1 and 65 <= data[word] <= 90 and data[word] != 73
    second = word + kind_at(data, word, mark, kinds)[1]
    dotted = second < mark and data[second] == STOP and letters and letters + stops == characters
    if initial or dotted or use & SOMETIMES_LAST:
        return starts(data, following, stop, kinds, words)
    return True


@compiled
def starts(data, place, stop, kinds, words):
    """Does one of the words that begin a sentence follow?"""
    place = run_of(data, place, stop, kinds, OPENING)
    after = run_of(data, place, stop, kinds, OF_WORD)
    if not uses(words, packed(data, place, after, False)) & STARTER:
        return False
    return after >= stop or data[after] != STOP


@compiled
def is_attribution(data, place, stop, kinds, words):
    """Do one to three capitalised words and a verb of speech follow?"""
    for _ in range(3):
        if place >= stop or not 65 <= data[place] <= 90:
            return False
        place = run_of(data, place, stop, kinds, OF_WORD)
        if place < stop and data[place] == STOP:
            place += 1
        after = single_space(data, place, stop, kinds)
        if after == place:
            return False
        place = after
        if uses(words, packed(data, place, run_of(data, place, stop, kinds, OF_WORD), False)) & VERB:
            return True
    return False
