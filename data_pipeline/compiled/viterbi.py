"""Unigram segmentation by the Viterbi algorithm (Kudo 2018, section 3.2).

Written in the order of sentencepiece's own arithmetic, so that ties and rounding give its ids;
``tests/data_pipeline/tokenizers/test_fast_sentencepiece.py`` compares them.
"""

import numpy as np

from sesame.data_pipeline.compiled import compiled, inlined
from sesame.data_pipeline.compiled.token_output import append_piece
from sesame.data_pipeline.compiled.trie import NONE, child_of, piece_at
from sesame.data_pipeline.compiled.utf8 import length_of_character


@compiled
def segment_text(size, model, work, ids, end):
    """Append the most probable pieces of a normalized text, with 32-bit sums as in sentencepiece.

    Args:
        size: bytes of the text in ``work.buffer``.
        model, work, ids: as in ``encoding.encode``.
        end: of the ids written so far.

    Returns:
        The new end of ``ids``.
    """
    buffer, trie, scores, unknown = work.buffer, model.trie, model.scores, model.unknown
    starts, pieces, best, steps = work.starts, work.pieces, work.sums, work.steps
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
            score = unknown.score + here
            if score > best[key]:
                best[key], starts[key], pieces[key] = score, place, unknown.id
        place += width
    count, place = 0, size
    while place > 0:
        steps[count] = place
        count += 1
        place = starts[place]
    return append_path(count, unknown, work, ids, end)


@inlined
def segment_word(size, model, work, ids, end):
    """Append the most probable pieces of a normalized word.

    The second best segmentation leaves the best one for the last time at some place and joins it at another, so the
    margin is the least difference between the best and the second best way into any place of the best one.

    Returns:
        (the new end of ``ids``, the score, its margin over the second best segmentation).
    """
    buffer, trie, scores, unknown = work.buffer, model.trie, model.scores, model.unknown
    starts, pieces, best, second, steps = work.starts, work.pieces, work.best, work.second, work.steps
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
            update_best(best, second, starts, pieces, place, key, piece, here + scores[piece])
            single |= (key == after) & (piece != NONE)
        if not single:
            update_best(best, second, starts, pieces, place, after, unknown.id, here + unknown.score)
    count, place, margin = 0, size, np.inf
    while place > 0:
        steps[count] = place
        count += 1
        margin = min(margin, best[place] - second[place])
        place = starts[place]
    return append_path(count, unknown, work, ids, end), best[size], margin


@inlined
def append_path(count, unknown, work, ids, end):
    """Append the pieces that end at the last ``count`` entries of ``work.steps``, which are in reverse order."""
    buffer, starts, pieces, steps = work.buffer, work.starts, work.pieces, work.steps
    first = end
    for step in range(count - 1, -1, -1):
        place = np.int64(steps[step])
        end = append_piece(pieces[place], starts[place], place, buffer, unknown, ids, first, end)
    return end


@inlined
def update_best(best, second, starts, pieces, place, key, piece, score):
    """Update the two best scores at ``key`` with a piece from ``place``. Without branches, which are unpredictable."""
    before = best[key]
    better = score > before
    second[key] = max(second[key], min(before, score))
    best[key] = score if better else before
    starts[key] = place if better else starts[key]
    pieces[key] = piece if better else pieces[key]
