"""How invocations end: alone, or all of a worker at once when one of them takes too long."""

from concurrent.futures import Future
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from local.functions_host.protos import StatusResult
from local.functions_host.worker import Invocation, Running

NO_TIME = timedelta(0)


def invocation(running: Running, future: Future[Any], *, timeout: timedelta | None) -> Invocation:
    """An invocation whose worker answers when the future is set."""
    return Invocation("work", "an-id", future, timeout=timeout, running=running)


def success() -> Any:
    """The worker's answer for a function that returned nothing."""
    result = SimpleNamespace(status=StatusResult.Success)
    return SimpleNamespace(result=result, output_data=[], return_value=None)


def test_a_timeout_fails_all_that_run_in_the_worker() -> None:
    """The service restarts the worker: neighbours fail for the same reason; ended ones do not."""
    running, done = Running(), Future[Any]()
    ended = invocation(running, done, timeout=None)
    done.set_result(success())
    slow = invocation(running, Future(), timeout=NO_TIME)
    neighbour_future = Future[Any]()
    neighbour = invocation(running, neighbour_future, timeout=None)
    results = [one.wait() for one in (slow, neighbour)]
    assert [result is not None and result.succeeded for result in results] == [False, False]
    assert results[1] is not None
    assert "Timeout value of" in results[1].message
    neighbour_future.set_result(success())  # the code that nobody could stop
    assert neighbour.wait() == results[1]
    after = ended.wait()
    assert after is not None
    assert after.succeeded


def test_the_next_invocation_is_not_touched() -> None:
    """A timeout is over once it has failed what ran."""
    running = Running()
    invocation(running, Future(), timeout=NO_TIME).wait()
    future = Future[Any]()
    following = invocation(running, future, timeout=None)
    assert following.wait(0) is None
    future.set_result(success())
    result = following.wait()
    assert result is not None
    assert result.succeeded


def test_an_error_of_the_worker_is_raised() -> None:
    """An invocation that the worker library could not even try does not hang."""
    future = Future[Any]()
    broken = invocation(Running(), future, timeout=None)
    future.set_exception(KeyError("protos"))
    with pytest.raises(KeyError):
        broken.wait()
