"""Spans behind sentinels."""

import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sesame.configs import parse
from sesame.configs.errors import ConfigError
from sesame.data_pipeline.dataset.shards import Dataset, open_dataset
from sesame.data_pipeline.examples.corrupt import CorruptConfig
from sesame.data_pipeline.examples.spans import MaskedSpans, mask_spans
from sesame.data_pipeline.inspection.card import write_card
from sesame.data_pipeline.inspection.inspect import render
from sesame.data_pipeline.prepare import CorpusConfig, prepare
from sesame.data_pipeline.ragged import Columns, Ragged, boundaries
from sesame.data_pipeline.random_streams import generator
from sesame.data_pipeline.tokenizers.config import TokenizerConfig
from sesame.data_pipeline.tokenizers.sentencepiece_training import train
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.data_pipeline.verification.reference_tokenizer import ReferenceTokenizer
from sesame.data_pipeline.verification.row_checks import first_failure
from sesame.data_pipeline.verification.row_rules import RowRules
from sesame.data_pipeline.verification.verify import verify

CLS, SEP = 2, 3
SENTINELS = np.arange(5, 105)
ROWS = 3000


def examples(shortest: int = 1, longest: int = 510, rows: int = ROWS) -> Ragged:
    draw = np.random.default_rng(0)
    offsets = boundaries(draw.integers(shortest, longest + 1, rows) + 2)
    values = draw.integers(105, 1000, offsets[-1]).astype(np.uint16)
    values[offsets[:-1]], values[offsets[1:] - 1] = CLS, SEP
    return Ragged(values, offsets)


def masked(tokens: Ragged, seed: int = 1, **values: object) -> MaskedSpans:
    config = parse({"kind": "masked_spans", **values}, CorruptConfig, "a.toml")
    return mask_spans(tokens, config, SENTINELS, SEP, generator(seed, "a test"))


def rows(column: Ragged) -> list[list[int]]:
    return [row.tolist() for row in np.split(column.values, column.offsets[1:-1])]


def restored(shown: list[int], target: list[int], sentinels: np.ndarray = SENTINELS) -> list[int]:
    """A row with each sentinel replaced by what its target holds after it."""
    assert target[-1] == SEP
    spans: dict[int, list[int]] = {}
    open_span: list[int] = []
    for token in target[:-1]:
        if token in sentinels:
            assert token == sentinels[len(spans)], "in order, each once"
            spans[token] = open_span = []
        else:
            open_span.append(token)
    assert all(spans.values()), "no span is empty"
    assert [token for token in shown if token in sentinels] == list(spans)
    return [original for token in shown for original in spans.get(token, [token])]


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.5, 3.0), (0.15, 8.0), (0.9, 12.0), (0.15, 1.0)])
def test_inputs_and_targets_give_back_the_rows(density: float, mean: float) -> None:
    tokens = examples(rows=500)
    found = masked(tokens, mask_probability=density, mean_span_length=mean)
    pairs = zip(rows(found.tokens), rows(found.targets), strict=True)
    assert [restored(shown, target) for shown, target in pairs] == rows(tokens)
    assert found.tokens.values.dtype == found.targets.values.dtype == tokens.values.dtype
    assert np.array_equal(found.columns()["first_segment_length"], found.tokens.lengths)


@pytest.mark.parametrize(("density", "mean"), [(0.15, 3.0), (0.15, 5.0), (0.5, 4.0)])
def test_density_and_mean_length_are_as_asked(density: float, mean: float) -> None:
    tokens = examples(shortest=60)
    found = masked(tokens, mask_probability=density, mean_span_length=mean)
    spans = int(np.isin(found.targets.values, SENTINELS).sum())
    covered = len(found.targets.values) - spans - ROWS
    assert covered / (len(tokens.values) - 2 * ROWS) == pytest.approx(density, abs=0.005)
    assert covered / spans == pytest.approx(mean, rel=0.05)


