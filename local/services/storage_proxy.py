"""A reverse proxy in front of Azurite that counts requests and breaks the chosen ones.

Clients reach storage through it by their connection string
(`azurite.connection_string(account, via=proxy.urls)`); bodies and the values of headers pass
unchanged, which shared-key signatures allow because they do not cover the host. A rule picks
requests and says what happens to them; a hook before or after forwarding is where a test kills a
process, between the moment storage acts and the moment the caller hears of it.

It must not know what the requests mean beyond their operation's name.
"""

import contextlib
import functools
import http.client
import logging
import re
import select
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from local.http_server import Connection, HttpServer, Request
from local.services.storage_requests import Service, StorageRequest, error_body

log = logging.getLogger("storage_proxy")

UPSTREAM_TIMEOUT = 60.0
# Headers that belong to one connection, not to the message (RFC 9110, 7.6.1), and the length,
# which is written again. Names are in lower case.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})

type Hook = Callable[[StorageRequest], None]
type Watcher = Callable[[StorageRequest, int, bytes], None]
"""Called for a request that storage has answered, with the status and the body of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error answer in Azure's words, such as 503 `ServerBusy`."""

    status: int = 503
    code: str = "ServerBusy"
    message: str = "The server is busy."


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Which requests (every condition given must hold), and what happens to them.

    `skip` lets that many matching requests pass first, `times` bounds how many are then hit. In
    order: delay, `before`, drop or answer or forward, `after`, drop or reply.
    """

    service: Service | None = None
    operation: str | None = None
    method: str | None = None
    path: str = ""
    body: bytes = b""
    skip: int = 0
    times: int | None = None
    delay: float = 0.0
    before: Hook | None = None
    after: Hook | None = None
    answer: Refusal | None = None
    drop: Literal["before", "after"] | None = None

    def matches(self, request: StorageRequest) -> bool:
        return (
            self.service in (None, request.service)
            and self.operation in (None, request.operation)
            and self.method in (None, request.method)
            and re.search(self.path, request.target) is not None
            and self.body in request.body
        )


class Injection:
    """A rule at work. `hits` counts the requests it was applied to."""

    def __init__(self, rule: Rule, remove: Callable[["Injection"], None]) -> None:
        self.rule = rule
        self.hits = 0
        self._seen = 0
        self._hit = threading.Event()
        self._remove = remove

    def remove(self) -> None:
        self._remove(self)

    def wait(self, timeout: float = 120.0) -> bool:
        """Whether a request was hit within `timeout` seconds."""
        return self._hit.wait(timeout)

    def claims(self, request: StorageRequest) -> bool:
        """Whether this request is to be hit; counts it. Called under the proxy's lock."""
        if not self.rule.matches(request):
            return False
        self._seen += 1
        spent = self.rule.times is not None and self.hits >= self.rule.times
        if self._seen <= self.rule.skip or spent:
            return False
        self.hits += 1
        self._hit.set()
        return True


