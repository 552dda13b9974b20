"""The closed list of what the pipeline logs, and the one way to log it.

A log line is the event's name and a JSON object of ids and counts: a constant to search for, facts
to parse (bicep/kql/log/start.kql shows how). Within `traced` each line carries the trace of the
tick that made the chunk, from the timer through the envelope to the upload. Nothing here takes a
body, a key or a token. What another service said is a quotation in a reason (`quoted`), because it
may repeat what it was sent: the ledger keeps it, and a log line leaves it out. `docs/runbook.md`
has one entry per event. Log from the invocation's own thread: in the Python 3.13 worker, lines
from other threads do not reach Application Insights.
"""

import json
import logging
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from typing import Final

from common.text import cut
from common.version import VERSION

_LOGGER = logging.getLogger("lumen_sentinel")

for _chatty in ("azure", "msal", "urllib3"):
    # The Python worker sets the root logger to INFO, where azure-core logs every request:
    # two lines a storage call would bury ours.
    logging.getLogger(_chatty).setLevel(logging.WARNING)

Fact = str | int | float | bool | None


class Event(StrEnum):
    """What can be logged; the comment says when it happens and what to do."""

    # A sync run ended with every page enqueued. Nothing to do.
    SYNC_COMPLETE = "sync-complete"
    # A sync run stopped part-way (budget, outage, refused key); the next tick resumes it.
    # Read `reason`; act only if it repeats.
    SYNC_INTERRUPTED = "sync-interrupted"
    # A tick made progress and ended at its limit of pages or time; the next one goes on. Nothing to
    # do: a large feed takes many ticks.
    SYNC_CONTINUES = "sync-continues"
    # Lumen no longer knows a query that was not drained. Indicators may be missing: check whether
    # later runs bring them, else ask Lumen for a full feed.
    SYNC_GAP = "sync-gap"
    # A sync run could not start, or Lumen failed its query. Read `reason` and fix the cause.
    SYNC_FAILED = "sync-failed"
    # The timer fired while another run holds the lease, or during a pause. Nothing to do unless it
    # lasts.
    SYNC_SKIPPED = "sync-skipped"
    # An unfinished run was found and is being resumed. Nothing to do.
    SYNC_RESUMED = "sync-resumed"
    # A chunk was accepted by Sentinel (some records may have been rejected: see `rejected`).
    CHUNK_UPLOADED = "chunk-uploaded"
    # A chunk that was settled or void was delivered again. Nothing to do.
    CHUNK_REPEATED = "chunk-repeated"
    # A chunk waits for a later try. Read `reason`; act on credentials and roles.
    CHUNK_DEFERRED = "chunk-deferred"
    # A chunk missed its send slot and waits for a later one, or for the end of a pause. Nothing to
    # do.
    CHUNK_POSTPONED = "chunk-postponed"
    # Sentinel refused a whole chunk; its records are sent in two messages, to find the bad ones.
    # Nothing to do; see `rejected` in its chunk-uploaded lines.
    CHUNK_SPLIT = "chunk-split"
    # The version index is full (KNOWN_MAX): the versions that end first were forgotten. Raise
    # KNOWN_MAX, or accept that a later withdrawal of these indicators is not sent.
    VERSIONS_DROPPED = "versions-dropped"
    # A message of a later release arrived; it was put back unchanged. Nothing to do during an
    # update; after a rollback, deploy the later release again.
    MESSAGE_PUT_BACK = "message-put-back"
    # The host gave a message up after deliveries without an outcome; it is on the queue again.
    # Nothing to do for a few after a storage outage; else look for crashes and time-outs.
    CHUNK_PUT_BACK = "chunk-put-back"
    # A chunk was given up and kept with its reason. Inspect it, fix the cause, replay it.
    CHUNK_POISONED = "chunk-poisoned"
    # A tick ended: how the feed is, in numbers. Alerts and workbooks read it; see `reason` unless
    # `verdict` is healthy.
    HEALTH = "health"
    # The workspace was asked whether a sample of what Sentinel accepted has arrived. Act on
    # `missing`, and on `reason`: it says why the workspace could not be asked.
    ARRIVAL_CHECKED = "arrival-checked"
    # An operator did something; `by` says who. Nothing to do: it is the record for an audit.
    OPERATOR_ACT = "operator-act"
    # Sentinel's answer is not in its contract. Compare with docs/contracts.md.
    CONTRACT_DRIFT = "contract-drift"


_LEVELS = {
    Event.SYNC_INTERRUPTED: logging.WARNING,
    Event.SYNC_GAP: logging.ERROR,
    Event.SYNC_FAILED: logging.ERROR,
    Event.CHUNK_DEFERRED: logging.WARNING,
    Event.CHUNK_PUT_BACK: logging.WARNING,
    Event.CHUNK_POISONED: logging.ERROR,
    Event.VERSIONS_DROPPED: logging.WARNING,
    Event.CONTRACT_DRIFT: logging.ERROR,
}


_TRACE: Final[ContextVar[str]] = ContextVar("trace", default="")

_TRACE_PARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, section 3.2: version, trace, parent, flags."""


def new_trace_parent() -> str:
    """Return a new trace context, for a tick that got none from the host."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


@contextmanager
def traced(trace_parent: str) -> Iterator[None]:
    """Give every event that is logged within the trace of `trace_parent`.

    It may be empty: a message without room for it does not carry it.
    """
    found = _TRACE_PARENT.fullmatch(trace_parent)
    token = _TRACE.set(found[1] if found else "")
    try:
        yield
    finally:
        _TRACE.reset(token)


def emit(event: Event, **facts: Fact) -> None:
    """Log `event` with its `facts` (ids, counts, short reasons) at the event's level.

    `trace` is beside them, and `version`.
    """
    shown = {
        name: cut(_QUOTATION.sub(_LEFT_OUT, fact)) if isinstance(fact, str) else fact
        for name, fact in facts.items()
    }
    text = json.dumps(shown | {"trace": _TRACE.get(), "version": VERSION}, separators=(",", ":"))
    _LOGGER.log(_LEVELS.get(event, logging.INFO), "%s %s", event.value, text)


def quoted(text: str) -> str:
    """Return another service's words as the part of a reason that no log line shows."""
    return '"' + text.replace('"', "'") + '"'


_QUOTATION: Final = re.compile(r'"[^"]*(?:"|$)')
"""Or up to the end, if the reason was cut within it."""

_LEFT_OUT: Final = '"…"'
