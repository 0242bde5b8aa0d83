"""sentencepiece's two ways to cut text into pieces.

Both are written after the published algorithms, in the order of sentencepiece's own arithmetic, so that their ids are
its ids, ties and rounding included; ``tests/data_pipeline/tokenizers/test_fast_encoding.py`` holds them to it.
"""

import numpy as np

from data_pipeline.compiled import compiled, inlined

UNIGRAM = 1
"""Number of that kind of model, as sentencepiece has it; the other kind is byte pairs."""
NONE = -1
ONE, TWO, FOUR = np.uint32(1), np.uint32(2), np.uint32(4)
"""Numbers without a sign, so that no index is looked at for being negative."""
SPACE, NEWLINE = 32, 10
MARK = 1
"""The byte that stands for U+2581, the mark before a word, in texts and pieces: one byte is read where three were."""
SYMBOLS = 512
"""Most characters of a word that byte pairs are merged in."""
SHORT_BYTES = 48
"""Longest word that a unigram model cuts for itself."""
ROUNDED = 2 * SHORT_BYTES * 2.0**-24
"""Most that rounding changes between two ways to cut a word, as a share of the score of the text."""

KEPT_BYTES, KEPT_IDS = 15, 8
"""Longest word, and most ids of one, that are kept."""
ROW_BYTES = 64
"""A row of the cache is one line of the processor's: 16 bytes of the word, with its length in the last, its ids of 32
bits, their count, the score of the word and how much less the second best way to cut it has."""
WORDS, NUMBERS = ROW_BYTES // 8, ROW_BYTES // 4
"""Numbers of 64 and of 32 bits in a row."""
IDS_AT, COUNT_AT, SCORE_AT, MARGIN_AT = 4, 12, 13, 14
"""Where they are among the numbers of 32 bits."""
LENGTH_AT = np.uint64(56)
"""Lowest bit of the length in the second number of a word."""
ID_BITS = np.uint64(20)
"""Bits of each of two pieces in the number of a pair."""
READ_AHEAD = 24
"""Bytes behind a text that are looked at with its last word."""
PROBES = 8
"""Neighbouring rows that a word may lie in."""
EACH_BYTE, HIGH_BITS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
SPREAD, SPREAD_AGAIN = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
"""Odd numbers that mix bits well."""


@inlined
def normalise(data, start, stop, marked, replaced, replacements, buffer):
    """Write the normalised bytes of one text, a mark before each word -> their number, or NONE where a character has
    no entry.

    Args:
        data: uint8 UTF-8.
        marked: whether the first word gets a mark too.
        replaced: int64 [65536, 2]: where the bytes of each code point stand in ``replacements``; first NONE: no entry.
        buffer: uint8, large enough for twice the text and a mark.
    """
    end, place, begun = 0, start, not marked
    while place < stop and data[place] in (SPACE, NEWLINE):
        place += 1
    while place < stop:
        byte = np.int64(data[place])
        if byte in (SPACE, NEWLINE):
            begun = False
            place += 1
            continue
        if byte < 0x80:
            point, size = byte, 1
        elif byte < 0xE0:
            point, size = (byte & 0x1F) << 6 | np.int64(data[place + 1]) & 0x3F, 2
        elif byte < 0xF0:
            point = (byte & 0x0F) << 12 | (np.int64(data[place + 1]) & 0x3F) << 6 | np.int64(data[place + 2]) & 0x3F
            size = 3
        else:
            return NONE
        first, last = replaced[point, 0], replaced[point, 1]
        if first == NONE:
            return NONE
        if not begun:
            buffer[end] = MARK
            end += 1
            begun = True
        for each in range(first, last):
            buffer[end] = replacements[each]
            end += 1
        place += size
    return end


@inlined
def child_of(trie, node, byte):
    """The node that a byte leads to, 0 (the root, which is no child) where there is none."""
    child = trie[FOUR * node] + np.uint32(byte)
    return child if trie[FOUR * child + ONE] == node else np.uint32(0)