def test_every_partition_is_equally_frequent() -> None:
    """Ten tokens, four masked in two spans: three ways to cut those and five to cut the rest, each as often."""
    count = 30_000
    tokens = Ragged(np.tile(np.array([CLS, *range(200, 210), SEP], np.uint16), count), np.arange(count + 1) * 12)
    found = masked(tokens, mask_probability=0.4, mean_span_length=2)
    ways = Counter(map(tuple, rows(found.targets)))
    assert len(ways) == 15
    assert max(abs(seen - count / 15) for seen in ways.values()) < 5 * (count / 15) ** 0.5


def test_a_row_of_one_token_is_masked_whole() -> None:
    found = masked(Ragged(np.array([CLS, 200, SEP], np.uint16), np.array([0, 3])))
    assert rows(found.tokens) == [[CLS, 5, SEP]] and rows(found.targets) == [[5, 200, SEP]]


def test_only_the_seed_decides() -> None:
    tokens = examples(rows=100)
    once, again, other = masked(tokens), masked(tokens), masked(tokens, seed=2)
    assert np.array_equal(once.targets.values, again.targets.values)
    assert np.array_equal(once.tokens.values, again.tokens.values)
    assert not np.array_equal(once.targets.values, other.targets.values)


def test_a_million_tokens_take_a_fraction_of_a_second() -> None:
    tokens = examples(rows=4000)
    begin = time.process_time()
    masked(tokens)
    assert len(tokens.values) / (time.process_time() - begin) > 2e6


def test_a_trained_model_has_the_sentinels_that_were_asked_for(sentences: list[str]) -> None:
    settings = TokenizerConfig(vocabulary_size=320, sentinels=12)
    tokenizer = Tokenizer.from_bytes(train(sentences, settings), "the test's tokenizer")
    assert [tokenizer.piece(token) for token in tokenizer.sentinels] == [f"<extra_id_{i}>" for i in range(12)]
    assert not np.isin(tokenizer.sentinels, tokenizer.ordinary).any()
    assert not np.isin(tokenizer.encode("<extra_id_3> is text"), tokenizer.sentinels).any()


def test_a_model_without_sentinels_has_none(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.sentinels) == 0


def test_too_few_sentinels_for_a_row_are_named() -> None:
    with pytest.raises(
        ConfigError, match=r"tokenizer.sentinels: the model has 100 .* segment.sequence_length .* 255 "
    ) as caught:
        masked(examples(shortest=510, rows=2), mask_probability=0.5, mean_span_length=1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("sections", "sentence"),
    [
        (
            {"segment": {"kind": "sentence_order"}},
            "masked_spans needs rows of one segment, but segment.kind sentence_order",
        ),
        ({"segment": {"kind": "contiguous"}}, "tokenizer.sentinels: the model has 0 sentinels, .* 6 masked spans"),
        ({"corrupt": {"kind": "masked_spans", "drawn": "each_epoch"}}, "masked_spans are drawn into the shards"),
    ],
)
def test_what_does_not_fit_spans_is_refused(sections: dict, sentence: str) -> None:
    values = {
        "output": "made",
        "source": {"kind": "text", "paths": ["x"]},
        "corrupt": {"kind": "masked_spans"},
        **sections,
    }
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse(values, CorpusConfig, "a.toml")
    assert "\n" not in str(caught.value)


def settings(corpus: Path, output: Path, workers: int = 1, **tokenizer: object) -> CorpusConfig:
    values = {
        "output": str(output),
        "seed": 1,
        "source": {"kind": "json_lines", "paths": [str(corpus)]},
        "tokenizer": {"vocabulary_size": 320, "sentinels": 8, **tokenizer},
        "segment": {"kind": "full_sentences", "sequence_length": 64},
        "corrupt": {"kind": "masked_spans"},
        "shards": {"validation_fraction": 0.1},
        "workers": {"count": workers},
    }
    return parse(values, CorpusConfig, "the test's corpus")


