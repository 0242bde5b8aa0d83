"""Compiled loops that cut documents into examples: spans of tokens only.

Bounds are not checked in compiled loops; ``examples/segment.py`` ensures that numbers are in range.
"""

import numpy as np

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.random_numbers import count_heads, uniform, uniform_integer

TRIES = 8
"""Random sentences that are tried until one fits."""


@compiled
def next_sentence(sentences, documents, taken, room, short, seed, texts, partners):
    """Cut documents into pairs: a span and the one after it, or a span and one of another document (BERT).

    Args:
        sentences: int64 [sentences + 1]: where each starts, in tokens.
        documents: int64 [documents + 1]: where each starts, in sentences; none is empty.
        taken: int64: numbers of the documents to cut.
        room: most tokens of an example.
        short: share of examples with a random shorter target length.
        seed: of the random numbers.
        texts: int64 [documents]: equal for documents of equal text.
        partners: int64 [documents]: how many documents have another text than this one.

    Returns:
        int64 [examples, 6]: the fields of ``Example``.
    """
    state, count = np.full(1, seed, np.uint64), 0
    examples = np.empty((count_sentences(documents, taken), 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            target = target_length(room, short, state)
            last = fitting_end(sentences, first, end, target, 2)
            middle = first + 1 if last - first < 3 else uniform_integer(first + 1, last, state)
            start, stop, lonely = sentences[first], sentences[middle], last - first == 1
            if partners[document] > 0 and (lonely or uniform(state) < 0.5):
                # Always of another text, so that the label is true; the unused sentences are used in later examples.
                other = document
                while texts[other] == texts[document]:
                    other = uniform_integer(0, len(texts) - 1, state)
                    other += 1 if other >= document else 0
                length = (room if lonely else target) - (stop - start)
                other_start, other_end = random_span(sentences, documents[other], documents[other + 1], length, state)
                if lonely or sentences[other_end] - sentences[other_start] <= length:
                    examples[count] = (start, stop, sentences[other_start], sentences[other_end], 1, document)
                    truncate_pair(examples[count], room, state)
                    count += 1
                    first = middle
                    continue
            if lonely and first > documents[document]:
                # Repeat the sentence before it; a single last sentence makes no pair.
                start, stop, lonely = sentences[first - 1], sentences[first], False
            if not lonely:
                examples[count] = (start, stop, stop, sentences[last], 0, document)
                truncate_pair(examples[count], room, state)
                count += 1
            first = last
    return examples[:count]


@compiled
def random_span(sentences, first, end, length, state):
    """Return (first, one past the last) of the sentences from a random one on that fit into ``length`` tokens.

    Only whole sentences, as in true pairs; otherwise the length of a pair would reveal its label. If none of TRIES
    sentences fits, the last one is returned.
    """
    begin = uniform_integer(first, end, state)
    for _ in range(TRIES):
        if sentences[begin + 1] - sentences[begin] <= length:
            break
        begin = uniform_integer(first, end, state)
    return begin, fitting_end(sentences, begin, end, length, 1)


@compiled
def sentence_order(sentences, documents, taken, room, short, seed):
    """Cut documents into pairs of neighboring spans, half of them swapped (ALBERT); as :func:`next_sentence`."""
    state, count = np.full(1, seed, np.uint64), 0
    examples = np.empty((count_sentences(documents, taken), 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            last = fitting_end(sentences, first, end, target_length(room, short, state), 2)
            if last - first == 1 and first > documents[document]:
                # Repeat the sentence before it; a single last sentence makes no pair.
                first -= 1
            if last - first > 1:
                middle = sentences[uniform_integer(first + 1, last, state)]
                examples[count] = (sentences[first], middle, middle, sentences[last], 0, document)
                truncate_pair(examples[count], room, state)
                if uniform(state) < 0.5:
                    start, stop, begin, close = (
                        examples[count, 0],
                        examples[count, 1],
                        examples[count, 2],
                        examples[count, 3],
                    )
                    examples[count] = (begin, close, start, stop, 1, document)
                count += 1
            first = last
    return examples[:count]


@compiled
def full_sentences(sentences, documents, taken, room, short, seed):
    """Cut documents into spans of whole sentences (RoBERTa); as :func:`next_sentence`."""
    state, count = np.full(1, seed, np.uint64), 0
    rows = count_sentences(documents, taken)
    for document in taken:
        rows += (sentences[documents[document + 1]] - sentences[documents[document]]) // room
    examples = np.empty((rows, 6), np.int64)
    for document in taken:
        first, end = documents[document], documents[document + 1]
        while first < end:
            start, last = sentences[first], fitting_end(sentences, first, end, target_length(room, short, state), 1)
            # Only a single sentence can be longer than ``room``.
            for begin in range(start, sentences[last], room):
                examples[count] = (begin, min(sentences[last], begin + room), 0, 0, 0, document)
                count += 1
            first = last
    return examples[:count]


@compiled
def contiguous(sentences, documents, taken, room, short, seed):
    """Cut documents into spans of ``room`` tokens (GPT-2); as :func:`next_sentence`, without random numbers."""
    count = 0
    for document in taken:
        count += (sentences[documents[document + 1]] - sentences[documents[document]] + room - 1) // room
    examples, count = np.empty((count, 6), np.int64), 0
    for document in taken:
        end = sentences[documents[document + 1]]
        for start in range(sentences[documents[document]], end, room):
            examples[count] = (start, min(end, start + room), 0, 0, 0, document)
            count += 1
    return examples


@compiled
def count_sentences(documents, taken):
    """Return the number of sentences of the documents ``taken``; each begins at most one example."""
    count = 0
    for document in taken:
        count += documents[document + 1] - documents[document]
    return count


@compiled
def target_length(room, short, state):
    """Return the target length of an example in tokens, for a share ``short`` of them a random one."""
    return uniform_integer(2, room + 1, state) if uniform(state) < short else room


@compiled
def fitting_end(sentences, first, end, length, least):
    """Return one past the last of the sentences from ``first`` on that fit into ``length`` tokens, at least
    ``least`` if there are so many. BERT's published code takes one more and truncates the row."""
    last, limit = min(first + least, end), sentences[first] + length
    while last < end and sentences[last + 1] <= limit:
        last += 1
    return last


@compiled
def truncate_pair(pair, room, state):
    """Truncate the longer span, token by token from a random end, until both fit (BERT's published code)."""
    first, second = pair[1] - pair[0], pair[3] - pair[2]
    excess = max(0, first + second - room)
    # First the longer one until both are equal, then both in turn.
    alone = min(excess, abs(first - second))
    cut = (excess - alone + 1) // 2 + (alone if first >= second else 0)
    front = count_heads(cut, state)
    pair[0] += front
    pair[1] -= cut - front
    cut = excess - cut
    front = count_heads(cut, state)
    pair[2] += front
    pair[3] -= cut - front
