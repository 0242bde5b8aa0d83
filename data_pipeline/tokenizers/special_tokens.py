"""Names of special tokens, here and in models from elsewhere."""

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
"""What models from elsewhere call them, the usual name first. GPT-2 has one for all, and no mask."""

SENTINEL = "<extra_id_{}>"
"""What stands for a hidden span, by its number in the row; T5's names."""


class Special(NamedTuple):
    """Ids of the special tokens."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int | None
    """None in a vocabulary without one (GPT-2, T5)."""

    def ids(self) -> dict[str, int]:
        """Role -> id, without a role that there is not."""
        return {role: token for role, token in self._asdict().items() if token is not None}
