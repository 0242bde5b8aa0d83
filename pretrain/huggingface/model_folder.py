"""A folder in transformers' layout: ``config.json`` and safetensors, in one file or in several with an index."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from configs.errors import ConversionError
from pretrain.huggingface.aside import sentences
from pretrain.huggingface.strict_json import json_object, shown

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")
READ_AS_FP32 = {"F32": None, "F16": None, "BF16": None, "F64": "rounded to fp32"}
"""Number formats of weights, and what reading them changes. Others are no weights as they stand: integers and fp8 are
quantised, with a scale that is somewhere else."""


class Stored(NamedTuple):
    """A tensor in a file."""

    file: Path
    format: str
    """As safetensors names it: F32, BF16, ..."""


class ModelFolder:
    """Settings and tensors of a model that transformers or somebody else has written."""

    def __init__(self, path: Path):
        """
        Raises:
            ConversionError: there is no such folder, or it has no weights as safetensors.
        """
        self.path = path
        with sentences(path, "read"):
            folder = path.is_dir()
        if not folder:
            raise ConversionError(
                f"{path}: is no folder; a model of the Hugging Face hub is downloaded first, where there is a network, "
                f"with: hf download {path} --local-dir DIR"
            )
        if (path / ADAPTER).exists():
            raise ConversionError(
                f"{path / ADAPTER}: the folder has an adapter, which transformers adds to the weights; merge the two "
                "with peft's merge_and_unload, or remove its files"
            )
        self.origin = str(path / "config.json")
        self.values = json_object(path / "config.json")
        self.tensors = self._tensors()

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """A function from a tensor's name to its value in fp32, read when it is asked for.

        It raises an ConversionError for values that are no finite numbers.
        """
        opened = {file: _opened(file) for file in {stored.file for stored in self.tensors.values()}}

        def read(name: str) -> Tensor:
            file, format = self.tensors[name]
            if format not in READ_AS_FP32:
                raise ConversionError(
                    f"{file}: tensor {name} is {format}; weights of {', '.join(READ_AS_FP32)} are read, so save the "
                    "model in one of these"
                )
            value = opened[file].get_tensor(name).float()
            if not torch.isfinite(value).all():
                raise ConversionError(f"{file}: tensor {name} has values that are infinite or no numbers; copy it anew")
            return value

        yield read

    def notes(self, names: Iterable[str]) -> list[str]:
        """What reading the tensors of these names changes."""
        changed: dict[str, list[str]] = {}
        for name in names:
            format = self.tensors[name].format
            if READ_AS_FP32.get(format):
                changed.setdefault(format, []).append(name)
        return [
            f"{len(found)} tensors of {format} are {READ_AS_FP32[format]}, {found[0]} among them"
            for format, found in changed.items()
        ]

    def _tensors(self) -> dict[str, Stored]:
        """What is stored where, by the name of the tensor."""
        if (self.path / WHOLE).is_file():
            return dict(_stored(self.path / WHOLE))
        if (self.path / INDEX).is_file():
            return self._indexed()
        pickled = [name for name in PICKLED if (self.path / name).is_file()]
        if pickled:
            raise ConversionError(
                f"{self.path / pickled[0]}: is not read, because reading it can run whatever it holds; save the model "
                f"as {WHOLE}, with transformers' save_pretrained, or take the file of that name from its page"
            )
        raise ConversionError(f"{self.path}: has no {WHOLE}; give the folder of a model with its weights")

    def _indexed(self) -> dict[str, Stored]:
        """The tensors of the files that the index names, which must be those that it promises of each."""
        index = self.path / INDEX
        promised = json_object(index).get("weight_map")
        if not isinstance(promised, dict) or not all(isinstance(file, str) for file in promised.values()):
            raise ConversionError(f"{index}: 'weight_map' is no table of tensors and their files; copy it anew")
        for file in sorted(set(promised.values())):
            if file in ("", ".", "..") or set(file) & set("/\\\0"):
                raise ConversionError(
                    f"{index}: names the file {shown(file)}, which is not one beside it; put the files into one folder"
                )
        found: dict[str, Stored] = {}
        for file in sorted(set(promised.values())):
            for name, stored in _stored(self.path / file):
                if promised.get(name) != file:
                    says = f"puts into {promised[name]}" if name in promised else "does not name"
                    raise ConversionError(
                        f"{self.path / file}: has the tensor {name}, which {INDEX} {says}; copy both anew"
                    )
                found[name] = stored
        for name, file in promised.items():
            if name not in found:
                raise ConversionError(
                    f"{self.path / file}: lacks the tensor {name}, which {INDEX} promises; copy both anew"
                )
        return found


def _stored(file: Path) -> Iterator[tuple[str, Stored]]:
    opened = _opened(file)
    for name in opened.keys():  # noqa: SIM118 (safe_open is not a dict)
        if not name.isprintable():
            raise ConversionError(
                f"{file}: has a tensor with the name {shown(name)}, which nobody writes; copy it anew"
            )
        yield name, Stored(file, opened.get_slice(name).get_dtype())


def _opened(file: Path) -> Any:
    with sentences(file, "read"):
        if not file.is_file():
            raise ConversionError(f"{file}: is missing or no regular file; copy it anew")
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ConversionError(f"{file}: cannot be read as safetensors ({error}); copy it anew") from None
