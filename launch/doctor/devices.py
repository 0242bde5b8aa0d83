"""The devices that a run computes on, and whether they multiply bf16 in hardware."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sesame.configs.machine import processor
from sesame.launch.doctor.check import Answer, Finding, Level, Verdict
from sesame.launch.doctor.context import Context, device


def measure(context: Context) -> dict[str, Any]:
    """Name, type, memory in bytes, cores, and the precision that ``precision = "auto"`` chooses, with its reason."""
    import torch

    from sesame.pretrain import precision

    chosen = device(context)
    best = precision.of_device(chosen)
    values: dict[str, Any] = {"type": chosen.type, "cores": context.cores, "precision": best.name, "why": best.reason}
    nodes = list(Path("/dev").glob("nvidia[0-9]*"))
    if chosen.type == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // context.local_world
        return values | {"name": processor(), "memory_bytes": memory, "unused_gpus": len(nodes)}
    properties = torch.cuda.get_device_properties(chosen)
    shared = context.local_world > torch.cuda.device_count()
    return values | {"name": properties.name, "memory_bytes": properties.total_memory, "shared": shared}


def judge(answers: Sequence[Answer]) -> Verdict:
    found: list[Finding] = []
    for answer in answers:
        value = answer.value
        if value.get("unused_gpus"):
            what = f"{answer.process} finds no GPU, but the machine has {value['unused_gpus']}"
            change = "install torch's CUDA build for the driver of nvidia-smi, and look at CUDA_VISIBLE_DEVICES"
            found.append(Finding(Level.BAD, what, change))
        if value.get("shared"):
            what = f"{answer.process} shares its GPU with another process"
            found.append(Finding(Level.BAD, what, "start one process for each GPU (--processes)"))
    kinds = Counter((answer.value["name"], answer.value["precision"]) for answer in answers)
    if len(kinds) > 1:
        odd = min(answers, key=lambda answer: kinds[answer.value["name"], answer.value["precision"]])
        what = f"devices differ: {odd.process} has {odd.value['name']} with {odd.value['precision']}"
        found.append(Finding(Level.SLOW, what, "use machines of one kind: the slowest sets the pace of all"))
    if answers[0].value["precision"] == "fp32":
        what = f"no bf16 in hardware: {answers[0].value['why']}"
        found.append(Finding(Level.SLOW, what, "nothing, or a processor with bf16; runs take fp32 by themselves"))
    return Verdict(
        "; ".join(_description(answer.value, kinds[_kind(answer)]) for answer in _one_of_each(answers)), found
    )


def _kind(answer: Answer) -> tuple[str, str]:
    return answer.value["name"], answer.value["precision"]


def _one_of_each(answers: Sequence[Answer]) -> list[Answer]:
    return list({_kind(answer): answer for answer in reversed(answers)}.values())[::-1]


def _description(value: dict[str, Any], count: int) -> str:
    return (
        f"{count} x {value['name']} ({value['type']}, {value['memory_bytes'] / 2**30:.0f} GiB, {value['cores']} CPU "
        f"threads), {value['precision']} ({value['why']})"
    )
