"""A folder in transformers' layout: ``config.json`` and safetensors, in one file or in several with an index."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from configs.errors import ExchangeError

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("pytorch_model.bin", "pytorch_model.bin.index.json", "tf_model.h5", "flax_model.msgpack")


class ModelFolder:
    """Settings and tensors of a model that transformers or somebody else has written."""

    def __init__(self, path: Path):
        """
        Raises:
            ExchangeError: there is no such folder, or it has no weights as safetensors.
        """
        self.path = path
        if not path.is_dir():
            raise ExchangeError(
                f"{path}: is no folder; a model of the Hugging Face hub is downloaded first, where there is a network, "
                f"with: hf download {path} --local-dir DIR"
            )
        self.origin = str(path / "config.json")
        self.values = _json(path / "config.json")
        self._file_of = self._files()

    @property
    def names(self) -> tuple[str, ...]:
        """Of all tensors."""
        return tuple(self._file_of)

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """A function from a tensor's name to its value, read when it is asked for."""
        opened = {file: _opened(file) for file in set(self._file_of.values())}

        def read(name: str) -> Tensor:
            return opened[self._file_of[name]].get_tensor(name)

        yield read

    def _files(self) -> dict[str, Path]:
        """The file of each tensor."""
        if (self.path / WHOLE).is_file():
            file = self.path / WHOLE
            return dict.fromkeys(_opened(file).keys(), file)
        if (self.path / INDEX).is_file():
            files = _json(self.path / INDEX).get("weight_map", {})
            return {name: self.path / Path(file).name for name, file in files.items()}
        pickled = [name for name in PICKLED if (self.path / name).is_file()]
        if pickled:
            raise ExchangeError(
                f"{self.path / pickled[0]}: is not read, because reading it can run whatever it holds; save the model "
                f"as {WHOLE}, with transformers' save_pretrained, or take the file of that name from its page"
            )
        raise ExchangeError(f"{self.path}: has no {WHOLE}; give the folder of a model with its weights")


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="pt")
    except (OSError, SafetensorError) as error:
        raise ExchangeError(f"{file}: cannot be read as safetensors ({error}); copy it anew") from None


def _json(file: Path) -> dict[str, Any]:
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExchangeError(f"{file}: is missing; give the folder of a model in transformers' layout") from None
    except (OSError, ValueError) as error:
        raise ExchangeError(f"{file}: cannot be read as JSON ({error}); copy it anew") from None
    if not isinstance(values, dict):
        raise ExchangeError(f"{file}: is no JSON object; copy it anew")
    return values
