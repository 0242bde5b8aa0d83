"""Training and answers of a decoder: against the pretraining objective, one sequence at a time, and transformers."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sesame.configs.errors import TaskError
from sesame.data_pipeline.ragged import Ragged
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.batches import pack_rows, with_targets
from sesame.evaluation.finetuning.decoder import Text, greedy, kind_of, likelihoods
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData, load_task
from sesame.evaluation.finetuning.finetune import TaskModel, answers, finetune, scores_of
from sesame.evaluation.finetuning.heads import head_of
from sesame.evaluation.finetuning.text_encoding import decoder_tokens
from sesame.evaluation.tasks import TASKS
from sesame.evaluation.tasks.text_forms import FORMS, as_text
from sesame.pretrain.data.packing import assemble
from sesame.pretrain.initialization import materialise, random_value
from sesame.pretrain.models import FAMILIES, parse_model
from sesame.pretrain.models.bert import Bert
from sesame.pretrain.models.family import Vocabulary, on_meta_device
from sesame.pretrain.objectives.span_corruption import SpanCorruption
from tests.evaluation.finetuning.made_tasks import SEED, by_the_engine

WORDS = (
    *("not", "_", "entailment", "rte"),
    *("a", "b", "c", "d", "z", "left", "cola", "sst2", "stsb", "sentence", "sentence1", "sentence2", ":", "."),
    *("positive", "negative", *map(str, range(10))),
)
SIZES = {"layers": 1, "decoder_layers": 1, "width": 32, "heads": 2, "head_width": 16, "feed_forward_width": 64}
MODELS = {
    "t5": {"family": "t5", **SIZES},
    "t5 untied": {"family": "t5", "tied": False, "gated": True, **SIZES},
    "switch": {"family": "switch", "experts": 2, "sparse_every": 1, "sequence_capacity": 64, **SIZES},
}
TRAINED = FinetuneConfig(
    form="text", learning_rate=3e-3, epochs=6, batch_size=16, sequence_length=32, precision="fp32", dropout=0.0,
    attention_dropout=0.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    path = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    path.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]) + "\n")
    return Tokenizer.load(path)


@pytest.fixture
def make(tokenizer: Tokenizer) -> Callable[[str], nn.Module]:
    def make_backbone(name: str) -> nn.Module:
        config = parse_model(MODELS[name], "the test")
        with on_meta_device():
            module = FAMILIES[config.family].module(config, Vocabulary(len(tokenizer)))
        draw = random_value(1, config.init_std)
        materialise(module, lambda each, parameter: draw(each, parameter.shape))
        return module

    return make_backbone


def _task_data(tmp_path: Path, tokenizer: Tokenizer) -> TaskData:
    """SST-2 of sentences of z, which are positive, and of a."""
    generator = np.random.default_rng(1)
    (tmp_path / "SST-2").mkdir()
    for split, rows in (("train", 160), ("dev", 40)):
        lines = ["sentence\tlabel"]
        for _ in range(rows):
            label = int(generator.integers(2))
            words = [*generator.choice(list("bcd"), int(generator.integers(1, 6))), "az"[label]]
            lines.append(f"{' '.join(generator.permutation(words))}\t{label}")
        (tmp_path / "SST-2" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return load_task(as_text(TASKS["SST-2"]), TRAINED, tmp_path, tokenizer, False)


@pytest.mark.parametrize("name", MODELS)
def test_the_loss_is_that_of_pretraining(
    name: str, make: Callable[[str], nn.Module], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """The sum of the span corruption objective over columns of a dataset, divided by the target tokens."""
    data = _task_data(tmp_path, tokenizer)
    train, backbone = data.train, make(name)
    assert train is not None and train.decoder_tokens is not None
    model = TaskModel(backbone, data.task, TRAINED).eval()
    rows = np.array([3, 1, 8, 5])
    found = model(pack_rows(train, rows))
    objective = SpanCorruption(backbone)  # pyright: ignore[reportArgumentType]
    objective.projection.weight = model.head.projection.weight  # pyright: ignore[reportAttributeAccessIssue]
    sequences = [train.tokens[row].astype(np.int64) for row in rows]
    targets = [train.decoder_tokens[row][1:].astype(np.int64) for row in rows]
    columns = {
        key: Ragged(np.concatenate(each), np.cumsum([0, *map(len, each)]))
        for key, each in (("tokens", sequences), ("target_tokens", targets))
    }
    batch = assemble(columns, ("decoder_tokens", "target_labels"), {}, start_token=tokenizer.special.pad)
    expected = objective(backbone(batch), batch) / sum(map(len, targets))
    torch.testing.assert_close(found, expected)


def _alone(model: TaskModel, tokens: np.ndarray, said: list[int]) -> torch.Tensor:
    """Log-probabilities of the tokens after each of ``said``, computed for one sequence with the whole model."""
    examples = EncodedExamples([tokens], np.array([len(tokens)]), np.array([0]), ["0"])
    batch = with_targets(pack_rows(examples, np.array([0])), [np.array([*said, 0])])
    encoded = model.backbone(batch)
    return model.head.projection(encoded.decoded_UD).log_softmax(-1)  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_answers_are_those_of_one_sequence_at_a_time(
    name: str, make: Callable[[str], nn.Module], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = _task_data(tmp_path, tokenizer)
    dev = data.dev[""]
    model = TaskModel(make(name), data.task, TRAINED).eval()
    # Larger weights, so that a model without training says different things.
    torch.manual_seed(1)
    for parameter in model.parameters():
        parameter += torch.randn_like(parameter)
    batch = pack_rows(dev, np.arange(12))
    encoded_TD = model.backbone(batch).hidden_TD
    found = greedy(model, batch, encoded_TD, tokenizer, 6)
    assert len({tuple(each) for each in found}) > 3
    end = tokenizer.special.sep
    for row in range(12):
        said = [tokenizer.special.pad]
        while len(said) < 7 and said[-1] != end:
            said.append(int(_alone(model, dev.tokens[row], said)[-1, : len(tokenizer)].argmax()))
        assert found[row] == [token for token in said[1:] if token != end]
    texts = [["positive", "negative z"], ["a b c"], ["left"] * 3] * 4
    candidates = [decoder_tokens(each, tokenizer) for each in texts]
    values = likelihoods(model, batch, encoded_TD, candidates)
    assert values.shape == (12, 3)
    for row, each in enumerate(candidates):
        for number in range(3):
            if number >= len(each):
                assert values[row, number] == -np.inf
                continue
            ids = each[number].tolist()
            log_p = _alone(model, dev.tokens[row], ids[:-1])
            expected = sum(float(log_p[place, token]) for place, token in enumerate(ids[1:]))
            assert values[row, number] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("name", "precision"), [("t5", "bf16"), ("switch", "fp32")])
def test_a_decoder_learns_its_words(
    name: str, precision: str, make: Callable[[str], nn.Module], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = _task_data(tmp_path, tokenizer)
    config = TRAINED.model_copy(update={"precision": precision})
    outcome = finetune(make(name), data, config, 1, torch.device("cpu"))
    assert set(outcome.dev[""]) == {"positive", "negative"}
    assert scores_of(data, outcome.dev)["accuracy"] > 0.9


@torch.no_grad()
def test_by_likelihood_every_answer_is_a_word(
    make: Callable[[str], nn.Module], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    data = _task_data(tmp_path, tokenizer)
    config = TRAINED.model_copy(update={"decoding": "likelihood"})
    kind, model = kind_of(data, config), TaskModel(make("t5"), data.task, config).eval()
    dev = data.dev[""]
    outputs = kind.predict(model, pack_rows(dev, np.arange(dev.rows)), dev, np.arange(dev.rows))
    assert outputs.shape == (dev.rows, 2) and np.isfinite(outputs).all()
    assert answers(data.task, dev, outputs).tolist() == outputs.argmax(1).tolist()
    said = kind_of(data, TRAINED).predict(model, pack_rows(dev, np.arange(dev.rows)), dev, np.arange(dev.rows))
    assert said.dtype.kind == "U" and said.shape == (dev.rows,)


@torch.no_grad()
def test_the_likeliest_entity_answers_record(
    make: Callable[[str], nn.Module], tmp_path: Path, tokenizer: Tokenizer
) -> None:
    text = "a b left. c d left."
    entities = [{"start": 0, "end": 2}, {"start": 10, "end": 12}, {"start": 10, "end": 10}]
    for split in ("train", "val"):
        query = {"idx": 0, "query": f"@placeholder not {split}", "answers": [{"text": "a b"}, {"text": "c d"}]}
        record = {"idx": 0, "passage": {"text": text, "entities": entities}, "qas": [query]}
        path = tmp_path / "ReCoRD" / f"{split}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(record) + "\n")
    config = TRAINED.model_copy(update={"decoding": "likelihood"})
    data = load_task(as_text(TASKS["ReCoRD"]), config, tmp_path, tokenizer, False)
    assert data.train is not None and data.train.rows == 2 and data.dev[""].rows == 1
    model = TaskModel(make("t5"), data.task, config).eval()
    dev = data.dev[""]
    kind = kind_of(data, config)
    assert len(kind.predict(model, pack_rows(data.train, np.array([0, 1])), data.train, np.array([0, 1]))) == 2
    [answer] = kind.predict(model, pack_rows(dev, np.array([0])), dev, np.array([0]))
    candidates = ["a b", "c", "c d"]
    values = []
    for candidate in candidates:
        [ids] = decoder_tokens([candidate], tokenizer)
        log_p = _alone(model, dev.tokens[0], ids[:-1].tolist())
        values.append(sum(float(log_p[place, token]) for place, token in enumerate(ids[1:].tolist())))
    assert answer == candidates[int(np.argmax(values))]
    assert answers(data.task, dev, np.array([answer])).tolist() == [answer]


def test_a_word_that_the_tokenizer_changes_is_still_that_word(tmp_path: Path, tokenizer: Tokenizer) -> None:
    """ "not_entailment" is three tokens, and "not _ entailment" when it is decoded; "True" and "False" are unknown."""
    for split in ("train", "dev"):
        (tmp_path / "RTE").mkdir(exist_ok=True)
        rows = [f"{split}{label}\tb\t{label}" for label in ("entailment", "not_entailment")]
        (tmp_path / "RTE" / f"{split}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *rows]) + "\n")
    data = load_task(as_text(TASKS["RTE"]), TRAINED, tmp_path, tokenizer, False)
    kind = kind_of(data, TRAINED)
    assert isinstance(kind, Text)
    ids = tokenizer.encode("not_entailment")
    assert tokenizer.decode(ids) != "not_entailment" and kind.text_of(ids) == "not_entailment"
    assert kind.text_of(ids[:1]) == "not"
    with pytest.raises(TaskError, match="the same tokens for several of the words False, True"):
        kind_of(replace(data, task=replace(data.task, text=FORMS["BoolQ"])), TRAINED)


def test_a_model_without_a_decoder_is_refused(make_backbone: Callable[[int], Bert]) -> None:
    task, backbone = as_text(TASKS["RTE"]), make_backbone(1)
    with pytest.raises(TaskError, match=r"RTE: finetune\.form 'text' needs a model with a decoder, T5 or Switch"):
        TaskModel(backbone, task, TRAINED)
    with pytest.raises(TaskError, match="needs a model with a decoder"):
        head_of(backbone, TRAINED, task)


def test_the_report_names_the_form(make: Callable[[str], nn.Module]) -> None:
    backbone, likely = make("t5"), TRAINED.model_copy(update={"decoding": "likelihood"})
    described = [
        head_of(backbone, config, as_text(TASKS[name]))  # pyright: ignore[reportArgumentType]
        for name, config in (("RTE", TRAINED), ("RTE", likely), ("WSC", likely))
    ]
    way = "decoder, text to text, "
    assert described == [f"{way}greedy decoding", f"{way}likelihood of the answers", f"{way}greedy decoding"]


@pytest.mark.parametrize("name", ["t5", "t5 untied"])
def test_the_engine_trains_a_decoder_as_one_process_does(name: str, tmp_path: Path, tokenizer: Tokenizer) -> None:
    data, config = _task_data(tmp_path, tokenizer), TRAINED.model_copy(update={"epochs": 1, "epsilon": 1e-3})
    model = parse_model(MODELS[name], "the test")
    with on_meta_device():
        one, other = (FAMILIES[model.family].module(model, Vocabulary(len(tokenizer))) for _ in range(2))
    draw = random_value(SEED, model.init_std)
    materialise(one, lambda each, parameter: draw(f"backbone.{each}", parameter.shape))
    alone = finetune(one, data, config, SEED, torch.device("cpu"))
    together, _ = by_the_engine(model, other, data, config, {"zero_stage": 1})
    np.testing.assert_allclose(together.losses, alone.losses, rtol=1e-5)
    assert together.dev[""].tolist() == alone.dev[""].tolist()
