"""Rejections in the operator's hands: find single records, ask for some to be sent once more.

A retry writes a wish, which the next sync run takes; the rejection stays and says that an operator
asked for it. Nothing is sent from here, so a newer version that was listed meanwhile is never
replaced by an older one: the producer sends a wish only if it is still the newest known version.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from common.ledger import Ledger
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.wishes import Wish
from ops.decisions import Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which rejections: by name (`<run>/<position>`), or by run, reason and indicator together.

    `reason` and `indicator` match a part of the text, in any case; an indicator is found by its id
    or its pattern. An empty value does not narrow the choice.
    """

    names: tuple[str, ...] = ()
    run_id: str = ""
    reason: str = ""
    indicator: str = ""

    def picks(self, rejection: Rejection) -> bool:
        """Whether `rejection` is one of those that are chosen by run, reason and indicator."""
        told = f"{rejection.indicator_id} {rejection.pattern}"
        return (
            self.run_id in ("", rejection.run_id)
            and self.reason.lower() in rejection.reason.lower()
            and self.indicator.lower() in told.lower()
        )


class Result(StrEnum):
    """What was done with one rejection."""

    WISHED = "goes with the next run"
    WOULD_WISH = "would go with the next run"
    ALREADY_WISHED = "waits for the next run already"
    INVALID = "was never sent: invalid as Lumen lists it"
    NO_CONTENT = "its content is not known"
    GONE = "not there any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Handled:
    """One rejection and what was done with it."""

    name: str
    indicator_id: str
    result: Result


def find(ledger: Ledger, selection: Selection) -> list[Rejection]:
    """Return the rejections that `selection` picks, without content, the latest first.

    Of names that are wrong nothing.
    """
    if selection.names:
        split = (name.partition("/") for name in dict.fromkeys(selection.names))
        named = (ledger.rejections.get(run_id, position) for run_id, _, position in split)
        found = [replace(one, content=b"") for one in named if one is not None]
    else:
        entries = ledger.rejections.entries(selection.run_id or None)
        found = list(filter(selection.picks, entries))
    return sorted(found, key=lambda one: one.at, reverse=True)


def retry(
    chosen: Iterable[Rejection],
    *,
    ledger: Ledger,
    at: datetime,
    by: str,
    note: str = "",
    dry_run: bool = False,
) -> Iterator[Handled]:
    """Ask for records to be sent once more; yield what was done with each.

    Called twice: the second call says that they are already waiting. If it dies halfway: the wishes
    already written go with the next run, and the same command asks for the rest.
    """
    signed = Decision(by=by, note=note).signed
    for entry in chosen:
        result = _retry_one(entry, ledger=ledger, at=at, by=signed, dry_run=dry_run)
        yield Handled(name=entry.name, indicator_id=entry.indicator_id, result=result)


def _retry_one(entry: Rejection, *, ledger: Ledger, at: datetime, by: str, dry_run: bool) -> Result:
    """Ask for one: the wish first, so that no rejection claims a wish that does not exist."""
    rejection = ledger.rejections.get(entry.run_id, entry.position)
    if rejection is None:
        return Result.GONE
    if rejection.rejected_by is RejectedBy.VALIDATION:
        return Result.INVALID
    if not rejection.content:
        return Result.NO_CONTENT
    wish = Wish(content=rejection.content, rejection=rejection.name, at=at, by=by)
    if ledger.wishes.has(wish):
        return Result.ALREADY_WISHED
    if dry_run:
        return Result.WOULD_WISH
    ledger.wishes.ask(wish)
    ledger.rejections.note_wish(rejection, at=at, by=by)
    return Result.WISHED


def describe_rejection(rejection: Rejection) -> dict[str, Any]:
    """Return a rejection as plain JSON values."""
    wished_at = rejection.wished_at
    return {
        "rejection": rejection.name,
        "at": rejection.at.isoformat(timespec="seconds"),
        "by": rejection.rejected_by.value,
        "indicator": rejection.indicator_id,
        "pattern": rejection.pattern,
        "reason": rejection.reason,
        "wished_at": None if wished_at is None else wished_at.isoformat(timespec="seconds"),
        "wished_by": rejection.wished_by,
    }
