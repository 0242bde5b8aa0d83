"""Encoded tasks on disk, read by all workers through a memory map.

    encoded/0123456789abcdef/index.json     everything but arrays, and SHA-256 of each file
    encoded/0123456789abcdef/0.npy          an array; sequences of different lengths lie end to end in one

The name of a folder is a hash of everything that the encoding depends on. A folder that is there is complete.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from sesame import configs
from sesame.configs.storage import atomic_directory, digest, digest_of
from sesame.data_pipeline.ragged import boundaries
from sesame.evaluation.finetune_config import FinetuneConfig
from sesame.evaluation.finetuning.encoded import EncodedExamples
from sesame.evaluation.finetuning.encoding import TaskData
from sesame.evaluation.reading.rows import checksums
from sesame.evaluation.tasks.task import Task

FOLDER = "encoded"
INDEX = "index.json"
MAPPED_BYTES = 1 << 16
"""Files of fewer bytes are read; an empty array cannot be mapped."""
TRAINING_SETTINGS = (
    "learning_rate",
    "batch_size",
    "epochs",
    "steps",
    "warmup_fraction",
    "warmup_steps",
    "decay",
    "layer_decay",
    "betas",
    "epsilon",
    "weight_decay",
    "weight_decay_times",
    "decay_vectors",
    "gradient_clipping",
    "dropout",
    "head_dropout",
    "attention_dropout",
    "pooling",
    "hidden_layer",
    "precision",
    "decoding",
    "select",
    "early_stopping",
    "recompute",
)
"""Fields of FinetuneConfig that the encoding does not depend on; it is assumed to depend on any other."""
CODE = (
    "evaluation/reading",
    "evaluation/tasks",
    "evaluation/finetuning",
    "data_pipeline",
    "data_pipeline/compiled",
    "data_pipeline/sources",
    "data_pipeline/tokenizers",
)
"""Folders of the modules that read and encode tasks."""
CLASSES: dict[str, type] = {each.__name__: each for each in (EncodedExamples, TaskData)}


def encoding_key(task: Task, settings: FinetuneConfig, data_dir: Path, tokenizer: Path, predict: bool) -> str:
    """SHA-256 of everything that an encoded task depends on: files, row, settings, tokenizer and code."""
    relevant = {name: value for name, value in configs.dump(settings).items() if name not in TRAINING_SETTINGS}
    inputs = [repr(task), relevant, checksums([task], data_dir), digest(tokenizer), predict, _code()]
    return digest_of(json.dumps(inputs, sort_keys=True).encode())


def content_key(data: TaskData) -> str:
    """SHA-256 of everything that :func:`write_task` writes, for an encoded task that was made from another one."""
    arrays: list[np.ndarray] = []
    content = json.dumps([repr(data.task), _encoded(data, arrays)])
    digests = [digest_of(f"{each.dtype} {each.shape} ".encode() + each.tobytes()) for each in arrays]
    return digest_of(json.dumps([content, digests]).encode())


def write_task(folder: Path, data: TaskData) -> None:
    """Write an encoded task into ``folder``, in place of a damaged one."""
    arrays: list[np.ndarray] = []
    content = _encoded(data, arrays)
    with atomic_directory(folder, replace=True) as partial:
        for number, array in enumerate(arrays):
            np.save(partial / f"{number}.npy", array)
        digests = {path.name: digest(path) for path in sorted(partial.iterdir())}
        text = json.dumps({"sha256": digests, "content": content})
        (partial / INDEX).write_text(text, encoding="utf-8")


def read_task(folder: Path, task: Task, *, verify: bool = False) -> TaskData | None:
    """Return a task from ``folder``, its arrays memory-mapped; None if it is not there, or is damaged.

    Args:
        verify: compare all files with their checksums.
    """
    try:
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        if verify and any(digest(folder / name) != sha256 for name, sha256 in index["sha256"].items()):
            return None
        arrays = [_array(folder / f"{number}.npy") for number in range(len(index["sha256"]))]
        return _decoded(index["content"], arrays, task)
    except (OSError, ValueError, KeyError, TypeError, IndexError):
        return None


def _array(path: Path) -> np.ndarray:
    is_mapped = path.stat().st_size >= MAPPED_BYTES
    # A view without the class of maps, whose slices are slow to make.
    return np.load(path, mmap_mode="r" if is_mapped else None, allow_pickle=False).view(np.ndarray)


def _encoded(value: Any, arrays: list[np.ndarray]) -> Any:
    """JSON of a value; its arrays are appended to ``arrays`` and named by their numbers."""
    if isinstance(value, Task):
        return {"task": None}
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, list) and value and all(isinstance(each, np.ndarray) for each in value):
        arrays += [np.concatenate(value), boundaries(np.array([len(each) for each in value]))]
        return {"ragged": len(arrays) - 2}
    if isinstance(value, EncodedExamples | TaskData):
        fields = {each.name: _encoded(getattr(value, each.name), arrays) for each in dataclasses.fields(value)}
        return {type(value).__name__: fields}
    if isinstance(value, dict):
        return {"dict": {key: _encoded(each, arrays) for key, each in value.items()}}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_encoded(each, arrays) for each in value]}
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a {type(value).__name__} of an encoded task cannot be written")


def _decoded(value: Any, arrays: list[np.ndarray], task: Task) -> Any:
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    if name in CLASSES:
        return CLASSES[name](**{field: _decoded(each, arrays, task) for field, each in content.items()})
    makers: dict[str, Callable[[Any], Any]] = {
        "task": lambda _: task,
        "array": arrays.__getitem__,
        "ragged": lambda number: [arrays[number][start:end] for start, end in pairwise(arrays[number + 1].tolist())],
        "dict": lambda each: {key: _decoded(one, arrays, task) for key, one in each.items()},
        "list": lambda each: [_decoded(one, arrays, task) for one in each],
        "tuple": lambda each: tuple(_decoded(one, arrays, task) for one in each),
    }
    return makers[name](content)


def _code() -> str:
    """SHA-256 of the code that reads and encodes tasks."""
    return digest_of(b"\0".join(path.read_bytes() for path in _sources()))


def _sources() -> Iterator[Path]:
    root = Path(__file__).parents[2]
    for folder in CODE:
        yield from sorted((root / folder).glob("*.py"))
