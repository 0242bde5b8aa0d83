"""What an evaluation computes again, and what it takes from the results in its folder."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest

from sesame.evaluation.evaluate import evaluate
from sesame.evaluation.tasks import TASKS
from sesame.pretrain import precision
from sesame.pretrain.models.bert import BertConfig
from sesame.pretrain.precision import Precision
from tests.evaluation.made_suite import Calls, report_without_times, suite_config


def test_existing_results_are_reused(calls: Calls, letters: Path, tmp_path: Path) -> None:
    evaluate(suite_config(letters), tmp_path / "out")
    before = json.loads((tmp_path / "out" / "report.json").read_text())
    calls.clear()
    evaluate(suite_config(letters), tmp_path / "out")
    after = json.loads((tmp_path / "out" / "report.json").read_text())
    assert calls == (["run"], []) and before["tasks"] == after["tasks"]
    evaluate(suite_config(letters, seeds=[1, 2, 3], baseline=False), tmp_path / "out")
    assert calls == (["run"] * 2, [None])


def test_other_data_or_settings_are_computed_again(calls: Calls, letters: Path, tmp_path: Path) -> None:
    config = suite_config(letters, baseline=False, seeds=[1])
    evaluate(config, tmp_path / "out")
    with (letters / "SST-2" / "dev.tsv").open("a") as file:
        file.write("zzzz zz\t1\n")
    calls.clear()
    evaluate(config, tmp_path / "out")
    other = config.model_copy(update={"finetune": config.finetune.model_copy(update={"weight_decay": 0.2})})
    evaluate(other, tmp_path / "out")
    assert calls == (["run"] * 2, [None] * 2)


def test_another_architecture_or_label_order_is_another_result(
    calls: Calls,
    architectures: dict[str, BertConfig],
    letters: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The weights of a model with 8 heads are those of a model with 2."""
    config = suite_config(letters, seeds=[1], baseline=False, predict_test=False)
    evaluate(config, tmp_path / "out")
    architectures["run"] = BertConfig(layers=1, width=32, heads=8, positions=64)
    calls.clear()
    evaluate(config, tmp_path / "out")
    assert calls == (["run"], [None])
    architectures["run"] = architectures["run"].model_copy(update={"activation": "relu"})
    evaluate(config, tmp_path / "out")
    assert calls == (["run"] * 2, [None] * 2)
    monkeypatch.setitem(TASKS, "SST-2", replace(TASKS["SST-2"], labels=("1", "0")))
    evaluate(config, tmp_path / "out")
    assert calls == (["run"] * 3, [None] * 3)


