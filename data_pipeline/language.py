"""Which language a text is in, by py3langid (Lui and Baldwin 2012), whose model lies in its package."""

from functools import cache
from importlib.util import find_spec
from typing import Any

from configs.errors import CorpusError

SAMPLE_CHARACTERS = 1000
"""Of the middle of a text: enough to be sure, and the time does not grow with the text."""


def check_installed() -> None:
    """Raises:
    CorpusError: the package is missing.
    """
    if find_spec("py3langid") is None:
        raise CorpusError("clean.languages needs a package that is not installed; pip install 'sesame[language]'")


def language(text: str) -> str:
    """Code of ISO 639-1 of the most likely language."""
    start = max(0, (len(text) - SAMPLE_CHARACTERS) // 2)
    return str(_identifier().classify(text[start : start + SAMPLE_CHARACTERS])[0])


@cache
def _identifier() -> Any:
    check_installed()
    import py3langid

    return py3langid
