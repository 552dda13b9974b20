"""What each operation takes: names, types and limits; unknown parameters are refused.

Each class is one operation's parameters as JSON (camelCase), from a body or a query string. The
OpenAPI document is made from them.
"""

from datetime import datetime
from typing import Annotated, ClassVar, Final

from msgspec import Meta, Struct

MAX_RUNS: Final = 200
MAX_ROWS: Final = 1000
"""Most rows of one answer; longer lists have a `next`."""
MAX_NAMES: Final = 500
"""Most names in one call: the first slice reads each once before it begins, at 20 ms a read for
10 s. `all` and `reason` have no such limit."""
MAX_TEXT: Final = 300
"""Longest text of one parameter, as in the ledger (`common.events.cut`)."""

Text = Annotated[str, Meta(max_length=MAX_TEXT)]
Token = Annotated[str, Meta(max_length=MAX_TEXT, description="`next` of the answer before")]
Rows = Annotated[int, Meta(ge=1, le=MAX_ROWS, description="how many rows at most")]
Runs = Annotated[int, Meta(ge=1, le=MAX_RUNS, description="how many runs, the newest first")]
Names = Annotated[list[Text], Meta(max_length=MAX_NAMES)]
DryRun = Annotated[bool, Meta(description="only say what would happen")]
Note = Annotated[Text, Meta(description="why, for those who read it later")]


type Way = tuple[str, ...]
"""Parameters that together make a choice: one of them at least is given."""


def written(name: str) -> str:
    """Return the name of a parameter as callers write it. Pure."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


class Parameters(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of all: by name, nothing unknown."""

    ways: ClassVar[tuple[Way, ...]] = ()
    """Where a choice must be made in exactly one of several ways: these."""
    excluding: ClassVar[Way] = ()
    """Flags of which only one may be set."""


class Nothing(Parameters):
    """Of an operation without parameters."""


class Status(Parameters):
    """How many runs the status shows."""

    runs: Runs = 5


class RunList(Parameters):
    """How many runs to list."""

    limit: Runs = 20


class OneRun(Parameters, kw_only=True):
    """Which run: its id, or a unique prefix of it."""

    id: Annotated[str, Meta(min_length=1, max_length=100)]


class PulseList(Parameters):
    """For how many hours back."""

    hours: Annotated[int, Meta(ge=1, le=720)] = 24


class ProblemList(Parameters):
    """The problems that count, or the last ones that are over."""

    ended: bool = False


class PoisonList(Parameters):
    """Which poison to list: kept, or with `settled` all; with this text in the reason."""

    reason: Text = ""
    settled: bool = False
    limit: Rows = 100
    after: Token = ""


class OneRejection(Parameters, kw_only=True):
    """Which rejection: `run/position` as listed, or a beginning that only one has."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class OnePoison(Parameters, kw_only=True):
    """Which poison: `run/id` as listed, or a unique prefix."""

    id: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class RejectionList(Parameters):
    """Which rejections: of a run, with a text in the reason, with a text in id or pattern."""

    run: Text = ""
    reason: Text = ""
    indicator: Text = ""
    limit: Rows = 100
    after: Token = ""


class Search(Parameters, kw_only=True):
    """What to find: an address, a domain or the id of an indicator."""

    q: Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class ActList(Parameters):
    """How many acts, the newest first."""

    limit: Rows = 100


class Act(Parameters):
    """What every act takes."""

    note: Note = ""


class DryAct(Act):
    """An act that can say beforehand what it would do."""

    dry_run: DryRun = False


class PoisonAct(DryAct):
    """Which poison: by names, by text in the reason, or all that is kept; one of the three."""

    ways: ClassVar = (("names",), ("reason",), ("all",))

    names: Names = []
    reason: Text = ""
    all: bool = False
    after: Token = ""


class RejectionAct(DryAct):
    """Which rejections: by names, or by run, reason and indicator together, or all."""

    ways: ClassVar = (("names",), ("run", "reason", "indicator"), ("all",))

    names: Names = []
    run: Text = ""
    reason: Text = ""
    indicator: Text = ""
    all: bool = False
    after: Token = ""


class ChunkAct(DryAct):
    """Which chunks: by names, or all of which something waits."""

    ways: ClassVar = (("names",), ("all",))

    names: Names = []
    all: bool = False
    after: Token = ""


class GapAct(Act):
    """Which gaps: by the names of their runs, or all that count."""

    ways: ClassVar = (("runs",), ("all",))

    runs: Names = []
    all: bool = False
    after: Token = ""


class PurgeAct(DryAct):
    """How old records must be, in days."""

    days: Annotated[int, Meta(ge=1, le=3650)] = 90


class SyncAct(Act):
    """Whether the run sends everything that Lumen lists; or that no run is wanted any more."""

    excluding: ClassVar = ("full", "take_back")

    full: bool = False
    take_back: bool = False


class PauseAct(Act, kw_only=True):
    """Until when, with a time zone; at most seven days from now."""

    until: Annotated[datetime, Meta(tz=True)]
