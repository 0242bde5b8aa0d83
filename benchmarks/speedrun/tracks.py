"""The tracks: a kind of machine and the minutes of training."""

from typing import Literal, NamedTuple


class Track(NamedTuple):
    """A row of the table."""

    device: Literal["cpu", "cuda"]
    cores: int | None
    """CPU cores that training and evaluation may use; None: all."""
    minutes: float
    """From before the first step to after the last one, with validation and checkpoints between."""
    machine: str
    """For people."""


TRACKS: dict[str, Track] = {
    "cpu-30m": Track("cpu", 2, 30, "two CPU cores"),
    "cpu-4h": Track("cpu", 2, 240, "two CPU cores"),
    "gpu-2m": Track("cuda", None, 2, "one H100-class GPU"),
    "gpu-10m": Track("cuda", None, 10, "one H100-class GPU"),
}
