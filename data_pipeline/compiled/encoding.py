"""sentencepiece's two ways to cut text into pieces.

Both are written after the published algorithms, in the order of sentencepiece's own arithmetic, so that their ids are
its ids, ties and rounding included; ``tests/data_pipeline/test_fast_encoding.py`` holds them to it.
"""

import numpy as np

from data_pipeline.compiled import compiled

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
CACHED_BYTES = 48
"""Longer words are not remembered."""
ROUNDED = 2 * CACHED_BYTES * 2.0**-24
"""Most that rounding changes between two ways to cut a word, as a share of the score of the text."""


@compiled
def normalise(data, start, stop, replaced, replacements, buffer):
    """Write the normalised bytes of one text, a mark before each word -> their number, or NONE where a character has
    no entry.

    Args:
        data: uint8 UTF-8.
        replaced: int64 [65536, 2]: where the bytes of each code point stand in ``replacements``; first NONE: no entry.
        buffer: uint8, large enough for twice the text and a mark.
    """
    end, place, begun = 0, start, False
    while place < stop:
        byte = np.int64(data[place])
        if byte == SPACE:
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


@compiled
def length_of_character(byte):
    return 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4


@compiled
def best_path(buffer, size, trie, scores, unknown, path, ids, end):
    """Unigram: the most probable pieces (Viterbi; Kudo 2018, section 3.2) -> the new end of ``ids``.

    Args:
        path: arrays of at least ``size + 1`` entries: where the best piece that ends here starts, its id, the score up
            to here, and room for the path.
        unknown: score, id, and the ids of bytes (int32 [256], NONE where unknown characters are not spelled so).
    """
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
            child = trie[FOUR * node] + np.uint32(buffer[key])
            if trie[FOUR * child + ONE] != node:
                break
            node = child
            key += 1
            piece = np.int64(trie[FOUR * node + TWO]) - 1
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


@compiled
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
def piece_of(buffer, start, stop, trie):
    node = np.uint32(0)
    for place in range(start, stop):
        child = trie[FOUR * node] + np.uint32(buffer[place])
        if trie[FOUR * child + ONE] != node:
            return NONE
        node = child
    return np.int64(trie[FOUR * node + TWO]) - 1


@compiled
def merged(buffer, start, stop, trie, scores, unknown, symbols, ids, first, end):
    """Byte pairs of one word (Sennrich et al. 2016): the best pair first, of equal ones the leftmost -> the new end of
    ``ids``, or NONE where there are too many characters.

    Args:
        symbols: int64 [4, SYMBOLS + 1] to work in: starts of the symbols, the piece that each makes with the next, and
            the neighbours of each.
    """
    begins, pairs, following, before = symbols[0], symbols[1], symbols[2], symbols[3]
    count, place = 0, start
    while place < stop:
        if count == SYMBOLS:
            return NONE
        begins[count], following[count], before[count] = place, count + 1, count - 1
        count += 1
        place += length_of_character(buffer[place])
    begins[count] = stop
    for symbol in range(count - 1):
        pairs[symbol] = piece_of(buffer, begins[symbol], begins[symbol + 2], trie)
    pairs[count - 1] = NONE
    while True:
        best, chosen, symbol = np.float32(-np.inf), NONE, 0
        while symbol < count:
            if pairs[symbol] != NONE and (chosen == NONE or scores[pairs[symbol]] > best):
                best, chosen = scores[pairs[symbol]], symbol
            symbol = following[symbol]
        if chosen == NONE:
            break
        after = following[following[chosen]]
        following[chosen] = after
        if after < count:
            before[after] = chosen
            stops = begins[following[after]]
            pairs[chosen] = piece_of(buffer, begins[chosen], stops, trie)
        else:
            pairs[chosen] = NONE
        if chosen > 0:
            left = before[chosen]
            pairs[left] = piece_of(buffer, begins[left], begins[following[chosen]], trie)
    symbol = 0
    while symbol < count:
        last = begins[following[symbol]]
        piece = piece_of(buffer, begins[symbol], last, trie)
        piece = unknown[1] if piece == NONE else piece
        end = emit(piece, buffer, begins[symbol], last, unknown, ids, first, end)
        symbol = following[symbol]
    return end


@compiled
def encode(kind, data, normal, trie, scores, unknown, cache):
    """Ids of texts that are parted by newlines -> (uint32 ids, int64 [texts + 1] ends, bool [texts] left out)."""
    texts, longest = count_texts(data)
    buffer, symbols = np.empty(2 * longest + 2, np.uint8), np.empty((4, SYMBOLS + 2), np.int64)
    room = len(buffer) + 1
    path = (np.empty(room, np.int32), np.empty(room, np.int32), np.empty(room, np.float32), np.empty(room, np.int32))
    ids = np.empty(3 * len(data) + 3 * texts, np.uint32)
    ends, left = np.zeros(texts + 1, np.int64), np.zeros(texts, np.bool_)
    start, end = 0, 0
    for text in range(texts):
        stop = end_of_text(data, start)
        size, found = normalise(data, start, stop, normal[0], normal[1], buffer), NONE
        if size != NONE:
            found = by_words(kind, buffer, size, trie, scores, unknown, symbols, cache, ids, end)
            if found == NONE and kind == UNIGRAM:
                found = best_path(buffer, size, trie, scores, unknown, path, ids, end)
        left[text] = found == NONE
        end = end if found == NONE else found
        ends[text + 1] = end
        start = stop + 1
    return ids[:end], ends, left


