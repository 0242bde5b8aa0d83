"""The settings of a resumed run are compared with its checkpoint, and it neither skips nor repeats a row."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import CheckpointError, ConfigError, TrainingError
from sesame.configs.kinds import kind_of
from sesame.data_pipeline.dataset.shards import open_dataset
from sesame.pretrain import settings_table
from sesame.pretrain.checkpoints import record
from sesame.pretrain.checkpoints.load import latest, open_checkpoint
from sesame.pretrain.config import RunConfig
from sesame.pretrain.data.batches import Batches, DataRank, Start
from sesame.pretrain.data.config import DataConfig
from sesame.pretrain.parallel.config import ParallelConfig
from sesame.pretrain.parallel.mesh import Mesh
from sesame.pretrain.train import Run, train
from tests.pretrain.checkpoints.records import as_format_1

Settings = Callable[..., dict[str, Any]]


def test_every_setting_has_a_kind() -> None:
    without = [key for key, field in settings_table.all_settings() if kind_of(field) is None]
    assert not without, "write Fixed[...], Free[...] or Derived[...] of configs/kinds.py around their types"


def test_the_table_is_up_to_date() -> None:
    page = Path(__file__).parents[3] / "docs" / "resume.md"
    assert page.read_text(encoding="utf-8") == settings_table.table(), (
        "generate it: python -m sesame.pretrain.settings_table > docs/resume.md"
    )


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The settings of a finished run of two steps."""
    values = {
        "output": str(tmp_path_factory.mktemp("trained") / "run"),
        "steps": 2,
        "data": {"dataset": str(dataset), "global_batch": 8},
        "model": {"family": "bert", "layers": 1, "width": 16, "heads": 2, "feed_forward_width": 32, "positions": 64},
        "objectives": {"masked_lm": 1.0},
        "optimizer": {"learning_rate": 1e-3},
        "schedule": {"decay": "constant"},
        "parallel": {"precision": "fp32", "threads": 1},
        "report": {"validation_rows": 8, "tensorboard": False},
    }
    resume(values)
    return values


def resume(values: dict[str, Any]) -> record.Record:
    return record.read(train(configs.parse(values, RunConfig, "run.toml")))


