"""Packages that only some kinds of source need."""

import importlib
from typing import Any

from sesame.configs.errors import CorpusError


def import_optional(module: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        extra: the extra of this project that installs it.

    Raises:
        CorpusError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise CorpusError(f"source.kind needs {module}; pip install 'sesame[{extra}]'") from None
