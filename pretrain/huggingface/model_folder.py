"""A folder in transformers' layout: ``config.json`` and safetensors, in one file or in several with an index."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sesame.configs.errors import ConversionError
from sesame.configs.file_errors import file_errors_as
from sesame.configs.strict_json import abbreviate, read_json_object

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
DTYPES = {"F32": None, "F16": None, "BF16": None, "F64": "rounded to fp32"}
"""safetensors dtype that can be read -> change of its values, if any. Integers and fp8 are quantized, with scales
elsewhere."""
ADVICE = "give a complete model folder in transformers' layout"


class StoredTensor(NamedTuple):
    """Where a tensor is stored."""

    file: Path
    dtype: str
    """In safetensors' notation: F32, BF16, ..."""


class ModelFolder:
    """Configuration and tensors of a model folder.

    Attributes:
        values: content of ``config.json``.
        tensors: tensor name -> where it is stored.
        origin: path of ``config.json``, for messages.
    """

    def __init__(self, path: Path):
        """Read ``config.json`` and the names of the tensors.

        Raises:
            ConversionError: ``path`` is not a folder, a file is damaged, or there are no weights as safetensors.
        """
        self.path = path
        with file_errors_as(ConversionError, path, "read"):
            is_folder = path.is_dir()
        if not is_folder:
            raise ConversionError(
                f"{path}: is not a folder; download a model of the Hugging Face hub first: hf download {path} "
                "--local-dir DIR"
            )
        if (path / ADAPTER).exists():
            raise ConversionError(
                f"{path / ADAPTER}: the folder contains a PEFT adapter, which cannot be imported; merge it into the "
                "weights with peft's merge_and_unload, or remove its files"
            )
        self.origin = str(path / "config.json")
        self.values = read_json_object(path / "config.json", ConversionError, ADVICE)
        self.tensors = self._tensors()

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """Yield a function from tensor name to fp32 value.

        It raises a ConversionError for an unsupported dtype and for values that are not finite.
        """
        opened = {file: _open(file) for file in {stored.file for stored in self.tensors.values()}}

        def read(name: str) -> Tensor:
            file, dtype = self.tensors[name]
            if dtype not in DTYPES:
                raise ConversionError(
                    f"{file}: tensor {name} has dtype {dtype}; save the model in one of {', '.join(DTYPES)}"
                )
            value = opened[file].get_tensor(name).float()
            if not torch.isfinite(value).all():
                raise ConversionError(f"{file}: tensor {name} has infinite or NaN values; copy the file again")
            return value

        yield read

    def notes(self, names: Iterable[str]) -> list[str]:
        """Return messages about changes of values when the tensors ``names`` are read."""
        changed: dict[str, list[str]] = {}
        for name in names:
            dtype = self.tensors[name].dtype
            if DTYPES.get(dtype):
                changed.setdefault(dtype, []).append(name)
        return [
            f"tensors of dtype {dtype} {DTYPES[dtype]}: {len(found)}, for example {found[0]}"
            for dtype, found in changed.items()
        ]

    def _tensors(self) -> dict[str, StoredTensor]:
        if (self.path / WEIGHTS).is_file():
            return dict(_stored_tensors(self.path / WEIGHTS))
        if (self.path / INDEX).is_file():
            return self._sharded_tensors()
        pickled = [name for name in PICKLED if (self.path / name).is_file()]
        if pickled:
            raise ConversionError(
                f"{self.path / pickled[0]}: is not read, because loading it can execute code; save the model as "
                f"{WEIGHTS} with transformers' save_pretrained, or download {WEIGHTS}"
            )
        raise ConversionError(f"{self.path}: has no {WEIGHTS}; {ADVICE}")

    def _sharded_tensors(self) -> dict[str, StoredTensor]:
        """Return the tensors of all shards, which must agree with the index."""
        index = self.path / INDEX
        weight_map = read_json_object(index, ConversionError, ADVICE).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise ConversionError(
                f"{index}: 'weight_map' is not an object from tensor names to file names; copy the file again"
            )
        for file in sorted(set(weight_map.values())):
            if file in ("", ".", "..") or set(file) & set("/\\\0"):
                raise ConversionError(
                    f"{index}: {abbreviate(file)} is not a file name in the same folder; put all files into one folder"
                )
        tensors: dict[str, StoredTensor] = {}
        for file in sorted(set(weight_map.values())):
            for name, stored in _stored_tensors(self.path / file):
                if weight_map.get(name) != file:
                    contradiction = f"assigns to {weight_map[name]}" if name in weight_map else "does not list"
                    raise ConversionError(
                        f"{self.path / file}: contains the tensor {name}, which {INDEX} {contradiction}; copy both "
                        "files again"
                    )
                tensors[name] = stored
        for name, file in weight_map.items():
            if name not in tensors:
                raise ConversionError(
                    f"{self.path / file}: does not contain the tensor {name}, which {INDEX} assigns to it; copy both "
                    "files again"
                )
        return tensors


def _stored_tensors(file: Path) -> Iterator[tuple[str, StoredTensor]]:
    opened = _open(file)
    for name in opened.keys():  # noqa: SIM118 (safe_open is not a dict)
        if not name.isprintable():
            raise ConversionError(
                f"{file}: the tensor name {abbreviate(name)} contains control characters; copy the file again"
            )
        yield name, StoredTensor(file, opened.get_slice(name).get_dtype())


def _open(file: Path) -> Any:
    with file_errors_as(ConversionError, file, "read"):
        if not file.is_file():
            raise ConversionError(f"{file}: is missing or not a regular file; copy it again")
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{file}: is not a valid safetensors file ({error}); copy it again") from None