@pytest.fixture(scope="module")
def made(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small corpus with spans masked."""
    output = tmp_path_factory.mktemp("spans") / "dataset"
    return prepare(settings(corpus, output), output)


def test_the_bytes_of_spans_do_not_depend_on_the_number_of_workers(made: Path, corpus: Path, tmp_path: Path) -> None:
    other = prepare(settings(corpus, tmp_path / "made", workers=2), tmp_path / "made")
    assert open_dataset(other, verify=True).files() == open_dataset(made, verify=True).files()


def test_a_given_model_without_sentinels_is_refused(dataset: Path, corpus: Path, tmp_path: Path) -> None:
    model = str(open_dataset(dataset, verify=False).tokenizer_path)
    with pytest.raises(ConfigError, match=r"tokenizer.sentinels: the model has 0 sentinels") as caught:
        prepare(settings(corpus, tmp_path / "made", model=model), tmp_path / "made")
    assert "\n" not in str(caught.value) and not (tmp_path / "made").exists()


def test_a_dataset_of_spans_is_described_and_shown(made: Path) -> None:
    manifest = open_dataset(made, verify=True).manifest
    assert manifest.columns == ("tokens", "first_segment_length", "target_tokens", "document")
    assert manifest.masking["hidden_of_text"] == pytest.approx(0.15, abs=0.005)
    assert manifest.masking["mean_span_length"] == pytest.approx(3, rel=0.1)
    assert manifest.unigram_cross_entropy_validation
    line = next(line for line in verify(made) if line.startswith("spans"))
    assert "(recipe: 15.00%)" in line and "(recipe: 3.00)" in line
    console = Console(width=100)
    with console.capture() as shown:
        console.print(render(made, "train", 3))
    assert shown.get().count("target: <extra_id_0>") == 3
    assert "stands for a masked span" in shown.get()


def test_the_card_tells_shares_only(made: Path, tmp_path: Path) -> None:
    write_card(made, tmp_path / "card", verify(made))
    assert any(path.name == "masking.png" for path in (tmp_path / "card").iterdir())


def test_the_documents_are_in_the_rows_that_are_given_back(made: Path) -> None:
    opened = open_dataset(made, verify=False)
    tokenizer = Tokenizer.load(opened.tokenizer_path)
    text = opened.documents_path.read_text("utf-8").lower()
    columns = opened.split("validation").take(np.arange(20))
    for shown, target in zip(rows(ragged(columns, "tokens")), rows(ragged(columns, "target_tokens")), strict=True):
        assert tokenizer.decode(restored(shown, target, tokenizer.sentinels)[1:-1]) in text


def rules_of(dataset: Dataset) -> RowRules:
    manifest = dataset.manifest
    tokenizer = ReferenceTokenizer.load(dataset.tokenizer_path, manifest.tokenizer.special)
    documents = np.arange(manifest.documents["kept for training"], dtype=np.uint64)
    return RowRules.of(manifest, tokenizer, documents)


def ragged(columns: Columns, name: str) -> Ragged:
    column = columns[name]
    assert isinstance(column, Ragged)
    return column


@pytest.mark.parametrize(
    ("place", "token", "problem"),
    [
        (-1, 9, "does not end with"),
        (0, 6, "out of order"),
        (0, 300, "other sentinels than its target"),
        (1, 2, "has a special token in its target"),
        (1, 10_000, "has a special token in its target"),
        (-2, 5, "other sentinels than its target"),
    ],
)
def test_a_target_that_is_wrong_is_found(made: Path, place: int, token: int, problem: str) -> None:
    opened = open_dataset(made, verify=False)
    rules = rules_of(opened)
    columns = opened.split("train").take(np.arange(10))
    assert first_failure(columns, rules) is None
    targets = ragged(columns, "target_tokens")
    values = targets.values.copy()
    values[(targets.offsets[4] if place >= 0 else targets.offsets[5]) + place] = token
    found = first_failure({**columns, "target_tokens": Ragged(values, targets.offsets)}, rules)
    assert found is not None and found[0] == 4 and problem in found[1]


def test_rows_of_another_density_are_found(made: Path) -> None:
    opened = open_dataset(made, verify=False)
    rules = rules_of(opened)
    columns = opened.split("train").take(np.arange(10))
    for field, value, problem in (("mask_probability", 0.3, "of tokens"), ("mean_span_length", 1.0, "of spans")):
        found = first_failure(columns, rules._replace(corrupt={**rules.corrupt, field: value}))
        assert found is not None and problem in found[1]
