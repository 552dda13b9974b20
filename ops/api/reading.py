"""Answers that only read: status, runs, problems, poison, rejections, acts, find, doctor."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from common.ledger.acts import Act
from common.ledger.poison import PoisonEntry
from common.ledger.pulses import Pulse
from common.ledger.rejections import Rejection
from common.reconciliation import reconcile
from common.view import RunView, standing
from ops import poison, rejections
from ops.api import parameters
from ops.api.refusals import BadRequest, NotFound, one_of
from ops.api.slices import page_of, token_of
from ops.checks import examine_all
from ops.doctor import describe_line, is_well
from ops.find import describe_finding, find, refanged
from ops.given_up import describe_given_up
from ops.problems import describe_problem, ended
from ops.status import describe, describe_run
from ops.toolbox import Toolbox

type Answer = dict[str, Any]


def status(toolbox: Toolbox, asked: parameters.Status) -> Answer:
    """Return verdict, findings, queue, problems and the latest runs with their books."""
    return describe(toolbox.view(runs=asked.runs))


def runs(toolbox: Toolbox, asked: parameters.RunList) -> Answer:
    """Return the latest runs with their books."""
    view = toolbox.view(runs=asked.limit)
    return {"runs": [describe_run(one) for one in view.runs]}


def run(toolbox: Toolbox, asked: parameters.OneRun) -> Answer:
    """Return one run with its books, its chunks by state, and its poison and rejections."""
    ledger = toolbox.ledger
    found = [each for each in ledger.runs.latest(None) if each.run_id.startswith(asked.id)]
    names = [each.run_id for each in found]
    chosen = one_of(found, names=names, given=asked.id, what="run")
    chunks = list(ledger.chunks.outcomes(chosen.run_id))
    by_state: dict[str, int] = defaultdict(int)
    for chunk in chunks:
        by_state["void" if chunk.void else chunk.state.value] += 1
    arrival = ledger.arrivals.read().of(chosen.run_id)
    return {
        "run": describe_run(RunView(run=chosen, fate=reconcile(chosen, chunks), arrival=arrival)),
        "chunks": dict(by_state),
        "poison": [
            describe_entry(entry)
            for entry in ledger.poison.entries()
            if entry.run_id == chosen.run_id
        ],
        "rejections": sum(1 for _ in ledger.rejections.entries(chosen.run_id)),
    }


def pulses(toolbox: Toolbox, asked: parameters.PulseList) -> Answer:
    """Return the pulses of the last hours, the newest first."""
    since = toolbox.clock.now() - timedelta(hours=asked.hours)
    return {"pulses": [describe_pulse(pulse) for pulse in toolbox.ledger.pulses.since(since)]}


def doctor(_toolbox: None, _asked: parameters.Parameters) -> Answer:
    """Check everything that the feed needs; return a line each, with a remedy for each problem."""
    lines = examine_all()
    return {"is_well": is_well(lines), "lines": [describe_line(line) for line in lines]}


def problems(toolbox: Toolbox, asked: parameters.ProblemList) -> Answer:
    """Return the problems that count, gaps among them, or the last ones that are over."""
    look = ended if asked.ended else standing
    found = look(toolbox.ledger, toolbox.problems, now=toolbox.clock.now())
    return {"problems": [describe_problem(problem) for problem in found]}


def poison_list(toolbox: Toolbox, asked: parameters.PoisonList) -> Answer:
    """Return a page of what was given up, the oldest run first; the first page groups all of it."""
    chosen = poison.Selection(reason=asked.reason, all_kept=True, settled=asked.settled)
    is_first = not asked.after
    rows = poison.look_for(toolbox.ledger, chosen, after=asked.after)
    # A page costs what it shows; only the first one reads everything.
    found = list(rows if is_first else islice(rows, asked.limit + 1))
    shown = found[: asked.limit]
    return {
        "total": len(found) if is_first else None,
        "indicators": sum(entry.count for entry in found) if is_first else None,
        "groups": _groups(found) if is_first else [],
        "poison": [describe_entry(entry) for entry in shown],
        "next": shown[-1].name if len(found) > len(shown) else None,
    }


def poison_one(toolbox: Toolbox, asked: parameters.OnePoison) -> Answer:
    """Return everything about one message that was given up, including each indicator."""
    kept = toolbox.ledger.poison
    run_id, _, poison_id = asked.id.partition("/")
    record = kept.get(run_id, poison_id)
    if record is None:  # the beginning of a name: only then every entry is read
        entries = [each for each in kept.entries(settled=True) if each.name.startswith(asked.id)]
        names = [entry.name for entry in entries]
        entry = one_of(entries, names=names, given=asked.id, what="poison")
        record = kept.get(entry.run_id, entry.poison_id)
    if record is None:  # purged since it was listed
        raise NotFound(f"there is no poison called {asked.id}")
    return describe_entry(record) | describe_given_up(record, toolbox.ledger)


def rejection_list(toolbox: Toolbox, asked: parameters.RejectionList) -> Answer:
    """Return a page of rejected records, the newest first."""
    chosen = rejections.Selection(run_id=asked.run, reason=asked.reason, indicator=asked.indicator)
    page = page_of(
        rejections.find(toolbox.ledger, chosen),
        token=rejection_token,
        after=asked.after,
        limit=asked.limit,
        newest_first=True,
    )
    rows = [rejections.describe_rejection(one) for one in page.rows]
    return {"total": page.total, "rejections": rows, "next": page.next}


def rejection_one(toolbox: Toolbox, asked: parameters.OneRejection) -> Answer:
    """Return everything about one rejected record, its content included."""
    kept = toolbox.ledger.rejections
    run_id, _, position = asked.id.partition("/")
    found = kept.get(run_id, position)
    if found is None:  # the beginning of a name: only then every entry is read
        entries = [each for each in kept.entries() if each.name.startswith(asked.id)]
        names = [entry.name for entry in entries]
        entry = one_of(entries, names=names, given=asked.id, what="rejection")
        found = kept.get(entry.run_id, entry.position)
    if found is None:  # purged since it was listed
        raise NotFound(f"there is no rejection called {asked.id}")
    content = found.content.decode("utf-8", "backslashreplace")
    return rejections.describe_rejection(found) | {"content": content}


def find_one(toolbox: Toolbox, asked: parameters.Search) -> Answer:
    """Return what Sentinel holds of an address, a domain or an indicator, and what the ledger."""
    if not refanged(asked.q):
        raise BadRequest("parameter q: give an address, a domain or the id of an indicator")
    return describe_finding(find(toolbox, asked.q))


def act_list(toolbox: Toolbox, asked: parameters.ActList) -> Answer:
    """Return what operators did, the newest first."""
    return {"acts": [describe_act(act) for act in toolbox.ledger.acts.latest(asked.limit)]}


def rejection_token(rejection: Rejection) -> str:
    """Return the place of a rejection in a list. Pure."""
    return token_of(rejection.at, rejection.name)


def describe_entry(entry: PoisonEntry) -> Answer:
    """Return poison as plain JSON values, without its message."""
    return {
        "poison": entry.name,
        "state": entry.state.value,
        "indicators": entry.count,
        "attempts": entry.attempts,
        "by": entry.poisoned_by.value,
        "first_at": entry.first_at.isoformat(timespec="seconds"),
        "last_at": entry.last_at.isoformat(timespec="seconds"),
        "settled_at": None if entry.settled_at is None else entry.settled_at.isoformat(),
        "settled_by": entry.settled_by,
        "note": entry.note,
        "reason": entry.reason,
    }


def describe_pulse(pulse: Pulse) -> Answer:
    """Return a pulse as plain JSON values."""
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in asdict(pulse).items()
    }


def describe_act(act: Act) -> Answer:
    """Return an act as plain JSON values."""
    return {
        "at": act.at.isoformat(timespec="seconds"),
        "by": act.by,
        "act": act.act,
        "on": act.on,
        "note": act.note,
        "result": act.result,
    }


def _groups(entries: Iterable[PoisonEntry]) -> list[Answer]:
    """Return one row a reason, the one with the most messages first. Pure."""
    groups: dict[str, list[PoisonEntry]] = defaultdict(list)
    for entry in entries:
        groups[entry.reason].append(entry)
    rows = [
        {
            "reason": reason,
            "messages": len(some),
            "indicators": sum(entry.count for entry in some),
            "first_at": min(entry.first_at for entry in some).isoformat(timespec="seconds"),
            "last_at": max(entry.last_at for entry in some).isoformat(timespec="seconds"),
            "sample": some[0].name,
        }
        for reason, some in groups.items()
    ]
    return sorted(rows, key=lambda row: (-int(str(row["messages"])), str(row["reason"])))