@inlined
def piece_at(trie, node):
    """The piece that ends at a node, or NONE."""
    return np.int64(trie[FOUR * node + TWO]) - 1


@inlined
def length_of_character(byte):
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@compiled
def best_path(buffer, size, model, unknown, path, ids, end):
    """Unigram: the most probable pieces (Viterbi; Kudo 2018, section 3.2) -> the new end of ``ids``.

    Args:
        path: arrays of at least ``size + 1`` entries: where the best piece that ends here starts, its id, the score up
            to here, and room for the path.
        unknown: score, id, and the ids of bytes (int32 [256], NONE where unknown characters are not spelled so).
    """
    trie, scores, _ = model
    unknown_score, unknown_id, _ = unknown
    starts, pieces, best, steps = path
    best[: size + 1] = -np.inf
    best[0] = np.float32(0)
    place = 0
    while place < size:
        here = best[place]
        width = length_of_character(buffer[place])
        single = False
        node, key = np.uint32(0), place
        while key < size:
            node = child_of(trie, node, buffer[key])
            if node == 0:
                break
            key += 1
            piece = piece_at(trie, node)
            if piece >= 0:
                score = scores[piece] + here
                if score > best[key]:
                    best[key], starts[key], pieces[key] = score, place, piece
                if key - place == width:
                    single = True
        if not single:
            key = place + width
            score = unknown_score + here
            if score > best[key]:
                best[key], starts[key], pieces[key] = score, place, unknown_id
        place += width
    count, place = 0, size
    while place > 0:
        steps[count] = place
        count += 1
        place = starts[place]
    first = end
    for step in range(count - 1, -1, -1):
        place = np.int64(steps[step])
        end = emit(pieces[place], buffer, starts[place], place, unknown, ids, first, end)
    return end


@inlined
def emit(piece, buffer, start, stop, unknown, ids, first, end):
    """Write one id, for an unknown character its bytes or, once for neighbours, the unknown id -> the new end."""
    _, unknown_id, byte_ids = unknown
    if piece != unknown_id:
        ids[end] = piece
        return end + 1
    if byte_ids[0] != NONE:
        for place in range(start, stop):
            ids[end] = byte_ids[buffer[place]]
            end += 1
        return end
    if end > first and ids[end - 1] == unknown_id:
        return end
    ids[end] = unknown_id
    return end + 1


@compiled
def build_pairs(pieces, starts, values, trie):
    """Which two pieces make which: uint64 [2 x rows] of open addressing, the two as one number and the piece of each.

    Args:
        pieces, starts, values: as in :func:`build_trie`.
    """
    table = np.zeros(1 << 12, np.uint64)
    used = 0
    for number in range(len(starts) - 1):
        start, stop = starts[number], starts[number + 1]
        place = start + length_of_character(pieces[start])
        while place < stop:
            left, right = piece_of(pieces, start, place, trie), piece_of(pieces, place, stop, trie)
            place += length_of_character(pieces[place])
            if left == NONE or right == NONE:
                continue
            if 4 * used > len(table):
                old, table = table, np.zeros(2 * len(table), np.uint64)
                for row in range(0, len(old), 2):
                    if old[row] != 0:
                        free = row_of_pair(table, old[row])
                        table[free], table[free + 1] = old[row], old[row + 1]
            key = pair_of(left, right)
            row = row_of_pair(table, key)
            table[row], table[row + 1] = key, np.uint64(values[number])
            used += 1
    return table


@inlined
def pair_of(left, right):
    return np.uint64(left) << ID_BITS | np.uint64(right) | np.uint64(1) << (ID_BITS + ID_BITS)


@inlined
def row_of_pair(table, key):
    """Where a pair stands in the table, or the free row that it belongs in."""
    last = np.uint64(len(table) - 1)
    code = key * SPREAD
    row = (code ^ code >> np.uint64(32)) << np.uint64(1) & last
    while table[row] != 0 and table[row] != key:
        row = (row + np.uint64(2)) & last
    return row


@inlined
def piece_of(buffer, start, stop, trie):
    node = np.uint32(0)
    for place in range(start, stop):
        node = child_of(trie, node, buffer[place])
        if node == 0:
            return NONE
    return piece_at(trie, node)


