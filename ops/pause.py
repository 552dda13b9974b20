"""Pause and resume: an operator stops new runs and uploads for a while.

The producer skips its ticks, and the consumer puts each message back until the pause is over;
nothing counts against a message. A pause ends by itself at the given time.
"""

from datetime import UTC, datetime

from common.ledger import Ledger
from common.ledger.control import MAX_PAUSE, Pause
from ops.decisions import Decision


def pause(ledger: Ledger, *, until: datetime, now: datetime, decision: Decision) -> Pause:
    """Pause the feed until a time; return the pause, in UTC whatever the zone of `until`.

    Called again: the later call counts, even for a shorter time. Raises `ValueError` for a time in
    the past, or more than `MAX_PAUSE` away.
    """
    try:
        until = until.astimezone(UTC)
    except OverflowError as error:  # the first or the last day that a calendar has
        raise ValueError(f"{until.isoformat()} is not a time that UTC has") from error
    if until <= now:
        raise ValueError(f"{until:%Y-%m-%d %H:%M} UTC has passed: give a later time")
    if until - now > MAX_PAUSE:
        raise ValueError(
            f"{until:%Y-%m-%d %H:%M} UTC is too far away: a pause ends within {MAX_PAUSE.days} "
            "days, as Lumen need not keep for longer what was not asked for"
        )
    made = Pause(since=now, until=until, by=decision.signed)
    ledger.control.pause(made)
    return made


def resume(ledger: Ledger, *, now: datetime) -> bool:
    """End the current pause; return False if there is none.

    The next tick starts a run; waiting messages come back within 18 minutes, with the default of
    `DEFERRAL_DELAY`.
    """
    return ledger.control.resume(at=now)
