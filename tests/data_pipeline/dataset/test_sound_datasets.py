"""Verification accepts unusual but valid datasets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from sesame.data_pipeline.verification.verify import verify
from tests.data_pipeline.given_prose import prepared, prose

pytestmark = pytest.mark.usefixtures("in_process")

Write = Callable[..., Path]
TEXTS = [prose(1500, seed) for seed in range(12)]
NOTHING: dict[str, Any] = {"kind": "nothing"}


def compared(findings: list[str]) -> str:
    """Return the line about the compared texts."""
    return next(line for line in findings if line.startswith("text:"))


def test_cells_of_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"text": pa.array([text.encode() for text in TEXTS], pa.binary())}), path)
    source = {"kind": "parquet", "paths": [str(path)]}
    dataset = prepared(path, tmp_path / "made", "full_sentences", source=source, corrupt=NOTHING)
    assert "train documents" in compared(verify(dataset.path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_text_of_other_encodings(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n\n".join(TEXTS), encoding=encoding)
    source = {"kind": "text", "paths": [str(path)]}
    dataset = prepared(path, tmp_path / "made", "full_sentences", source=source, corrupt=NOTHING)
    assert "validation documents" in compared(verify(dataset.path))


@pytest.mark.parametrize("seed", range(2))
def test_a_fractional_weight_over_unequal_documents(seed: int, json_lines: Write, tmp_path: Path) -> None:
    path = json_lines([prose(60_000, 100 + seed), *TEXTS])
    source = {"weight": 2.5}
    verify(prepared(path, tmp_path / "made", "full_sentences", source=source, corrupt=NOTHING).path)


def test_a_last_sentence_that_comes_twice(json_lines: Write, tmp_path: Path) -> None:
    path = json_lines(" ".join(prose(260, 10 * seed + part) for part in range(3)) for seed in range(30))
    verify(prepared(path, tmp_path / "made", "sentence_order", corrupt=NOTHING).path)


def test_two_fields_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    rows = [{"title": prose(900, 50 + seed), "body": text} for seed, text in enumerate(TEXTS)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = [{"kind": "json_lines", "paths": [str(path)], "text_field": field} for field in ("title", "body")]
    values: Any = {"source": source, "corrupt": NOTHING}
    dataset = prepared_from(values, path, tmp_path / "made")
    assert dataset.manifest.documents["read"] == 2 * len(TEXTS)
    verify(dataset.path)


def prepared_from(values: dict[str, Any], path: Path, output: Path) -> Any:
    """A dataset of several sources."""
    from sesame.configs import parse
    from sesame.data_pipeline.dataset.shards import open_dataset
    from sesame.data_pipeline.prepare import CorpusConfig, prepare

    recipe = {
        "seed": 2,
        "output": str(output),
        "tokenizer": {"vocabulary_size": 150, "sample_megabytes": 0.05},
        "segment": {"kind": "full_sentences", "sequence_length": 128},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": 1},
        **values,
    }
    return open_dataset(prepare(parse(recipe, CorpusConfig, "the test's corpus"), output), verify=False)


def test_a_tokenizer_that_knows_few_of_the_characters(json_lines: Write, tmp_path: Path) -> None:
    known = prepared(json_lines(TEXTS), tmp_path / "known", "full_sentences", corrupt=NOTHING)
    greek = [text.translate({ord("e"): "\u03b5\u03be\u03c9", ord("a"): "\u03b1\u03b2"}) for text in TEXTS]
    model = {"model": str(known.tokenizer_path)}
    path = json_lines(greek, "greek.jsonl")
    dataset = prepared(path, tmp_path / "made", "full_sentences", tokenizer=model, corrupt=NOTHING)
    assert any("are unknown to the tokenizer, so how much" in line for line in verify(dataset.path))
