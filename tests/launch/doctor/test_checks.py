"""What each check of ``sesame doctor`` finds in measured values, and in this process."""

import importlib.metadata
import os
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sesame.data_pipeline.cluster import OBJECT_STORE_BYTES
from sesame.launch.doctor import (
    checks,
    clocks,
    folder,
    limits,
    ports,
    shared_memory,
    versions,
)
from sesame.launch.doctor.check import Check, Finding, Level, Verdict
from sesame.launch.doctor.context import Context, Instruments
from sesame.launch.doctor.examination import examine, open_context
from tests.launch.doctor.judging import answers, sentences

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """A process that is alone."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_PORT", "SLURM_JOB_ID"):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as closing:
        yield open_context(tmp_path / "made" / "runs", quick=True, closing=closing)


def test_a_missing_package_and_another_version() -> None:
    good = {"python": "3.11.7", **versions.NEEDED, "CUDA": None}
    assert not versions.verdict(answers(good, good), {}).findings
    missing, other, old = good | {"ray": None}, good | {"torch": "2.99.1"}, good | {"python": "3.9.2"}
    assert sentences(versions.verdict(answers(missing), {"ray": "2.60.0"})) == [
        "BAD ray is not installed on n0 -> pip install 'ray==2.60.0'"
    ]
    (different,) = sentences(versions.verdict(answers(good, other), {}))
    assert different.startswith("BAD torch is 2.99.1 in process 1 (n1), but 2.11 in process 0 (n0)")
    (untested,) = sentences(versions.verdict(answers(other), {"torch": "2.13.0"}))
    assert untested.startswith("SLOW torch 2.99.1 on n0 is not 2.13.0")
    assert "Python 3.9.2 on n0 is too old" in sentences(versions.verdict(answers(old), {}))[0]
    assert (
        "torch 2.9.0 on n0 is older than 2.11" in sentences(versions.verdict(answers(good | {"torch": "2.9.0"}), {}))[0]
    )


def test_the_needed_versions_are_those_of_the_project() -> None:
    declared = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    requirements = dict(each.split(">=") for each in declared["dependencies"] if ";" not in each)
    assert {name: requirements[name] for name in versions.NEEDED} == versions.NEEDED
    assert declared["requires-python"] == ">=" + ".".join(map(str, versions.OLDEST_PYTHON))
    assert set(versions.NEEDED) <= set(versions.constraints())


def test_a_package_that_is_not_installed_is_measured(context: Context) -> None:
    def version(name: str) -> str:
        if name == "deepspeed":
            raise importlib.metadata.PackageNotFoundError(name)
        return "9.9"

    context.instruments = Instruments(version=version)
    measured = versions.measure(context)
    assert measured["deepspeed"] is None and measured["ray"] == "9.9" and measured["python"]


def test_an_occupied_port(context: Context) -> None:
    with socket.socket() as listener:
        listener.bind(("", 0))
        listener.listen()
        port = listener.getsockname()[1]
        context.instruments = Instruments(ports=(port,))
        value = ports.measure(context)
        assert any(f"port {port} of n0 is in use" in each for each in sentences(ports.judge(answers(value))))
    assert port not in ports.measure(context)["in_use"]


def test_a_name_that_leads_to_the_machine_itself_matters_on_several_machines_only() -> None:
    value = {"checked": [29500], "in_use": [], "addresses": ["127.0.1.1"]}
    assert not ports.judge(answers(value, value, one_machine=True)).findings
    assert ["leads to 127.0.1.1" in each for each in sentences(ports.judge(answers(value, value)))] == [True, True]
    assert not ports.judge(answers(*[value | {"addresses": ["10.0.0.1"]}] * 2)).findings


@pytest.mark.parametrize(("size", "level"), [(2**40, None), (2**30, None), (200 * 2**20, "SLOW"), (2**25, "BAD")])
def test_shared_memory_that_is_too_small(size: int, level: str | None) -> None:
    value = {"path": "/dev/shm", "size": size, "free": size, "training": 2 * shared_memory.LOADERS}
    found = shared_memory.judge(answers(value)).findings
    assert [each.level.name for each in found] == ([level] if level else [])
    assert all("--shm-size=256m" in each.change for each in found)


def test_a_real_file_system_of_one_megabyte(context: Context, tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting a tmpfs needs root")
    try:
        context.instruments = Instruments(shared_memory=tmp_path)
        (finding,) = shared_memory.judge(answers(shared_memory.measure(context))).findings
        assert finding.level is Level.BAD and "has 1 MB free of 1 MB" in finding.what
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_shared_memory_for_ray_is_what_prepare_asks_for() -> None:
    assert shared_memory.RAY == OBJECT_STORE_BYTES


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, None),
        ({"open_files": 1024}, "allows 1024 open files"),
        ({"infiniband": True, "locked_memory": 65536}, "only 64 KiB of locked memory"),
        ({"memory": 2**32}, "has 4.0 GiB for 2 processes"),
        ({"cpus": 2.0}, "may use 2.0 CPUs, but sees 8"),
    ],
)
def test_limits(change: dict[str, Any], expected: str | None) -> None:
    value = {"open_files": 65536, "locked_memory": 65536, "memory": None, "cpus": None, "cores": 8, "processes": 2}
    found = sentences(limits.judge(answers(value | {"infiniband": False} | change)))
    assert len(found) == bool(expected)
    assert expected is None or expected in found[0]


def test_limits_of_a_container_are_read(tmp_path: Path, context: Context) -> None:
    assert limits.memory_limit(tmp_path) is None and limits.cpu_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert limits.memory_limit(tmp_path) is None and limits.cpu_limit(tmp_path) is None
    (tmp_path / "memory.max").write_text("8589934592\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert (limits.memory_limit(tmp_path), limits.cpu_limit(tmp_path)) == (2**33, 1.5)
    assert limits.measure(context)["cores"] == len(os.sched_getaffinity(0))


def test_a_skewed_clock() -> None:
    same, skewed = {"ahead": 0.004, "error": 0.001}, {"ahead": -400.0, "error": 0.5}
    assert not clocks.judge(answers(same, same)).findings
    (sentence,) = sentences(clocks.judge(answers(same, skewed)))
    assert sentence.startswith("BAD the clock of process 1 (n1) is 400.0 s behind that of process 0")
    # A slow network is no skewed clock.
    assert not clocks.judge(answers(same, {"ahead": 3.0, "error": 3.0})).findings


def test_the_disk_is_measured_and_nothing_is_left(context: Context, tmp_path: Path) -> None:
    value = folder.measure_speed(context)
    assert value["write"] > 0 and value["read"] > 0 and value["folder"] == str(tmp_path / "made" / "runs")
    assert list(context.folder.iterdir()) == []
    context.closing.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["mkdir", "open"])
def test_an_interrupt_right_after_a_file_is_made_leaves_nothing(
    context: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    made = getattr(os, call)

    def make(path: Any, *arguments: Any, **options: Any) -> Any:
        result = made(path, *arguments, **options)
        if str(path).startswith(str(tmp_path)):
            raise KeyboardInterrupt
        return result

    with monkeypatch.context() as patch:
        patch.setattr(os, call, make)
        with pytest.raises(KeyboardInterrupt):
            folder.measure_speed(context)
    assert list(tmp_path.iterdir())
    context.closing.close()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_finding(context: Context, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    context.folder = tmp_path / "file" / "runs"
    found: list[Finding] = []
    chosen = [check for check in checks.CHECKS if check.name in ("disk", "clocks")]
    examine(context, chosen, lambda check, verdict: found.extend(verdict.findings))
    assert [each.level for each in found] == [Level.BAD]
    assert "NotADirectoryError" in found[0].what and "--folder" in found[0].change


def test_a_check_that_needs_a_failed_one_is_left_out(context: Context) -> None:
    def fail(context: Context) -> None:
        raise RuntimeError("no network")

    rows = (
        Check("first", fail, lambda answers: Verdict(""), "mend it"),
        Check("second", lambda context: 1, lambda answers: Verdict("two"), "", needs=("first",)),
        Check("third", lambda context: 1, lambda answers: Verdict("three"), ""),
    )
    shown: list[tuple[str, str, str]] = []
    examine(context, rows, lambda check, verdict: shown.append((check.name, verdict.text, verdict.level.value)))
    assert shown == [
        ("first", "failed", "must change"),
        ("second", "needs first", "left out"),
        ("third", "three", "good"),
    ]


def test_a_check_that_misses_a_package_says_so(context: Context) -> None:
    def measure(context: Context) -> None:
        import no_such_package  # pyright: ignore[reportMissingImports]  # noqa: F401

    found: list[Finding] = []
    rows = (Check("devices", measure, lambda answers: Verdict(""), "run nvidia-smi"),)
    examine(context, rows, lambda check, verdict: found.extend(verdict.findings))
    assert [each.change for each in found] == ["install what is missing; see versions"]
    assert "No module named 'no_such_package'" in found[0].what