@inlined
def weigh_pair(symbol, count, following, symbols, table, scores):
    """Note what a symbol and the next one make together, and its score."""
    pieces, pairs, gains = symbols
    gains[symbol] = -np.inf
    after = following[symbol]
    if after == count or pieces[symbol] == NONE or pieces[after] == NONE:
        return
    row = row_of_pair(table, pair_of(pieces[symbol], pieces[after]))
    if table[row] != 0:
        pairs[symbol] = np.int64(table[row + np.uint64(1)])
        gains[symbol] = scores[pairs[symbol]]


@inlined
def merged(buffer, size, model, unknown, places, symbols, ids, end):
    """Byte pairs of one word (Sennrich et al. 2016): the best pair first, of equal ones the leftmost -> the new end of
    ``ids``, or NONE where there are too many characters.

    Args:
        places: int64 [3, SYMBOLS + 1] to work in: where each symbol starts, and its neighbours.
        symbols: [SYMBOLS + 1] each: the symbol's piece, that which it makes with the next one, and the score of that.
    """
    trie, scores, table = model
    begins, following, before = places
    pieces, pairs, gains = symbols
    count, place = 0, 0
    while place < size:
        if count == SYMBOLS:
            return NONE
        width = length_of_character(buffer[place])
        begins[count], following[count], before[count] = place, count + 1, count - 1
        pieces[count] = piece_of(buffer, place, place + width, trie)
        count, place = count + 1, place + width
    begins[count] = size
    for symbol in range(count):
        weigh_pair(symbol, count, following, symbols, table, scores)
    while True:
        best, chosen, symbol = np.float32(-np.inf), NONE, 0
        while symbol < count:
            if gains[symbol] > best:
                best, chosen = gains[symbol], symbol
            symbol = following[symbol]
        if chosen == NONE:
            break
        after = following[following[chosen]]
        following[chosen], pieces[chosen] = after, pairs[chosen]
        before[after] = chosen
        weigh_pair(chosen, count, following, symbols, table, scores)
        if chosen > 0:
            weigh_pair(before[chosen], count, following, symbols, table, scores)
    first, symbol = end, 0
    while symbol < count:
        piece = unknown[1] if pieces[symbol] == NONE else pieces[symbol]
        end = emit(piece, buffer, begins[symbol], begins[following[symbol]], unknown, ids, first, end)
        symbol = following[symbol]
    return end


@compiled
def encode(kind, data, blocks, spans, marks, normal, model, unknown, cache, ids):
    """Ids of texts -> (int64 [texts + 1] where each ends in ``ids``, bool [texts] left out).

    Args:
        kind: of the model.
        data: uint8 UTF-8; a newline is a space.
        blocks: uint64, the same bytes, and READ_AHEAD more.
        spans: int64 [texts, 2]: first byte of each, and the one after the last.
        marks: bool [texts]: whether the first word of a text gets a mark too.
        normal: what :func:`normalise` needs of characters.
        model: its trie, scores and pairs.
        cache: the same rows of ROW_BYTES as uint64, uint32 and float32.
        ids: of at least as many entries as bytes and texts, and KEPT_IDS more.
    """
    longest = 0
    for text in range(len(spans)):
        longest = max(longest, spans[text, 1] - spans[text, 0])
    room = 2 * longest + 2
    buffer = np.empty(room, np.uint8)
    path = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32), np.empty(room, np.int32))
    places = (np.empty(SYMBOLS + 1, np.int64), np.empty(SYMBOLS + 1, np.int64), np.empty(SYMBOLS + 1, np.int64))
    symbols = (np.empty(SYMBOLS + 1, np.int64), np.empty(SYMBOLS + 1, np.int64), np.empty(SYMBOLS + 1, np.float32))
    ways = (np.empty(room), np.empty(room))
    work = (buffer, path, places, symbols, ways)
    ends, left = np.zeros(len(spans) + 1, np.int64), np.zeros(len(spans), np.bool_)
    end = 0
    for text in range(len(spans)):
        start, stop = spans[text, 0], spans[text, 1]
        found = by_words(kind, data, blocks, start, stop, marks[text], normal, model, unknown, work, cache, ids, end)
        if found == NONE and kind == UNIGRAM:
            size = normalise(data, start, stop, marks[text], normal[0], normal[1], buffer)
            if size != NONE:
                found = best_path(buffer, size, model, unknown, path, ids, end)
        left[text] = found == NONE
        end = end if found == NONE else found
        ends[text + 1] = end
    return ends, left