class StorageProxy:
    """Proxies to `upstream`, the ports of Azurite's services; `urls` goes into `via`."""

    def __init__(self, upstream: Mapping[Service, int]) -> None:
        self._lock = threading.Lock()
        self._injections: list[Injection] = []
        self._watchers: list[Watcher] = []
        self._counts: Counter[tuple[Service, str]] = Counter()
        self._upstreams = {service: _Upstream(port) for service, port in upstream.items()}
        self._servers = {
            service: HttpServer(
                name=f"storage-proxy-{service}",
                serve=functools.partial(self._serve, service),
                failed=_note_failure,
            )
            for service in upstream
        }
        self.urls: Mapping[Service, str] = {
            service: f"http://127.0.0.1:{server.port}" for service, server in self._servers.items()
        }

    @property
    def counts(self) -> Counter[tuple[Service, str]]:
        """Requests so far by (service, operation): a copy, so that two can be subtracted."""
        with self._lock:
            return self._counts.copy()

    def inject(self, rule: Rule) -> Injection:
        """Apply a rule from now on; of several that match, the earliest wins."""
        injection = Injection(rule, self._withdraw)
        with self._lock:
            self._injections.append(injection)
        return injection

    def watch(self, watcher: Watcher) -> None:
        """Tell a watcher of everything from now on, whether the caller hears of it or not."""
        self._watchers.append(watcher)

    def clear(self) -> None:
        """Withdraw all rules and reset the counts; watchers stay."""
        with self._lock:
            self._injections.clear()
            self._counts.clear()

    def start(self) -> None:
        for server in self._servers.values():
            server.start()

    def stop(self) -> None:
        for server in self._servers.values():
            server.stop()
        for upstream in self._upstreams.values():
            upstream.close()

    def _serve(self, service: Service, arrived: Request, connection: Connection) -> None:
        request = StorageRequest(
            service=service,
            method=arrived.method,
            target=arrived.target,
            headers=arrived.headers,
            body=arrived.body,
        )
        reply = self._reply_to(request, self._admit(request))
        if reply is None:
            connection.hang_up()
            return
        headers = [item for item in reply.headers if item[0].lower() not in HOP_BY_HOP]
        connection.send(reply.status, headers=headers, body=reply.body)

    def _reply_to(self, request: StorageRequest, rule: Rule) -> "_Reply | None":
        """What the client gets; None cuts its connection."""
        if rule.delay:
            time.sleep(rule.delay)
        if rule.before is not None:
            rule.before(request)
        if rule.drop == "before":
            return None
        if rule.answer is None:
            reply = self._forward(request)
        else:
            reply = _refuse(request.service, rule.answer)
        if reply is not None and rule.after is not None:
            rule.after(request)
        return None if rule.drop == "after" else reply

    def _forward(self, request: StorageRequest) -> "_Reply | None":
        try:
            reply = self._upstreams[request.service].forward(request)
        except (OSError, http.client.HTTPException) as error:
            log.debug("storage does not answer: %s", error)
            return None
        for watcher in self._watchers:
            watcher(request, reply.status, reply.body)
        return reply

    def _admit(self, request: StorageRequest) -> Rule:
        """Count a request and return the rule for it; one without effect if none applies."""
        with self._lock:
            self._counts[request.service, request.operation] += 1
            for injection in self._injections:
                if injection.claims(request):
                    return injection.rule
        return Rule()

    def _withdraw(self, injection: Injection) -> None:
        with self._lock:
            if injection in self._injections:
                self._injections.remove(injection)

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


def _note_failure(error: Exception) -> None:
    """A hook that fails cuts its connection, as the death of a proxy would."""
    log.debug("a request failed in the proxy", exc_info=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class _Upstream:
    """Connections to one of Azurite's services: opened when needed, kept for later requests."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._closed = False

    def forward(self, request: StorageRequest) -> _Reply:
        """Raises OSError or HTTPException; a request is never sent twice."""
        connection = self._take()
        try:
            connection.putrequest(
                request.method, request.target, skip_host=True, skip_accept_encoding=True
            )
            for name, value in request.headers.items():
                if name not in HOP_BY_HOP or name == "host":
                    connection.putheader(name, value)
            connection.putheader("content-length", str(len(request.body)))
            connection.endheaders(request.body)
            response = connection.getresponse()
            body = response.read()
        except BaseException:
            connection.close()
            raise
        self._keep(connection)
        return _Reply(status=response.status, headers=response.getheaders(), body=body)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _take(self) -> http.client.HTTPConnection:
        """Return an idle connection that is still open, or a new one."""
        with contextlib.suppress(IndexError):
            while True:
                connection = self._idle.pop()
                if not _is_closed_by_peer(connection):
                    return connection
                connection.close()
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=UPSTREAM_TIMEOUT)

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        self._idle.append(connection)
        if self._closed:
            self.close()


def _is_closed_by_peer(connection: http.client.HTTPConnection) -> bool:
    """Whether an idle connection has something to read: the other side has closed it."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _refuse(service: Service, refusal: Refusal) -> _Reply:
    content_type, body = error_body(service, refusal.code, refusal.message)
    headers = [("Content-Type", content_type), ("x-ms-error-code", refusal.code)]
    return _Reply(status=refusal.status, headers=headers, body=body)
