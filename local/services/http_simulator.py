"""What every simulator is made of: an HTTPS server, a record of requests, faults.

Promise: every request is recorded the moment it has arrived whole, faults are injected and lifted
while the server runs, and :meth:`HttpSimulator.stop` returns at once, idle connections and
sleeping handlers notwithstanding. A failure of the simulator's own code (or of a hook) is answered
500 *and* raised when the ``with`` block ends, so it is never mistaken for simulated weather.
Not obvious: one re-entrant condition, ``self._changed``, guards all state of a simulator, those of
the subclasses included, so that :meth:`HttpSimulator.wait_for` sees any of it change.
It must not keep headers, bodies or queries of a request: they carry credentials.
"""

import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from types import TracebackType
from typing import Self, assert_never

from local.http_server import Connection, HttpServer, Request
from local.services.faults import (
    Answer,
    Call,
    Cut,
    Delay,
    DoThenReset,
    DoThenStall,
    Fault,
    FaultPlan,
    FaultRule,
    Reset,
    Trickle,
    plan_faults,
)
from local.services.held_port import HeldPort
from local.services.tls import LocalCertificates

__all__ = [
    "Answer",
    "Call",
    "Cut",
    "Delay",
    "DoThenReset",
    "DoThenStall",
    "Exchange",
    "Fault",
    "FaultRule",
    "HttpSimulator",
    "Request",
    "Reset",
    "Response",
    "Trickle",
    "json_response",
]


@dataclass(frozen=True, slots=True)
class Response:
    """What a simulated service answers, after ``delay`` seconds."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The headers as they are sent: a body is JSON unless they say something else."""
        default = {"Content-Type": "application/json"} if self.body else {}
        return list({**default, **self.headers}.items())


