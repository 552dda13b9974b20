"""When storage ends the host: the rules as tables, then a host behind a proxy that breaks."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ServiceRequestError

from local.functions_host.process import HostProcess
from local.functions_host.storage_failures import (
    AZURE_PATIENCE,
    HARMLESS_CODES,
    Call,
    Meaning,
    StorageFailures,
    meaning_of,
    retry_waits,
)
from local.services.azurite import Azurite
from local.services.storage_proxy import Refusal, Rule, StorageProxy
from local.services.storage_requests import Service
from tests.host.conftest import World, new_world
from tests.patience import PATIENCE

type Eventually = Callable[[Callable[[], object]], None]
type Start = Callable[..., HostProcess]

STORAGE_PATIENCE = 0.3
SHUTTING_DOWN = "An unhandled exception has occurred. Host is shutting down."


@pytest.mark.parametrize(
    ("calls", "status", "code", "meaning"),
    [
        (["receive", "renew", "settle"], 404, "MessageNotFound", Meaning.HARMLESS),
        (["receive", "renew", "settle"], 404, "QueueNotFound", Meaning.HARMLESS),
        (["receive", "renew", "settle"], 400, "PopReceiptMismatch", Meaning.HARMLESS),
        (["receive", "renew", "settle"], 409, "QueueBeingDeleted", Meaning.HARMLESS),
        (["copy"], 404, "QueueNotFound", Meaning.HARMLESS),
        (["copy"], 409, "QueueBeingDeleted", Meaning.END),
        (["copy"], 409, "QueueAlreadyExists", Meaning.END),
        (list(Call.__members__), 403, "AuthorizationFailure", Meaning.END),
        (list(Call.__members__), 409, "QueueDisabled", Meaning.END),
        (list(Call.__members__), 404, "ResourceNotFound", Meaning.END),
        (list(Call.__members__), 400, "InvalidHeaderValue", Meaning.END),
        (list(Call.__members__), None, "", Meaning.RETRY),
        (list(Call.__members__), 429, "", Meaning.RETRY),
        (["renew", "settle", "copy"], 503, "ServerBusy", Meaning.RETRY),
        (["renew", "settle", "copy"], 500, "InternalError", Meaning.RETRY),
        (["receive"], 503, "ServerBusy", Meaning.POLL),
        (["receive"], 500, "InternalError", Meaning.POLL),
    ],
)
def test_what_a_failure_means(
    calls: list[str], status: int | None, code: str, meaning: Meaning
) -> None:
    """Four codes are harmless, trouble is tried again, all else is the end of the host."""
    for call in calls:
        assert meaning_of(Call[call.upper()], status=status, code=code) is meaning, call


def test_six_tries_take_as_long_as_in_the_service() -> None:
    """The waits double from 0.8 s and add up to the patience, of whatever length it is."""
    waits = list(retry_waits(AZURE_PATIENCE))
    assert [round(wait, 1) for wait in waits] == [0.8, 1.6, 3.2, 6.4, 12.8]
    assert sum(retry_waits(timedelta(seconds=1))) == pytest.approx(1)


def failing(error: Exception, times: int) -> Callable[[], str]:
    """An action that fails so many times, and then succeeds."""
    left = [error] * times

    def act() -> str:
        if left:
            raise left.pop()
        return "done"

    return act


def http_error(status: int, code: str = "") -> HttpResponseError:
    """An error as the queue's client raises it."""
    error = HttpResponseError("refused")
    error.status_code = status
    vars(error)["error_code"] = code
    return error


@pytest.mark.parametrize(
    ("error", "times", "waits", "ends"),
    [
        (ServiceRequestError("away"), 5, 5, 0),
        (ServiceRequestError("away"), 6, 5, 1),
        (http_error(503), 6, 5, 1),
        (http_error(403), 1, 0, 1),
        *[(http_error(409, code), 1, 0, 0) for code in HARMLESS_CODES],
    ],
)
def test_tries_and_the_end(error: Exception, times: int, waits: int, ends: int) -> None:
    """What passes within six tries is not seen; what does not ends the host and is raised."""
    ended: list[str] = []
    waited: list[float] = []
    failures = StorageFailures(patience=AZURE_PATIENCE, end_host=lambda: ended.append("end"))
    action = failing(error, times)

    def pause(seconds: float) -> bool:
        waited.append(seconds)
        return False

    if ends or not waits:
        with pytest.raises(type(error)):
            failures.run(Call.SETTLE, action, pause=pause)
    else:
        assert failures.run(Call.SETTLE, action, pause=pause) == "done"
    assert (len(waited), len(ended)) == (waits, ends)


