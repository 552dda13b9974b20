"""Counts of indicators that can be added up, field by field."""

from dataclasses import fields
from typing import Any, Self, cast


class Tally:
    """Base of a dataclass of counts: adds it to others of the same class."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = [one.name for one in fields(cast("Any", self))]
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names})