def json_response(
    payload: object, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """A response with a JSON body."""
    return Response(status, json.dumps(payload).encode(), headers or {})


@dataclass(slots=True)
class Exchange:
    """One request: when it arrived by the simulator's clock, and what it was answered."""

    method: str
    path: str
    at: float
    received: int
    """Size of the request's body in bytes."""
    status: int | None = None
    """``None`` until the answer is sent; stays so where the connection was reset."""
    sent: int = 0
    """Size of the body sent in bytes."""


class HttpSimulator(ABC):
    """A simulated service; subclasses write :meth:`answer`."""

    def __init__(
        self, *, certificates: LocalCertificates, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.failures: list[Exception] = []
        """Errors of the simulator itself or of hooks; raised at the end of the ``with`` block."""
        self._certificates = certificates
        self._clock = clock
        self._changed = threading.Condition()
        self._exchanges: list[Exchange] = []
        self._rules: list[FaultRule] = []
        self._stopping = threading.Event()
        self._server: HttpServer | None = None
        self._held: HeldPort | None = None
        self._port = 0

    @abstractmethod
    def answer(self, request: Request) -> Response:
        """Serve one request. Called from many threads; guard state with ``self._changed``."""

    @property
    def url(self) -> str:
        """Where the service is, without a trailing slash; stays the same after a restart."""
        if not self._port:
            raise RuntimeError(f"{type(self).__name__} has no URL before its first start")
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen: on a free port the first time, on the same one after a :meth:`stop`."""
        if self._server:
            raise RuntimeError(f"{type(self).__name__} is running already")
        self._stopping = threading.Event()
        self._held = self._held or HeldPort()
        self._server = HttpServer(
            name=type(self).__name__,
            serve=self._serve,
            failed=self.failures.append,
            port=self._port or self._held.number,
            context=self._certificates.server_context(),
        )
        self._port = self._server.port
        self._server.start()

    def stop(self) -> None:
        """Close the port and every connection, waking handlers that wait; twice is allowed."""
        if self._server:
            self._stopping.set()
            self._server.stop()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self.failures and error is None:
            raise ExceptionGroup(f"{type(self).__name__} itself failed", self.failures)

    def inject(self, fault: Fault) -> FaultRule:
        """Add a fault behind those already there; it can be removed by the rule returned."""
        with self._changed:
            rule = FaultRule(fault, remove=self._remove_fault)
            self._rules.append(rule)
            return rule

    def clear_faults(self) -> None:
        """Lift every fault."""
        with self._changed:
            self._rules.clear()

    @property
    def requests(self) -> int:
        """How many requests have arrived."""
        return len(self._exchanges)

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """Every request so far, in order of arrival."""
        with self._changed:
            return tuple(self._exchanges)

    def count(self, *, method: str | None = None, path: str = "", status: int | None = None) -> int:
        """How many requests had this method, this text in their path and this answer."""
        return sum(
            (method is None or exchange.method == method)
            and path in exchange.path
            and (status is None or exchange.status == status)
            for exchange in self.exchanges
        )

    def wait_for(self, predicate: Callable[[], bool], *, timeout: float = 120.0) -> None:
        """Wait until the predicate holds; it is asked again whenever a request moves on.

        Raises ``TimeoutError`` after ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(predicate, timeout):
                name = type(self).__name__
                raise TimeoutError(f"{name}: waited {timeout} s, {self.requests} requests so far")

    def _remove_fault(self, rule: FaultRule) -> None:
        with self._changed:
            if rule in self._rules:
                self._rules.remove(rule)

    def _admit(self, request: Request) -> tuple[Exchange, FaultPlan]:
        with self._changed:
            exchange = Exchange(request.method, request.path, self._clock(), len(request.body))
            self._exchanges.append(exchange)
            plan = plan_faults(self._rules, request)
            self._changed.notify_all()
            return exchange, plan

    def _serve(self, request: Request, connection: Connection) -> None:
        """Take one request through record, faults and answer."""
        if "transfer-encoding" in request.headers:  # the services are sent bodies of known length
            connection.send(HTTPStatus.LENGTH_REQUIRED)
            return
        exchange, plan = self._admit(request)
        try:
            response = self._carry_out(plan, request)
        except Exception as error:  # noqa: BLE001 - kept, and raised by __exit__
            self.failures.append(error)
            response = Response(500, b"the simulator itself failed")
        with self._changed:
            self._changed.notify_all()
        if response is None or self._stopping.wait(response.delay):
            connection.reset()
            return
        limit = plan.final.after_bytes if isinstance(plan.final, Cut) else len(response.body)
        with self._changed:
            exchange.status, exchange.sent = response.status, min(limit, len(response.body))
            self._changed.notify_all()
        if isinstance(plan.final, Trickle):
            pause = plan.final.seconds
            connection.trickle(
                response.status,
                headers=response.fields,
                body=response.body,
                with_head=plan.final.with_head,
                go_on=lambda: not self._stopping.wait(pause),
            )
        else:
            connection.send(
                response.status, headers=response.fields, body=response.body, limit=limit
            )

    def _carry_out(self, plan: FaultPlan, request: Request) -> Response | None:
        """Do what was planned, short of sending; ``None`` means that nothing is to be sent."""
        for effect in plan.passing:
            if isinstance(effect, Delay):
                if self._stopping.wait(effect.seconds):
                    return None
            elif effect.when == "before":
                effect.hook(request)
        response = self._decide(plan, request)
        for effect in plan.passing:
            if isinstance(effect, Call) and effect.when == "after":
                effect.hook(request)
        return response

    def _decide(self, plan: FaultPlan, request: Request) -> Response | None:
        match plan.final:
            case None | Cut() | Trickle():
                return self.answer(request)
            case Answer(status, headers, body):
                return Response(status, body.encode() if isinstance(body, str) else body, headers)
            case Reset():
                return None
            case DoThenReset():
                self.answer(request)
                return None
            case DoThenStall(seconds):
                done = self.answer(request)
                return Response(done.status, done.body, done.headers, done.delay + seconds)
            case other:
                assert_never(other)
