"""A world for scenarios, and the one verdict that each of them ends with.

The function app runs in real host processes against Azurite and the simulators. The verdict reads
the ledger with the product's own code and asks the Sentinel simulator, which knows nothing of it,
what it holds: the two must tell the same story.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from azure.data.tables import TableServiceClient
from azure.storage.queue import QueueClient

from common.clock import SystemClock
from common.envelope import decode_envelope, encode_envelope
from common.health import Verdict, judge_health
from common.ledger import Ledger, open_ledger
from common.ledger.arrivals import ArrivalBook
from common.ledger.chunks import Chunk
from common.ledger.poison import PoisonRecord, PoisonState
from common.ledger.problems import Problem, ProblemKind, Problems
from common.ledger.runs import Run
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.states import RunState
from common.ledger.tables import AzureTables
from common.queues import POISON_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.reconciliation import Reconciliation, reconcile
from common.settings import Secret, StorageSettings, destination_of
from common.view import View, read_view
from consumer.poison import MAX_PUT_BACK
from local.cloud import LocalCloud
from local.functions_host.process import PROJECT_ROOT, HostProcess
from local.services.feed import Feed, expected_ids
from local.services.held_messages import HeldMessages
from local.services.sentinel_api import digest
from ops.poison import Handled, Selection, discard, find, replay
from tests.kql.logged import facts_by_event
from tests.patience import PATIENCE
from tests.scenarios.versions import feed_of, version

LOOK_EVERY = 0.1
THRESHOLD = 65

OTHERS = 900_000
"""Indicators that a world lists while what was refused waits are numbered from here."""

MANY_OTHERS = 200

CONSUMER = ("sentinel_upload", "keep_poison")
PRODUCER = ("lumen_sync", "sync_now")
"""What to disable for an instance that only produces, or only consumes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """A local cloud with its feed, and the ledger as the tests read it."""

    cloud: LocalCloud
    feed: Feed
    ledger: Ledger
    queue: AzureQueue
    problems: Problems
    sends: Sends
    slots: Slots
    tables: AzureTables

    @property
    def expected(self) -> set[str]:
        """The ids that must be at Sentinel in the end."""
        return expected_ids(self.feed, threshold=THRESHOLD)

    def runs(self) -> list[Run]:
        """Every run, oldest first."""
        return sorted(self.ledger.runs.latest(100), key=lambda run: run.started_at)

    def chunks(self, run_id: str = "") -> list[Chunk]:
        """Every chunk that has a row, or those of a run, in the order in which they were made."""
        rows = [chunk for chunk in self.ledger.chunks.all() if run_id in ("", chunk.run_id)]
        return sorted(rows, key=lambda chunk: (chunk.run_id, chunk.epoch, chunk.sequence))

    def fates(self) -> list[Reconciliation]:
        """The reconciliation of every run, oldest first."""
        return [reconcile(run, self.ledger.chunks.outcomes(run.run_id)) for run in self.runs()]

    @property
    def destination(self) -> str:
        """The present workspace, as chunk rows name it."""
        settings = self.cloud.app_settings()
        return destination_of(settings["SENTINEL_BASE_URL"], settings["WORKSPACE_ID"])

    def now_lists(self, feed: Feed) -> None:
        """Let Lumen list another feed from the next query on."""
        self.cloud.lumen.replace_feed(feed)

    @property
    def held(self) -> HeldMessages:
        """The messages that wait out of sight; the world has to be `proxied`."""
        assert self.cloud.held is not None
        return self.cloud.held

    def poison(self) -> list[PoisonRecord]:
        """Every message that was given up."""
        return list(self.ledger.poison.all())

    def kept(self) -> list[PoisonRecord]:
        """Every message that waits for an operator."""
        return [record for record in self.poison() if record.state is PoisonState.KEPT]

    def replay(self, selection: Selection) -> list[Handled]:
        """Replay poison as an operator does."""
        return list(
            replay(
                find(self.ledger, selection),
                ledger=self.ledger,
                queue=self.queue,
                slots=self.slots,
                clock=SystemClock(),
            )
        )

    def discard(self, selection: Selection) -> list[Handled]:
        """Discard poison as an operator does."""
        records = find(self.ledger, selection)
        return list(discard(records, ledger=self.ledger, clock=SystemClock()))

    def problem(self, kind: ProblemKind) -> Problem | None:
        """The problem of a kind that is open, if there is one."""
        return next((one for one in self.problems.open() if one.kind is kind), None)

    def problem_is_over(self, kind: ProblemKind) -> bool:
        """Whether there was such a problem and it has ended."""
        kinds = {problem.kind for problem in self.problems.ended()}
        return kind in kinds and self.problem(kind) is None

    def wait_until_calm(self) -> None:
        """Wait until no problem is open.

        A call that should end one may fail on a busy machine; the next success, or the problem's
        own end, makes up for it. So this is never asserted right after a delivery.
        """
        until(lambda: not self.problems.open(), "no problem is open")

    def wait_until_healthy(self) -> None:
        """Wait until an operator sees a healthy feed."""

        def is_healthy() -> bool:
            return judge_health(self.view()).verdict is Verdict.HEALTHY

        until(is_healthy, "the feed is healthy")

    def operate(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command as an operator next to the storage does."""
        return subprocess.run(
            [sys.executable, "-m", "ops", *arguments],
            cwd=PROJECT_ROOT,
            env={**os.environ, **self.cloud.app_settings()},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def view(self) -> View:
        """What an operator sees."""
        return read_view(
            self.ledger,
            self.problems,
            queue=self.queue,
            poison_queue=AzureQueue(POISON_QUEUE, self._storage),
            runs=5,
            now=SystemClock().now(),
            requests_per_minute=6000,
            stale_after=timedelta(minutes=45),
            destination=self.destination,
        )

    @property
    def _storage(self) -> StorageSettings:
        return StorageSettings(connection_string=Secret(self.cloud.connection_string))

    def messages(self) -> list[str]:
        """The texts of the messages that wait visibly on the queue, up to 32 of them."""
        queue = QueueClient.from_connection_string(self.cloud.connection_string, UPLOAD_QUEUE)
        with queue:
            return [str(message.content) for message in queue.peek_messages(max_messages=32)]

    def take_all(self) -> None:
        """Empty the upload queue, as if the host had given up every message of it."""
        queue = QueueClient.from_connection_string(self.cloud.connection_string, UPLOAD_QUEUE)
        with queue:
            queue.clear_messages()

    def lose_ledger(self) -> None:
        """Delete every table of the account."""
        with TableServiceClient.from_connection_string(self.cloud.connection_string) as service:
            for table in list(service.list_tables()):
                service.delete_table(table.name)

    def put(self, text: str, *, queue: str = UPLOAD_QUEUE, delay: float = 0.0) -> None:
        """Put a message on a queue of the pipeline, invisible for `delay` seconds."""
        AzureQueue(queue, self._storage).send(text, delay=delay)

    def fire_timer(self, host: HostProcess) -> None:
        """Fire the timer and do not wait."""
        host.invoke_admin("lumen_sync")

    def sync(self, host: HostProcess) -> Run:
        """Fire the timer until a run is complete, as every 15 minutes would; return that run."""
        known = {run.run_id for run in self.runs() if run.state is RunState.COMPLETE}

        def complete() -> Run | None:
            # An earlier tick may still be ending: its end must not be taken for that of ours.
            until(lambda: _begun(host) == _ended(host), "no tick is under way")
            ticks = _ended(host)
            self.fire_timer(host)
            until(lambda: _ended(host) > ticks, "the timer's function ends")
            done = [run for run in self.runs() if run.state is RunState.COMPLETE]
            return next((run for run in done if run.run_id not in known), None)

        return until(complete, "a sync run is complete")

    def deliver_all(self) -> None:
        """Wait until no chunk is without an outcome and the queue is empty.

        What waits out of sight for older requests to end is brought forward once nothing else is on
        the queue: then no such request is under way.
        """
        held = self.cloud.held

        def delivered() -> bool:
            depth = self.queue.depth()
            if held is not None and 0 < depth == len(held.waiting):
                held.bring_forward()
            return not depth and not any(chunk.fate.pending for chunk in self.waiting())

        until(delivered, "everything is delivered")

    def deliver_among_others(self, host: HostProcess) -> Feed:
        """Deliver everything while Lumen lists one more indicator with each query; return those.

        What Sentinel refused waits until others are accepted.
        """
        others = [version(OTHERS)]
        while self.queue.depth() or any(chunk.fate.pending for chunk in self.waiting()):
            assert len(others) < MANY_OTHERS, "what was refused waits on and on"
            others.append(version(OTHERS + len(others)))
            self.now_lists(feed_of(others[-1:]))
            self.sync(host)
        self.now_lists(self.feed)
        return feed_of(others[1:])

    def waiting(self) -> list[Chunk]:
        """The chunks of which something is still to be sent."""
        return [chunk for chunk in self.chunks() if chunk.to_send]

    def check_arrival(self, host: HostProcess) -> ArrivalBook:
        """Fire the timer that asks the workspace, and return what is known when it has ended."""
        ended = "Executed 'Functions.arrival_check'"
        before = host.log_text().count(ended)
        host.invoke_admin("arrival_check")
        until(lambda: host.log_text().count(ended) > before, "the check has ended")
        return self.ledger.arrivals.read()

    def fold_all(self, host: HostProcess) -> None:
        """Let ticks fold every row away, as those of the next hour would."""

        def folded() -> bool:
            self.sync(host)
            return not self.chunks()

        until(folded, "every row is folded")

    def let_time_pass(self, seconds: float = 900.0) -> None:
        """Let what is in the version index have been entered so much earlier."""
        table = self.tables.table("versions")
        for row in list(table.query("manifest")):
            packed = row.data["segments"]
            assert isinstance(packed, bytes)
            older = [[name, count, age + seconds] for name, count, age in json.loads(packed)]
            table.merge(replace(row, data={"segments": json.dumps(older).encode()}))


class Victim:
    """A host that a hook kills. A hook that comes before the host is known waits for it."""

    def __init__(self) -> None:
        self._host: Future[HostProcess] = Future()

    def is_(self, host: HostProcess) -> HostProcess:
        """Name the host; return it."""
        self._host.set_result(host)
        return host

    def kill(self, _request: object = None) -> None:
        """Kill the host, as SIGKILL does."""
        self._host.result(PATIENCE).kill()


def open_world(cloud: LocalCloud, feed: Feed) -> World:
    """Return the world of a local cloud that runs."""
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    tables = AzureTables(storage)
    return World(
        cloud=cloud,
        feed=feed,
        ledger=open_ledger(tables),
        queue=AzureQueue(UPLOAD_QUEUE, storage),
        problems=Problems(tables, clock=SystemClock()),
        sends=Sends(tables, clock=SystemClock()),
        slots=Slots(tables, clock=SystemClock(), requests_per_minute=6000),
        tables=tables,
    )


def put_back_often(text: str) -> str:
    """Return a message as the host gives it up for the last time: then it is kept as poison."""
    return encode_envelope(replace(decode_envelope(text), put_back=MAX_PUT_BACK))


def until[T](condition: Callable[[], T | None], what: str) -> T:
    """Return the first true value of `condition`; fail when none comes.

    Ask for what stays true once it is: what may pass between two looks is missed on a busy machine.
    """
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        time.sleep(LOOK_EVERY)
    return value


def _begun(host: HostProcess) -> int:
    return host.log_text().count("Executing 'Functions.lumen_sync'")


def _ended(host: HostProcess) -> int:
    return host.log_text().count("Executed 'Functions.lumen_sync'")


def assert_conserved(
    world: World,
    *,
    poisoned: int = 0,
    rejected: int = 0,
    pending: int = 0,
    also: Feed | None = None,
) -> None:
    """Assert the conservation law of every run, and that Sentinel lacks nothing.

    The ledger must know of exactly so many `poisoned` and `rejected` indicators, which may be
    missing, as may those that are still `pending` on the queue. `also` is a second feed whose
    indicators must be there.
    """
    fates = world.fates()
    assert fates, "no run was recorded"
    for run, fate in zip(world.runs(), fates, strict=True):
        assert fate.balanced, f"run {run.run_id} ({run.state}) does not balance: {fate}"
    assert sum(fate.pending for fate in fates) == pending, f"without a fate: {fates}"
    assert sum(fate.poisoned for fate in fates) == poisoned
    assert sum(fate.rejected for fate in fates) == rejected
    expected = world.expected | (expected_ids(also, threshold=THRESHOLD) if also else set())
    missing = world.cloud.sentinel.missing(expected)
    excused = poisoned + rejected + pending
    assert len(missing) <= excused, f"{len(missing)} indicators were lost"
    unexpected = set(world.cloud.sentinel.accepted) - expected
    assert not unexpected, f"{len(unexpected)} indicators should not be at Sentinel"


def versions_of(*feeds: Feed) -> dict[str, tuple[str, int]]:
    """Return `modified` and the digest at Sentinel of the newest version of every indicator.

    `feeds` are those that Lumen listed, in order; of equal `modified` the later one counts. All
    their indicators are whole.
    """
    newest: dict[str, tuple[str, int]] = {}
    for feed in feeds:
        for encoded in feed.encoded(0, len(feed)):
            found = json.loads(encoded)
            sent = {**found, "confidence": int(found["confidence"])}
            known, _ = newest.get(found["id"], ("", 0))
            if found["modified"] >= known:
                newest[found["id"]] = found["modified"], digest(sent)
    return newest


def assert_last_word(world: World, *feeds: Feed) -> None:
    """Assert that of all that Sentinel holds it holds the newest version in `feeds`."""
    newest = versions_of(*feeds)
    accepted = world.cloud.sentinel.accepted
    assert accepted, "Sentinel holds nothing"
    stale = {name for name in accepted if accepted[name].digest != newest[name][1]}
    assert not stale, f"{len(stale)} of {len(accepted)} indicators are of an older version"


def log_lines(host: HostProcess, event: str) -> list[str]:
    """Return the lines of a host's log that tell of `event`."""
    return [line for line in host.log_text().splitlines() if f" {event} {{" in line]


def events_of(log: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the events in a host's log, with their facts."""
    names = facts_by_event()
    found = []
    for line in log.splitlines():
        head, brace, rest = line.partition(" {")
        name = head.split()[-1] if head.split() else ""
        if brace and name in names:
            found.append((name, json.loads("{" + rest)))
    return found


Options = dict[str, Any]