@inlined
def by_words(kind, data, blocks, start, stop, marked, normal, model, unknown, work, cache, ids, end):
    """The words of one text, from the cache or cut -> the new end of ``ids``, or NONE where words are not enough.

    With a unigram model they are not where two ways to cut a word are so close that rounding may decide between them:
    sentencepiece adds scores up from the start of the text, in 32 bits, so that each sum of a word's pieces is off by
    half of the last digit of at most the text's whole score.
    """
    words, numbers, facts = cache
    place, total, closest = start, 0.0, np.inf
    while place < stop and data[place] in (SPACE, NEWLINE):
        place += 1
    while place < stop:
        if data[place] in (SPACE, NEWLINE):
            place += 1
            marked = True
            continue
        word, length = first_bytes(blocks, place, stop)
        row, known = NONE, False
        # The cache has words with their marks.
        if marked and length <= KEPT_BYTES:
            row, known = find(words, word)
        if known:
            end = recall(numbers, row, ids, end)
            if kind == UNIGRAM:
                total += facts[NUMBERS * row + SCORE_AT]
                closest = min(closest, facts[NUMBERS * row + MARGIN_AT])
            # What stands behind a word is a space or the end.
            place += length + 1
            continue
        if length > KEPT_BYTES:
            length = length_of_word(data, place, stop)
        first = end
        end, score, margin = cut(kind, data, place, length, marked, normal, model, unknown, work, ids, end)
        if end == NONE:
            return NONE
        total += score
        closest = min(closest, margin)
        if row != NONE:
            remember(cache, row, word, ids, first, end, score, margin)
        place += length + 1
        marked = True
    return end if closest > ROUNDED * abs(total) else NONE


@compiled
def cut(kind, data, place, length, marked, normal, model, unknown, work, ids, end):
    """Cut one word -> (the new end of ``ids``, its score, how much less the second best way has); NONE for the end
    where it cannot be cut for itself."""
    buffer, _, places, symbols, ways = work
    size = normalise(data, place, place + length, marked, normal[0], normal[1], buffer)
    if size == NONE:
        return NONE, 0.0, 0.0
    if kind != UNIGRAM:
        return merged(buffer, size, model, unknown, places, symbols, ids, end), 0.0, np.inf
    if size > SHORT_BYTES:
        return NONE, 0.0, 0.0
    return best_two(buffer, size, model, unknown, work[1], ways, ids, end)


@inlined
def best_two(buffer, size, model, unknown, path, ways, ids, end):
    """Unigram, one word: the best pieces -> (the new end of ``ids``, their score, how much less the second best has).

    The second best way leaves the best one for the last time at some place, and from there on is the best: so at each
    place the best way but one into it is all that must be known.
    """
    trie, scores, _ = model
    begins, pieces, _, steps = path
    best, second = ways
    for place in range(size + 1):
        best[place] = second[place] = -np.inf
    best[0] = 0.0
    for place in range(size):
        here = best[place]
        if here == -np.inf:
            continue
        after, single = place + length_of_character(buffer[place]), False
        node, key = np.uint32(0), place
        while key < size:
            node = child_of(trie, node, buffer[key])
            if node == 0:
                break
            key += 1
            piece = piece_at(trie, node)
            weigh(best, second, begins, pieces, place, key, piece, here + scores[piece])
            single |= (key == after) & (piece != NONE)
        if not single:
            weigh(best, second, begins, pieces, place, after, unknown[1], here + unknown[0])
    count, place, margin = 0, size, np.inf
    while place > 0:
        steps[count] = place
        count += 1
        margin = min(margin, best[place] - second[place])
        place = begins[place]
    first = end
    for step in range(count - 1, -1, -1):
        place = np.int64(steps[step])
        end = emit(pieces[place], buffer, begins[place], place, unknown, ids, first, end)
    return end, best[size], margin


