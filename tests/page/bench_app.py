"""The app as a tab sees it, without a host: the page, and the API over a bench of this process.

The answers are those of the real API; a test may refuse a call, or hold its answer back.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from ops.api.answering import answer
from ops.api.responses import Response
from ops.callers import Caller
from ops.dashboard.document import document
from tests.unit.ops.samples import Bench

URL: Final = "https://app.example"
"""Nothing is there: each request of the tab is answered here."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call of the API."""

    route: Any
    method: str
    path: str
    given: dict[str, Any]

    @property
    def changes(self) -> bool:
        """Whether it does something, and does not only say what would be done."""
        return self.method == "POST" and not self.given.get("dryRun")


class BenchApp:
    """Serves a tab; remembers what it was asked, and holds back what `holds` says."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.calls: list[Call] = []
        self.held: list[Call] = []
        self.refused: dict[str, HTTPStatus] = {}
        """The status with which each of these paths is refused."""
        self.holds: Callable[[Call], bool] = lambda _call: False

    def serve(self, route: Any) -> None:
        """Answer a request of the tab."""
        request = route.request
        address = urlsplit(request.url)
        if address.path == "/api/dashboard":
            page = document()
            headers = {**page.headers, "content-type": "text/html; charset=utf-8"}
            route.fulfill(status=200, headers=headers, body=page.html)
            return
        query = dict(parse_qsl(address.query))
        call = Call(
            route=route,
            method=request.method,
            path=address.path.removeprefix("/api/"),
            given=json.loads(request.post_data) if request.method == "POST" else query,
        )
        self.calls.append(call)
        if self.holds(call):
            self.held.append(call)
        else:
            self._answer(call)

    def release(self) -> None:
        """Answer what was held back."""
        while self.held:
            self._answer(self.held.pop(0))

    def done(self, path: str) -> list[Call]:
        """Return the calls that did something."""
        return [call for call in self.calls if call.path == path and call.changes]

    def _answer(self, call: Call) -> None:
        response = self._response(call)
        is_csv = isinstance(response.body, str)
        call.route.fulfill(
            status=int(response.status),
            content_type="text/csv" if is_csv else "application/json",
            body=response.body if isinstance(response.body, str) else json.dumps(response.body),
        )

    def _response(self, call: Call) -> Response:
        if call.path in self.refused:
            return Response(status=self.refused[call.path], body={"error": "storage is away"})
        return answer(
            lambda: self.bench.toolbox,
            method=call.method,
            path=call.path,
            given=call.given,
            caller=Caller(name="Ada"),
            wants_csv="text/csv" in call.route.request.headers.get("accept", ""),
        )
