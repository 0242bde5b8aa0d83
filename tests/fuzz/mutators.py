"""Seeded damage to inputs: values of JSON or TOML, text, bytes and safetensors files.

Every function takes a ``random.Random`` first, leaves its argument as it is and returns a damaged copy: the same seed
gives the same damage. A mutation may happen to give an input that is still valid.
"""

import copy
import json
import math
import random
import struct
from collections.abc import Callable, Iterator
from typing import Any

Location = tuple[dict[str, Any] | list[Any], str | int]
"""A container and the key or index of one value in it."""

HOSTILE: tuple[Callable[[], Any], ...] = (
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: 0,
    lambda: -1,
    lambda: 1,
    lambda: 2**31,
    lambda: 2**63,
    lambda: 10**30,
    lambda: 10**300,
    lambda: 0.0,
    lambda: -0.5,
    lambda: 1.5,
    lambda: 1e-320,
    lambda: 1e308,
    lambda: math.inf,
    lambda: -math.inf,
    lambda: math.nan,
    lambda: "",
    lambda: "x",
    lambda: "0",
    lambda: "../x",
    lambda: "/dev/zero",
    lambda: "a\nb",
    lambda: "\x00",
    lambda: "\ud800",
    lambda: "é" * 300,
    list,
    dict,
    lambda: [[]],
    lambda: {"": None},
    lambda: nested_array(40),
)
"""Replacements for a value; functions, because some results are mutable."""


def nested_array(depth: int) -> list[Any]:
    """Return an array nested ``depth`` times."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def locations(value: Any) -> Iterator[Location]:
    """Yield the location of every value inside ``value``, outer ones first."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from locations(inner)


def json_value(draw: random.Random, value: Any) -> Any:
    """Make one change to a JSON value."""
    changed = copy.deepcopy(value)
    candidates = list(locations(changed))
    if not candidates:
        return draw.choice(HOSTILE)()
    container, key = draw.choice(candidates)
    change = draw.choice(("hostile", "hostile", "hostile", "near", "near", "remove", "rename", "repeat", "add"))
    _CHANGES[change](draw, container, key)
    return changed