@inlined
def weigh(best, second, begins, pieces, place, key, piece, score):
    """Let the way to ``key`` through a piece from ``place`` compete with the two best so far; without branches, which
    no processor could foresee."""
    before = best[key]
    better = score > before
    second[key] = max(second[key], min(before, score))
    best[key] = score if better else before
    begins[key] = place if better else begins[key]
    pieces[key] = piece if better else pieces[key]


@inlined
def length_of_word(data, place, stop):
    after = place
    while after < stop and data[after] not in (SPACE, NEWLINE):
        after += 1
    return after - place


@inlined
def first_bytes(blocks, place, stop):
    """The word at ``place`` as two numbers of its bytes, with its length in the highest, and its length, which is too
    large where it is longer than KEPT_BYTES."""
    left = stop - place
    first, length = of_word(eight(blocks, place), left)
    second = np.uint64(0)
    if length == 8:
        second, more = of_word(eight(blocks, place + 8), left - 8)
        length += more
    return (first, second | np.uint64(length) << LENGTH_AT), length


@inlined
def eight(blocks, place):
    """The eight bytes from ``place`` on as one number, the first lowest."""
    block, bits = place >> 3, np.uint64((place & 7) << 3)
    return blocks[block] >> bits | (blocks[block + 1] << np.uint64(1)) << (np.uint64(63) - bits)


@inlined
def of_word(found, left):
    """(eight bytes with zeros from the first space on, and behind the last of ``left``; how many lie before)."""
    spaces = of_byte(found, np.uint64(SPACE)) | of_byte(found, np.uint64(NEWLINE))
    if left < 8:
        spaces |= np.uint64(0x80) << np.uint64(8 * left)
    if spaces == 0:
        return found, 8
    below = ((spaces & (~spaces + np.uint64(1))) >> np.uint64(7)) - np.uint64(1)
    return found & below, np.int64((below & EACH_BYTE) * EACH_BYTE >> np.uint64(56))


@inlined
def of_byte(found, byte):
    """The high bit of each of eight bytes that is ``byte``; what lies above the lowest of them is not sure."""
    differs = found ^ (EACH_BYTE * byte)
    return (differs - EACH_BYTE) & ~differs & HIGH_BITS


@inlined
def find(words, word):
    """(the row of a word in the cache, whether it is there); the row to put it in where it is not."""
    code = (word[0] ^ word[1] * SPREAD_AGAIN) * SPREAD
    last = len(words) // WORDS - 1
    # Only the highest bits of a product depend on every bit of what was multiplied.
    home = np.int64(code >> np.uint64(44)) & last
    for probe in range(PROBES):
        row = (home + probe) & last
        if words[WORDS * row] == word[0] and words[WORDS * row + 1] == word[1]:
            return row, True
        if words[WORDS * row + 1] == 0:
            return row, False
    return home, False


@inlined
def recall(numbers, row, ids, end):
    """Write the ids of a word -> the new end of ``ids``; what is written behind it does not count."""
    for each in range(KEPT_IDS):
        ids[end + each] = numbers[NUMBERS * row + IDS_AT + each]
    return end + np.int64(numbers[NUMBERS * row + COUNT_AT])


@inlined
def remember(cache, row, word, ids, first, end, score, margin):
    """Put a word into its row, in place of what was there."""
    words, numbers, facts = cache
    if end - first > KEPT_IDS:
        return
    words[WORDS * row], words[WORDS * row + 1] = word
    for each in range(end - first):
        numbers[NUMBERS * row + IDS_AT + each] = ids[first + each]
    numbers[NUMBERS * row + COUNT_AT] = end - first
    facts[NUMBERS * row + SCORE_AT], facts[NUMBERS * row + MARGIN_AT] = score, margin
