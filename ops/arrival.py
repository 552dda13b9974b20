"""Did it arrive? A check looks in the workspace for samples of what Sentinel accepted.

One check makes at most one query, about the samples of the last day that were not found yet.
`plan_check`, `judge_sample` and `summarize` decide, and are pure. A workspace that cannot be asked
is not a fault of the feed: that is recorded, and the next check asks again.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from common.clock import Clock
from common.errors import (
    ContractDriftError,
    HaltError,
    PartialAnswerError,
    ThrottledError,
    UnavailableError,
)
from common.events import Event, emit
from common.fingerprints import id_hash
from common.kql import read_kql
from common.ledger import Ledger
from common.ledger.arrivals import (
    ASKED_FOR,
    KEPT_FOR,
    MISSING_AFTER,
    ArrivalBook,
    Found,
    LastCheck,
    RunArrival,
)
from common.ledger.samples import Sample, of_run
from common.records import moment_of
from common.workspace import Row, Workspace, fill

MAX_IDS: Final = 1000
"""Ids in a query: those of 50 runs. The latest accepted ones come first."""

LOOKS_BACK: Final = ASKED_FOR + timedelta(days=2)
"""How far a query looks back before the oldest open sample: rows from before the acceptance show
that an indicator was already there."""

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""A row may seem to arrive this long before its acceptance, because clocks differ."""

_SAME_TIME: Final = timedelta(seconds=1)
"""Times that differ by less count as equal, because the table may keep fewer digits."""

_RUNS: Final = 192
"""Heads that are read: those of two days."""

_CANNOT_ASK: Final = (
    HaltError,
    ThrottledError,
    UnavailableError,
    PartialAnswerError,
    ContractDriftError,
)

