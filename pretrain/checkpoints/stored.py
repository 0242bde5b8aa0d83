"""The tensors in the files of a checkpoint: by name, and in pieces where no process should have the whole.

``NAME[8:16]`` are rows 8 to 15 of a tensor that is large, or whose experts lie on several processes. On the way out and
on the way back a process has only some rows of such a tensor in memory.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from configs.errors import CheckpointError
from pretrain.initialization import Rows

FILE = 2**28
"""Values (1 GiB in fp32) after which a process begins its next file: what it has in memory until they are written."""

Shapes = Mapping[str, Sequence[int]]
"""Whole shape of every tensor."""


class TensorSlice(NamedTuple):
    """Some rows of a whole tensor."""

    name: str
    first: int
    """Which row of the whole the first one is."""
    rows: Tensor
    """fp32."""
    holder: int
    """This process's number among those that have them."""
    replicas: int


def shares(slabs: Iterable[TensorSlice], shapes: Shapes) -> Iterator[dict[str, Tensor]]:
    """What this process writes of the slabs, a file's content at a time; those who hold a slab take turns."""
    mine: dict[str, Tensor] = {}
    size = 0.0
    for number, slab in enumerate(slabs):
        if number % slab.replicas == slab.holder:
            whole = len(slab.rows) == shapes[slab.name][0]
            key = slab.name if whole else f"{slab.name}[{slab.first}:{slab.first + len(slab.rows)}]"
            mine[key] = slab.rows.cpu().contiguous()
        # A share, the same in every process: all write at once, for who writes alone has all others wait for its slabs.
        size += slab.rows.numel() / slab.replicas
        if size >= FILE:
            yield mine
            mine, size = {}, 0.0
    if mine:
        yield mine


class Stored:
    """The tensors in some files, read when they are asked for."""

    def __init__(self, folder: Path, files: Iterable[str], shapes: Shapes):
        """
        Raises:
            CheckpointError: a file is no safetensors, or holds something else than ``shapes`` says.
        """
        self.folder, self.shapes = folder, shapes
        self._pieces: dict[str, list[tuple[int, int, Any]]] = {}
        for file in files:
            try:
                opened = safe_open(folder / file, framework="pt")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(
                    f"{folder / file}: cannot be read as safetensors ({error}); use another checkpoint"
                ) from None
            for key in opened.keys():  # noqa: SIM118 (safe_open is not a dict)
                name, first, last = self._place(file, key)
                piece = opened.get_slice(key)
                self._check_shape(file, key, piece, (last - first, *shapes[name][1:]))
                self._pieces.setdefault(name, []).append((first, last, piece))
        for name in shapes:
            self._pieces.setdefault(name, []).sort(key=itemgetter(0))
            self._check_complete(name)

    def _check_complete(self, name: str) -> None:
        reached, rows = 0, self.shapes[name][0]
        for first, last, _ in self._pieces[name]:
            if first > reached:
                break
            reached = max(reached, last)
        if reached < rows:
            raise CheckpointError(
                f"{self.folder}: rows {reached} to {rows - 1} of {name} are not all there; use another checkpoint"
            )

    def _place(self, file: str, key: str) -> tuple[str, int, int]:
        """(name, first row, one past the last row) that a key of a file stands for."""
        found = re.fullmatch(r"([^\[]+)(?:\[(\d{1,18}):(\d{1,18})\])?", key, re.ASCII)
        if found is None or found[1] not in self.shapes:
            raise CheckpointError(f"{self.folder / file}: holds {key}, which is no parameter; use another checkpoint")
        rows = self.shapes[found[1]][0]
        first, last = (0, rows) if found[2] is None else (int(found[2]), int(found[3]))
        if not first < last <= rows:
            raise CheckpointError(f"{self.folder / file}: {key} is not within {rows} rows; use another checkpoint")
        return found[1], first, last

    def _check_shape(self, file: str, key: str, piece: Any, expected: tuple[int, ...]) -> None:
        shape, kind = tuple(piece.get_shape()), piece.get_dtype()
        if shape != expected or kind != "F32":
            raise CheckpointError(
                f"{self.folder / file}: {key} is {kind} of shape {shape}, but checkpoint.json says F32 of {expected}; "
                "use another checkpoint"
            )

    def whole(self, name: str) -> Tensor:
        return self.rows(name)(0, self.shapes[name][0])

    def rows(self, name: str) -> Rows:
        pieces = self._pieces.get(name, [])

        def read(first: int, last: int) -> Tensor:
            parts, reached = [], first
            for begin, end, piece in pieces:
                # Two files may hold a row: then the first of them counts.
                if begin <= reached < min(last, end):
                    parts.append(piece[reached - begin : min(last, end) - begin])
                    reached = min(last, end)
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return read
