"""Names of special tokens, in models that are trained here and in published ones."""

from typing import NamedTuple

END_OF_TEXT = "<|endoftext|>"
"""GPT-2's only special token."""
START_OF_TEXT = "<|startoftext|>"
"""CLIP has this one too."""

PIECES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
"""Special tokens of a model that is trained here, ids 0 to 4 in this order."""

OTHER_NAMES = {
    "pad": ("<pad>", END_OF_TEXT),
    "unk": ("<unk>", END_OF_TEXT),
    "cls": ("<cls>", "<s>", START_OF_TEXT, END_OF_TEXT),
    "sep": ("<sep>", "</s>", END_OF_TEXT),
    "mask": ("<mask>",),
}
"""Names in published models, the most common first. GPT-2 has one for all roles, and no mask."""
KNOWN_NAMES = frozenset((*PIECES.values(), *(name for names in OTHER_NAMES.values() for name in names)))

SENTINEL = "<extra_id_{}>"
"""Stands for a masked span, by its number in the row; T5's names."""


def is_sentinel(piece: object) -> bool:
    return isinstance(piece, str) and piece.startswith(SENTINEL.partition("{")[0])


class Special(NamedTuple):
    """Ids of the special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int | None
    """None in a vocabulary without one (GPT-2, T5)."""

    def ids(self) -> dict[str, int]:
        """Return role -> id of the roles that the vocabulary has."""
        return {role: token for role, token in self._asdict().items() if token is not None}