@compiled
def by_words(kind, buffer, size, trie, scores, unknown, symbols, cache, ids, end):
    """The words of one text, from the cache or cut -> the new end of ``ids``, or NONE where words are not enough.

    With a unigram model they are not where two ways to cut a word are so close that rounding may decide between them:
    sentencepiece adds scores up from the start of the text, in 32 bits, so that each sum of a word's pieces is off by
    half of the last digit of at most the text's whole score.
    """
    text, word, total, closest = end, 0, 0.0, np.inf
    while word < size:
        after, slot, known = find(buffer, word, size, cache)
        if known:
            end = recall(slot, cache, ids, end)
            if kind == UNIGRAM:
                total += cache[4][slot, 0]
                closest = min(closest, cache[4][slot, 1])
        else:
            first, score, margin = end, 0.0, np.inf
            if kind == UNIGRAM:
                if after - word > CACHED_BYTES:
                    return NONE
                end, score, margin = best_two(buffer, word, after, trie, scores, unknown, ids, end)
            else:
                end = merged(buffer, word, after, trie, scores, unknown, symbols, ids, text, end)
            if end == NONE:
                return NONE
            # What an unknown character gives depends on the one before.
            if after - word <= CACHED_BYTES and end > first and not (ids[first:end] == unknown[1]).any():
                remember(slot, buffer, word, after, cache, ids, first, end, score, margin)
            total += score
            closest = min(closest, margin)
        word = after
    return end if closest > ROUNDED * -total else NONE


@compiled
def best_two(buffer, start, stop, trie, scores, unknown, ids, end):
    """Unigram, one word: the best pieces -> (the new end of ``ids``, their score, how much less the second best has);
    NONE for the end where they leave a character unknown."""
    size = stop - start
    best, second = np.full(size + 1, -np.inf), np.full(size + 1, -np.inf)
    begins, pieces = np.empty(size + 1, np.int32), np.empty(size + 1, np.int32)
    best[0] = 0.0
    for place in range(size):
        if best[place] == -np.inf:
            continue
        width, single = length_of_character(buffer[start + place]), False
        node, key = np.uint32(0), place
        while key < size:
            child = trie[FOUR * node] + np.uint32(buffer[start + key])
            if trie[FOUR * child + ONE] != node:
                break
            node = child
            key += 1
            piece = np.int64(trie[FOUR * node + TWO]) - 1
            if piece < 0:
                continue
            weigh(best, second, begins, pieces, place, key, piece, scores[piece])
            single = single or key - place == width
        if not single:
            weigh(best, second, begins, pieces, place, place + width, unknown[1], unknown[0])
    count, place = 0, size
    while place > 0:
        if pieces[place] == unknown[1]:
            return NONE, 0.0, 0.0
        count += 1
        place = begins[place]
    place, slot = size, end + count
    while place > 0:
        slot -= 1
        ids[slot] = pieces[place]
        place = begins[place]
    return end + count, best[size], best[size] - second[size]


@compiled
def weigh(best, second, begins, pieces, place, key, piece, score):
    """Let the ways to ``key`` through a piece from ``place`` compete with the two best so far."""
    if best[place] + score > best[key]:
        second[key] = max(best[key], second[place] + score)
        best[key], begins[key], pieces[key] = best[place] + score, place, piece
    else:
        second[key] = max(second[key], best[place] + score)


@compiled
def count_texts(data):
    """(texts, bytes of the longest)."""
    texts, longest, start = 1, 0, 0
    for place in range(len(data)):
        if data[place] == NEWLINE:
            longest, start = max(longest, place - start), place + 1
            texts += 1
    return texts, max(longest, len(data) - start)


@compiled
def end_of_text(data, start):
    place = start
    while place < len(data) and data[place] != NEWLINE:
        place += 1
    return place


@compiled
def find(buffer, start, size, cache):
    """(end of the word, its slot in the cache, whether it is there): open addressing, compared byte by byte."""
    slots, words = cache[0], cache[1]
    code, stop = np.uint64(0xCBF29CE484222325), start
    while True:
        code = (code ^ np.uint64(buffer[stop])) * np.uint64(0x100000001B3)
        stop += 1
        if stop == size or buffer[stop] == MARK:
            break
    slot = np.int64((code ^ (code >> np.uint64(29))) & np.uint64(len(slots) - 1))
    while slots[slot, 1] != 0:
        if slots[slot, 1] == stop - start:
            first, equal = slots[slot, 0], True
            for place in range(stop - start):
                if words[first + place] != buffer[start + place]:
                    equal = False
                    break
            if equal:
                return stop, slot, True
        slot = (slot + 1) & (len(slots) - 1)
    return stop, slot, False


@compiled
def recall(slot, cache, ids, end):
    slots, remembered = cache[0], cache[2]
    for place in range(slots[slot, 2], slots[slot, 2] + slots[slot, 3]):
        ids[end] = remembered[place]
        end += 1
    return end


@compiled
def remember(slot, buffer, start, stop, cache, ids, first, last, score, margin):
    """Put a word into its free slot; all are forgotten first where there is no room."""
    slots, words, remembered, used, facts = cache
    if 2 * used[0] >= len(slots) or used[1] + stop - start > len(words) or used[2] + last - first > len(remembered):
        slots[:] = 0
        used[:] = 0
        _, slot, _ = find(buffer, start, stop, cache)
    slots[slot, 0], slots[slot, 1] = used[1], stop - start
    slots[slot, 2], slots[slot, 3] = used[2], last - first
    facts[slot, 0], facts[slot, 1] = score, margin
    for place in range(stop - start):
        words[used[1] + place] = buffer[start + place]
    for place in range(last - first):
        remembered[used[2] + place] = ids[first + place]
    used[0] += 1
    used[1] += stop - start
    used[2] += last - first