Samples = Mapping[str, Sequence[Sample]]
"""The sample of each run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalTools:
    """The parts that a check needs. `destination` is the workspace that is asked."""

    ledger: Ledger
    workspace: Callable[[], Workspace]
    """Opens the workspace; raises `SettingsError`."""
    clock: Clock
    destination: str


def run_check(tools: ArrivalTools, *, is_on: bool) -> None:
    """Check once; or record that the check is off, because `ARRIVAL_CHECK` is false."""
    if is_on:
        check_arrival(tools)
    else:
        tools.ledger.arrivals.note(LastCheck(at=tools.clock.now(), is_off=True))


def check_arrival(tools: ArrivalTools) -> None:
    """Look for open samples, and record those found; without open samples nothing is asked.

    Called twice: the same. Raises only what the ledger's storage raises.
    """
    arrivals, now = tools.ledger.arrivals, tools.clock.now()
    book = arrivals.read(whole=True)
    samples = samples_of_runs(tools.ledger, destination=tools.destination, now=now)
    wanted = plan_check(samples, book, now=now)
    try:
        rows = _ask(tools.workspace(), wanted) if wanted else []
    except _CANNOT_ASK as error:
        arrivals.note(LastCheck(at=now, trouble=str(error)))
        emit(Event.ARRIVAL_CHECKED, reason=str(error), asked=len(wanted))
        return
    known = {str(row.get("StixId")): row for row in rows}
    checked = [
        summarize(run_id, some, known, book.of(run_id), now=now) for run_id, some in samples.items()
    ]
    for arrival in checked:
        if arrival != book.of(arrival.run_id):
            arrivals.write(arrival)
    arrivals.note(LastCheck(at=now))
    if any(now - run.accepted_at > KEPT_FOR for run in book.runs):
        arrivals.remove_old(now)
    _announce(checked, asked=len(wanted))


def samples_of_runs(ledger: Ledger, *, destination: str, now: datetime) -> dict[str, list[Sample]]:
    """Return the sample of each run that had acceptances in the last day.

    Rows are read before heads: a sample that is folded in between is in both, and counts once.
    """
    found: dict[str, list[Sequence[Sample]]] = defaultdict(list)
    for run_id, some in ledger.chunks.samples():
        found[run_id].append(some)
    for run in ledger.runs.latest(_RUNS):
        found[run.run_id].append(run.sample)
    here = id_hash(destination)
    samples = {
        run_id: [one for one in of_run(*some) if one.destination == here]
        for run_id, some in found.items()
    }
    return {
        run_id: some
        for run_id, some in samples.items()
        if any(now - one.accepted_at <= ASKED_FOR for one in some)
    }


def plan_check(samples: Samples, book: ArrivalBook, *, now: datetime) -> list[str]:
    """Return the ids to ask for: samples not found yet, the latest accepted first. Pure."""
    accepted: dict[str, datetime] = {}
    for run_id, some in samples.items():
        found = _found_in(book.of(run_id))
        for one in some:
            if (one.id, one.modified) not in found and now - one.accepted_at <= ASKED_FOR:
                accepted[one.id] = max(one.accepted_at, accepted.get(one.id, one.accepted_at))
    return sorted(accepted, key=lambda name: accepted[name], reverse=True)[:MAX_IDS]


def judge_sample(sample: Sample, row: Row | None) -> Found | None:
    """Return how a sample has arrived; None without a row, or with an older version. Pure.

    The values of a later version are not compared. If the row was there before the acceptance, its
    delay is unknown.
    """
    if row is None:
        return None
    modified, arrived_at = row.get("Modified"), row.get("ArrivedAt")
    if not isinstance(arrived_at, datetime):
        return None
    sent = moment_of(sample.modified)
    if isinstance(modified, datetime) and modified < sent - _SAME_TIME:
        return None
    is_later = isinstance(modified, datetime) and modified > sent + _SAME_TIME
    was_there = arrived_at < sample.accepted_at - CLOCKS_DIFFER
    after = max(0.0, (arrived_at - sample.accepted_at).total_seconds())
    return Found(
        id=sample.id,
        modified=sample.modified,
        arrived_at=arrived_at,
        after=None if is_later or was_there else round(after, 1),
        differs="" if is_later else " ".join(_differences(sample, row)),
    )


def summarize(
    run_id: str,
    samples: Sequence[Sample],
    rows: Mapping[str, Row],
    before: RunArrival | None,
    *,
    now: datetime,
) -> RunArrival:
    """Return the result for a run's sample, from rows by id and earlier findings. Pure.

    If a row of an older version came after the acceptance, that version came last.
    """
    found, lacking = _sorted_out(samples, rows, _found_in(before))
    older = sum(_came_after(rows.get(one.id), one) for one in lacking)
    late = sum(_is_missing(rows.get(one.id), one, now=now) for one in lacking)
    times = _times(found)
    return RunArrival(
        run_id=run_id,
        checked_at=now,
        accepted_at=max(one.accepted_at for one in samples),
        sampled=len(samples),
        arrived=len(found),
        missing=late,
        older=older,
        different=sum(bool(hit.differs) for hit in found),
        median_seconds=_median(times),
        longest_seconds=max(times, default=None),
        found=tuple(found),
    )


def _ask(workspace: Workspace, ids: Sequence[str]) -> Sequence[Row]:
    return workspace.query(fill(read_kql("arrival"), ids=list(ids)), span=LOOKS_BACK)


def _announce(checked: Iterable[RunArrival], *, asked: int) -> None:
    runs = list(checked)
    emit(
        Event.ARRIVAL_CHECKED,
        reason="",
        asked=asked,
        sampled=sum(run.sampled for run in runs),
        arrived=sum(run.arrived for run in runs),
        missing=sum(run.missing for run in runs),
        older=sum(run.older for run in runs),
        different=sum(run.different for run in runs),
    )


def _found_in(arrival: RunArrival | None) -> dict[tuple[str, int], Found]:
    return {} if arrival is None else {(hit.id, hit.modified): hit for hit in arrival.found}


def _sorted_out(
    samples: Iterable[Sample], rows: Mapping[str, Row], known: Mapping[tuple[str, int], Found]
) -> tuple[list[Found], list[Sample]]:
    """Return the samples found, now or earlier, and those not found."""
    found: list[Found] = []
    lacking: list[Sample] = []
    for one in samples:
        hit = known.get((one.id, one.modified)) or judge_sample(one, rows.get(one.id))
        if hit is None:
            lacking.append(one)
        else:
            found.append(hit)
    return found, lacking


def _times(found: Iterable[Found]) -> list[float]:
    return [hit.after for hit in found if hit.after is not None]


def _median(times: Iterable[float]) -> float | None:
    """Return the middle value; `statistics` would cost each cold start an import."""
    ordered = sorted(times)
    middle = len(ordered) // 2
    return round((ordered[middle] + ordered[~middle]) / 2, 1) if ordered else None


def _came_after(row: Row | None, sample: Sample) -> bool:
    arrived_at = None if row is None else row.get("ArrivedAt")
    return isinstance(arrived_at, datetime) and arrived_at > sample.accepted_at


def _is_missing(row: Row | None, sample: Sample, *, now: datetime) -> bool:
    return now - sample.accepted_at > MISSING_AFTER and not _came_after(row, sample)


def _differences(sample: Sample, row: Row) -> Iterator[str]:
    """Yield the names of the values that differ from those sent; empty columns are ignored."""
    confidence, until, revoked = (row.get(n) for n in ("Confidence", "ValidUntil", "Revoked"))
    if None not in (confidence, sample.confidence) and confidence != sample.confidence:
        yield "confidence"
    if isinstance(until, datetime) and not _is_until(until, sample.valid_until):
        yield "valid_until"
    if revoked is not None and bool(revoked) is not sample.revoked:
        yield "revoked"


def _is_until(until: datetime, sent: int | None) -> bool:
    return sent is None or abs(until - moment_of(sent)) <= _SAME_TIME
