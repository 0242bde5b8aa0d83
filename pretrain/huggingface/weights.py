"""One engine for all rows: our parameters to their tensors, and back."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from configs.errors import ConversionError
from pretrain.huggingface.conversion import Counterpart, Row, TensorConversion

Read = Callable[[str], Tensor]
"""Parameter or tensor name -> its value, read when it is asked for."""
Shape = tuple[int, ...]


class Pair(NamedTuple):
    """Parameters of ours and the tensors that hold them there."""

    ours: tuple[str, ...]
    theirs: tuple[str, ...]
    how: TensorConversion


def pairs(rows: Iterable[Row], shapes: Mapping[str, Shape]) -> list[Pair]:
    """What the rows say of parameters with these names and whole shapes.

    Raises:
        ConversionError: a parameter is in no row.
    """
    found = [pair for row in rows for pair in _pairs(row, shapes)]
    known = {name for pair in found for name in pair.ours}
    for name in shapes:
        if name not in known:
            raise ConversionError(f"parameter {name}: has no place in transformers' classes for this kind of model")
    return found


def taken(rows: Iterable[Row], shapes: Mapping[str, Shape]) -> set[str]:
    """The parameters that rows speak of."""
    return {name for row in rows for pair in _pairs(row, shapes) for name in pair.ours}


def exported(rows: Iterable[Row], shapes: Mapping[str, Shape], read: Read) -> dict[str, Tensor]:
    """Our parameters of these ``shapes`` as their tensors, by name."""
    tensors: dict[str, Tensor] = {}
    written: set[str] = set()
    for pair in pairs(rows, shapes):
        # A safetensors file takes no memory twice.
        again = not written.isdisjoint(pair.ours)
        values = pair.how.there([read(name).clone() if again else read(name) for name in pair.ours])
        tensors.update({name: value.contiguous() for name, value in zip(pair.theirs, values, strict=True)})
        written.update(pair.ours)
    return tensors


def imported(
    rows: Iterable[Row],
    shapes: Mapping[str, Shape],
    names: Collection[str],
    read: Read,
    copies: Mapping[str, tuple[str, ...]],
) -> dict[str, Tensor]:
    """Their tensors as our parameters (name, fp32 value) of these ``shapes``.

    Args:
        names: of their tensors; each has to be taken by a row.
        copies: names under which a tensor may be there again.

    Raises:
        ConversionError: naming a tensor that is missing, left over, or of another shape than ``config.json`` says.
    """
    found = pairs(rows, shapes)
    wanted = {name: None for pair in found for name in pair.theirs}
    kept = without_copies(copies, names, wanted, read)
    for name in wanted:
        if name not in kept:
            raise ConversionError(f"tensor {name}: is missing, which this model type has with these settings")
    for name in kept:
        if name not in wanted:
            raise ConversionError(f"tensor {name}: is not known for this model type with these settings")
    parameters: dict[str, Tensor] = {}
    for pair in found:
        expected = [tuple(shapes[name]) for name in pair.ours]
        read_in = [read(kept[name]) for name in pair.theirs]
        _check(pair, expected, read_in)
        for name, value in zip(pair.ours, pair.how.back(read_in, expected), strict=True):
            if name in parameters and not torch.equal(parameters[name], value):
                raise ConversionError(
                    f"tensor {pair.theirs[0]}: differs from its counterpart, but both are one and the same here"
                )
            parameters[name] = value.contiguous()
    return parameters


def normal_names(exchange: Counterpart, names: Collection[str]) -> dict[str, str]:
    """Tensor's name as the rows have it -> its name in the file, without what is no weight.

    Raises:
        ConversionError: a tensor is there under two names.
    """
    kept = [name for name in names if not any(re.fullmatch(pattern, name) for pattern in exchange.ignored)]
    prefix = "" if any(name.startswith(exchange.prefix) for name in kept) else exchange.prefix
    found: dict[str, str] = {}
    for name in kept:
        usual = prefix + NORM.sub(lambda match: NORM_ENDINGS[match[1]], name)
        if found.setdefault(usual, name) != name:
            raise ConversionError(
                f"tensors {found[usual]} and {name}: are two names of one tensor; remove the wrong one"
            )
    return found


NORM, NORM_ENDINGS = re.compile(r"\.(gamma|beta)$"), {"gamma": ".weight", "beta": ".bias"}
"""What files made from TensorFlow's checkpoints call the parameters of a norm."""


def without_copies(copies: Mapping[str, tuple[str, ...]], names: Collection[str], wanted: Collection[str], read: Read):
    """``names`` -> the same names, but each tensor that a file holds twice only once, under the wanted name.

    Raises:
        ConversionError: the two have different values.
    """
    kept = {name: name for name in names}
    for name, others in copies.items():
        for other in others:
            if other not in kept or other in wanted:
                continue
            if name in kept and not torch.equal(read(kept[name]), read(other)):
                raise ConversionError(f"tensor {other}: differs from {name}, but both are one and the same here")
            kept.setdefault(name, other)
            del kept[other]
    return kept


def matches(row: Row, name: str) -> bool:
    """Whether a tensor of theirs is in this row."""
    pattern = re.escape(row.theirs).replace(r"\*", r"\d+").replace(r"\#", r"\d+")
    return re.fullmatch(pattern + ENDING, name) is not None


ENDING = r"(?P<ending>\.weight|\.bias)?"


def _pairs(row: Row, shapes: Mapping[str, Shape]) -> Iterator[Pair]:
    patterns = (row.ours,) if isinstance(row.ours, str) else row.ours
    search = re.compile(re.escape(patterns[0]).replace(r"\*", r"(?P<layer>\d+)") + ENDING)
    for name in shapes:
        match = search.fullmatch(name)
        if match is None:
            continue
        layer, ending = match.groupdict().get("layer", ""), match["ending"] or ""
        ours = tuple(pattern.replace("*", layer) + ending for pattern in patterns)
        theirs = row.theirs.replace("*", layer) + ending
        count = shapes[name][0] if "#" in theirs else 1
        yield Pair(ours, tuple(theirs.replace("#", str(number)) for number in range(count)), row.how)


def _check(pair: Pair, expected: list[Shape], read_in: list[Tensor]) -> None:
    """Compare with what ours would be there, without memory."""
    there = pair.how.there([torch.empty(shape, device="meta") for shape in expected])
    for name, value, like in zip(pair.theirs, read_in, there, strict=True):
        if value.shape != like.shape:
            raise ConversionError(f"tensor {name}: is {_shape(value)}, but config.json makes it {_shape(like)}")


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape))
