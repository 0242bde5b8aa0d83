"""Conversion of weights by the parameter mappings of a counterpart."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sesame.configs.errors import ConversionError
from sesame.pretrain.huggingface.counterpart import Counterpart, ParameterMapping
from sesame.pretrain.huggingface.tensor_conversion import TensorConversion

Read = Callable[[str], Tensor]
"""Parameter or tensor name -> its value, which is read at the call."""
Shape = tuple[int, ...]

SUFFIX = r"(?P<suffix>\.weight|\.bias)?"
NORM, NORM_SUFFIXES = re.compile(r"\.(gamma|beta)$"), {"gamma": ".weight", "beta": ".bias"}
"""Names of norm parameters in files converted from TensorFlow checkpoints."""


class TensorGroup(NamedTuple):
    """Sesame parameters and the transformers tensors that they are converted to."""

    ours: tuple[str, ...]
    hf: tuple[str, ...]
    conversion: TensorConversion


def tensor_groups(mappings: Iterable[ParameterMapping], shapes: Mapping[str, Shape]) -> list[TensorGroup]:
    """Apply the mappings to all parameters in ``shapes`` (parameter name -> unsharded shape).

    Raises:
        ConversionError: a parameter has no mapping.
    """
    groups = [group for mapping in mappings for group in _groups_of(mapping, shapes)]
    mapped = {name for group in groups for name in group.ours}
    for name in shapes:
        if name not in mapped:
            raise ConversionError(f"parameter {name}: has no counterpart in transformers' classes for this model type")
    return groups


def mapped_parameters(mappings: Iterable[ParameterMapping], shapes: Mapping[str, Shape]) -> set[str]:
    """Return the names in ``shapes`` that have a mapping."""
    return {name for mapping in mappings for group in _groups_of(mapping, shapes) for name in group.ours}


def weights_to_hf(mappings: Iterable[ParameterMapping], shapes: Mapping[str, Shape], read: Read) -> dict[str, Tensor]:
    """Convert Sesame parameters with these ``shapes`` to transformers tensors.

    Raises:
        ConversionError: a parameter has no mapping.
    """
    tensors: dict[str, Tensor] = {}
    written: set[str] = set()
    for group in tensor_groups(mappings, shapes):
        # safetensors refuses tensors that share memory.
        shared = not written.isdisjoint(group.ours)
        values = group.conversion.to_hf([read(name).clone() if shared else read(name) for name in group.ours])
        tensors.update({name: value.contiguous() for name, value in zip(group.hf, values, strict=True)})
        written.update(group.ours)
    return tensors


def weights_from_hf(
    mappings: Iterable[ParameterMapping],
    shapes: Mapping[str, Shape],
    names: Collection[str],
    read: Read,
    tied_tensors: Mapping[str, tuple[str, ...]],
    origin: str,
) -> dict[str, Tensor]:
    """Convert transformers tensors to Sesame parameters with these ``shapes``.

    Args:
        names: of all tensors of the model; each must have a mapping.
        tied_tensors: tensor name -> other names under which ``names`` may contain a copy.
        origin: folder of the model, for messages.

    Returns:
        Parameter name -> fp32 value.

    Raises:
        ConversionError: a tensor is missing, unknown, or its shape does not agree with ``config.json``.
    """
    groups = tensor_groups(mappings, shapes)
    expected_names = {name: None for group in groups for name in group.hf}
    sources = deduplicate(tied_tensors, names, expected_names, read, origin)
    for name in expected_names:
        if name not in sources:
            raise ConversionError(
                f"{origin}: tensor {name}: is missing, but config.json requires it; copy all files again"
            )
    for name in sources:
        if name not in expected_names:
            raise ConversionError(f"{origin}: tensor {name}: is unknown for this model type and config.json; remove it")
    parameters: dict[str, Tensor] = {}
    for group in groups:
        group_shapes = [tuple(shapes[name]) for name in group.ours]
        tensors = [read(sources[name]) for name in group.hf]
        _check_shapes(group, group_shapes, tensors, origin)
        for name, value in zip(group.ours, group.conversion.from_hf(tensors, group_shapes), strict=True):
            if name in parameters and not torch.equal(parameters[name], value):
                raise ConversionError(
                    f"{origin}: tensor {group.hf[0]}: differs from another of parameter {name}; both must be equal"
                )
            parameters[name] = value.contiguous()
    return parameters


def normalized_names(counterpart: Counterpart, names: Collection[str]) -> dict[str, str]:
    """Return tensor name as in the mappings -> name in the file, without the ignored tensors.

    Raises:
        ConversionError: two names in the file mean the same tensor.
    """
    weights = [name for name in names if not any(re.fullmatch(each, name) for each in counterpart.ignored_tensors)]
    has_prefix = any(name.startswith(counterpart.base_prefix) for name in weights)
    prefix = "" if has_prefix else counterpart.base_prefix
    in_file: dict[str, str] = {}
    for name in weights:
        normalized = prefix + NORM.sub(lambda match: NORM_SUFFIXES[match[1]], name)
        if in_file.setdefault(normalized, name) != name:
            raise ConversionError(
                f"tensors {in_file[normalized]} and {name}: are two names of one tensor; remove the wrong one"
            )
    return in_file


def deduplicate(
    tied_tensors: Mapping[str, tuple[str, ...]],
    names: Collection[str],
    expected: Collection[str],
    read: Read,
    origin: str,
) -> dict[str, str]:
    """Return tensor name -> one of ``names`` to read it from, with tied tensors only once.

    Raises:
        ConversionError: the copies of a tensor differ.
    """
    sources = {name: name for name in names}
    for name, copies in tied_tensors.items():
        for copy in copies:
            if copy not in sources or copy in expected:
                continue
            if name in sources and not torch.equal(read(sources[name]), read(copy)):
                raise ConversionError(
                    f"{origin}: tensor {copy}: differs from {name}, but this model ties them; copy it again"
                )
            sources.setdefault(name, copy)
            del sources[copy]
    return sources


def matches(mapping: ParameterMapping, name: str) -> bool:
    """Return whether ``mapping`` contains the transformers tensor ``name``."""
    pattern = re.escape(mapping.hf).replace(r"\*", r"\d+").replace(r"\#", r"\d+")
    return re.fullmatch(pattern + SUFFIX, name) is not None


def _groups_of(mapping: ParameterMapping, shapes: Mapping[str, Shape]) -> Iterator[TensorGroup]:
    patterns = (mapping.ours,) if isinstance(mapping.ours, str) else mapping.ours
    search = re.compile(re.escape(patterns[0]).replace(r"\*", r"(?P<layer>\d+)") + SUFFIX)
    for name in shapes:
        match = search.fullmatch(name)
        if match is None:
            continue
        layer, suffix = match.groupdict().get("layer", ""), match["suffix"] or ""
        ours = tuple(pattern.replace("*", layer) + suffix for pattern in patterns)
        hf = mapping.hf.replace("*", layer) + suffix
        experts = shapes[name][0] if "#" in hf else 1
        yield TensorGroup(ours, tuple(hf.replace("#", str(number)) for number in range(experts)), mapping.conversion)


def _check_shapes(group: TensorGroup, shapes: list[Shape], tensors: list[Tensor], origin: str) -> None:
    expected = group.conversion.to_hf([torch.empty(shape, device="meta") for shape in shapes])
    for name, tensor, like in zip(group.hf, tensors, expected, strict=True):
        if tensor.shape != like.shape:
            raise ConversionError(
                f"{origin}: tensor {name}: has shape {_shape(tensor)}, but config.json requires {_shape(like)}; "
                "correct one"
            )


def _shape(value: Tensor) -> str:
    return "x".join(map(str, value.shape))
