"""Results of the finished jobs of a run on disk, so that a killed run continues without repeating them.

A result is a JSON file and an .npz file with its arrays; only classes that the caller lists are created from a file.
"""

import json
import re
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sesame.configs import Section, storage
from sesame.configs.errors import DatasetError

IDENTITY, LOCK = "identity.json", "lock"


class Ledger:
    """Results by stage and job index, in the folder of one run."""

    def __init__(self, folder: Path, classes: Sequence[type]):
        """
        Args:
            classes: the named tuples and :class:`Section` classes that a result may contain.
        """
        self.folder = folder
        self._classes = {each.__name__: each for each in classes}
        folder.mkdir(parents=True, exist_ok=True)

    def recall(self, stage: str, number: int = 0) -> Any:
        """Return the recorded result; None if it is missing or damaged."""
        path = self._path(stage, number)
        try:
            with np.load(path.with_suffix(".npz"), allow_pickle=False) as arrays:
                return self._decoded(json.loads(path.read_text(encoding="utf-8")), dict(arrays))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def record(self, stage: str, result: Any, number: int = 0) -> None:
        """Write the ``result`` of a finished job."""
        arrays: dict[str, np.ndarray] = {}
        path = self._path(stage, number)
        text = json.dumps(self._encoded(result, arrays))
        with storage.atomic_file(path.with_suffix(".npz"), durable=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        storage.write_text(path, text, durable=False)

    def _path(self, stage: str, number: int) -> Path:
        return self.folder / f"{stage.replace(' ', '-')}-{number:06d}.json"

    def _encoded(self, value: Any, arrays: dict[str, np.ndarray]) -> Any:
        name = type(value).__name__
        if isinstance(value, np.ndarray):
            arrays[f"a{len(arrays)}"] = value
            return {"array": f"a{len(arrays) - 1}"}
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        if isinstance(value, Path):
            return {"path": str(value)}
        if isinstance(value, Section):
            return {name: value.model_dump()}
        if isinstance(value, dict):
            return {"counts": dict(value)}
        if isinstance(value, (list, tuple)):
            kind = name if name in self._classes or name == "list" else "tuple"
            return {kind: [self._encoded(each, arrays) for each in value]}
        return value

    def _decoded(self, value: Any, arrays: dict[str, np.ndarray]) -> Any:
        if not isinstance(value, dict):
            return value
        ((name, content),) = value.items()
        if kind := self._classes.get(name):
            if issubclass(kind, Section):
                return kind.model_validate(content)
            return kind(*(self._decoded(each, arrays) for each in content))
        makers: dict[str, Callable[[Any], Any]] = {
            "array": arrays.__getitem__,
            "bytes": bytes.fromhex,
            "path": Path,
            "counts": Counter,
            "list": lambda each: [self._decoded(one, arrays) for one in each],
            "tuple": lambda each: tuple(self._decoded(one, arrays) for one in each),
        }
        return makers[name](content)


def open_folder(folder: Path, identity: dict[str, Any], written: re.Pattern[str]) -> Any:
    """Create or open the folder of a run, lock it, and remove its content unless it is of the same ``identity``.

    Args:
        written: names of what a run writes there, besides the files of this module.

    Returns:
        An open file that holds the lock until it is closed.

    Raises:
        DatasetError: another process has the lock, or the folder cannot be created or has files that no run wrote.
    """
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.name not in (LOCK, IDENTITY) and not written.fullmatch(path.name):
                raise DatasetError(
                    f"{folder}: is the folder of an unfinished dataset, but has {path.name}, which `sesame prepare` "
                    "did not write; move that, or choose another --output"
                )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK).open("w")
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be made ({error.strerror}); choose another --output") from None
    if not storage.try_lock(lock):
        raise DatasetError(f"{folder}: another `sesame prepare` is at work there; wait for it or stop it")
    path_of_identity = folder / IDENTITY
    text = json.dumps(identity, sort_keys=True)
    if not path_of_identity.is_file() or path_of_identity.read_text(encoding="utf-8") != text:
        for path in folder.iterdir():
            if path.name != LOCK:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        storage.write_text(path_of_identity, text, durable=False)
    return lock


def close_folder(folder: Path, lock: Any, keep: set[str]) -> None:
    """Remove everything except the files ``keep`` of the result, and release the lock."""
    for path in folder.iterdir():
        if path.name not in keep:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    lock.close()
