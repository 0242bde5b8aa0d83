"""Writing the ids of pieces, and of characters that are in no piece."""

from sesame.data_pipeline.compiled import inlined
from sesame.data_pipeline.compiled.trie import NONE


@inlined
def append_piece(piece, start, stop, buffer, unknown, ids, first, end):
    """Append the id of a piece; of an unknown character its bytes or, once for neighbors, the unknown id.

    Args:
        piece: its id.
        start, stop: its place in ``buffer``.
        unknown: the model's ``Unknown``.
        ids: output.
        first: where the ids of this text begin.
        end: of the ids written so far.

    Returns:
        The new end of ``ids``.
    """
    if piece != unknown.id:
        ids[end] = piece
        return end + 1
    if unknown.byte_ids[0] != NONE:
        for place in range(start, stop):
            ids[end] = unknown.byte_ids[buffer[place]]
            end += 1
        return end
    if end > first and ids[end - 1] == unknown.id:
        return end
    ids[end] = unknown.id
    return end + 1
