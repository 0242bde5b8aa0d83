"""The tensors in the files of a checkpoint: by name, and in slices where no process should have a whole tensor.

``NAME[8:16]`` are rows 8 to 15 of a tensor that is large, or whose experts are on several processes. When writing and
when reading, a process has only some rows of such a tensor in memory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sesame.configs.errors import CheckpointError
from sesame.pretrain.initialization import Rows

VALUES_PER_FILE = 2**28
"""Values (1 GiB in fp32) after which a process starts its next file; so much is in memory until it is written."""

Shapes = Mapping[str, Sequence[int]]
"""Whole shape of every tensor, by name."""


class TensorSlice(NamedTuple):
    """Some rows of a whole tensor."""

    name: str
    first: int
    """Index of the first row in the whole tensor."""
    rows: Tensor
    """fp32."""
    replica: int
    """Index of this process among the processes that have these rows."""
    replicas: int


def split_into_files(slices: Iterable[TensorSlice], shapes: Shapes) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors that this process writes, one file at a time; replicas of a slice take turns."""
    tensors: dict[str, Tensor] = {}
    values = 0.0
    for number, part in enumerate(slices):
        if number % part.replicas == part.replica:
            is_whole = len(part.rows) == shapes[part.name][0]
            key = part.name if is_whole else f"{part.name}[{part.first}:{part.first + len(part.rows)}]"
            tensors[key] = part.rows.cpu().contiguous()
        # The mean over the replicas, so that all processes write at the same time: a process that writes alone makes
        # all others wait for its next slice.
        values += part.rows.numel() / part.replicas
        if values >= VALUES_PER_FILE:
            yield tensors
            tensors, values = {}, 0.0
    if tensors:
        yield tensors


class StoredTensors:
    """The tensors in some files, each read when it is asked for."""

    def __init__(self, folder: Path, files: Iterable[str], shapes: Shapes):
        """
        Raises:
            CheckpointError: a file is not safetensors, or its tensors are not those of ``shapes``.
        """
        self.folder, self.shapes = folder, shapes
        self._slices: dict[str, list[tuple[int, int, Any]]] = {}
        for file in files:
            try:
                opened = safe_open(folder / file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{folder / file}: cannot be read as safetensors ({error}); use another checkpoint"
                ) from None
            for key in opened.keys():  # noqa: SIM118 (safe_open is not a dict)
                name, first, last = self._parse_key(file, key)
                stored = opened.get_slice(key)
                self._check_shape(file, key, stored, (last - first, *shapes[name][1:]))
                self._slices.setdefault(name, []).append((first, last, stored))
        for name in shapes:
            self._slices.setdefault(name, []).sort(key=itemgetter(0))
            self._check_complete(name)

    def whole(self, name: str) -> Tensor:
        """Return a whole tensor."""
        return self.rows(name)(0, self.shapes[name][0])

    def rows(self, name: str) -> Rows:
        """Return a function that reads rows ``first`` to ``last`` - 1 of a tensor."""
        slices = self._slices.get(name, [])

        def read(first: int, last: int) -> Tensor:
            parts, reached = [], first
            for begin, end, stored in slices:
                # Where two files have the same row, the first one is used.
                if begin <= reached < min(last, end):
                    parts.append(stored[reached - begin : min(last, end) - begin])
                    reached = min(last, end)
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return read

    def _check_complete(self, name: str) -> None:
        reached, rows = 0, self.shapes[name][0]
        for first, last, _ in self._slices[name]:
            if first > reached:
                break
            reached = max(reached, last)
        if reached < rows:
            raise CheckpointError(
                f"{self.folder}: lacks some of rows {reached} to {rows - 1} of {name}; use another checkpoint"
            )

    def _parse_key(self, file: str, key: str) -> tuple[str, int, int]:
        """Return (name, first row, one past the last row) of a key in a file."""
        match = re.fullmatch(r"([^\[]+)(?:\[(\d{1,18}):(\d{1,18})\])?", key, re.ASCII)
        if match is None or match[1] not in self.shapes:
            raise CheckpointError(
                f"{self.folder / file}: contains {key}, which is not a parameter; use another checkpoint"
            )
        rows = self.shapes[match[1]][0]
        first, last = (0, rows) if match[2] is None else (int(match[2]), int(match[3]))
        if not first < last <= rows:
            raise CheckpointError(f"{self.folder / file}: {key} is not within {rows} rows; use another checkpoint")
        return match[1], first, last

    def _check_shape(self, file: str, key: str, stored: Any, expected: tuple[int, ...]) -> None:
        shape, dtype = tuple(stored.get_shape()), stored.get_dtype()
        if shape != expected or dtype != "F32":
            raise CheckpointError(
                f"{self.folder / file}: {key} is {dtype} of shape {shape}, but checkpoint.json says F32 of {expected}; "
                "use another checkpoint"
            )
