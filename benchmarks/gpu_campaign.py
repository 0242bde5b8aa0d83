"""The ``gpu`` tests and the benchmarks of a CUDA device, in one command of at most eight minutes.

    python benchmarks/gpu_campaign.py --output DIR [--part NAME ...] [--step NAME ...] [--seconds N]

Writes DIR/gpu_campaign.json and DIR/gpu_campaign.md: GPU, driver, versions and date, then one section for each part. If
a part or a row fails, its error is recorded and the next one runs. Steps run in a process of their own, which is ended
and started again where a row hangs or makes the device unusable; the rows that matter most come first.

Required packages: torch 2.11 or newer for CUDA, numba, pyarrow, sentencepiece, tokenizers, safetensors, transformers,
rich, typer, matplotlib, scikit-learn, einops, msgpack, psutil and pytest. The others can be copied to a machine without
network as wheels:

    pip download --no-deps --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 \
        --platform manylinux2014_x86_64 -d wheels -c constraints.txt \
        pydantic pydantic_core annotated-types typing-inspection typing_extensions megatron-core backports.zstd
    pip wheel --no-deps -w wheels -c constraints.txt deepspeed hjson
    python -m pip install --no-index --no-deps --target site wheels/*.whl && export PYTHONPATH=site:.

Ray is not required if the tests' datasets exist: with ``SESAME_TEST_DATASETS=DIR`` tests write their datasets below DIR
and reuse those that exist. On a machine with Ray, this creates them:

    SESAME_TEST_DATASETS=DIR pytest tests/pretrain/test_datasets.py
"""

import argparse
import datetime
import importlib.metadata
import json
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_rows
import torch
from gpu_shapes import SHAPES
from gpu_timing import ROOT, seconds, where

from sesame.configs.storage import write_text

TESTS_SECONDS = 260
STEPS = [sys.executable, str(Path(__file__).with_name("gpu_steps.py"))]


def device_facts() -> dict[str, Any]:
    """Measure the GPU's rate of a large bf16 product and of a large copy."""
    size, kind = 8192, torch.bfloat16
    left, right = (torch.randn(size, size, device="cuda", dtype=kind) for _ in range(2))
    product = seconds(lambda: left @ right)
    source = torch.randn(2**30, device="cuda", dtype=kind)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source))
    return {
        "bf16_product_teraflops": round(2 * size**3 / product / 1e12, 1),
        "copy_terabytes_per_second": round(2 * 2 * 2**30 / copy / 1e12, 2),
    }


def gpu_tests() -> dict[str, Any]:
    """Run ``pytest -m gpu`` in another process."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "gpu",
        "-p",
        "no:cacheprovider",
        "tests/pretrain/test_gpu.py",
        "--tb=short",
        "--show-capture=no",
    ]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TESTS_SECONDS)
    except subprocess.TimeoutExpired as error:
        return {"summary": f"ended after {TESTS_SECONDS} seconds", "output": str(error.stdout)[-12000:]}
    lines = [line for line in done.stdout.strip().splitlines() if line]
    return {"exit_code": done.returncode, "summary": lines[-1] if lines else "", "output": done.stdout[-12000:]}


def versions() -> dict[str, str]:
    installed = {}
    for name in ("torch", "deepspeed", "megatron-core", "transformers", "triton", "numpy"):
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            installed[name] = "absent"
    return {"python": platform.python_version(), "cuda": str(torch.version.cuda), **installed}


def driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def cell(value: float | None) -> str:
    """Return a number of the table; None is the share of a peak that ``gpu_steps.py`` does not know."""
    return "unknown" if value is None else f"{value:,}"


def markdown(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    facts = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines = [f"# {record['card']}, {record['date']}", "", f"Driver {record['driver']}; {facts}.", ""]
    rates = record["parts"].get("device", {})
    lines += [f"- {name.replace('_', ' ')}: {value}" for name, value in rates.items()]
    if "tests" in record["parts"]:
        lines += ["", f"`pytest -m gpu`: {record['parts']['tests'].get('summary', record['parts']['tests'])}"]
    if "steps" in record["parts"]:
        titles = (
            "tokens_per_second",
            "model_teraflops",
            "model_flops_use",
            "predicted_use",
            "milliseconds",
            "busy_milliseconds",
            "host_milliseconds",
            "kernel_launches",
        )
        lines += ["", "| step | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|"]
        for name, row in record["parts"]["steps"].items():
            cells = [row["error"]] if "error" in row else [cell(row[title]) for title in titles]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--part", action="append", choices=("device", "tests", "steps"))
    parser.add_argument("--step", action="append", choices=tuple(SHAPES), help="a row of the part 'steps'")
    parser.add_argument("--seconds", type=float, default=420, help="after which no step is begun")
    arguments = parser.parse_args()
    deadline = time.monotonic() + arguments.seconds
    if not torch.cuda.is_available():
        sys.exit("gpu_campaign: this machine has no CUDA device that torch can use")
    parts = {
        "device": device_facts,
        "tests": gpu_tests,
        "steps": lambda: gpu_rows.measure(STEPS, arguments.step or list(SHAPES), deadline),
    }
    record: dict[str, Any] = {
        "card": torch.cuda.get_device_name(),
        "date": datetime.date.today().isoformat(),
        "driver": driver(),
        "versions": versions(),
        "parts": {},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name in arguments.part or parts:
        begin = time.perf_counter()
        torch.cuda.empty_cache()
        try:
            record["parts"][name] = parts[name]()
        except Exception as error:
            record["parts"][name] = {"error": f"{type(error).__name__}: {error}", "at": where(error)}
        print(f"{name}: {time.perf_counter() - begin:.1f} s {json.dumps(record['parts'][name])[:1500]}", flush=True)
        write_text(arguments.output / "gpu_campaign.json", json.dumps(record, indent=1) + "\n")
        write_text(arguments.output / "gpu_campaign.md", markdown(record))
    print((arguments.output / "gpu_campaign.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
