"""The tokenizer file of small checkpoints."""

from pathlib import Path

import pytest


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "tokenizer"
    path.write_bytes(b"pieces")
    return path
