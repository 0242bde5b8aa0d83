"""Which settings a resumed run may change: every setting has a kind beside its type.

``seed: Fixed[int]`` must be the same as in the checkpoint, ``learning_rate: Free[float]`` may be changed.
"""

from collections.abc import Iterator
from enum import Enum
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic.fields import FieldInfo

from sesame.configs import Section

Type = TypeVar("Type")


class Kind(Enum):
    """Whether a setting may change when a run is resumed; the value is how ``docs/resume.md`` names it."""

    FIXED = "same"
    FREE = "may change"
    DERIVED = "derived"


Fixed = Annotated[Type, Kind.FIXED]
Free = Annotated[Type, Kind.FREE]
Derived = Annotated[Type, Kind.DERIVED]


def kind_of(field: FieldInfo) -> Kind | None:
    """Return the kind of a setting, None if it has none."""
    return next((each for each in field.metadata if isinstance(each, Kind)), None)


def fields(section: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield (dotted key, field) of every setting of a subclass of Section, those of nested sections included."""
    for name, field in section.model_fields.items():
        # A dict, whose names the user gives, is one setting.
        choices = () if get_origin(field.annotation) is dict else get_args(field.annotation)
        nested = next((part for part in (field.annotation, *choices) if _is_section(part)), None)
        if nested is None:
            yield prefix + name, field
        else:
            yield from fields(nested, f"{prefix}{name}.")


def _is_section(part: Any) -> bool:
    return isinstance(part, type) and issubclass(part, Section)
