"""The shipped protocols against values typed from the papers and the published code; and how they are checked."""

from pathlib import Path
from typing import Any

import pytest

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import FOLDER
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.tasks.suites import SUITES

PLAIN = ["CoLA", "SST-2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE"]
STARTED = ["CoLA", "SST-2", "QQP", "MNLI", "QNLI", "MRPC-from-MNLI", "STS-B-from-MNLI", "RTE-from-MNLI"]
# learning rate, batch size, steps, warm-up steps
ROBERTA = {
    "CoLA": (1e-5, 16, 5336, 320),
    "SST-2": (1e-5, 32, 20935, 1256),
    "MRPC": (1e-5, 16, 2296, 137),
    "STS-B": (2e-5, 16, 3598, 214),
    "QQP": (1e-5, 32, 113272, 28318),
    "MNLI": (1e-5, 32, 123873, 7432),
    "QNLI": (1e-5, 32, 33112, 1986),
    "RTE": (2e-5, 16, 2036, 122),
}
ALBERT = {
    "CoLA": (1e-5, 16, 5336, 320),
    "SST-2": (1e-5, 32, 20935, 1256),
    "MRPC": (2e-5, 32, 800, 200),
    "STS-B": (2e-5, 16, 3598, 214),
    "QQP": (5e-5, 128, 14000, 1000),
    "MNLI": (3e-5, 128, 10000, 1000),
    "QNLI": (1e-5, 32, 33112, 1986),
    "RTE": (3e-5, 32, 800, 200),
}
# learning rate, batch size, epochs, weight decay
MOSAICBERT = {
    "CoLA": (5e-5, 32, 10, 5e-6),
    "SST-2": (3e-5, 16, 3, 3e-6),
    "MRPC-from-MNLI": (8e-5, 32, 10, 8e-6),
    "STS-B-from-MNLI": (3e-5, 32, 10, 3e-6),
    "QQP": (3e-5, 16, 5, 3e-6),
    "MNLI": (5e-5, 48, 3, 5e-6),
    "QNLI": (1e-5, 16, 10, 1e-6),
    "RTE-from-MNLI": (1e-5, 16, 3, 1e-5),
}
MODERNBERT = {
    "CoLA": (8e-5, 64, 5, 1e-6),
    "SST-2": (8e-5, 64, 2, 1e-5),
    "MRPC-from-MNLI": (5e-5, 64, 10, 5e-6),
    "STS-B-from-MNLI": (8e-5, 64, 10, 5e-6),
    "QQP": (5e-5, 64, 10, 5e-6),
    "MNLI": (5e-5, 64, 1, 5e-6),
    "QNLI": (8e-5, 64, 2, 5e-6),
    "RTE-from-MNLI": (5e-5, 64, 3, 1e-5),
}
BY_STEPS = ("learning_rate", "batch_size", "steps", "warmup_steps")
BY_EPOCHS = ("learning_rate", "batch_size", "epochs", "weight_decay")
BERT_ADAM = {"betas": (0.9, 0.999), "epsilon": 1e-6, "weight_decay": 0.01, "gradient_clipping": 1.0, "decay": "linear"}
COMPOSER = {
    "betas": (0.9, 0.98),
    "epsilon": 1e-6,
    "weight_decay_times": "schedule",
    "decay_vectors": True,
    "warmup_fraction": 0.06,
    "decay": "linear",
    "gradient_clipping": 0.0,
    "sequence_length": 256,
}
EVERY: dict[str, dict[str, Any]] = {
    "bert": {
        **BERT_ADAM,
        "batch_size": 32,
        "epochs": 3,
        "warmup_fraction": 0.1,
        "dropout": 0.1,
        "sequence_length": 128,
    },
    "roberta": {
        "betas": (0.9, 0.98),
        "epsilon": 1e-6,
        "weight_decay": 0.1,
        "decay_vectors": True,
        "gradient_clipping": 0.0,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "sequence_length": 512,
    },
    "albert": {**BERT_ADAM, "dropout": 0.0, "attention_dropout": 0.0, "head_dropout": 0.1, "sequence_length": 512},
    "mosaicbert": {**COMPOSER, "dropout": 0.1},
    "modernbert": {**COMPOSER, "dropout": 0.0, "pooling": "mean"},
    "cramming": {
        "learning_rate": 4e-5,
        "batch_size": 16,
        "epochs": 5,
        "warmup_fraction": 0.1,
        "decay": "cosine",
        "betas": (0.9, 0.98),
        "weight_decay": 0.0,
        "gradient_clipping": 0.0,
        "sequence_length": 128,
    },
}


def _protocol(name: str) -> EvaluationConfig:
    return configs.load(FOLDER / "evaluation" / f"glue_{name}.toml", EvaluationConfig)


