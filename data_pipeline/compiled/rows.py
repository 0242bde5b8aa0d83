"""From documents to rows: the spans that make an example, their tokens end to end, and which of them are hidden.

Bounds are not checked in compiled loops; ``segment.py`` and ``corrupt.py`` see to it that numbers are in range.
"""

import numpy as np

from data_pipeline.compiled import compiled

STEP, FIRST, SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
"""Constants of SplitMix64."""
ZERO, ONE, WORD = np.uint64(0), np.uint64(1), np.uint64(64)
CONTINUES, BEGINS, SPECIAL, ENDS = 0, 1, 2, 4
"""What a token is: inside of a word, the first of one, no text, or (a bit of its own) the last of a word."""
TRIES = 8
"""Random sentences that are looked at for one that fits."""
NO_LIMIT = 2**62
"""For the hidden tokens of a row."""


@compiled
def bits(state):
    """64 random bits (SplitMix64, Steele et al. 2014); ``state`` is uint64 [1] and moves on."""
    state[0] += STEP
    mixed = state[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * FIRST
    mixed = (mixed ^ (mixed >> np.uint64(27))) * SECOND
    return mixed ^ (mixed >> np.uint64(31))


@compiled
def share(state):
    """Uniform in [0, 1)."""
    return np.int64(bits(state) >> np.uint64(11)) * 2.0**-53


@compiled
def between(first, last, state):
    """Uniform among first ... last - 1; a 53-bit fraction is even enough for any number of tokens."""
    return first + np.int64(share(state) * (last - first))


@compiled
def heads(tosses, state):
    """How many of so many fair tosses are heads."""
    found = 0
    while tosses > 0:
        coins = bits(state)
        if tosses < 64:
            coins >>= WORD - np.uint64(tosses)
        while coins != ZERO:
            coins &= coins - ONE
            found += 1
        tosses -= 64
    return found


@compiled
def next_sentence(sentences, documents, taken, room, short, seed, texts, partners):
    """int64 [examples, 6]: the fields of ``Example``, of the documents ``taken``, as all of these functions give them.

    Args:
        sentences: int64 [sentences + 1]: where each starts, in tokens.
        documents: int64 [documents + 1]: where each starts, in sentences; none is empty.
        room: most tokens of an example.
        short: share of examples that aim at a random shorter length.
        texts: int64 [documents]: equal for documents of equal text.
        partners: int64 [documents]: how many documents have another text than this one.
    """
    state, count = np.full(1, seed, np.uint64), 0
    found = np.empty((count_sentences(documents, taken), 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            target = aim(room, short, state)
            last = fitting(sentences, first, end, target, 2)
            middle = first + 1 if last - first < 3 else between(first + 1, last, state)
            start, stop, lonely = sentences[first], sentences[middle], last - first == 1
            if partners[document] > 0 and (lonely or share(state) < 0.5):
                # Always another text, so that every label is true; the sentences not used come again.
                other = document
                while texts[other] == texts[document]:
                    other = between(0, len(texts) - 1, state)
                    other += 1 if other >= document else 0
                length = (room if lonely else target) - (stop - start)
                begin, close = stretch(sentences, documents[other], documents[other + 1], length, state)
                if lonely or sentences[close] - sentences[begin] <= length:
                    found[count] = (start, stop, sentences[begin], sentences[close], 1, document)
                    fit(found[count], room, state)
                    count += 1
                    first = middle
                    continue
            if lonely and first > documents[document]:
                # The sentence before it comes again, or the last one would be lost.
                start, stop, lonely = sentences[first - 1], sentences[first], False
            if not lonely:
                found[count] = (start, stop, stop, sentences[last], 0, document)
                fit(found[count], room, state)
                count += 1
            first = last
    return found[:count]


@compiled
def stretch(sentences, first, end, length, state):
    """(first, one past the last) of sentences from a random one on, as many as ``length`` tokens hold.

    Whole ones, as true neighbours are, or the length of a pair would tell its label; the last of some tries where none
    fits.
    """
    begin = between(first, end, state)
    for _ in range(TRIES):
        if sentences[begin + 1] - sentences[begin] <= length:
            break
        begin = between(first, end, state)
    return begin, fitting(sentences, begin, end, length, 1)


@compiled
def sentence_order(sentences, documents, taken, room, short, seed):
    state, count = np.full(1, seed, np.uint64), 0
    found = np.empty((count_sentences(documents, taken), 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            last = fitting(sentences, first, end, aim(room, short, state), 2)
            if last - first == 1 and first > documents[document]:
                # The sentence before it comes again, or the last one would be lost.
                first -= 1
            if last - first > 1:
                middle = sentences[between(first + 1, last, state)]
                found[count] = (sentences[first], middle, middle, sentences[last], 0, document)
                fit(found[count], room, state)
                if share(state) < 0.5:
                    start, stop, begin, close = found[count, 0], found[count, 1], found[count, 2], found[count, 3]
                    found[count] = (begin, close, start, stop, 1, document)
                count += 1
            first = last
    return found[:count]


@compiled
def full_sentences(sentences, documents, taken, room, short, seed):
    state, count = np.full(1, seed, np.uint64), 0
    rows = count_sentences(documents, taken)
    for document in taken:
        rows += (sentences[documents[document + 1]] - sentences[documents[document]]) // room
    found = np.empty((rows, 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            start, last = sentences[first], fitting(sentences, first, end, aim(room, short, state), 1)
            # Only a single sentence can be longer than the room.
            for begin in range(start, sentences[last], room):
                found[count] = (begin, min(sentences[last], begin + room), 0, 0, 0, document)
                count += 1
            first = last
    return found[:count]


@compiled
def contiguous(sentences, documents, taken, room, short, seed):
    count = 0
    for document in taken:
        count += (sentences[documents[document + 1]] - sentences[documents[document]] + room - 1) // room
    found, count = np.empty((count, 6), np.int64), 0
    for document in taken:
        end = sentences[documents[document + 1]]
        for start in range(sentences[documents[document]], end, room):
            found[count] = (start, min(end, start + room), 0, 0, 0, document)
            count += 1
    return found


@compiled
def count_sentences(documents, taken):
    """Those of the documents ``taken``; each begins one example at most."""
    count = 0
    for document in taken:
        count += documents[document + 1] - documents[document]
    return count


@compiled
def aim(room, short, state):
    return between(2, room + 1, state) if share(state) < short else room


@compiled
def fitting(sentences, first, end, length, least):
    """One past the last of the sentences that ``length`` tokens hold from ``first`` on; of ``least`` at least, where
    there are so many. BERT's published code takes one more and cuts the row."""
    last, most = min(first + least, end), sentences[first] + length
    while last < end and sentences[last + 1] <= most:
        last += 1
    return last


@compiled
def fit(pair, room, state):
    """Cut the longer span, token by token from a random end, until both fit (BERT's published code)."""
    first, second = pair[1] - pair[0], pair[3] - pair[2]
    excess = max(0, first + second - room)
    # The longer one is cut down to the other, and from there on both in turn.
    alone = min(excess, abs(first - second))
    cut = (excess - alone + 1) // 2 + (alone if first >= second else 0)
    front = heads(cut, state)
    pair[0] += front
    pair[1] -= cut - front
    cut = excess - cut
    front = heads(cut, state)
    pair[2] += front
    pair[3] -= cut - front


@compiled
def lay_out(ids, spans, begin, separator, paired):
    """([tokens] of all examples end to end, int64 [examples + 1] where each starts)."""
    offsets = np.zeros(len(spans) + 1, np.int64)
    for row in range(len(spans)):
        length = spans[row, 1] - spans[row, 0] + spans[row, 3] - spans[row, 2]
        offsets[row + 1] = offsets[row] + length + (3 if paired else 2)
    values = np.empty(offsets[-1], ids.dtype)
    for row in range(len(spans)):
        end = offsets[row]
        values[end] = begin
        end += 1
        for segment in range(2 if paired else 1):
            span = ids[spans[row, 2 * segment] : spans[row, 2 * segment + 1]]
            values[end : end + len(span)] = span
            values[end + len(span)] = separator
            end += len(span) + 1
    return values, offsets


@compiled
def take(values, offsets, rows):
    """Rows of unequal length in the order given -> (values end to end, int64 [rows + 1] where each starts)."""
    bounds = np.zeros(len(rows) + 1, np.int64)
    for number in range(len(rows)):
        bounds[number + 1] = bounds[number] + offsets[rows[number] + 1] - offsets[rows[number]]
    found = np.empty(bounds[-1], values.dtype)
    for number in range(len(rows)):
        start = offsets[rows[number]]
        for place in range(bounds[number + 1] - bounds[number]):
            found[bounds[number] + place] = values[start + place]
    return found, bounds


@compiled
def hide(tokens, offsets, kinds, runs, budgets, fates, ordinary, seed):
    """Hide some tokens of every row, in ``tokens`` itself -> (uint16 positions, labels, int64 [rows + 1] offsets).

    Args:
        offsets: int64 [rows + 1].
        kinds: uint8 [V]: CONTINUES, BEGINS or SPECIAL of each id, and ENDS.
        runs: float64 [longest]: the probability that a unit has so many words or fewer.
        budgets: share of the text tokens that is hidden, and most of a row.
        fates: id of [MASK], share that becomes it, share that becomes it or a random one of the ids ``ordinary``.
    """
    state, rows, longest = np.full(1, seed, np.uint64), len(offsets) - 1, 0
    for number in range(rows):
        longest = max(longest, offsets[number + 1] - offsets[number])
    # Rounding up adds less than one to each row.
    most = np.int64(len(tokens) * budgets[0]) + rows + 1
    positions, labels, ends = np.empty(most, np.uint16), np.empty(most, tokens.dtype), np.zeros(rows + 1, np.int64)
    starts, stops = np.empty(longest + 1, np.int32), np.empty(longest + 1, np.int32)
    order, taken, end = np.empty(longest, np.int32), np.empty(longest, np.int32), 0
    for number in range(rows):
        row = tokens[offsets[number] : offsets[number + 1]]
        count, text = find_words(row, kinds, starts, stops)
        if len(runs) > 1:
            count = join_words(starts, stops, count, runs, state)
        if count > 0:
            # Rounded up or down by chance, so that the mean is what was asked for also where most rows have one length.
            budget = min(max(1, np.int64(text * budgets[0] + share(state))), budgets[1])
            choose(starts, stops, count, budget, order, taken, state)
        for unit in range(count):
            for place in range(starts[unit], starts[unit] + taken[unit]):
                positions[end], labels[end] = place, row[place]
                end += 1
                row[place] = shown(row[place], fates, ordinary, state)
        ends[number + 1] = end
    return positions[:end], labels[:end], ends


@compiled
def find_words(row, kinds, starts, stops):
    """(words of a row, its text tokens); ``starts`` and ``stops`` get where each word lies.

    A segment begins with a row and after a special token; no word steps over that, nor over the end of a word. There
    are no branches, for no processor can guess where words begin.
    """
    count, text, begins = 0, 0, 1
    for place in range(len(row)):
        kind = np.int64(kinds[row[place]])
        special = kind >> 1 & 1
        starts[count] = place
        count += (kind | begins) & ~special & 1
        # Behind a special token this is the place of the next word, which is written again.
        stops[count - 1 + special] = place + 1
        text += 1 - special
        begins = special | kind >> 2
    return count, text


@compiled
def join_words(starts, stops, count, runs, state):
    """Runs of neighbouring words in the place of words -> how many."""
    joined, word = 0, 0
    while word < count:
        chance, last = share(state), word
        while last + 1 < count and starts[last + 1] == stops[last] and chance >= runs[last - word]:
            last += 1
        starts[joined], stops[joined] = starts[word], stops[last]
        joined += 1
        word = last + 1
    return joined


@compiled
def choose(starts, stops, count, budget, order, taken, state):
    """Units in random order, each if all of it fits what is left of the budget; a longer one is passed over (BERT's
    published code). ``taken`` gets how many tokens of each are hidden."""
    for unit in range(count):
        order[unit], taken[unit] = unit, 0
    left = budget
    for place in range(count):
        other = between(place, count, state)
        unit = order[other]
        order[other] = order[place]
        order[place] = unit
        length = stops[unit] - starts[unit]
        if length <= left:
            taken[unit] = length
            left -= length
            if left == 0:
                return
    if left == budget:
        # Not one fits: the head of one is hidden, or text without spaces would never be.
        taken[order[0]] = budget


@compiled
def shown(token, fates, ordinary, state):
    """What stands in the place of a hidden token."""
    chance = share(state)
    if chance < fates[1]:
        return fates[0]
    if chance < fates[2]:
        return ordinary[between(0, len(ordinary), state)]
    return np.int64(token)
