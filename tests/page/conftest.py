"""What the tests of the page share: a browser, and a local cloud with much on record.

They need the set-up of `make test-page`, which runs them; `make test` skips them.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import batched
from pathlib import Path
from typing import Any

import pytest

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.ledger import poison as poison_rows
from common.ledger.chunks import Chunk, insertion
from common.ledger.poison import PoisonedBy, poison_of_envelope
from common.ledger.pulses import Books, Pulse
from common.ledger.runs import Counts, Folded, Run
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import Action, Operation
from common.records import Record, pack_records
from local.cloud import LocalCloud
from local.functions_host.process import HostProcess
from local.services.azurite import Azurite
from local.services.feed import ListFeed
from local.services.tls import LocalCertificates
from tests.scenarios.world import CONSUMER, PRODUCER, World, open_world

HERE = Path(__file__).parent
BATCH = 90
RUNS = 1000
REPLAYED = 3000
"""Messages that a test replays."""
POISON = 10_000
EVIL = "<img src=x onerror=\"document.title='owned'\"> & 'quotes'"
"""A reason as a feed or a service may word it."""


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium: an installed one, else the one of the npm package."""
    if not os.environ.get("TEST_PAGE"):
        pytest.skip("make test-page runs it")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - of another set-up

    installed = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    arguments = ["--no-sandbox"]
    if installed is None:
        node = shutil.which("node") or str(HERE.parents[1] / ".venv/bin/node")
        script = (
            "import c from '@sparticuz/chromium';"
            "console.log(JSON.stringify([await c.executablePath(), c.args]))"
        )
        found = subprocess.run(
            [node, "--input-type=module", "-e", script],
            cwd=HERE,
            capture_output=True,
            text=True,
            check=True,
        )
        installed, arguments = json.loads(found.stdout)
        arguments = [each for each in arguments if not each.startswith(UNSAFE)]
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=installed, args=arguments)
        yield running
        running.close()


UNSAFE = ("--disable-web-security", "--allow-running-insecure-content", "--single-process")
"""Switches of the npm package's list that would make it another browser than users have."""


@pytest.fixture(scope="module")
def full(
    azurite: Azurite,
    new_account: Any,
    certificates: LocalCertificates,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[World, HostProcess]]:
    """A world with a thousand runs and ten thousand kept messages, and its app."""
    feed = ListFeed()
    with LocalCloud(
        feed,
        azurite=azurite,
        account=new_account(),
        certificates=certificates,
        directory=tmp_path_factory.mktemp("page"),
    ) as cloud:
        world = open_world(cloud, feed)
        fill(world)
        yield world, cloud.start_host(disabled=(*CONSUMER, *PRODUCER))


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> LocalCertificates:
    """One throw-away CA."""
    return LocalCertificates(tmp_path_factory.mktemp("tls"))


def fill(world: World) -> None:
    """Write runs, pulses and poison, each as the pipeline writes it."""
    now = datetime.now(UTC)
    table = world.tables.table("chunks")
    for number in range(RUNS):
        at = now - timedelta(minutes=15 * number)
        run = Run(
            run_id=f"{at:%Y%m%dT%H%M%S}-{number:08x}",
            state=RunState.COMPLETE,
            started_at=at,
            updated_at=at,
            counts=Counts(fetched=200, unchanged=100, enqueued=100),
            folded=Folded(accepted=90, rejected=10),
        )
        world.ledger.runs.create(run)
        if number < 96:
            pulse = Pulse(at=at, verdict="degraded", backlog=number, fetched=200, accepted=90)
            world.ledger.pulses.write(pulse, Books())
    run_id = f"{now - timedelta(days=30):%Y%m%dT%H%M%S}-0badcafe"
    ledger_id = world.ledger.chunks.ledger_id()
    envelopes = [poisoned(run_id, number, ledger_id) for number in range(POISON)]
    rows = [row_of(envelope, world.destination, now) for envelope in envelopes[:REPLAYED]]
    for some in batched(rows, BATCH, strict=False):
        table.transact([given_up(insertion(row)) for row in some])
    records = [
        poison_of_envelope(
            envelope,
            encode_envelope(envelope),
            reason=reason_of(number),
            poisoned_by=PoisonedBy.CONSUMER,
            at=now - timedelta(seconds=POISON - number),
        )
        for number, envelope in enumerate(envelopes)
    ]
    kept = [poison_rows._to_row(record) for record in records]
    for batch in batched(kept, BATCH, strict=False):
        world.tables.table("poison").transact(
            [Operation(action=Action.INSERT, row=row) for row in batch]
        )


def reason_of(number: int) -> str:
    """Return why a message was given up: one of three reasons."""
    if number < REPLAYED:
        return "Sentinel answered 500 ten times"
    return EVIL if number == POISON - 1 else "the answer has no known form"


def indicator_of(number: int) -> str:
    """Return the id of the indicator of a message."""
    return f"indicator--{number:08d}-0000-4000-8000-000000000000"


def run_of_poison(world: World) -> str:
    """Return the run of which all messages were given up."""
    return next(iter(world.ledger.poison.entries())).run_id


def poisoned(run_id: str, number: int, ledger_id: str) -> Envelope:
    """Return the message of a chunk of one indicator."""
    body = json.dumps([{"id": indicator_of(number)}]).encode()
    return Envelope(
        run_id=run_id,
        sequence=number,
        epoch=1,
        chunk_id=chunk_id_of(body),
        body=body,
        count=1,
        fingerprints=(number,),
        ledger_id=ledger_id,
    )


def given_up(operation: Operation) -> Operation:
    """Return the write of a row that says at once that its chunk was given up."""
    row = operation.row
    data = {**row.data, "state": ChunkState.POISONED.value}
    return replace(operation, row=replace(row, data=data))


def row_of(envelope: Envelope, destination: str, now: datetime) -> Chunk:
    """Return the row of a chunk that was given up."""
    record = Record(id_hash=envelope.sequence, fingerprint=envelope.sequence)
    return Chunk(
        run_id=envelope.run_id,
        key=envelope.key,
        sequence=envelope.sequence,
        epoch=envelope.epoch,
        count=1,
        destination=destination,
        records=pack_records([record]),
        enqueued_at=now,
    )