def test_results_depend_on_the_resolved_precision(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = suite_config(letters, baseline=False, seeds=[1])
    names: tuple[Literal["fp32", "bf16"], ...] = ("fp32", "bf16", "fp32")
    for name in names:
        available = Precision(name, "test")
        monkeypatch.setattr(precision, "of_device", lambda device, available=available: available)
        evaluate(config, tmp_path / "out")
        values = json.loads((tmp_path / "out" / "report.json").read_text())
        assert values["tasks"]["SST-2"]["settings"]["precision"] == name
    kept = {path.name for path in (tmp_path / "out" / "results").glob("*.json")}
    assert len([name for name in kept if not name.endswith(".test.json")]) == 2
    assert calls == (["run"] * 3, [None] * 2), "the third run reuses the results of the first"


def test_results_of_another_device_are_reused_with_a_note(calls: Calls, letters: Path, tmp_path: Path) -> None:
    config = suite_config(letters, seeds=[1], baseline=False, predict_test=False)
    evaluate(config, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())["tasks"]["SST-2"]
    assert not any("another device" in note for note in values["notes"])
    (path,) = (tmp_path / "out" / "results").glob("*.json")
    result = json.loads(path.read_text())
    assert result["device"] == "cpu"
    path.write_text(json.dumps({**result, "device": "NVIDIA A"}))
    evaluate(config, tmp_path / "out")
    assert calls.seeds == [None], "the second evaluation computes nothing"
    note = "1 of 1 results are of another device: NVIDIA A"
    assert note in json.loads((tmp_path / "out" / "report.json").read_text())["tasks"]["SST-2"]["notes"]
    assert note in (tmp_path / "out" / "report.md").read_text(encoding="utf-8")


def test_a_damaged_result_is_computed_again(calls: Calls, letters: Path, tmp_path: Path) -> None:
    config = suite_config(letters, seeds=[1], baseline=False, predict_test=False)
    evaluate(config, tmp_path / "out")
    [text], [arrays] = ([*(tmp_path / "out" / "results").glob(f"*.{ending}")] for ending in ("json", "npz"))
    for path, damaged in ((text, b'{"key": "'), (text, b"[]"), (arrays, arrays.read_bytes()[:-9])):
        path.write_bytes(damaged)
        calls.clear()
        evaluate(config, tmp_path / "out")
        assert calls == (["run"], [None]) and json.loads(text.read_text())["scores"]["accuracy"] > 0.9


def test_an_added_metric_is_computed_from_the_kept_outputs(
    calls: Calls, letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = suite_config(letters, seeds=[1], baseline=False)
    evaluate(config, tmp_path / "out")
    monkeypatch.setitem(TASKS, "SST-2", replace(TASKS["SST-2"], metrics=("accuracy", "f1")))
    calls.clear()
    evaluate(config, tmp_path / "out")
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert calls == (["run"], []) and values["tasks"]["SST-2"]["metrics"]["f1"]["pretrained"]["median"] > 90


def test_test_predictions_are_kept_apart(calls: Calls, letters: Path, tmp_path: Path) -> None:
    """Asking for them fine-tunes one model again and no other; asking again, none."""
    out = tmp_path / "out"
    evaluate(suite_config(letters, predict_test=False), out)
    assert not (out / "predictions").exists()
    calls.clear()
    evaluate(suite_config(letters), out)
    assert calls == (["run"], [None])
    predictions = (out / "predictions" / "SST-2.tsv").read_text()
    (out / "predictions" / "SST-2.tsv").write_text("of another checkpoint")
    evaluate(suite_config(letters), out)
    assert calls == (["run"] * 2, [None]) and (out / "predictions" / "SST-2.tsv").read_text() == predictions


def test_predictions_are_of_the_last_checkpoint_only(calls: Calls, letters: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    config = suite_config(letters, seeds=[1], baseline=False)
    evaluate(config, out)
    (out / "predictions" / "WNLI.tsv").write_text("of another checkpoint")
    (out / "GLUE.zip").write_text("of another checkpoint")
    evaluate(config.model_copy(update={"checkpoint": Path("other")}), out)
    assert [path.name for path in (out / "predictions").iterdir()] == ["SST-2.tsv"]
    assert not (out / "GLUE.zip").exists() and len([*(out / "results").glob("*.test.npz")]) == 2
    assert "No GLUE.zip: SST-2.tsv, has 20 rows" in (out / "report.md").read_text()
    assert "; gluebenchmark.com also requires CoLA.tsv" in (out / "report.md").read_text()


def test_two_checkpoints_and_two_suites_in_one_folder_are_not_mixed(
    calls: Calls, letters: Path, tmp_path: Path
) -> None:
    """Each report in a folder of all of them is the one in a folder of its own; the second time nothing is computed."""

    def contents(folder: Path) -> Any:
        predictions = {path.name: path.read_text() for path in sorted((folder / "predictions").iterdir())}
        return report_without_times(folder), predictions

    short = {"epochs": 1, "pooling": "first"}
    suites = [suite_config(letters, seeds=[1]), suite_config(letters, seeds=[1, 2])]
    suites[1] = suites[1].model_copy(update={"finetune": suites[1].finetune.model_copy(update=short)})
    runs = [suite.model_copy(update={"checkpoint": Path(name)}) for suite in suites for name in ("run", "other")]
    for number, run in enumerate(runs):
        evaluate(run, tmp_path / str(number))
    assert len({json.dumps(contents(tmp_path / str(number))) for number in range(4)}) == 4
    for _ in range(2):
        calls.clear()
        for number, run in enumerate(runs):
            evaluate(run, tmp_path / "shared")
            assert contents(tmp_path / "shared") == contents(tmp_path / str(number))
    assert calls == (["run", "other"] * 2, [])
