"""White space, blocks and closing quotation marks between sentences."""

from sesame.data_pipeline.compiled import compiled
from sesame.data_pipeline.compiled.character_kinds import kind_at
from sesame.data_pipeline.compiled.splitting import BULLET, CLOSING_GUILLEMET, DECIMAL, RIGHT_PARENTHESIS, STOP
from sesame.data_pipeline.compiled.utf8 import NEWLINE, SPACE, is_space


@compiled
def ends_block(data, place, stop, kinds):
    """Return whether the newline at ``place`` ends a block: a blank line or a list item follows."""
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
        if after == stop or (data[after] != STOP and data[after] != RIGHT_PARENTHESIS):
            return False
        after += 1
    else:
        return False
    return after < stop and data[after] == SPACE


@compiled
def after_single_space(data, place, stop, kinds):
    """Return where the text after white space begins; ``place`` if there is none, or if it ends a block."""
    after = place
    while after < stop and is_space(data[after]):
        if data[after] == NEWLINE and ends_block(data, after, stop, kinds):
            return place
        after += 1
    return after


@compiled
def after_closing_quotes(data, closed, stop, kinds):
    """Return (the end of closing quotation marks that end at ``closed``, with a guillemet after a space as in French;
    where the next text begins)."""
    following = after_single_space(data, closed, stop, kinds)
    after = following + 2
    last = after == stop or (after < stop and is_space(data[after]))
    if last and following > closed and data[following] == 0xC2 and data[following + 1] == CLOSING_GUILLEMET:
        return after, after_single_space(data, after, stop, kinds)
    return closed, following