@pytest.mark.parametrize(
    ("name", "fields", "rows"),
    [
        ("roberta", BY_STEPS, ROBERTA),
        ("albert", BY_STEPS, ALBERT),
        ("mosaicbert", BY_EPOCHS, MOSAICBERT),
        ("modernbert", BY_EPOCHS, MODERNBERT),
    ],
)
def test_each_task_has_the_published_values(name: str, fields: tuple[str, ...], rows: dict[str, tuple]) -> None:
    config = _protocol(name)
    assert set(config.suite.tasks) == set(rows) and len(config.suite.tasks) == 8
    for task, values in rows.items():
        settings = config.settings(task)
        assert tuple(getattr(settings, field) for field in fields) == values, task


@pytest.mark.parametrize("name", EVERY)
def test_all_tasks_have_the_published_values(name: str) -> None:
    config = _protocol(name)
    for task in config.suite.tasks:
        settings = config.settings(task)
        assert {field: getattr(settings, field) for field in EVERY[name]} == EVERY[name], task
    assert config.protocol is not None and config.protocol.name.lower() == name and config.protocol.source
    assert len(config.suite.seeds) == 5
    assert config.suite.statistic == ("mean" if name in ("mosaicbert", "modernbert") else "median")
    assert set(config.suite.tasks) == set(STARTED if name in ("mosaicbert", "modernbert") else PLAIN)


@pytest.mark.parametrize("name", EVERY)
def test_all_tasks_are_predicted(name: str) -> None:
    """Also those that start from MNLI; WNLI is in no protocol."""
    config = _protocol(name)
    table = config.task_table()
    files = [file for task in config.suite.tasks for file in table[task].prediction_files]
    assert sorted([*files, "WNLI.tsv"]) == sorted(SUITES["GLUE"].required)


def test_berts_search_is_over_four_learning_rates() -> None:
    search = _protocol("bert").search
    assert search is not None and search.validation_fraction == 0.1
    assert search.grid("RTE") == [{"learning_rate": rate} for rate in (5e-5, 4e-5, 3e-5, 2e-5)]


@pytest.mark.parametrize("name", EVERY)
def test_every_value_has_its_source(name: str) -> None:
    """A comment on the line, or above the tables of the tasks, whose values are all from one place."""
    text = (FOLDER / "evaluation" / f"glue_{name}.toml").read_text(encoding="utf-8")
    ours = ("pooling", "precision", "select", "seeds", "validation_fraction")
    common, tasks, _ = text.partition("\n[tasks.")
    settings = common.partition("\n[search]" if "\n[search]" in common else "\n[finetune]")[2].splitlines()
    values = [line for line in settings if " = " in line and not line.startswith("#")]
    assert len(values) > 8 and not [line for line in values if "#" not in line and line.split(" = ")[0] not in ours]
    assert not tasks or common.rstrip().splitlines()[-1].startswith("# ")


def _parse(**values: Any) -> EvaluationConfig:
    return configs.parse({"suite": {"tasks": ["RTE", "RTE-from-MNLI"]}, **values}, EvaluationConfig, "suite.toml")


def test_a_mean_of_both_kinds_of_a_task_is_refused() -> None:
    with pytest.raises(ConfigError, match="RTE both plain and started from another task"):
        _parse(suite={"tasks": ["RTE", "RTE-from-MNLI"], "mean_over": ["RTE", "RTE-from-MNLI"]})


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({}, "search has no values to try"),
        ({"learning_rate": [0.0]}, r"learning_rate.*greater than 0"),
        ({"tasks": {"RTEE": {"epochs": [1]}}, "epochs": [1]}, "unknown task 'RTEE'"),
        ({"epochs": [1], "dropout": [0.1]}, "unknown key 'search.dropout'"),
    ],
)
def test_a_search_that_cannot_be_is_refused(search: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _parse(search=search)


def test_a_grid_has_all_combinations_and_a_tasks_own_values() -> None:
    search = (
        _parse(search={"learning_rate": [1e-5, 3e-5], "epochs": [1, 2], "tasks": {"RTE": {"epochs": [10]}}})
        .with_precision("fp32")
        .search
    )
    assert search is not None
    assert search.grid("MNLI") == [{"learning_rate": rate, "epochs": e} for rate in (1e-5, 3e-5) for e in (1, 2)]
    assert search.grid("RTE") == [{"learning_rate": 1e-5, "epochs": 10}, {"learning_rate": 3e-5, "epochs": 10}]


def test_no_shipped_mean_mixes_kinds() -> None:
    for path in sorted(Path(FOLDER, "evaluation").glob("*.toml")):
        config = configs.load(path, EvaluationConfig)
        table = config.task_table()
        plain = [table[name].plain_name for name in config.suite.mean_over or config.suite.tasks]
        assert len(set(plain)) == len(plain), path.name
