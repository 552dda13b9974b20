"""A reverse proxy in front of Azurite that counts requests and breaks the ones it is told to.

Clients reach storage through it by their connection string
(`azurite.connection_string(account, via=proxy.urls)`); bodies and headers pass unchanged, which
shared-key signatures allow because they do not cover the host. A rule picks requests and says what
happens to them; a hook before or after forwarding is where a test kills a process, between the
moment storage acts and the moment the caller hears of it.

It must not know what the requests mean beyond their operation's name.
"""

import http.client
import logging
import re
import select
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

from local.services.storage_requests import Service, StorageRequest, error_body

log = logging.getLogger("storage_proxy")

UPSTREAM_TIMEOUT = 60.0
# Headers that belong to one connection, not to the message (RFC 9110, 7.6.1), and the length,
# which is written anew.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})

type Hook = Callable[[StorageRequest], None]
type Watcher = Callable[[StorageRequest, int, bytes], None]
"""Is told of a request that storage has answered, with the status and the body of the answer."""


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
        self._servers = {
            service: _Server(("127.0.0.1", 0), _handler_for(self, service, port))
            for service, port in upstream.items()
        }
        self.urls: Mapping[Service, str] = {
            service: f"http://127.0.0.1:{server.server_port}"
            for service, server in self._servers.items()
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
        """Withdraw all rules and start counting anew; watchers stay."""
        with self._lock:
            self._injections.clear()
            self._counts.clear()

    def start(self) -> None:
        for service, server in self._servers.items():
            name = f"storage-proxy-{service}"
            threading.Thread(target=server.serve_forever, name=name, daemon=True).start()

    def stop(self) -> None:
        for server in self._servers.values():
            server.shutdown()
            server.server_close()

    def admit(self, request: StorageRequest) -> Rule:
        """Count a request and return the rule for it; one without effect if none applies."""
        with self._lock:
            self._counts[request.service, request.operation] += 1
            for injection in self._injections:
                if injection.claims(request):
                    return injection.rule
        return Rule()

    def tell(self, request: StorageRequest, reply: "_Reply") -> None:
        """Tell the watchers of a request that was forwarded."""
        for watcher in self._watchers:
            watcher(request, reply.status, reply.body)

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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes


class _Upstream:
    """A kept-alive connection to one service, opened when needed."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=UPSTREAM_TIMEOUT)

    def forward(self, request: StorageRequest) -> _Reply:
        """Raises OSError or HTTPException; a request is never sent twice."""
        self._drop_if_closed()
        connection = self._connection
        connection.putrequest(
            request.method, request.target, skip_host=True, skip_accept_encoding=True
        )
        for name, value in request.headers.items():
            if name.lower() not in HOP_BY_HOP or name.lower() == "host":
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(request.body)))
        connection.endheaders(request.body)
        response = connection.getresponse()
        return _Reply(status=response.status, headers=response.getheaders(), body=response.read())

    def close(self) -> None:
        self._connection.close()

    def _drop_if_closed(self) -> None:
        """An idle connection that has something to read has been closed by the other side."""
        socket = self._connection.sock
        if socket is not None and select.select([socket], [], [], 0)[0]:
            self._connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away: %s", sys.exception())


class _Handler(BaseHTTPRequestHandler):
    """Forwards one service's requests, by the proxy's rules; a subclass says whose and where."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    proxy: StorageProxy
    service: Service
    port: int

    def setup(self) -> None:
        super().setup()
        self.upstream = _Upstream(self.port)

    def finish(self) -> None:
        self.upstream.close()
        super().finish()

    def serve(self) -> None:
        request = StorageRequest(
            service=self.service,
            method=self.command,
            target=self.path,
            headers=dict(self.headers.items()),
            body=self.read_body(),
        )
        reply = self.reply_to(request, self.proxy.admit(request))
        if reply is None:
            self.close_connection = True
        else:
            self.send(reply)

    def reply_to(self, request: StorageRequest, rule: Rule) -> _Reply | None:
        """What the client gets; None cuts its connection."""
        if rule.delay:
            time.sleep(rule.delay)
        if rule.before is not None:
            rule.before(request)
        if rule.drop == "before":
            return None
        reply = self.forward(request) if rule.answer is None else _refuse(self.service, rule.answer)
        if reply is not None and rule.after is not None:
            rule.after(request)
        return None if rule.drop == "after" else reply

    def forward(self, request: StorageRequest) -> _Reply | None:
        try:
            reply = self.upstream.forward(request)
        except (OSError, http.client.HTTPException) as error:
            log.debug("storage does not answer: %s", error)
            self.upstream.close()
            return None
        self.proxy.tell(request, reply)
        return reply

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            continue
        return body

    def send(self, reply: _Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            if name.lower() not in HOP_BY_HOP:
                self.send_header(name, value)
        if reply.status not in (HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED):
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
        self.wfile.flush()

    do_GET = do_POST = do_PUT = do_DELETE = serve
    do_HEAD = do_PATCH = do_MERGE = do_OPTIONS = serve

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)


def _handler_for(proxy: StorageProxy, service: Service, port: int) -> type[_Handler]:
    return type("Handler", (_Handler,), {"proxy": proxy, "service": service, "port": port})


def _refuse(service: Service, refusal: Refusal) -> _Reply:
    content_type, body = error_body(service, refusal.code, refusal.message)
    headers = [("Content-Type", content_type), ("x-ms-error-code", refusal.code)]
    return _Reply(status=refusal.status, headers=headers, body=body)
