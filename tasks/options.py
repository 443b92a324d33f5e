"""Settings of the networks and their training: the dataclasses of model/, as strict sections of params.yaml.

A section has the names and types of its dataclass; numbers must be finite and not negative, and nothing may be missing.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, create_model

Options = TypeVar("Options")

Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0)]


def section_of(options: type) -> type[BaseModel]:
    """A frozen, strict section without defaults that mirrors a dataclass, nested ones included."""
    hints = typing.get_type_hints(options)
    fields = {field.name: (_strict(hints[field.name]), ...) for field in dataclasses.fields(options)}
    return create_model(options.__name__, __config__=ConfigDict(frozen=True, strict=True, extra="forbid"), **fields)


def options_from(section: BaseModel, options: type[Options]) -> Options:
    """The dataclass that a section describes."""
    hints = typing.get_type_hints(options)
    values = {}
    for field in dataclasses.fields(options):
        value = getattr(section, field.name)
        nested = next((t for t in _members(hints[field.name]) if dataclasses.is_dataclass(t)), None)
        values[field.name] = options_from(value, nested) if nested is not None and value is not None else value
    return options(**values)


def _strict(hint: object) -> object:
    if isinstance(hint, types.UnionType):
        return typing.Union[tuple(_strict(member) for member in _members(hint))]
    if dataclasses.is_dataclass(hint):
        return section_of(hint)
    return {float: Number, int: Count}.get(hint, hint)


def _members(hint: object) -> tuple:
    return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
