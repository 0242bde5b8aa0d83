"""Several sources in one dataset, mixed by weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sesame.configs import dump, load, parse
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.data_pipeline.examples import balance
from sesame.data_pipeline.inspection.summary import by_source
from sesame.data_pipeline.prepare import CorpusConfig, prepare


def config(output: Path, sources: Any, workers: int = 2) -> CorpusConfig:
    values: dict[str, Any] = {
        "output": str(output),
        "seed": 3,
        "source": sources,
        "clean": {"minimum_characters": 0},
        "tokenizer": {"vocabulary_size": 300},
        "segment": {"kind": "full_sentences", "sequence_length": 48},
        "shards": {"rows_per_shard": 300, "validation_fraction": 0.1},
        "workers": {"count": workers},
    }
    return parse(values, CorpusConfig, "the test's corpus")


@pytest.fixture
def files(corpus: Path, tmp_path: Path) -> list[Path]:
    """The corpus in two files."""
    lines = [json.loads(line)["text"] for line in corpus.read_text(encoding="utf-8").splitlines()]
    paths = [tmp_path / "one.jsonl", tmp_path / "two.jsonl"]
    for path, texts in zip(paths, (lines[:150], lines[150:]), strict=True):
        path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return paths


def source(path: Path, **more: Any) -> dict[str, Any]:
    return {"kind": "json_lines", "paths": [str(path)], **more}


def test_weights_repeat_train_documents_but_not_validation_documents(
    files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(balance, "GROUP_CHARACTERS", 1)
    sources = [source(files[0], weight=2.5), source(files[1], weight=0.3)]
    made = []
    for count in (1, 3):
        output = prepare(config(tmp_path / f"workers-{count}", sources, count), tmp_path / f"workers-{count}")
        made.append({path.name: path.read_bytes() for path in output.iterdir() if path.name != "manifest.json"})
    assert made[0] == made[1]
    plain = prepare(config(tmp_path / "plain", [source(path) for path in files]), tmp_path / "plain")
    validation = [open_dataset(each, verify=True).documents_path.read_bytes() for each in (output, plain)]
    assert validation[0] == validation[1]
    again, once = (open_dataset(each, verify=True).split("validation").rows for each in (output, plain))
    assert again == pytest.approx(once, rel=0.1), "validation documents are used once"
    manifest = open_dataset(output, verify=True).manifest
    ((_, kind, weight), (first, characters)), ((_, _, lighter), (second, _)) = by_source(manifest).items()
    assert (kind, weight, lighter) == ("json_lines", 2.5, 0.3)
    assert first == 150 and 30 < second < 75 and characters > 0
    counts = manifest.documents
    assert counts["read"] == 300 == first + second + counts["dropped: beyond the weight"]
    assert first + second == counts["kept for training"] + counts["held out"]
    ratio = manifest.splits["train"].tokens / open_dataset(plain, verify=True).manifest.splits["train"].tokens
    assert ratio == pytest.approx((2.5 + 0.3) / 2, rel=0.1)


def test_each_pass_has_new_masks(files: list[Path], tmp_path: Path) -> None:
    output = prepare(config(tmp_path / "twice", source(files[0], weight=2.0)), tmp_path / "twice")
    rows = open_dataset(output, verify=True).split("train")
    columns = rows.take(np.arange(rows.rows))
    tokens: Any = columns["tokens"]
    documents = np.asarray(columns["document"])  # type: ignore[arg-type]
    mine = np.flatnonzero(documents == documents[0])
    found = [tuple(tokens.values[tokens.offsets[row] : tokens.offsets[row + 1]]) for row in mine]
    assert len(found) > 1 and len(set(found)) == len(found)


def test_a_table_equals_an_array_of_one_table(tmp_path: Path) -> None:
    one = config(tmp_path, source(tmp_path / "a"))
    assert one == config(tmp_path, [source(tmp_path / "a")])
    assert parse(dump(one), CorpusConfig, "dump") == one
    assert [each.weight for each in one.source] == [1.0]


ONE = 'output = "o"\n[source]\nkind = "text"\n'
TWO = 'output = "o"\n[[source]]\nkind = "text"\n[[source]]\nkind = "lines"\n'


@pytest.mark.parametrize(
    ("written", "override", "sentence"),
    [
        (ONE, "source.colour=red", "unknown key 'source.colour'; known there: kind, paths"),
        (ONE, "source.weight=0", r"'source.weight' = 0: input should be greater than 0"),
        (TWO, "source.1.colour=red", r"unknown key 'source.1.colour'; known there: kind, paths"),
        (TWO, "source.kind=text", r"needs the number of a table \(0 to 1\) in place of 'kind'"),
        (TWO, "source.2.kind=text", r"needs the number of a table \(0 to 1\) in place of '2'"),
    ],
)
def test_invalid_source_settings_are_rejected(tmp_path: Path, written: str, override: str, sentence: str) -> None:
    (tmp_path / "a.toml").write_text(written)
    with pytest.raises(ConfigError, match=sentence):
        load(tmp_path / "a.toml", CorpusConfig, [override])


def test_a_source_is_overridden_by_its_index(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(TWO)
    assert load(tmp_path / "a.toml", CorpusConfig, ["source.1.weight=2.5"]).source[1].weight == 2.5
    (tmp_path / "b.toml").write_text(ONE)
    assert load(tmp_path / "b.toml", CorpusConfig, ["source.kind=lines"]).source[0].kind == "lines"