def _near(draw: random.Random, value: Any) -> Any:
    """Return a value of the same or a similar type."""
    if isinstance(value, bool):
        return draw.choice((not value, int(value), str(value).lower()))
    if isinstance(value, int):
        return draw.choice((value + 1, value - 1, -value, value * 2, value // 2, float(value), str(value)))
    if isinstance(value, float):
        return draw.choice((-value, value * 10, value / 10, round(value), str(value)))
    if isinstance(value, str):
        return text(draw, value)
    return draw.choice(HOSTILE)()


def _set(value: Callable[[random.Random, Any], Any]) -> Callable[[random.Random, Any, Any], None]:
    def change(draw: random.Random, container: Any, key: Any) -> None:
        container[key] = value(draw, container[key])

    return change


def _rename(draw: random.Random, container: Any, key: Any) -> None:
    value = container.pop(key)
    if isinstance(container, dict):
        container[text(draw, key)] = value


def _repeat(draw: random.Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[draw.choice(list(container))] = copy.deepcopy(container[key])
    else:
        container.insert(key, copy.deepcopy(container[key]))


def _add(draw: random.Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[f"{key}_{draw.randint(0, 9)}"] = draw.choice(HOSTILE)()
    else:
        container.append(draw.choice(HOSTILE)())


_CHANGES: dict[str, Callable[[random.Random, Any, Any], None]] = {
    "hostile": _set(lambda draw, value: draw.choice(HOSTILE)()),
    "near": _set(_near),
    "remove": lambda draw, container, key: container.pop(key),
    "rename": _rename,
    "repeat": _repeat,
    "add": _add,
}


def json_text(draw: random.Random, value: Any) -> str:
    """Return ``value``, a dict, as JSON text with one change to the value or to the text."""
    if draw.random() < 0.7:
        return json.dumps(json_value(draw, value), indent=draw.choice((None, 2)))
    whole = json.dumps(value, indent=2)
    key = json.dumps(draw.choice(list(value)) if value else "key")
    inside = whole.rstrip()[1:]
    comma = "," if value else ""
    return draw.choice(
        (
            lambda: text(draw, whole),
            lambda: f"{{{key}: {json.dumps(draw.choice(HOSTILE)())}{comma}{inside}",
            lambda: f"{whole.rstrip()[:-1]}{comma}{key}: {json.dumps(draw.choice(HOSTILE)())}}}",
            lambda: f"{{{key}: {'[' * 100_000}{']' * 100_000}{comma}{inside}",
            lambda: f"{{{key}: {'9' * draw.choice((400, 5000))}{comma}{inside}",
            lambda: f"{{{key}: {draw.choice(('NaN', 'Infinity', '1e999', '-0', '01', '1_000'))}{comma}{inside}",
            lambda: f"[{whole}]",
            lambda: "\ufeff" + whole,
            lambda: whole + whole,
            lambda: "",
        )
    )()


CHARACTERS = "\x00\t\n\r \"'\\{}[]=.,:-+_0179aAzZ\x7f\x80é\u2028\u202e\ufeff中😀"


def text(draw: random.Random, value: str) -> str:
    """Make one change to a string: to characters, or to whole lines if it has several."""
    lines = value.split("\n")
    if len(lines) > 2 and draw.random() < 0.4:
        where, other = draw.randrange(len(lines)), draw.randrange(len(lines))
        change = draw.choice(("drop", "repeat", "swap", "cut"))
        if change == "drop":
            del lines[where]
        elif change == "repeat":
            lines.insert(other, lines[where])
        elif change == "swap":
            lines[where], lines[other] = lines[other], lines[where]
        else:
            del lines[where:]
        return "\n".join(lines)
    start = draw.randint(0, len(value))
    end = min(len(value), start + draw.choice((0, 1, 1, 2, 8)))
    new = "".join(draw.choices(CHARACTERS, k=draw.choice((0, 1, 1, 2))))
    return value[:start] + new + value[end:]


def data(draw: random.Random, value: bytes) -> bytes:
    """Make one change to bytes: to a bit, a range or the length."""
    start = draw.randint(0, max(0, len(value) - 1))
    length = draw.choice((1, 1, 4, 16, 256))
    end = min(len(value), start + length)
    return draw.choice(
        (
            lambda: (
                value[:start]
                + bytes(byte ^ (1 << draw.randrange(8)) for byte in value[start : start + 1])
                + value[start + 1 :]
            ),
            lambda: value[:start] + draw.randbytes(end - start) + value[end:],
            lambda: value[:start] + bytes([draw.choice((0, 255))]) * (end - start) + value[end:],
            lambda: value[:start],
            lambda: value[:start] + value[end:],
            lambda: value[:start] + draw.randbytes(length) + value[start:],
            lambda: value + draw.randbytes(length),
            lambda: value[end:],
            lambda: b"",
        )
    )()


def safetensors(draw: random.Random, value: bytes) -> bytes:
    """Make one change to a safetensors file, mostly to its header, whose length is updated."""
    (size,) = struct.unpack("<Q", value[:8])
    header, rest = json.loads(value[8 : 8 + size]), value[8 + size :]
    kind = draw.choice(("header", "header", "header", "text", "swap", "type", "size", "bytes", "values"))
    if kind == "bytes":
        return data(draw, value)
    if kind == "values":
        return value[: 8 + size] + data(draw, rest)
    if kind == "size":
        return (
            struct.pack("<Q", draw.choice((0, size - 1, size + 1, 2**40, 2**63, draw.randint(0, 2 * size)))) + value[8:]
        )
    names = [name for name in header if name != "__metadata__"]
    first, second = draw.choice(names), draw.choice(names)
    if kind == "swap":
        header[first], header[second] = header[second], header[first]
    elif kind == "type":
        header[first]["dtype"] = draw.choice(
            ("F64", "F32", "F16", "BF16", "I64", "I32", "I8", "U8", "BOOL", "F8_E4M3", "X")
        )
    elif kind == "header":
        header = json_value(draw, header)
    written = json_text(draw, header) if kind == "text" else json.dumps(header)
    encoded = written.encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + rest
