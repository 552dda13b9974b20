"""What the queries of alerts and workbooks ask for is what the app logs, in the real worker."""

from collections import defaultdict

from common.queues import POISON_QUEUE
from local.functions_host.process import HostProcess
from local.services.faults import Answer, Call, Fault
from local.services.feed import SyntheticFeed
from local.services.lumen_api import PAGE_PATH
from tests.kql.texts import asked_of_log, log_files
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World, events_of, log_lines, put_back_often, until

MAX_PAGES = 3
DRIFT = '{"errors": [{"recordIndex": 100, "errorMessages": ["odd"]}]}'


def tick_until(world: World, host: HostProcess, event: str) -> None:
    """Fire the timer until the producer has logged an event."""

    def logged() -> bool:
        if not log_lines(host, event):
            ticks = len(log_lines(host, "health"))
            world.fire_timer(host)
            until(lambda: len(log_lines(host, "health")) > ticks, "a tick ends")
        return bool(log_lines(host, event))

    until(logged, event)


def every_kind_of_tick(world: World, host: HostProcess) -> None:
    """Let runs fail, be interrupted, go on, end and have a gap."""
    lumen = world.cloud.lumen
    lumen.behaviour.final_status = "FAILED"
    tick_until(world, host, "sync-failed")
    lumen.behaviour.final_status = "COMPLETED"
    away = lumen.inject(Fault(effect=Answer(503), method="GET", path=PAGE_PATH, times=None))
    tick_until(world, host, "sync-interrupted")
    away.remove()
    tick_until(world, host, "sync-continues")
    tick_until(world, host, "sync-complete")
    forget = Call(lambda _request: lumen.expire_queries())
    lumen.inject(Fault(effect=forget, method="GET", path=PAGE_PATH, after=1))
    tick_until(world, host, "sync-gap")


def every_kind_of_delivery(world: World) -> HostProcess:
    """Let one message be poison and one be put back, and Sentinel answer in every way."""
    given_up, put_back, *others = world.messages()
    world.take_all()
    world.put(put_back_often(given_up), queue=POISON_QUEUE)
    world.put(put_back, queue=POISON_QUEUE)
    for text in others:
        world.put(text)
    sentinel = world.cloud.sentinel
    bad = min(world.expected)
    sentinel.behaviour.reject_record = lambda record: record["id"] == bad
    for answer in (Answer(429), Answer(400), Answer(200, body=DRIFT)):
        sentinel.inject(Fault(effect=answer, method="POST"))
    host = world.cloud.start_host()
    until(world.kept, "one message is kept")
    world.deliver_all()
    return host


def test_a_run_logs_what_the_queries_ask_for(new_world: NewWorld) -> None:
    """Each event that a query names, and of its events each fact."""
    world = new_world(SyntheticFeed(1500), page_size=300, settings={"MAX_PAGES": f"{MAX_PAGES}"})
    producer = world.cloud.start_host(disabled=CONSUMER)
    every_kind_of_tick(world, producer)
    consumer = every_kind_of_delivery(world)

    logged: dict[str, set[str]] = defaultdict(set)
    for host in (producer, consumer):
        for name, found in events_of(host.log_text()):
            logged[name] |= found.keys()
    for path in log_files():
        events, facts = asked_of_log(path)
        assert events <= logged.keys(), path.name
        assert facts <= set().union(*(logged[name] for name in events)), path.name
