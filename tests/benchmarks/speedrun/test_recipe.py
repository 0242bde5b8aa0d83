"""Recipes: every shipped one makes complete configurations, and none may set what the rules set."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speedrun.options import HERE, SUITES
from benchmarks.speedrun.recipe import Recipe, load_recipe, with_key, write_toml
from benchmarks.speedrun.trainers import TRAINERS, Job, Limit
from benchmarks.speedrun.transformers_loop import Settings
from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.configs.shipped import FOLDER
from sesame.data_pipeline.config import CorpusConfig
from sesame.evaluation.config import EvaluationConfig
from sesame.evaluation.tasks import glue
from sesame.pretrain.config import RunConfig

SHIPPED = sorted((HERE / "recipes").glob("*.toml"))
MINIMAL: dict[str, Any] = {"about": "a test", "corpora": {"text": {}}, "pretrain": {}}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_recipe_is_complete(path: Path, tmp_path: Path) -> None:
    recipe = load_recipe(path)
    for values in recipe.corpora.values():
        source = {"kind": "json_lines", "paths": ["text.jsonl"]}
        configs.parse({**values, "output": "dataset", "source": source}, CorpusConfig, str(path))
    made = recipe.with_value(recipe.choose.values[0]) if recipe.choose else recipe
    if recipe.kind == "transformers":
        configs.parse(made.pretrain, Settings, str(path))
        return
    datasets = {name: tmp_path / name for name in recipe.corpora}
    TRAINERS["sesame"].commands(Job(made, datasets, tmp_path, 7, Limit(steps=1000)))
    run = configs.load(tmp_path / "run.toml", RunConfig)
    assert (run.seed, run.steps, run.data.dataset) == (7, 1000, str(next(iter(datasets.values()))))
    assert [stage.dataset for stage in run.data.stages] == [str(each) for each in [*datasets.values()][1:]]
    assert run.report.validate_every_steps == run.checkpoint.save_every_steps == 250


def test_the_shipped_files_have_the_recipe_that_they_name() -> None:
    recipe = load_recipe(HERE / "recipes" / "half_causal.toml")
    run, corpus = (tomllib.loads((FOLDER / room / "books.toml").read_text("utf-8")) for room in ("pretrain", "corpus"))
    assert "`half_causal`" in (FOLDER / "pretrain" / "books.toml").read_text("utf-8")
    assert run["model"] == recipe.pretrain["model"]
    for section, values in recipe.pretrain.items():
        assert values.items() <= run[section].items(), section
    # Rows without sentences have no shorter ones.
    corpus["segment"]["short_sequence_probability"] = 0.0
    for section, values in recipe.corpora["text"].items():
        assert values.items() <= corpus[section].items(), section


def test_a_short_run_ends_by_the_clock_and_a_counted_one_does_not(tmp_path: Path) -> None:
    recipe = load_recipe(HERE / "recipes" / "plain.toml")
    datasets = {"text": tmp_path / "dataset"}
    TRAINERS["sesame"].commands(Job(recipe, datasets, tmp_path, 1, Limit(minutes=0.5)))
    short = configs.load(tmp_path / "run.toml", RunConfig)
    assert (short.steps, short.stop.minutes) == (None, 0.5)
    TRAINERS["sesame"].commands(Job(recipe, datasets, tmp_path, 1, Limit(steps=50)))
    counted = configs.load(tmp_path / "run.toml", RunConfig)
    # At this pace a slow first step of a minute still promises more steps than there are.
    assert counted.steps == 50 and (counted.stop.minutes or 0) > 10_000 * 50


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pretrain": {"steps": 5}}, "pretrain.steps is set by the rules"),
        ({"pretrain": {"stop": {"minutes": 99}}}, "pretrain.stop is set by the rules"),
        ({"pretrain": {"data": {"dataset": "mine"}}}, "pretrain.data.dataset is the first of"),
        ({"corpora": {"text": {"source": {}}}}, "corpora.text.source is set by the rules"),
        (
            {"pretrain": {"data": {"stages": [{"at": 0.5, "dataset": "long"}]}}},
            "names 'long', but the corpora are text",
        ),
    ],
)
def test_what_the_rules_set_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        configs.parse({**MINIMAL, **changes}, Recipe, "recipe.toml")


def test_a_recipe_has_what_differs_from_its_base(tmp_path: Path) -> None:
    (tmp_path / "one.toml").write_text('about = "1"\n[corpora.text]\n[pretrain]\na = { b = 1, c = [1, 2] }\nd = 4\n')
    (tmp_path / "two.toml").write_text('base = "one"\nabout = "2"\nremove = ["pretrain.d"]\n[pretrain.a]\nc = [3]\n')
    (tmp_path / "three.toml").write_text('base = "two"\nremove = ["pretrain.a.x"]\n')
    assert load_recipe(tmp_path / "two.toml").pretrain == {"a": {"b": 1, "c": [3]}}
    assert load_recipe(tmp_path / "one.toml").pretrain == {"a": {"b": 1, "c": [1, 2]}, "d": 4}
    with pytest.raises(ConfigError, match=r"three.toml: 'remove' names pretrain\.a\.x, which its base does not have"):
        load_recipe(tmp_path / "three.toml")
    (tmp_path / "one.toml").write_text('base = "two"\n')
    with pytest.raises(ConfigError, match="is its own base"):
        load_recipe(tmp_path / "two.toml")


def test_a_configuration_is_written_as_it_is_read(tmp_path: Path) -> None:
    values = {
        "name": 'a "quoted" \\ name', "rate": 1e-12, "whole": 3, "is": True, "no": False,
        "table": {"inner": {"x": [1, 2.5]}, "empty": {}}, "stages": [{"at": 0.5, "dataset": "ä"}],
    }  # fmt: skip
    write_toml(tmp_path / "a.toml", values)
    assert tomllib.loads((tmp_path / "a.toml").read_text(encoding="utf-8")) == values


def test_a_choice_changes_one_setting_and_the_digest() -> None:
    recipe = configs.parse(
        {**MINIMAL, "pretrain": {"optimizer": {"name": "sgd"}}, "choose": {"key": "optimizer.rate", "values": [1, 2]}},
        Recipe,
        "recipe.toml",
    )
    one, two = (recipe.with_value(value) for value in (1, 2))
    assert one.pretrain == {"optimizer": {"name": "sgd", "rate": 1}} and one.digest != two.digest
    with pytest.raises(ConfigError, match="is not a table"):
        with_key({"optimizer": "sgd"}, "optimizer.rate", 1)


def test_the_evaluation_is_blimp_and_the_nine_tasks_of_glue() -> None:
    suites = [configs.load(path, EvaluationConfig) for path in sorted(SUITES.glob("*.toml"))]
    tasks = [task for suite in suites for task in suite.suite.tasks]
    assert sorted(tasks) == sorted(["BLiMP", *(task.name for task in glue.ROWS)])
    seeds = {task: len(suite.suite.seeds) for suite in suites for task in suite.suite.tasks}
    assert {seeds[task] for task in ("SST-2", "QQP", "MNLI", "QNLI")} == {3}
    assert {seeds[task] for task in ("CoLA", "MRPC", "STS-B", "RTE", "WNLI")} == {8}
    assert all(suite.settings(task).select == "last" for suite in suites for task in suite.suite.tasks)
