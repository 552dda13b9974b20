"""The deployed function app on the real worker: what it registers, and that every function runs."""

from typing import Any

import requests

from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.ledger.poison import UNKNOWN_RUN, PoisonedBy
from common.queues import POISON_QUEUE, SYNC_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.settings import DEFAULT_SCHEDULE, STORAGE_CONNECTION, Secret, StorageSettings
from consumer.poison import MAX_PUT_BACK
from local.functions_host.process import HostProcess
from local.services.feed import ListFeed, SyntheticFeed
from tests.patience import PATIENCE
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import World, assert_conserved, log_lines, until


def _bindings(host: HostProcess) -> dict[str, dict[str, Any]]:
    listed = host.admin("GET", "/admin/functions").json()
    return {
        function["name"]: next(b for b in function["bindings"] if "trigger" in b["type"].lower())
        for function in listed
    }


def test_the_worker_indexes_every_function(new_world: NewWorld) -> None:
    """Names, triggers, schedule, queues and connection are what the template deploys."""
    bindings = _bindings(new_world().cloud.start_host())
    assert set(bindings) == {
        "arrival_check",
        "lumen_sync",
        "sync_now",
        "sentinel_upload",
        "keep_poison",
        "read",
        "act",
        "health",
        "dashboard",
    }
    assert bindings["lumen_sync"]["type"] == "timerTrigger"
    assert bindings["lumen_sync"]["schedule"] == DEFAULT_SCHEDULE
    assert bindings["lumen_sync"]["runOnStartup"] is False
    queues = {name: bindings[name] for name in ("sentinel_upload", "keep_poison", "sync_now")}
    assert [queue["queueName"] for queue in queues.values()] == [
        UPLOAD_QUEUE,
        POISON_QUEUE,
        SYNC_QUEUE,
    ]
    assert {queue["connection"] for queue in queues.values()} == {STORAGE_CONNECTION}
    assert bindings["read"]["route"] == "read/{*path}"


def test_the_schedule_is_a_setting(new_world: NewWorld) -> None:
    """`LUMEN_SCHEDULE` moves the timer."""
    hourly = "0 0 * * * *"
    world = new_world(settings={"LUMEN_SCHEDULE": hourly})
    assert _bindings(world.cloud.start_host())["lumen_sync"]["schedule"] == hourly


def test_the_timer_fires_by_itself(new_world: NewWorld) -> None:
    """With the host's timers on, a run starts on schedule and nobody has to ask."""
    world = new_world(SyntheticFeed(150), settings={"LUMEN_SCHEDULE": "* * * * * *"})
    world.cloud.start_host(timers=True)
    until(lambda: any(run.state == "complete" for run in world.runs()), "a run is complete")
    world.deliver_all()


def test_status_needs_a_key_and_tells_the_runs(new_world: NewWorld) -> None:
    """The status function answers with a function key only, and its numbers balance."""
    world = new_world(SyntheticFeed(300))
    host = world.cloud.start_host()
    assert requests.get(host.url + "/api/read/status", timeout=PATIENCE).status_code == 401
    world.sync(host)
    world.deliver_all()
    report = host.get("/api/read/status").json()
    assert report["queue_depth"] == 0
    assert report["runs"][0]["state"] == "complete"
    assert report["runs"][0]["fetched"] == 300
    assert report["runs"][0]["balanced"] is True
    wrong = host.get("/api/read/status?runs=0")
    assert (wrong.status_code, list(wrong.json())) == (400, ["error"])
    assert_conserved(world)


def test_status_names_a_wrong_setting(new_world: NewWorld) -> None:
    """A setting that the status needs and cannot read is named in its answer."""
    world = new_world(settings={"SENTINEL_REQUESTS_PER_MINUTE": "many"})
    response = world.cloud.start_host().get("/api/read/status")
    assert response.status_code == 500
    assert "SENTINEL_REQUESTS_PER_MINUTE" in response.json()["error"]


def test_status_tells_what_nobody_has_kept_yet(new_world: NewWorld) -> None:
    """While the poison handler is off, what the host gave up shows as not kept; then as kept."""
    world = new_world(ListFeed())
    host = world.cloud.start_host(disabled=("sentinel_upload", "keep_poison"))
    _put(world, POISON_QUEUE, "given up")
    report = host.get("/api/read/status").json()
    assert (report["poison_queue_depth"], report["poison_kept"]) == (1, 0)
    assert any("keep_poison" in finding for finding in report["findings"])
    world.cloud.start_host()
    until(world.kept, "the message is kept")
    until(lambda: host.get("/api/read/status").json()["poison_queue_depth"] == 0, "it has left")
    assert host.get("/api/read/status").json()["poison_kept"] == 1


def _put(world: World, queue: str, text: str) -> None:
    storage = StorageSettings(connection_string=Secret(world.cloud.connection_string))
    AzureQueue(queue, storage).send(text)


def test_a_message_that_cannot_be_decoded_is_kept_raw(new_world: NewWorld) -> None:
    """Whatever stands in a message of either queue, the ledger has it word for word."""
    world = new_world(ListFeed())
    world.cloud.start_host()
    # Beyond ASCII, but too short to be cut between two reads (see tests/contract/test_queue.py).
    text = 'no "envelope" at all: ünïcödé {"version": 99}'
    for queue in (UPLOAD_QUEUE, POISON_QUEUE):
        _put(world, queue, f"{queue}: {text}")
    until(lambda: len(world.poison()) == 2, "both messages are kept")
    assert {(record.run_id, record.message) for record in world.poison()} == {
        (UNKNOWN_RUN, f"{UPLOAD_QUEUE}: {text}"),
        (UNKNOWN_RUN, f"{POISON_QUEUE}: {text}"),
    }


def test_what_the_host_gave_up_is_kept_whole(new_world: NewWorld) -> None:
    """A message on the poison queue is in the ledger with its history; no row is made for it."""
    world = new_world(ListFeed())
    world.cloud.start_host()
    body = b"[{}]"
    envelope = Envelope(
        run_id="20260101T000000-00000000",
        chunk_id=chunk_id_of(body),
        sequence=0,
        count=1,
        body=body,
        put_back=MAX_PUT_BACK,
        fingerprints=(0,),
    ).deferred(at="2026-01-01T00:00:00+00:00", reason="Sentinel is unavailable (503)", counts=True)
    _put(world, POISON_QUEUE, encode_envelope(envelope))
    (record,) = until(lambda: list(world.ledger.poison.all()), "the message is kept")
    assert record.poisoned_by is PoisonedBy.HOST
    assert record.message == encode_envelope(envelope)
    assert record.history == envelope.history
    assert world.ledger.chunks.get(envelope.run_id, envelope.key) is None


def test_wrong_settings_cost_no_message(new_world: NewWorld) -> None:
    """While a secret is an unresolved reference, chunks wait on the queue and say why."""
    world = new_world(SyntheticFeed(150))
    producer = world.cloud.start_host(disabled=("sentinel_upload",))
    world.sync(producer)
    broken = "@Microsoft.KeyVault(SecretUri=https://vault.test/secrets/gone)"
    world.cloud.override_settings({"CLIENT_SECRET": broken})
    victim = world.cloud.start_host()
    (line, *_) = until(lambda: log_lines(victim, "chunk-deferred"), "the chunk is deferred")
    assert "CLIENT_SECRET: is an unresolved Key Vault reference" in line
    assert not list(world.ledger.poison.all())
    assert world.queue.depth() > 0
