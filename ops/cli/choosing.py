"""Options that many commands share: what is chosen, why, and whether it is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from ops.cli.ending import Failure, MissingError
from ops.cli.transport import Answer, Transport, act, read

type Flag = Annotated[bool, Parameter(negative="")]


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
    found = []
    for name in names:
        try:
            found.append(read(transport, f"poison/{name}"))
        except MissingError as error:
            raise Failure(f"{error}; see `poison list`") from error
    return found


def full_run(transport: Transport, name: str) -> str:
    """Return the full id of a run that is given by its beginning; raises `Failure`."""
    try:
        return str(read(transport, f"runs/{name}")["run"]["run"])
    except MissingError as error:
        raise Failure(f"{error}; see `runs`") from error


def full_chunks(transport: Transport, names: Sequence[str]) -> list[str]:
    """Return the full names of chunks that wait; one that is given whole need not wait."""
    handled = act(transport, "chunks/lost", all=True, dry_run=True)["handled"]
    waiting = [str(one["chunk"]) for one in handled]
    return [_begins(name, waiting) for name in names]


def _begins(given: str, names: Sequence[str]) -> str:
    """Return the only name that begins like this, or what was given. Raises `Failure`. Pure."""
    found = [name for name in names if name.startswith(given)]
    if len(found) > 1 and given not in found:
        some = ", ".join(found[:3])
        raise Failure(f"{len(found)} begin with {given} ({some} ...): give more of the name")
    return found[0] if len(found) == 1 else given
