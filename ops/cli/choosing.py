"""Options that many commands share: what is chosen, why, and whether it is meant."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter, validators

from ops.cli.ending import Failure, MissingError
from ops.cli.slices import carry_out
from ops.cli.transport import Answer, Transport, read

NAME: Final = re.compile("[A-Za-z0-9/-]+")
"""What names of runs, poison and rejections are made of."""

type Flag = Annotated[bool, Parameter(negative="")]
type Number = Annotated[int, Parameter(validator=validators.Number(gte=1))]


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Why:
    """What every act takes."""

    note: str = ""
    """Why, for those who read it later."""


@Parameter(name="*")
@dataclass(frozen=True, kw_only=True)
class Meant:
    """Of an act that can be tried beforehand, and that asks."""

    dry_run: Flag = False
    """Only say what would happen."""
    yes: Flag = False
    """Do not ask."""


def one_way(*, names: Sequence[str], filters: Sequence[str], everything: bool, ways: str) -> None:
    """Raise `Failure` unless the choice is made in exactly one way."""
    made = [bool(names), any(filters), everything]
    if sum(made) == 0:
        raise Failure(f"say which: {ways}")
    if sum(made) > 1:
        raise Failure(f"choose in one way: {ways}")


def full_poison(transport: Transport, names: Sequence[str]) -> list[str]:
    """Return the full names of poison, given by their beginnings; raises `Failure`."""
    return [str(one["poison"]) for one in poison_of(transport, names)]


def poison_of(transport: Transport, names: Sequence[str]) -> list[Answer]:
    """Return everything about some poison; nothing where one of the names is wrong."""
    return [_named(transport, "poison", name, see="poison list") for name in names]


def full_rejections(transport: Transport, names: Sequence[str]) -> list[str]:
    """Return the full names of rejections, given by their beginnings; raises `Failure`."""
    return [str(one["rejection"]) for one in rejections_of(transport, names)]


def rejections_of(transport: Transport, names: Sequence[str]) -> list[Answer]:
    """Return everything about some rejections; nothing where one of the names is wrong."""
    return [_named(transport, "rejections", name, see="rejections") for name in names]


def _named(transport: Transport, path: str, name: str, *, see: str) -> Answer:
    """Return what a name, or a beginning that only one has, stands for; raises `Failure`."""
    if not NAME.fullmatch(name):  # it would be another path, and stand for something else
        raise Failure(f"{name!r} is no name; see `{see}`")
    try:
        return read(transport, f"{path}/{name}")
    except MissingError as error:
        raise MissingError(f"{error}; see `{see}`") from error


def one_run(transport: Transport, name: str) -> Answer:
    """Return everything about the run whose id begins like this; raises `Failure`."""
    return _named(transport, "runs", name, see="runs")


def full_run(transport: Transport, name: str) -> str:
    """Return the full id of a run that is given by its beginning; raises `Failure`."""
    return str(one_run(transport, name)["run"]["run"])


def full_chunks(transport: Transport, names: Sequence[str]) -> list[str]:
    """Return the full names of chunks that wait; one that is given whole need not wait.

    All that wait are read: another one may begin with the same text. Raises `Failure`.
    """
    handled, failure = carry_out(transport, "chunks/lost", what="looking", all=True, dry_run=True)
    if failure:
        raise failure
    waiting = [str(one["chunk"]) for one in handled]
    return [_begins(name, waiting) for name in names]


def _begins(given: str, names: Sequence[str]) -> str:
    """Return the only name that begins like this, or what was given. Raises `Failure`. Pure."""
    found = [name for name in names if name.startswith(given)]
    if len(found) > 1 and given not in found:
        some = ", ".join(found[:3])
        raise Failure(f"{len(found)} begin with {given} ({some} ...): give more of the name")
    return found[0] if len(found) == 1 else given
