"""Word starts in text without word-start marks."""

import re

WORD_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD_IDEOGRAPH = re.compile(f"[{WORD_IDEOGRAPHS}]")
IDEOGRAPH_LEAD_BYTES = range(0xE4, 0xEA)
"""First bytes in UTF-8 of U+4000 to U+9FFF, which are ideographs: a piece may end within a character."""


def starts_word(text: bytes) -> bool:
    """Return whether UTF-8 text begins with white space or an ideograph. Chinese has no spaces, so each piece counts as
    a word; otherwise a whole sentence would be one word."""
    if text[:1].isspace() or (text and text[0] in IDEOGRAPH_LEAD_BYTES):
        return True
    return WORD_IDEOGRAPH.match(text.decode("utf-8", "replace")) is not None
