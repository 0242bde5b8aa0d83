"""What a run that goes on from its checkpoint may change: every setting has a kind, written beside its type.

``seed: Fixed[int]`` must stay as it is in the checkpoint, ``learning_rate: Free[float]`` may be changed.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args

from pydantic.fields import FieldInfo

from configs import Section

Type = TypeVar("Type")


class Kind(Enum):
    """What happens to a setting when a run goes on; the value is its word in ``docs/resume.md``."""

    FIXED = "same"
    FREE = "may change"
    DERIVED = "derived"


Fixed = Annotated[Type, Kind.FIXED]
Free = Annotated[Type, Kind.FREE]
Derived = Annotated[Type, Kind.DERIVED]


def kind_of(field: FieldInfo) -> Kind | None:
    """The kind of a setting, None where none is given."""
    return next((mark for mark in field.metadata if isinstance(mark, Kind)), None)


def fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """(dotted key, field) of every setting of a configuration class (a Section), of nested sections too."""
    for name, field in kind.model_fields.items():
        section = next((part for part in (field.annotation, *get_args(field.annotation)) if _is_section(part)), None)
        if section is None:
            yield prefix + name, field
        else:
            yield from fields(section, f"{prefix}{name}.")


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)
