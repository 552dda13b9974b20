"""Counts of indicators that are added up, each to the one of its name."""

from dataclasses import fields
from typing import Any, Self, cast


class Tally:
    """What a dataclass of counts derives from, to be added to others of its kind."""

    __slots__ = ()

    def __add__(self, other: Self) -> Self:
        names = [one.name for one in fields(cast("Any", self))]
        return type(self)(**{name: getattr(self, name) + getattr(other, name) for name in names})
