"""Find one address, domain or indicator: what Sentinel holds of it, and what the ledger knows.

The ledger knows indicators by a hash of their id. So the ids of an address or a domain are first
looked up in the workspace, and among rejections. If the workspace cannot be asked, the answer says
why, and an id still gets the ledger's part. Each part has its own time limit, so a workspace that
never answers does not cost the other part.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from ipaddress import ip_address
from typing import Any, Final

from common.errors import PipelineError
from common.kql import read_kql
from common.ledger.rejections import Rejection
from common.transport import time_left, within
from common.workspace import Row, Workspace, fill
from ops.toolbox import Toolbox
from ops.traces import Reader, Whereabouts

SPAN: Final = timedelta(days=30)
"""How far back the workspace is asked. Sentinel writes valid indicators again within 10 days
(learn.microsoft.com/azure/sentinel/work-with-stix-objects-indicators, read 2026-11-29)."""

MAX_HELD: Final = 20
"""Indicators of each part of an answer; `find.kql` returns one more, so that more are noticed."""

WORKSPACE_WITHIN: Final = 9.0
"""Seconds for the workspace, including its token."""

SPARE: Final = 4.0
"""Seconds reserved for the rest: with fewer seconds left no further row of the ledger is read."""

_STIX_ID: Final = re.compile(r"[a-z][a-z0-9-]*--[0-9a-f-]{36}", re.IGNORECASE)
"""An identifier of STIX 2.1, section 2.9: a type, two dashes, a UUID."""


class Kind(StrEnum):
    """What was asked for."""

    INDICATOR = "indicator"
    ADDRESS = "address"
    DOMAIN = "domain"


class HeldState(StrEnum):
    """What an indicator's newest row in Sentinel says about it."""

    DELETED = "deleted"
    REVOKED = "revoked"
    ACTIVE = "active"
    NOT_ACTIVE = "not active"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The newest row of an indicator in Sentinel; None for missing columns.

    `seen_at` is when that row was written, and `is_republished` whether Sentinel did so by itself.
    """

    indicator: str
    value: str
    confidence: int | None
    is_active: bool | None
    is_revoked: bool | None
    is_deleted: bool | None
    valid_from: datetime | None
    valid_until: datetime | None
    modified: datetime | None
    seen_at: datetime | None
    is_republished: bool

    @property
    def state(self) -> HeldState:
        """The state in one word: deleted and revoked come first, whatever `is_active` says."""
        if self.is_deleted:
            return HeldState.DELETED
        if self.is_revoked:
            return HeldState.REVOKED
        if self.is_active is None:
            return HeldState.UNKNOWN
        return HeldState.ACTIVE if self.is_active else HeldState.NOT_ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What the workspace answered; `why_not` says why it did not."""

    held: tuple[Held, ...] = ()
    has_more: bool = False
    why_not: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Everything that is known about a value."""

    asked: str
    kind: Kind
    holding: Holding
    indicators: tuple[Whereabouts, ...]
    is_whole: bool
    """Whether all of the ledger was read."""
    has_more: bool
    """Whether more ids are known for the value than were looked up in the ledger."""


def find(toolbox: Toolbox, text: str) -> Finding:
    """Return what is known of an address, a domain or an indicator id.

    Raises what the storage raises; errors of the workspace are part of the answer.
    """
    asked = refanged(text)
    kind = kind_of(asked)
    holding = ask(toolbox.workspace, asked)
    reader = Reader(
        toolbox.ledger,
        is_late=lambda: time_left() < SPARE,
        destination=toolbox.destination,
    )
    rejections = reader.rejections(lambda one: names(one, asked, kind))
    ids = ids_of(asked, kind, holding, rejections)
    found = reader.whereabouts(ids[:MAX_HELD], rejections, now=toolbox.clock.now())
    return Finding(
        asked=asked,
        kind=kind,
        holding=holding,
        indicators=tuple(found),
        is_whole=reader.is_whole,
        has_more=holding.has_more or len(ids) > MAX_HELD,
    )


def refanged(text: str) -> str:
    """Return the plain value of one that reports spell like `192[.]0[.]2[.]1`. Pure."""
    return text.strip().replace("[.]", ".").rstrip(".")


def kind_of(asked: str) -> Kind:
    """Return what a value is. Pure."""
    if _STIX_ID.fullmatch(asked):
        return Kind.INDICATOR
    try:
        ip_address(asked)
    except ValueError:
        return Kind.DOMAIN
    return Kind.ADDRESS


def ask(workspace: Callable[[], Workspace], asked: str) -> Holding:
    """Ask the workspace, for at most `WORKSPACE_WITHIN` seconds."""
    text = fill(read_kql("find"), asked=asked)
    try:
        with within(WORKSPACE_WITHIN):
            rows = workspace().query(text, span=SPAN)
    except PipelineError as error:
        return Holding(why_not=str(error))
    held = [held_of(row) for row in rows]
    return Holding(held=tuple(held[:MAX_HELD]), has_more=len(held) > MAX_HELD)


def held_of(row: Row) -> Held:
    """Return a row of the workspace, without columns of the wrong type. Pure."""
    return Held(
        indicator=_typed(row, "StixId", str) or "",
        value=_typed(row, "ObservableValue", str) or "",
        confidence=_typed(row, "Confidence", int),
        is_active=_typed(row, "IsActive", bool),
        is_revoked=_typed(row, "Revoked", bool),
        is_deleted=_typed(row, "IsDeleted", bool),
        valid_from=_typed(row, "ValidFrom", datetime),
        valid_until=_typed(row, "ValidUntil", datetime),
        modified=_typed(row, "Modified", datetime),
        seen_at=_typed(row, "TimeGenerated", datetime),
        is_republished=_typed(row, "IsRepublished", bool) or False,
    )


def _typed[T](row: Mapping[str, Any], name: str, wanted: type[T]) -> T | None:
    value = row.get(name)
    return value if isinstance(value, wanted) else None


def names(rejection: Rejection, asked: str, kind: Kind) -> bool:
    """Whether a rejection is about a value: by its id, or by the text in its pattern. Pure."""
    if kind is Kind.INDICATOR:
        return rejection.indicator_id.lower() == asked.lower()
    return f"'{asked.lower()}'" in rejection.pattern.lower()


def ids_of(asked: str, kind: Kind, holding: Holding, rejections: Sequence[Rejection]) -> list[str]:
    """Return the ids to look for in the ledger, each once. Pure."""
    ids = [one.indicator for one in holding.held] + [one.indicator_id for one in rejections]
    if kind is Kind.INDICATOR:
        ids.append(asked)
    by_name = {one.lower(): one for one in reversed(ids) if one}
    return list(reversed(by_name.values()))


def describe_finding(finding: Finding) -> dict[str, Any]:
    """Return a finding as plain JSON values."""
    holding = finding.holding
    return {
        "asked": finding.asked,
        "kind": finding.kind.value,
        "workspace": {
            "was_asked": not holding.why_not,
            "why_not": holding.why_not,
            "held": [{"state": one.state.value, **_plain(asdict(one))} for one in holding.held],
            "has_more": holding.has_more,
        },
        "ledger": {
            "is_whole": finding.is_whole,
            "has_more": finding.has_more,
            "indicators": [
                {
                    "indicator": one.indicator,
                    "is": one.place.value,
                    "what": one.what,
                    "traces": [_trace(asdict(trace)) for trace in one.traces],
                }
                for one in finding.indicators
            ],
        },
    }


def _trace(trace: dict[str, Any]) -> dict[str, Any]:
    return {"is": trace.pop("place").value, **_plain(trace)}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
        for name, value in values.items()
    }
