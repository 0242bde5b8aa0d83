"""Bits of characters and words for the rules of sentence splitting.

``characters.py`` and ``examples/sentence_words.py`` have the characters and words.
"""

from sesame.data_pipeline.compiled.character_kinds import JOINED as JOINED

OF_WORD, DECIMAL, DIGIT, LETTER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
"""Letter, mark or digit; decimal digit; any digit; letter or mark."""
UPPER, UNCASED, IDEOGRAPH, HANGUL, GREEK, STOPLESS = 1 << 4, 1 << 5, 1 << 6, 1 << 29, 1 << 8, 1 << 9
"""Letters: a capital; of a script without case; East Asian; Korean; Greek; of a script whose sentences end without a
full stop."""
OPENING, CLOSING, QUOTE, BRACKET, BULLET, CONTINUES = 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15
"""Punctuation; no sentence begins with the last, such as a comma."""
LATIN_MARK, OTHER_MARK, EASTERN_MARK, EASTERN_RUN = 1 << 16, 1 << 17, 1 << 18, 1 << 19
"""Sentence terminals that a space follows, those of other scripts, East Asian ones; what may follow the last."""
ASKS, CLOSING_PARENTHESIS, EASTERN_CLOSING, CONTINUES_EASTERN = 1 << 20, 1 << 21, 1 << 22, 1 << 23
"""East Asian: exclamation and question mark; closing parenthesis; closing quotation marks and brackets; what continues
a sentence behind a terminal."""
SPEECH, AFTER_SPEECH, AFTER_SAID, PARTICLE, KOREAN_ENDING = 1 << 24, 1 << 25, 1 << 26, 1 << 27, 1 << 28
"""Verbs of speech; what may follow them; punctuation behind that; Japanese particles; Korean sentence endings."""
BEGINS = UPPER | UNCASED | IDEOGRAPH | DECIMAL

NEVER_LAST, SOMETIMES_LAST, BEFORE_NUMBERS, STARTER, VERB = 1, 2, 4, 8, 16
QUOTATIVE, ORDINAL, BEFORE_ORDINAL, COMPOUND = 32, 64, 128, 256
"""Bits of words."""

STOP, SEMICOLON, RIGHT_PARENTHESIS = 46, 59, 41
EXCLAMATION, QUESTION, DOUBLE_QUOTE, CAPITAL_I = 33, 63, 34, 73
ARABIC_STOP, FULL_WIDTH_STOP, CLOSING_GUILLEMET, ELLIPSIS = 0x6D4, 0xFF0E, 0xBB, 0x2026
"""Code points; those of the first two rows are bytes too."""
