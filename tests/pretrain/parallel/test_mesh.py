"""``Mesh.close`` releases all threads and process groups of a layout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sesame import configs
from sesame.configs.errors import ConfigError
from sesame.pretrain.config import RunConfig
from sesame.pretrain.parallel.mesh import _check_device, _check_variables
from sesame.pretrain.train import train

LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"zero_stage": 0}),
    ("bert", {"zero_stage": 3}),
    ("bert", {"tensor": 2, "zero_stage": 1}),
    ("bert", {"tensor": 2, "zero_stage": 3, "precision": "bf16"}),
    ("switch", {"expert": 2, "zero_stage": 2}),
]


def main(runs: str) -> None:
    """Train each of the ``runs`` (a JSON file), and print the threads and the number of process groups after each."""
    counts = []
    for values in json.loads(Path(runs).read_text()):
        train(configs.parse(values, RunConfig, "the test's run"))
        groups = torch.distributed.distributed_c10d._world.pg_map
        counts.append((threads(), len(groups)))
    print(json.dumps(counts))


def threads() -> list[str]:
    """Names of this process's threads, without those that pyarrow's allocator starts at any time."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return sorted(name for name in names if name != "jemalloc_bg_thd")


@pytest.mark.parametrize("layouts", [LAYOUTS[3:], pytest.param(LAYOUTS, marks=pytest.mark.slow)], ids=len)
def test_layouts_leave_no_thread_and_no_process_group(
    layouts: list[tuple[str, dict[str, Any]]],
    family_settings: Callable[..., dict[str, Any]],
    world: Callable[..., list[str]],
    tmp_path: Path,
) -> None:
    """Each of them twice."""
    runs = [
        family_settings(run, parallel=parallel) | {"steps": 1, "output": str(tmp_path / f"{round}-{number}")}
        for round in range(2)
        for number, (run, parallel) in enumerate(layouts)
    ]
    cases = tmp_path / "runs.json"
    cases.write_text(json.dumps(runs))
    for printed in world(2, Path(__file__), str(cases)):
        counts = json.loads(printed.splitlines()[-1])
        names, groups = zip(*counts, strict=True)
        assert set(groups) == {1}, "only the default group remains"
        # Some threads start once in a process and remain, such as torch's.
        assert names[-1] == names[len(layouts) - 1]


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])


LAUNCHED = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "n0", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"RANK": "x"}, "but RANK is 'x'; start with --processes"),
        ({"MASTER_PORT": "-1"}, "but MASTER_PORT is '-1'"),
        ({"WORLD_SIZE": ""}, "but WORLD_SIZE is not set"),
        ({"MASTER_ADDR": ""}, "but MASTER_ADDR is not set"),
        ({"RANK": "2"}, "RANK is 2, but WORLD_SIZE is 2"),
    ],
)
def test_wrong_variables_of_a_launcher_are_named(change: dict[str, str], sentence: str) -> None:
    _check_variables(LAUNCHED)
    with pytest.raises(ConfigError, match=sentence):
        _check_variables(LAUNCHED | change)


def test_more_trainers_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _check_device(7)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    _check_device(1)
    with pytest.raises(ConfigError, match="trainer 3 of its machine, which has 2 GPUs; start at most 2"):
        _check_device(2)
