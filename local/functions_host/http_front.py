"""The host's HTTP side: function routes with keys, and the admin endpoints.

A request becomes the worker's `RpcHttp`, its answer the response. Keys come in the header
`x-functions-key` or in `?code=`: a function's own key opens that function, the host key every
function, the master key everything. Plain HTTP on 127.0.0.1 only.
`POST /admin/functions/{name}` runs any function that is not an HTTP one, now and in the
background, whatever its timer is doing, as the portal's *Test/Run* does.

Response cookies carry name and value only. It must not know which app it serves.
"""

import hmac
import json
import logging
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from azure.storage.queue import QueueMessage

from local.functions_host.in_flight import InFlight
from local.functions_host.protos import RpcHttp, TypedData
from local.functions_host.queue_rules import trigger_metadata
from local.functions_host.routes import Route, find_route
from local.functions_host.timer import TimerStatus, timer_info
from local.functions_host.worker import Function, Worker
from local.http_server import Connection, HttpServer, Request

log = logging.getLogger("host.http")

MESSAGE_LIFE = timedelta(days=7)
# Headers that the server writes itself, not the app.
CONNECTION_HEADERS = frozenset({"content-length", "transfer-encoding", "connection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """`own` has the key of each function, by its name
    (learn.microsoft.com/azure/azure-functions/function-keys-how-to, read 2026-11-29)."""

    host: str
    master: str
    own: Mapping[str, str] = field(default_factory=dict)

    def admit(self, level: str, offered: str, *, function: str = "") -> bool:
        """Whether a caller with the key `offered` may enter at this `authLevel`."""
        if level == "anonymous":
            return True
        good = [self.master]
        if level == "function":
            good += [self.host, *([self.own[function]] if function in self.own else [])]
        return any(hmac.compare_digest(offered.encode(), key.encode()) for key in good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()


class HttpFront:
    """Serves one app. `errors` maps a function to why it is not listened to."""

    def __init__(
        self,
        *,
        worker: Worker,
        functions: Sequence[Function],
        routes: Sequence[Route],
        errors: Mapping[str, str],
        keys: Keys,
        port: int = 0,
    ) -> None:
        self.in_flight = InFlight()
        self._worker = worker
        self._functions = {function.name.lower(): function for function in functions}
        self._routes = routes
        self._errors = errors
        self._keys = keys
        self._server = HttpServer(
            name="http",
            serve=lambda request, connection: _send(self.answer(request), connection),
            failed=_note_failure,
            port=port,
        )
        self.port = self._server.port

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Accept no new connection; requests in progress go on (see `in_flight`)."""
        self._server.close_port()

    def answer(self, request: Request) -> Answer:
        if "transfer-encoding" in request.headers:
            return Answer(status=HTTPStatus.LENGTH_REQUIRED)
        query = dict(parse_qsl(request.query_string, keep_blank_values=True))
        key = request.headers.get("x-functions-key") or query.get("code", "")
        with self.in_flight:
            if request.path.lower().startswith("/admin/"):
                return self._admin(request, key)
            found = find_route(self._routes, request.method, request.path)
            if found is None:
                return Answer(status=404)
            route, params = found
            name = route.function.name
            if not self._keys.admit(route.auth_level, key, function=name):
                return Answer(status=401)
            return self._call(route.function, request, params=params, query=query)

    def _call(
        self,
        function: Function,
        request: Request,
        *,
        params: Mapping[str, str],
        query: Mapping[str, str],
    ) -> Answer:
        http = RpcHttp(
            method=request.method,
            url=f"http://{request.headers.get('host', '127.0.0.1')}{request.target}",
            headers=request.headers,
            params=params,
            query=query,
            body=TypedData(bytes=request.body),
        )
        result = self._worker.invoke(
            function,
            TypedData(http=http),
            reason="This function was programmatically called via the host APIs.",
            trace_parent=http.headers.get("traceparent"),
        ).wait()
        if result is None or not result.succeeded:
            return Answer(status=500)
        return _answer_from(result.return_value)

    def _admin(self, request: Request, key: str) -> Answer:
        if not self._keys.admit("admin", key):
            return Answer(status=401)
        match request.method, request.path.lower().strip("/").split("/"):
            case "GET", ["admin", "host", "status"]:
                return _json(200, {"state": "Running", "errors": list(self._errors.values())})
            case "GET", ["admin", "functions"]:
                return _json(200, [self._describe(item) for item in self._functions.values()])
            case "POST", ["admin", "functions", name] if name in self._functions:
                return self._run(self._functions[name], request.body)
            case _:
                return Answer(status=404)

    def _describe(self, function: Function) -> dict[str, Any]:
        error = self._errors.get(function.name)
        return {"name": function.name, "bindings": function.bindings, "error": error}

    def _run(self, function: Function, body: bytes) -> Answer:
        """Start a non-HTTP function in the background. The body is `{"input": "..."}`."""
        if function.trigger_type == "httpTrigger":
            return _json(400, {"message": f"{function.name} is called by its own route"})
        try:
            given = json.loads(body or b"{}").get("input") or ""
        except (ValueError, AttributeError):
            return _json(400, {"message": 'the body is not {"input": "..."}'})
        argument, metadata = _admin_input(function, str(given))
        self.in_flight.enter()
        invocation = self._worker.invoke(
            function, argument, metadata=metadata, reason="Called via the admin API."
        )

        def finish() -> None:
            invocation.wait()
            self.in_flight.leave()

        threading.Thread(target=finish, name=f"admin-{function.name}", daemon=True).start()
        return Answer(status=202)


def _admin_input(function: Function, given: str) -> tuple[TypedData, dict[str, TypedData]]:
    """What the trigger would have passed, made up where no trigger was involved."""
    now = datetime.now(UTC)
    if function.trigger_type == "timerTrigger":
        return timer_info(TimerStatus(due=now)), {}
    message = QueueMessage(content=given, id=str(uuid.uuid4()), pop_receipt="", dequeue_count=1)
    message.inserted_on = message.next_visible_on = now
    message.expires_on = now + MESSAGE_LIFE
    return TypedData(string=given), trigger_metadata(message, given)


def _answer_from(value: TypedData | None) -> Answer:
    """The response for what a function returned: an HttpResponse, a text or nothing."""
    kind = value.WhichOneof("data") if value is not None else None
    if value is None or kind is None:
        return Answer(status=204)
    if kind != "http":
        text = getattr(value, kind)
        plain = ("Content-Type", "text/plain; charset=utf-8")
        return Answer(status=200, body=str(text).encode(), headers=[plain])
    http = value.http
    cookies = [("Set-Cookie", f"{item.name}={item.value}") for item in http.cookies or ()]
    return Answer(
        status=int(http.status_code),
        body=http.body.bytes,
        headers=[*http.headers.items(), *cookies],
    )


def _json(status: int, document: Any) -> Answer:
    content_type = ("Content-Type", "application/json")
    return Answer(status=status, body=json.dumps(document).encode(), headers=[content_type])


def _send(answered: Answer, connection: Connection) -> None:
    """Write an answer; what belongs to the connection is the server's to say, not the app's."""
    headers = [item for item in answered.headers if item[0].lower() not in CONNECTION_HEADERS]
    connection.send(answered.status, headers=headers, body=answered.body)


def _note_failure(error: Exception) -> None:
    log.error("a request failed in the host itself", exc_info=error)
