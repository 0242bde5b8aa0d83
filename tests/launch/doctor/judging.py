"""Answers of processes to a check, and its findings as sentences."""

from typing import Any

from sesame.launch.doctor.check import Answer, Verdict


def answers(*values: Any, one_machine: bool = False) -> list[Answer]:
    return [Answer(rank, "n0" if one_machine else f"n{rank}", value) for rank, value in enumerate(values)]


def sentences(verdict: Verdict) -> list[str]:
    return [f"{each.level.name} {each.what} -> {each.change}" for each in verdict.findings]
