"""Planted faults in one of two real processes: each gives its finding, with the process and the way out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

World = Callable[..., list[str]]
SCRIPT = Path(__file__).with_name("faulty_process.py")


class Expected(NamedTuple):
    """What a fault must give."""

    check: str
    level: str
    what: str
    change: str


EXPECTED = {
    "clock": Expected("clocks", "SLOW", "the clock of process 1 (machine1) is 7.0 s ahead of", "chronyd"),
    "slow": Expected("matrix products", "SLOW", "process 1 (machine1) multiplies fp32 at", "other work"),
    "package": Expected("versions", "BAD", "numba is not installed on machine1", "pip install 'numba=="),
    "folder": Expected("same files", "BAD", "process 1 (machine1) does not see what process 0 writes", "--folder"),
}


OTHERS = [EXPECTED[name] for name in ("clock", "package", "folder")]


def report(world: World, folder: Path, *faults: str) -> dict[str, Any]:
    """Run two processes and return what the first one found."""
    printed = world(2, SCRIPT, str(folder), *faults)
    assert not printed[1], printed[1]
    return json.loads(printed[0].splitlines()[-1])


@pytest.mark.slow
def test_each_fault_gives_its_finding_and_nothing_is_left(world: World, tmp_path: Path) -> None:
    for rank in ("0", "1"):
        (tmp_path / rank).mkdir()
    findings = report(world, tmp_path, *EXPECTED)["findings"]
    for expected in EXPECTED.values():
        matching = [each for each in findings if each[0] == expected.check and each[2].startswith(expected.what)]
        assert len(matching) == 1, (expected, findings)
        assert matching[0][1] == expected.level
        assert expected.change in matching[0][3]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["0", "1"]


def test_a_check_that_fails_in_a_process_is_a_finding_and_the_next_one_runs(world: World, tmp_path: Path) -> None:
    found = report(world, tmp_path, "broken")
    broken = [each for each in found["findings"] if each[0] == "matrix products"]
    assert [each[1:3] for each in broken] == [
        ["BAD", r"process 1 (machine1): RuntimeError: the device has\nfallen off the bus"]
    ]
    assert found["answers"]["matrix products"] == 1
    assert found["answers"]["all-reduce"] == 2
    # Two equal processes of one machine have none of the other faults.
    assert not [each for each in found["findings"] if each[0] in {expected.check for expected in OTHERS}]