def changed(values: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    section, _, name = key.rpartition(".")
    return {**values, section: {**values.get(section, {}), name: value}} if section else {**values, name: value}


REFUSED: dict[str, Any] = {
    "seed": 2,
    "data.global_batch": 16,
    "model.heads": 4,
    "model.activation": "relu",
    "model.positions": 63,
    "model.local_window": 4,
    "model.norm_placement": "pre",
    "optimizer.name": "lamb",
    "objectives.masked_lm": 2.0,
    "objectives.sentence_pairs": 1.0,
}


@pytest.mark.parametrize("key", REFUSED)
def test_a_changed_fixed_setting_is_refused(key: str, copied: dict[str, Any]) -> None:
    setting = "objectives" if key.startswith("objectives") else key
    before = sorted(Path(copied["output"]).rglob("*"))
    with pytest.raises(CheckpointError) as caught:
        resume(changed(copied, key, REFUSED[key]))
    message = str(caught.value)
    assert f"its checkpoint: {setting} " in message and "--set initial_checkpoint=" in message
    assert f"--set 'resume.accept=[\"{setting}\"]'" in message
    assert sorted(Path(copied["output"]).rglob("*")) == before


def test_another_family_is_reported_as_one_difference(copied: dict[str, Any]) -> None:
    copied["model"] = {"family": "albert", "layers": 1, "width": 16, "heads": 2, "positions": 64}
    with pytest.raises(CheckpointError, match=r"checkpoint: model\.family bert -> albert; change them back"):
        resume(copied)


def test_changes_of_free_settings_are_logged_and_recorded(
    copied: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    copied["optimizer"] = {"learning_rate": 2e-3, "betas": [0.8, 0.9]}
    copied["model"] = {**copied["model"], "dropout": 0.0}
    resumed = resume(copied)
    line = (
        "changed since the checkpoint: steps 2 -> 3, model.dropout 0.1 -> 0.0, optimizer.learning_rate 0.001 -> 0.002"
    )
    assert line in capsys.readouterr().out
    assert ("optimizer.betas", [0.9, 0.999], [0.8, 0.9]) in [(e.key, e.before, e.after) for e in resumed.changes]
    again = resume(copied | {"steps": 4})
    assert len(again.changes) == len(resumed.changes) + 1, "changes of earlier resumes are kept"


def test_a_table_that_is_added_or_removed_is_recorded(copied: dict[str, Any]) -> None:
    table = {"at": [0.0], "values": [8.0]}
    added = resume(changed(copied, "schedule.global_batch", table))
    changes = {each.key: (each.before, each.after) for each in added.changes}
    assert changes["schedule.global_batch.at"] == (None, [0.0])
    assert changes["schedule.global_batch.values"] == (None, [8.0])
    removed = resume(copied | {"steps": 4}).changes[len(added.changes) :]
    assert [(each.key, each.after) for each in removed if each.key.startswith("schedule")] == [
        ("schedule.global_batch", None)
    ]


def test_accepted_changes_are_recorded(copied: dict[str, Any]) -> None:
    wider = changed(copied, "data.global_batch", 16) | {"resume": {"accept": ["data.global_batch"]}}
    resumed = resume(wider)
    assert resumed.samples == 2 * 8 + 16
    assert [(e.step, e.before, e.after) for e in resumed.changes if e.key == "data.global_batch"] == [(2, 8, 16)]
    assert resumed.config["resume"] == {"accept": ["data.global_batch"]}
    assert resume(changed(copied, "data.global_batch", 16) | {"steps": 4}).samples == 48, "accepting once is enough"
    with pytest.raises(CheckpointError, match=r"data\.global_batch 16 -> 8"):
        resume(copied | {"steps": 5})


@pytest.mark.parametrize("key", ["data.globalbatch", "optimizer.learning_rate", "", "model"])
def test_only_fixed_settings_can_be_accepted(key: str, copied: dict[str, Any]) -> None:
    with pytest.raises(
        ConfigError, match=f"accept names '{key}', which is not a setting that must stay the same; those are seed"
    ):
        resume(copied | {"resume": {"accept": [key]}})


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_run_that_diverges_stops_and_saves_nothing(name: str, copied: dict[str, Any]) -> None:
    """The last usable checkpoint stays, and a run with a lower learning rate resumes from it."""
    output = Path(copied["output"])
    if name == "sgd":
        shutil.rmtree(output)
        resume(copied | {"optimizer": {"name": "sgd", "learning_rate": 1e-3}, "steps": 2})
    before = {path: path.read_bytes() for path in (output / "checkpoints").rglob("*") if path.is_file()}
    diverging = {
        "optimizer": {"name": name, "learning_rate": 1e30, "gradient_clipping": 0.0},
        "steps": 14,
        "checkpoint": {"save_every_steps": 1, "keep": 1},
    }
    with pytest.raises(
        TrainingError, match=r"step 4: .*(nan|inf).*training has diverged.*is now .*step-00000003.diverged-1"
    ):
        resume(copied | diverging)
    after = {path: path.read_bytes() for path in (output / "checkpoints").rglob("*") if path.is_file()}
    assert after.items() >= before.items()
    assert "step-00000003.diverged-1" in [path.name for path in (output / "checkpoints").iterdir()]
    assert all(torch.isfinite(value).all() for value in weights(output).values())
    for line in (output / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda name: pytest.fail(name))
    resume(copied | {"optimizer": {"name": name, "learning_rate": 1e-4}, "steps": 5})


def weights(output: Path) -> dict[str, torch.Tensor]:
    folder = latest(output)
    assert folder is not None
    tensors = open_checkpoint(folder).tensors("weights")
    return {name: tensors.whole(name) for name in tensors.shapes}


def test_a_dataset_may_be_moved(copied: dict[str, Any], tmp_path: Path) -> None:
    shutil.copytree(copied["data"]["dataset"], tmp_path / "moved")
    resumed = resume(changed(copied, "data.dataset", str(tmp_path / "moved")))
    assert resumed.samples == 24 and resumed.dataset_first_sample == 0


def test_other_rows_in_the_same_folder_are_refused(
    copied: dict[str, Any], tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sesame.pretrain.checkpoints.resume.fingerprint", lambda dataset: "other rows")
    with pytest.raises(CheckpointError, match=r"data\.dataset .* has other rows; change them back"):
        resume(copied)
    resumed = resume(copied | {"resume": {"accept": ["data.dataset"]}})
    assert resumed.dataset_first_sample == 16 and resumed.samples == 24


def test_another_order_starts_at_its_first_row(copied: dict[str, Any]) -> None:
    resumed = resume(copied | {"seed": 2, "resume": {"accept": ["seed"]}})
    assert resumed.dataset_first_sample == 16 and resumed.samples == 24


def test_a_confirmed_checkpoint_keeps_its_name(copied: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    steps, train_step = [], Run.train_step

    def diverging(run: Run) -> Any:
        metrics = train_step(run)
        steps.append(run.step)
        return metrics._replace(gradient_norm=-1.0) if run.step == 6 else metrics

    monkeypatch.setattr(Run, "train_step", diverging)
    with pytest.raises(TrainingError, match="step 6") as caught:
        resume(copied | {"steps": 9, "checkpoint": {"save_every_steps": 3}})
    assert steps == [3, 4, 5, 6] and "is now" not in str(caught.value)
    newest = latest(Path(copied["output"]))
    assert newest is not None and newest.name == "step-00000003"


def test_a_checkpoint_of_format_1_is_resumed(copied: dict[str, Any]) -> None:
    folder = latest(Path(copied["output"]))
    assert folder is not None
    as_format_1(folder)
    with pytest.raises(CheckpointError, match=r"data\.global_batch 8 -> 4"):
        resume(changed(copied, "data.global_batch", 4))
    resumed = resume(copied)
    assert resumed.step == 3 and resumed.samples == 24 and resumed.format_version == record.FORMAT_VERSION


def test_another_dataset_is_read_from_its_first_row(copied: dict[str, Any], datasets: Callable[[str], Path]) -> None:
    """Its position is counted from its first row, however often the run is resumed."""
    folder = Path(copied["data"]["dataset"])
    other = Path(copied["output"]).with_name("other")
    shutil.copytree(folder, other)
    values = json.loads((other / "manifest.json").read_text())
    # The same rows under another recipe, with which masks drawn in each epoch would differ.
    values["recipe"]["corrupt"]["mask_probability"] = 0.5
    del values["manifest_sha256"]
    (other / "manifest.json").write_text(rendered(values))
    values = changed(copied, "data.dataset", str(other))
    with pytest.raises(CheckpointError, match=r"its checkpoint: data\.dataset "):
        resume(values)
    resumed = resume(values | {"resume": {"accept": ["data.dataset"]}})
    assert (resumed.samples, resumed.dataset_first_sample) == (24, 16)
    again = resume(values | {"steps": 5})
    assert (again.samples, again.dataset_first_sample) == (40, 16)
    mesh = Mesh(ParallelConfig(threads=1))
    run = Run(configs.parse(values | {"steps": 6}, RunConfig, "run.toml"), mesh)
    assert run.batches.position(5) == 24
    run.close()
    mesh.close()


def rendered(values: dict[str, Any]) -> str:
    from sesame.data_pipeline.dataset import manifest

    return manifest._rendered({**values, "manifest_sha256": manifest._digest(values)}).decode()


def rows_of(dataset: Path, batches: list[tuple[int, int]]) -> Iterator[int]:
    """Yield the rows of a run that is resumed with other batch sizes: (size, steps with it)."""
    start = Start()
    for size, steps in batches:
        config = DataConfig(dataset=str(dataset), global_batch=size)
        source = Batches(open_dataset(dataset, verify=False), config, ("tokens",), 7, DataRank(0, 1), start)
        for step in range(start.step, start.step + steps):
            first = source.position(step)
            assert sum(batch.layout.sequences for batch in source.step(step)) == size
            yield from source._rows(first, first + size).tolist()
        start = Start(start.step + steps, source.position(start.step + steps))


@pytest.mark.parametrize("sizes", [(8, 16), (16, 8), (8, 4, 32, 2), (3, 1000, 5)])
def test_another_batch_neither_skips_nor_repeats_a_row(sizes: tuple[int, ...], dataset: Path) -> None:
    rows = list(rows_of(dataset, [(size, 4) for size in sizes]))
    assert rows == list(rows_of(dataset, [(1, len(rows))]))
