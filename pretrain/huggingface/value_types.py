"""Types of values in ``config.json``."""

from collections.abc import Callable
from typing import Any, NamedTuple

LARGEST = 2**24
"""Limit of every integer in ``config.json``, a thousand times the largest of published models."""


class ValueType(NamedTuple):
    """A check of one value of ``config.json``."""

    description: str
    """For messages: "it must be ..."."""
    accepts: Callable[[Any], bool]


def optional(value_type: ValueType) -> ValueType:
    """Return a type that also accepts null."""
    return ValueType(f"{value_type.description} or null", lambda value: value is None or value_type.accepts(value))


def integer(smallest: int) -> ValueType:
    """Return the type of integers from ``smallest`` to ``LARGEST``."""
    return ValueType(
        f"an integer from {smallest} to {LARGEST}", lambda value: type(value) is int and smallest <= value <= LARGEST
    )


POSITIVE_INTEGER = integer(1)
NON_NEGATIVE_INTEGER = integer(0)
BOOLEAN = ValueType("true or false", lambda value: isinstance(value, bool))
STRING = ValueType("a string", lambda value: isinstance(value, str))
FRACTION = ValueType("a number in [0, 1)", lambda value: type(value) in (int, float) and 0 <= value < 1)
POSITIVE_NUMBER = ValueType("a number above 0", lambda value: type(value) in (int, float) and 0 < value <= 1e12)
STRINGS = ValueType(
    "a list of strings", lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value)
)
OBJECT = ValueType("an object", lambda value: isinstance(value, dict))
