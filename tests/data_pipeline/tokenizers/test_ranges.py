"""Characters that each token was made of."""

from pathlib import Path

import numpy as np
import pytest

from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.given_model import given_model
from sesame.data_pipeline.tokenizers.load_engine import load_engine
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer

TEXTS = (
    "The Café  ﬁne 東京タワー  naïve…",
    " 吾輩は猫である。\n名前は\tまだ無い①",
    "",
    " ",
    "Dr. Who's 3,000 e\u0301clairs\U0001f600!",
)
MODELS = (
    "albert-30k-spiece.model",
    "test_ja_model.model",
    "test_sentencepiece_bpe.model",
    "bert-base-uncased-vocab.txt",
    "bert-base-chinese-vocab.txt",
)


@pytest.mark.parametrize("name", MODELS)
def test_ids_are_those_of_encode_and_ranges_are_their_characters(name: str, shared: Path) -> None:
    path = str(shared / "vectors" / name)
    engine = load_engine(given_model(TokenizerConfig(model=path)), path)
    found = engine.encode_ranges(TEXTS)
    assert [ids for ids, _ in found] == engine.encode(TEXTS)
    for text, (ids, ranges) in zip(TEXTS, found, strict=True):
        starts, ends = np.array([*ranges, (len(text), len(text))]).T
        assert len(ranges) == len(ids) and (starts <= ends).all() and (np.diff(starts) >= 0).all()
        # Every character that is not white space is in the range of a token.
        covered = {place for start, end in ranges for place in range(start, end)}
        assert {place for place, character in enumerate(text) if not character.isspace()} <= covered
        # A piece is the normal form of its characters, unless several pieces are of one character or it is unknown.
        for token, (start, end) in zip(ids, ranges, strict=True):
            if engine.is_text(token) and ranges.count((start, end)) == 1 and end > start:
                piece = engine.piece(token).removeprefix("##").removeprefix("▁")
                normal = engine.normalize(text[start:end]).strip()
                assert piece.strip() in normal or normal in piece, (text[start:end], piece)


def test_a_tokenizer_gives_arrays(shared: Path) -> None:
    tokenizer = Tokenizer.load(shared / "vectors" / "bert-base-chinese-vocab.txt")
    [(ids, ranges), (_, empty)] = tokenizer.encode_ranges(["東京 Café", ""])
    assert [tokenizer.piece(token) for token in ids] == ["東", "京", "cafe"]
    assert ranges.tolist() == [[0, 1], [1, 2], [3, 7]] and empty.shape == (0, 2)
