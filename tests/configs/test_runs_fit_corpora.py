"""Every run in configs/pretrain fits its corpus in configs/corpus: columns exist and rows are not too long."""

from pathlib import Path

import pytest

from sesame import configs
from sesame.data_pipeline.examples.segment import PAIRS
from sesame.data_pipeline.prepare import CorpusConfig
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.columns import COLUMNS
from sesame.pretrain.learner import build
from sesame.pretrain.models.family import Vocabulary

FOLDER = Path(configs.__file__).parent
CORPORA = {
    str(corpus.output): corpus
    for corpus in (configs.load(path, CorpusConfig) for path in sorted((FOLDER / "corpus").glob("*.toml")))
}
RUNS = sorted((FOLDER / "pretrain").glob("*.toml"))
WRITTEN = {
    "nothing": set(),
    "masked_tokens": {"mask_positions", "mask_labels"},
    "masked_words": {"mask_positions", "mask_labels"},
    "masked_ngrams": {"mask_positions", "mask_labels"},
    "masked_spans": {"target_tokens"},
}
"""``corrupt.kind`` -> columns that it adds."""


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_run_fits_its_corpus(path: Path) -> None:
    run = configs.load(path, RunConfig)
    corpus = CORPORA[run.data.dataset]
    learner = build(run.model, run.objectives, Vocabulary(corpus.tokenizer.vocabulary_size))
    written = {"tokens", "first_segment_length", *WRITTEN[corpus.corrupt.kind]}
    written |= {"pair_labels"} if corpus.segment.kind in PAIRS else set()
    assert {COLUMNS[name].source for name in learner.reads} <= written
    assert ("next_labels" in learner.reads) == (corpus.corrupt.kind == "nothing")
    assert corpus.segment.sequence_length <= (learner.backbone.positions or corpus.segment.sequence_length)


def test_every_family_has_a_small_configuration() -> None:
    small = {configs.load(path, RunConfig).model.family for path in RUNS if path.stem.endswith("_small")}
    assert {configs.load(path, RunConfig).model.family for path in RUNS} == small
