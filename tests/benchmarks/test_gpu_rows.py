"""The GPU campaign goes on after a row that hangs, breaks the device or ends its process."""

import importlib.util
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
CHILD = """
import json, os, sys, time
for name in sys.argv[2:]:
    if name.startswith("hangs"):
        time.sleep(60)
    if name.startswith("dies"):
        os._exit(7)
    result = {"milliseconds": 1.0, "breaks_device": name.startswith("breaks")}
    print("something else")
    print("ROW", json.dumps([name, result]), flush=True)
    if result["breaks_device"]:
        sys.exit(1)
"""


@pytest.fixture(scope="module")
def gpu_rows() -> ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_rows", FOLDER / "gpu_rows.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_row_costs_no_other(gpu_rows: Any, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text(CHILD)
    names = ["first", "dies", "breaks", "second", "hangs", "third", "dies too", "breaks at last"]
    results = gpu_rows.measure([sys.executable, str(child)], names, time.monotonic() + 60, row_seconds=8.0)
    assert list(results) == names
    for name in ("first", "second", "third", "breaks", "breaks at last"):
        assert results[name]["milliseconds"] == 1.0
    assert "ended with code 7" in results["dies"]["error"] and "ended with code 7" in results["dies too"]["error"]
    assert "more than 8 seconds" in results["hangs"]["error"]


def test_no_row_is_begun_after_the_deadline(gpu_rows: Any, tmp_path: Path) -> None:
    results = gpu_rows.measure([sys.executable, "-c", ""], ["first"], time.monotonic() - 1)
    assert results == {"first": {"error": "not begun, because the time is up"}}
