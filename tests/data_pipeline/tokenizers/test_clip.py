"""CLIP's vocabulary files, whose pieces mark the ends of words."""

import json
from pathlib import Path

import pytest

from sesame.configs.errors import ConfigError
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from tests.data_pipeline.given_texts import LETTERS, random_texts

CLIP = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "th", "the</w>", "<|startoftext|>", "<|endoftext|>"]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    folder = tmp_path / "clip"
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({piece: number for number, piece in enumerate(CLIP)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\nth e</w>\n", encoding="utf-8")
    return folder


def test_clips_files_give_clips_ids(clip: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers to compare with")
    theirs = transformers.CLIPTokenizer.from_pretrained(str(clip))
    ours = Tokenizer.load(clip)
    assert ours.special == (515, 515, 514, 515, None)
    texts = ["the cat", "The  the,the\nTHE's 12!", "\u4eca\u5929\u3002 caf\u00e9", *random_texts(300, 7)]
    for text in texts:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False), text
    ids = ours.encode("the hat the")
    assert ours.decode(ids) == "the hat the"
    assert ours.ends_word[ids].tolist() == [True, False, False, True, True]
    (clip / "vocab.json").write_text((clip / "vocab.json").read_text().replace("startof", "beginof"))
    with pytest.raises(ConfigError, match=r"clip: has pieces that end in '</w>' but is not CLIP's"):
        Tokenizer.load(clip)