def test_a_host_that_carries_on_never_ends() -> None:
    """Without the option every failure is raised at once and nothing ends."""
    ended: list[str] = []
    failures = StorageFailures(patience=None, end_host=lambda: ended.append("end"))
    with pytest.raises(HttpResponseError):
        failures.run(Call.RECEIVE, failing(http_error(403), 1), pause=lambda _: False)
    assert ended == []


@pytest.fixture
def proxy(azurite: Azurite) -> Iterator[StorageProxy]:
    """A proxy in front of the tests' Azurite, without rules."""
    upstream: dict[Service, int] = {"queue": azurite.port("queue"), "table": azurite.port("table")}
    with StorageProxy(upstream) as started:
        yield started


@pytest.fixture
def broken_world(azurite: Azurite, account: str, tmp_path: Path) -> Iterator[World]:
    """A world whose hosts, and nothing else, reach storage by the proxy."""
    with new_world(azurite, account, tmp_path) as world:
        yield world


@pytest.fixture
def start(
    broken_world: World, azurite: Azurite, account: str, proxy: StorageProxy
) -> Callable[..., HostProcess]:
    """Starts a host behind the proxy that ends itself when storage fails."""
    settings = {"STORAGE": azurite.connection_string(account, via=proxy.urls)}

    def start_host(**options: Any) -> HostProcess:
        return broken_world.start(
            settings=settings, storage_patience=STORAGE_PATIENCE, drain=0.2, **options
        )

    return start_host


ENDS = {
    "receive refused": Rule(operation="get_messages", answer=Refusal(status=403, code="Nope")),
    "storage away": Rule(drop="before"),
    "delete refused": Rule(operation="delete_message", answer=Refusal(status=403, code="Nope")),
    "delete always busy": Rule(operation="delete_message", answer=Refusal()),
    "renewal refused": Rule(operation="update_message", answer=Refusal(status=403, code="Nope")),
    "renewal dropped": Rule(operation="update_message", drop="before"),
}


@pytest.mark.parametrize("what", ENDS)
def test_the_host_ends_itself(
    broken_world: World, start: Start, proxy: StorageProxy, what: str
) -> None:
    """It says so, exits with 1, and the message of the function that ran is still there."""
    broken_world.send("wait" if "renewal" in what else "succeed")
    proxy.inject(ENDS[what])
    host = start(queue_lease=2)
    assert host.process.wait(PATIENCE) == 1
    assert SHUTTING_DOWN in host.log_text()
    assert broken_world.queue_length() == 1


def test_a_copy_that_is_refused_loses_nothing(
    broken_world: World, start: Start, proxy: StorageProxy
) -> None:
    """The message that was to go to the poison queue stays on its own."""
    broken_world.send("fail")
    proxy.inject(Rule(operation="put_message", answer=Refusal(status=403, code="Nope")))
    host = start()
    assert host.process.wait(PATIENCE) == 1
    assert broken_world.queue_length() == 1
    assert broken_world.poisoned() == []


PASSES = {
    "busy twice": Rule(operation="delete_message", answer=Refusal(), times=2),
    "dropped twice": Rule(operation="delete_message", drop="before", times=2),
    "receives busy for long": Rule(operation="get_messages", answer=Refusal(), times=12),
    "delete: another's": Rule(
        operation="delete_message",
        answer=Refusal(status=400, code="PopReceiptMismatch"),
        times=1,
    ),
}


@pytest.mark.parametrize("what", PASSES)
def test_what_passes_does_not_end_the_host(
    broken_world: World,
    start: Start,
    proxy: StorageProxy,
    eventually: Eventually,
    what: str,
) -> None:
    """A few bad answers, and those that say the message is another's, are not seen."""
    broken_world.send("succeed")
    proxy.inject(PASSES[what])
    host = start(queue_lease=1)
    eventually(lambda: broken_world.queue_length() == 0)
    assert host.alive
    assert SHUTTING_DOWN not in host.log_text()
    if what == "delete: another's":
        assert not re.search(r"WARNING host\.queue message \S+ was not settled", host.log_text())


def test_a_lost_lease_is_not_renewed_again(
    broken_world: World, start: Start, proxy: StorageProxy, eventually: Eventually
) -> None:
    """The function goes on, the message comes again and runs beside it, the host stays."""
    broken_world.send("wait")
    lost = proxy.inject(
        Rule(
            operation="update_message",
            answer=Refusal(status=404, code="MessageNotFound"),
            times=1,
        )
    )
    host = start(queue_lease=2)
    eventually(lambda: len(broken_world.journal("start")) >= 2)  # a late renewal loses it, too
    broken_world.release()
    eventually(lambda: broken_world.queue_length() == 0)
    assert lost.hits == 1
    assert host.alive
