"""Text of many scripts without sentence terminals: no text is lost, and pair labels are balanced."""

import json
import random
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from sesame.configs import parse
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.verification.verify import verify

SCRIPTS = {
    "Korean": ("\uac00\ub098\ub2e4\ub77c\ub9c8\ubc14\uc0ac", " "),
    "Hindi": ("\u0915\u093f \u0924\u094d\u0930 \u0928\u0940 \u092e\u0947\u0902 \u0932\u094b", " "),
    "Thai": ("\u0e01\u0e33 \u0e17\u0e35\u0e48 \u0e19\u0e49\u0e33 \u0e23\u0e31\u0e01", ""),
    "Chinese": ("\u4eca\u5929\u6c14\u5f88\u597d\u6211\u4eec\u53bb\u516c\u56ed", ""),
}
"""Syllables of invented words, and the separator between words."""


def documents(script: str, count: int = 60) -> list[str]:
    syllables, gap = SCRIPTS[script]
    each = syllables.split() if " " in syllables else [*syllables]
    draw = random.Random(script)
    lexicon = ["".join(draw.choices(each, k=draw.randint(1, 4))) for _ in range(200)]
    return [gap.join(draw.choices(lexicon, k=draw.randint(150, 400))) for _ in range(count)]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ("Thai", "next_sentence"),
        ("Korean", "next_sentence"),
        ("Hindi", "sentence_order"),
        ("Chinese", "full_sentences"),
    ],
)
def test_text_without_sentence_terminals_is_split_and_not_lost(
    script: str,
    kind: str,
    tmp_path: Path,
    in_process: None,
    json_lines: Callable[[Iterable[str]], Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    values = {
        "output": str(tmp_path / "dataset"),
        "seed": 1,
        "source": {"kind": "json_lines", "paths": [str(json_lines(documents(script)))]},
        "tokenizer": {"vocabulary_size": 300, "byte_fallback": True, "character_coverage": 1.0},
        "segment": {"kind": kind, "sequence_length": 64},
        "corrupt": {"kind": "masked_tokens"},
        "shards": {"validation_fraction": 0.1},
    }
    dataset = prepare(parse(values, CorpusConfig, "a.toml"), tmp_path / "dataset")
    shown = capsys.readouterr().out
    assert re.search(r"warning: (9[5-9]|100)\.\d% of the tokens are in sentences longer than a row", shown)
    assert shown.count("warning: ") == 1, shown
    (loss,) = [finding for finding in verify(dataset) if "of the train documents is in no row" in finding]
    assert re.match(r"loss: 0\.[0-3]%", loss), "only characters that are in no piece"
    manifest = json.loads((dataset / "manifest.json").read_text("utf-8"))
    assert manifest["text"].get("tokens in no row", 0) == 0
    assert kind == "full_sentences" or 0.4 < manifest["pair_share"] < 0.65
