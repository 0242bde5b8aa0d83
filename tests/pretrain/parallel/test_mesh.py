"""``Mesh.close`` releases all threads and process groups of a layout."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sesame import configs
from sesame.pretrain.config import RunConfig
from sesame.pretrain.train import train

LAYOUTS: list[tuple[str, dict[str, Any]]] = [
    ("bert", {"zero_stage": 0}),
    ("bert", {"zero_stage": 3}),
    ("bert", {"tensor": 2, "zero_stage": 1}),
    ("bert", {"tensor": 2, "zero_stage": 3, "precision": "bf16"}),
    ("switch", {"expert": 2, "zero_stage": 2}),
]


def main(runs: str) -> None:
    """Train each of the ``runs`` (a JSON file), and print the numbers of threads and process groups after each."""
    counts = []
    for values in json.loads(Path(runs).read_text()):
        train(configs.parse(values, RunConfig, "the test's run"))
        groups = torch.distributed.distributed_c10d._world.pg_map
        counts.append((len(os.listdir("/proc/self/task")), len(groups)))
    print(json.dumps(counts))


def test_ten_layouts_leave_no_thread_and_no_process_group(
    family_settings: Callable[..., dict[str, Any]], world: Callable[..., list[str]], tmp_path: Path
) -> None:
    runs = [
        family_settings(run, parallel=parallel) | {"steps": 1, "output": str(tmp_path / f"{round}-{number}")}
        for round in range(2)
        for number, (run, parallel) in enumerate(LAYOUTS)
    ]
    cases = tmp_path / "runs.json"
    cases.write_text(json.dumps(runs))
    for printed in world(2, Path(__file__), str(cases)):
        counts = json.loads(printed.splitlines()[-1])
        threads, groups = zip(*counts, strict=True)
        assert set(groups) == {1}, "only the default group remains"
        # Some threads start once in a process and remain, such as torch's.
        assert threads[-1] == threads[len(LAYOUTS) - 1], f"threads after each layout: {threads}"


if __name__ == "__main__":
    import sys

    main(*sys.argv[1:])
