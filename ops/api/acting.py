"""Operations that change something: each may be repeated, and long ones are done in slices.

What is chosen is checked before anything is written.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from itertools import islice
from typing import Any

from common.ledger.rejections import RejectedBy, Rejection
from ops import lost, poison, rejections
from ops.api import parameters
from ops.api.reading import Answer, rejection_token
from ops.api.refusals import BadRequest, NotFound
from ops.api.slices import COUNT, LOOK_AHEAD, MARGIN, NAMED_AHEAD, SLICE, slice_of, time_for
from ops.callers import Caller
from ops.decisions import Decision
from ops.destination import adopt
from ops.pause import pause, resume
from ops.problems import acknowledge
from ops.purge import count_old, purge
from ops.rescue import rescue
from ops.sync import request_sync, take_back
from ops.toolbox import Toolbox

NO_RUN_YET = (
    "no sync run is on record in this storage account, and the first one sends everything; "
    "is it the right account?"
)


def replay(toolbox: Toolbox, asked: parameters.PoisonAct, caller: Caller) -> Answer:
    """Put messages that were given up back on the queue, without records struck since."""
    do = partial(poison.replay, queue=toolbox.queue, slots=toolbox.slots)
    return _handle_poison(toolbox, asked, caller, do)


def discard(toolbox: Toolbox, asked: parameters.PoisonAct, caller: Caller) -> Answer:
    """Give messages up for good; only a newer version or a full sync brings them back."""
    return _handle_poison(toolbox, asked, caller, poison.discard)


def _handle_poison(
    toolbox: Toolbox,
    asked: parameters.PoisonAct,
    caller: Caller,
    do: Callable[..., Iterator[poison.Handled]],
) -> Answer:
    """Do something with the poison that was chosen, in slices.

    Only the first slice reads all of it, so it counts what is left; the others read what one can
    handle.
    """
    _one_way(asked)
    at_most = NAMED_AHEAD if asked.names else LOOK_AHEAD
    names = sorted(name for name in set(asked.names) if name > asked.after)
    if asked.after:
        names = names[: at_most + 1]
    chosen = poison.Selection(names=tuple(names), reason=asked.reason, all_kept=asked.all)
    rows = poison.look_for(toolbox.ledger, chosen, after=asked.after)
    found = list(islice(rows, at_most + 1) if asked.after else rows)
    _all_there("poison", names, [entry.name for entry in found])
    handle = partial(
        do,
        ledger=toolbox.ledger,
        clock=toolbox.clock,
        dry_run=asked.dry_run,
        decision=Decision(by=caller.name, note=asked.note),
    )
    return slice_of(
        found,
        token=lambda entry: entry.name,
        after=asked.after,
        handle=handle,
        describe=lambda item: {
            "poison": item.name,
            "indicators": item.count,
            "result": item.result.value,
        },
        clock=toolbox.clock,
        at_most=at_most,
    )


def bring_back(toolbox: Toolbox, _: parameters.Act, __: Caller) -> Answer:
    """Move messages that are stuck on the poison queue back to the upload queue."""
    done = rescue(
        toolbox.poison_queue,
        upload_queue=toolbox.queue,
        clock=toolbox.clock,
        patience=SLICE,
        within=SLICE,
    )
    return {"count": done.count, "remaining": done.left}


def retry(toolbox: Toolbox, asked: parameters.RejectionAct, caller: Caller) -> Answer:
    """Let the next run send rejected records once more, if they are still the newest."""
    _one_way(asked)
    selection = rejections.Selection(
        names=tuple(asked.names),
        run_id=asked.run,
        reason=asked.reason,
        indicator=asked.indicator,
    )
    chosen = rejections.find(toolbox.ledger, selection)
    _all_there("rejection", asked.names, [one.name for one in chosen])
    if not asked.names:  # an invalid record cannot be sent
        chosen = [one for one in chosen if one.rejected_by is RejectedBy.SENTINEL]

    def handle(some: Sequence[Rejection]) -> Iterator[rejections.Handled]:
        return rejections.retry(
            some,
            ledger=toolbox.ledger,
            at=toolbox.clock.now(),
            by=caller.name,
            note=asked.note,
            dry_run=asked.dry_run,
        )

    return slice_of(
        chosen,
        token=rejection_token,
        after=asked.after,
        handle=handle,
        describe=lambda item: {
            "rejection": item.name,
            "indicator": item.indicator_id,
            "result": item.result.value,
        },
        clock=toolbox.clock,
    )


def lose(toolbox: Toolbox, asked: parameters.ChunkAct, caller: Caller) -> Answer:
    """Declare chunks lost whose message cannot be found, so that the books close."""
    _one_way(asked)
    names = lost.candidates(toolbox.ledger) if asked.all else list(dict.fromkeys(asked.names))
    queues = (toolbox.queue, toolbox.poison_queue)
    traces = lost.look_for_messages(toolbox.ledger, queues)  # once a slice: it costs six calls

    def handle(some: Sequence[str]) -> Iterator[lost.Handled]:
        return lost.declare_lost(
            some,
            ledger=toolbox.ledger,
            traces=traces,
            at=toolbox.clock.now(),
            by=caller.name,
            note=asked.note,
            dry_run=asked.dry_run,
        )

    return slice_of(
        names,
        token=str,
        after=asked.after,
        handle=handle,
        describe=lambda item: {
            "chunk": item.name,
            "indicators": item.indicators,
            "result": item.result.value,
        },
        clock=toolbox.clock,
    )


def acknowledge_gaps(toolbox: Toolbox, asked: parameters.GapAct, caller: Caller) -> Answer:
    """Acknowledge gaps, so that the status no longer reports them."""
    _one_way(asked)
    now = toolbox.clock.now()
    chosen = list(dict.fromkeys(asked.runs))
    if asked.all:
        chosen = [gap.run_id for gap in toolbox.ledger.runs.gaps() if gap.counts_at(now)]
    return slice_of(
        chosen,
        token=str,
        after=asked.after,
        handle=lambda some: acknowledge(
            toolbox.ledger, some, at=now, by=caller.name, note=asked.note
        ),
        describe=lambda item: {"run": item.run_id, "result": item.result.value},
        clock=toolbox.clock,
    )


def remove_old(toolbox: Toolbox, asked: parameters.PurgeAct, _: Caller) -> Answer:
    """Remove old runs, rejections, settled poison, pulses and acts."""
    ledger, now, age = toolbox.ledger, toolbox.clock.now(), timedelta(days=asked.days)
    go_on = time_for(toolbox.clock)
    if asked.dry_run:
        return asdict(count_old(ledger, older_than=age, now=now, go_on=go_on))
    done = purge(ledger, older_than=age, now=now, go_on=go_on)
    if done.remaining:
        go_on = time_for(toolbox.clock, COUNT, margin=MARGIN - COUNT)
        left = count_old(ledger, older_than=age, now=now, go_on=go_on).total
        done = replace(done, remaining=max(done.remaining, left))
    return asdict(done)


def adopt_chunks(toolbox: Toolbox, asked: parameters.DryAct, _: Caller) -> Answer:
    """Let chunks that wait for another workspace go to the present one."""
    if not toolbox.destination:
        raise BadRequest("set WORKSPACE_ID, and SENTINEL_BASE_URL for another cloud")
    done = adopt(
        toolbox.ledger,
        toolbox.sends,
        destination=toolbox.destination,
        dry_run=asked.dry_run,
        go_on=time_for(toolbox.clock),
    )
    return {"destination": toolbox.destination, **asdict(done)}


def sync_now(toolbox: Toolbox, asked: parameters.SyncAct, caller: Caller) -> Answer:
    """Ask for a sync run now, or take back what no run has served yet."""
    ledger = toolbox.ledger
    _not_both(asked)
    if asked.take_back:
        taken = take_back(ledger)
        return {"requested_at": None, "full": False, "taken_back": taken.sync or taken.full}
    if asked.full and not any(ledger.runs.latest(1)):
        raise BadRequest(NO_RUN_YET)
    request = request_sync(
        ledger,
        toolbox.sync_queue,
        full=asked.full,
        now=toolbox.clock.now(),
        decision=Decision(by=caller.name, note=asked.note),
    )
    return {"requested_at": request.at.isoformat(), "full": asked.full, "taken_back": False}


def pause_feed(toolbox: Toolbox, asked: parameters.PauseAct, caller: Caller) -> Answer:
    """Stop new runs and uploads until a time, at most seven days away; it ends by itself."""
    decision = Decision(by=caller.name, note=asked.note)
    try:
        made = pause(toolbox.ledger, until=asked.until, now=toolbox.clock.now(), decision=decision)
    except ValueError as error:
        raise BadRequest(str(error)) from error
    return {"paused_until": made.until.isoformat(), "by": made.by}


def resume_feed(toolbox: Toolbox, _: parameters.Act, __: Caller) -> Answer:
    """End the pause that is on."""
    return {"was_paused": resume(toolbox.ledger, now=toolbox.clock.now())}


def _one_way(asked: parameters.Act) -> None:
    """Raise `BadRequest` unless the choice is made in exactly one way."""
    made = [any(getattr(asked, name) for name in way) for way in asked.ways]
    if sum(made) != 1:
        ways = ", or ".join(" and ".join(way) for way in asked.ways)
        raise BadRequest(f"choose in one way: {ways}")


def _not_both(asked: parameters.Act) -> None:
    """Raise `BadRequest` where flags are set that exclude each other."""
    if all(getattr(asked, name) for name in asked.excluding):
        names = " and ".join(parameters.written(name) for name in asked.excluding)
        raise BadRequest(f"{names} exclude each other")


def _all_there(what: str, names: Sequence[str], found: Sequence[str]) -> None:
    absent = sorted(set(names) - set(found))
    if absent:
        raise NotFound(f"there is no {what} called {', '.join(absent[:5])}")


def words(result: Any) -> str:
    """Return what was done, in a few words, for the record of the act. Pure."""
    if not isinstance(result, dict):
        return ""
    if "totals" in result:
        totals = ", ".join(f"{count} {what}" for what, count in result["totals"].items())
        left = result["remaining"]
        return (totals or "nothing to do") + (f"; {left} to go" if left else "")
    if "handled" in result:
        return f"{len(result['handled'])} handled"
    return ", ".join(f"{name} {value}" for name, value in result.items() if value not in ("", {}))
