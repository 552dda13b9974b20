"""The program at work on a bench: next to the storage, or over HTTP to a server of this process."""

import io
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from ops.api.answering import answer
from ops.callers import SignIn, caller_of
from ops.cli.connecting import GIVEN
from ops.cli.direct import DirectTransport
from ops.cli.http import HttpTransport
from ops.cli.program import run
from ops.cli.transport import Transport
from ops.toolbox import Toolbox

KEY = "a-function-key"
BY = "ann"


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> object:
        """The answer as JSON."""
        return json.loads(self.out)


def operate(transport: Transport, *arguments: str) -> Ended:
    """Run a command over a transport."""
    out, err = io.StringIO(), io.StringIO()
    token = GIVEN.set(transport)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = run(arguments)
    finally:
        GIVEN.reset(token)
    return Ended(status=status, out=out.getvalue(), err=err.getvalue())


def directly(toolbox: Toolbox, *arguments: str, by: str = BY) -> Ended:
    """Run a command next to the storage."""
    return operate(DirectTransport(by=by, toolbox=lambda: toolbox), *arguments)


def over_http(toolbox: Toolbox, *arguments: str, by: str = BY) -> Ended:
    """Run a command over HTTP."""
    with served(toolbox) as url:
        transport = HttpTransport(url, by=by, proof=lambda: {"x-functions-key": KEY})
        return operate(transport, *arguments)


@contextmanager
def served(toolbox: Toolbox, *, replies: Sequence[tuple[int, bytes]] = ()) -> Iterator[str]:
    """Serve the API of a toolbox, or canned replies, as the app does; yield the address."""
    canned = list(replies)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(dict(parse_qsl(urlsplit(self.path).query)))

        def do_POST(self) -> None:
            size = int(self.headers.get("content-length", "0"))
            self._answer(json.loads(self.rfile.read(size)))

        def _answer(self, given: dict[str, object]) -> None:
            if canned:
                status, raw = canned.pop(0)
            elif self.headers.get("x-functions-key") != KEY:
                status, raw = 401, b""
            else:
                caller = caller_of(
                    {"x-operator": self.headers.get("x-operator", "")},
                    sign_in=SignIn.KEYS,
                    may_act=True,
                )
                assert caller is not None
                response = answer(
                    lambda: toolbox,
                    method=self.command,
                    path=unquote(urlsplit(self.path).path).removeprefix("/api/"),
                    given=given,
                    caller=caller,
                )
                status, raw = response.status, json.dumps(response.body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_arguments: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
