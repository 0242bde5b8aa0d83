"""transformers' own reading of a tokenizer folder."""

import json
from pathlib import Path
from typing import Any

import pytest


def auto_tokenizer(path: Path, model_type: str) -> Any:
    """Load AutoTokenizer from a folder with tokenizer and ``config.json``."""
    transformers = pytest.importorskip("transformers", reason="needs transformers to load what was written")
    (path / "config.json").write_text(json.dumps({"model_type": model_type}))
    return transformers.AutoTokenizer.from_pretrained(str(path))
