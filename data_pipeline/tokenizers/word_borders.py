"""Where words begin in text without marks."""

import re

WORD_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
WORD_IDEOGRAPH = re.compile(f"[{WORD_IDEOGRAPHS}]")
LEADING = range(0xE4, 0xEA)
"""First bytes in UTF-8 of U+4000 to U+9FFF, which are ideographs: a piece may end within a character."""


def starts_a_word(text: bytes) -> bool:
    """Whether a stretch of UTF-8 begins with white space, or with an ideograph: Chinese has no spaces, so there each
    piece is a word of its own, or a whole sentence would be one."""
    if text[:1].isspace() or (text and text[0] in LEADING):
        return True
    return WORD_IDEOGRAPH.match(text.decode("utf-8", "replace")) is not None
