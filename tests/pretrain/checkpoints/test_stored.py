"""A checkpoint whose tensors are stored in slices has the same values as one with whole tensors."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sesame import configs
from sesame.configs.errors import CheckpointError
from sesame.pretrain.checkpoints import stored
from sesame.pretrain.checkpoints.load import open_checkpoint
from sesame.pretrain.checkpoints.stored import StoredTensors
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel import zero_state
from sesame.pretrain.parallel.placement import local_rows
from sesame.pretrain.train import train

Settings = Callable[..., dict[str, Any]]
SMALL = 100
"""Values of a slice: three rows of most parameters, and less than one of a feed-forward layer's experts."""


def run(values: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Train -> weights and first moments."""
    folder = train(configs.parse(values, RunConfig, "run.toml"))
    checkpoint = open_checkpoint(folder)
    kinds = {kind: checkpoint.tensors(kind) for kind in ("weights", "exp_avg")}
    return {f"{kind}/{name}": tensors.whole(name) for kind, tensors in kinds.items() for name in tensors.shapes}


@pytest.mark.parametrize("parallel", [{"zero_stage": 0}, {"zero_stage": 1}, {"zero_stage": 3}], ids=str)
def test_a_run_with_slices_ends_in_the_same_values(
    parallel: dict[str, Any], family_settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def values(output: str, steps: int) -> dict[str, Any]:
        return family_settings(
            "switch",
            parallel={"precision": "fp32", "threads": 1, **parallel},
            optimizer={"name": "adamw", "learning_rate": 1e-3},
            schedule={"decay": "constant"},
        ) | {"steps": steps, "output": str(tmp_path / output)}

    whole = run(values("whole", 4))
    monkeypatch.setattr(zero_state, "SLICE_ENTRIES", SMALL)
    monkeypatch.setattr(stored, "VALUES_PER_FILE", 1000)
    run(values("pieces", 2))
    pieces = run(values("pieces", 4))
    assert whole.keys() == pieces.keys()
    for name, value in whole.items():
        assert torch.equal(value, pieces[name]), name
    files = sorted((tmp_path / "pieces" / "checkpoints" / "step-00000004").glob("weights-*.safetensors"))
    tensors = {name: value for file in files for name, value in load_file(file).items()}
    assert len(files) > 10 and any(name.endswith("experts.up[1:2]") for name in tensors)
    for name, value in tensors.items():
        assert value.numel() <= SMALL or len(value) == 1, f"{name} is larger than a slice"


def test_rows_across_slices_are_read(tmp_path: Path) -> None:
    table = torch.arange(30.0).view(10, 3)
    save_file({"a[0:4]": table[:4].clone(), "b": table}, tmp_path / "0.safetensors")
    save_file({"a[4:10]": table[4:].clone()}, tmp_path / "1.safetensors")
    tensors = StoredTensors(tmp_path, ["1.safetensors", "0.safetensors"], {"a": (10, 3), "b": (10, 3)})
    for first, last in ((0, 10), (0, 4), (3, 5), (9, 10)):
        assert torch.equal(tensors.rows("a")(first, last), table[first:last])
        assert torch.equal(tensors.rows("b")(first, last), table[first:last])


def test_a_process_reads_its_own_rows_only() -> None:
    """Of eight experts the last two, and of their inner width its half."""
    read = []

    def whole(first: int, last: int) -> torch.Tensor:
        read.append((first, last))
        return torch.arange(8.0 * 3 * 6).view(8, 3, 6)[first:last]

    mesh: Any = SimpleNamespace(expert=4, expert_rank=3, tensor=2, tensor_rank=1)
    parameter: Any = torch.nn.Parameter(torch.empty(2, 3, 3))
    parameter.allreduce, parameter.tensor_model_parallel, parameter.partition_dim = False, True, 2
    rows = local_rows(parameter, whole, mesh)(1, 2)
    assert read == [(7, 8)]
    assert torch.equal(rows, torch.arange(8.0 * 3 * 6).view(8, 3, 6)[7:, :, 3:])


def test_rows_that_no_file_has_are_reported(tmp_path: Path) -> None:
    save_file({"a[0:4]": torch.zeros(4, 3)}, tmp_path / "0.safetensors")
    with pytest.raises(CheckpointError, match=r"lacks some of rows 4 to 9 of a; use another checkpoint"):
        StoredTensors(tmp_path, ["0.safetensors"], {"a": (10, 3)})


@pytest.mark.parametrize(
    ("key", "shape", "sentence"),
    [
        ("b", (10, 3), "contains b, which is not a parameter"),
        ("a[x:3]", (3, 3), r"contains a\[x:3\], which is not a parameter"),
        ("a[0:11]", (11, 3), "is not within 10 rows"),
        ("a[4:4]", (0, 3), "is not within 10 rows"),
        ("a", (3, 10), r"is F32 of shape \(3, 10\), but checkpoint.json says F32 of \(10, 3\)"),
        ("a[0:5]", (4, 3), r"says F32 of \(5, 3\)"),
        ("a", (10,), r"is F32 of shape \(10,\)"),
    ],
)
def test_tensors_that_contradict_the_record_are_refused(
    key: str, shape: tuple[int, ...], sentence: str, tmp_path: Path
) -> None:
    save_file({key: torch.zeros(shape)}, tmp_path / "0.safetensors")
    with pytest.raises(CheckpointError, match=sentence):
        StoredTensors(tmp_path, ["0.safetensors"], {"a": (10, 3)})


def test_rows_that_two_files_have_are_read_once(tmp_path: Path) -> None:
    whole = torch.arange(30.0).view(10, 3)
    for number, (first, last) in enumerate([(0, 6), (4, 10), (2, 5)]):
        save_file({f"a[{first}:{last}]": whole[first:last].clone()}, tmp_path / f"{number}.safetensors")
    tensors = StoredTensors(tmp_path, [f"{number}.safetensors" for number in range(3)], {"a": (10, 3)})
    assert torch.equal(tensors.whole("a"), whole)
    assert torch.equal(tensors.rows("a")(5, 8), whole[5:8])


def test_another_type_of_number_is_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2, 3, dtype=torch.float16)}, tmp_path / "0.safetensors")
    with pytest.raises(CheckpointError, match="a is F16 of shape"):
        StoredTensors(tmp_path, ["0.safetensors"], {"a": (2, 3)})
