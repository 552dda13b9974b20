"""A simulated Log Analytics workspace: the table `ThreatIntelIndicators`, and its query API.

Promise: what is given to `LogAnalyticsApi.ingest` shows in the shape of the real table (`Id` is not
the STIX id, which is in `Data`) once the delay has passed, and is refused, dropped, changed or
answered in part as the service does. Refusals are those of
learn.microsoft.com/azure/azure-monitor/logs/api/errors (read 2026-11-29).
Not obvious: it does not understand KQL. Of a text it reads four things: that it asks this table;
the values, each of which comes as `base64_decode_tostring('…')` and is JSON; whether it leaves out
what Sentinel wrote again by itself (`!= "LogARepublisher"`); and the columns, named by its last
`project`. A list of values asks for these STIX ids, a text for an id, an address or a domain, and
the answer is the newest row of each id. A text without a value counts rows by `countif`.
It must not know whose indicators these are, nor keep tokens or queries.
"""

import base64
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import orjson

from local.services.http_simulator import HttpSimulator, Request, Response, json_response
from local.services.tls import LocalCertificates

AUDIENCE = "https://api.loganalytics.io"
TABLE = "ThreatIntelIndicators"
REPUBLISHER = "LogARepublisher"
CYCLE = 10 * 86400.0
"""Seconds within which Sentinel writes everything again."""

ROWS_OF_AN_ID = 4
"""Rows that are kept of an id, the newest ones."""

_PATH = re.compile(r"/v1/workspaces/([0-9a-f-]{36})/query")
_VALUE = re.compile(r"base64_decode_tostring\('([A-Za-z0-9+/=]*)'\)")
_PROJECT = re.compile(r"^\|\s*project\s+(.+)$", re.MULTILINE)
_COUNT = re.compile(r"(\w+)\s*=\s*countif\(")
_SPAN = re.compile(r"PT(\d+(?:\.\d+)?)S")
_SOURCE = base64.b64encode(b"Lumen").decode()
_OBSERVABLE = re.compile(r"'([^']*)'")


@dataclass(slots=True, kw_only=True)
class LogAnalyticsBehaviour:
    """What this workspace is like; may be changed while it runs."""

    delay: float = 0.0
    """Seconds from when an object is ingested until its row shows."""
    role_granted: bool = True
    """Whether callers may query; 403 if not."""
    private_only: bool = False
    """Whether queries are taken by private link only; 403 if so, and these never come by one."""
    has_table: bool = True
    """Whether Sentinel is enabled here: without it there is no such table; 400."""
    partial: bool = False
    """Answer with a part of the rows, and say so."""
    drop: Callable[[Mapping[str, Any]], bool] | None = None
    """Objects that an ingestion rule drops."""
    change: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """What an ingestion rule makes of an object."""


@dataclass(frozen=True, slots=True)
class TableRow:
    """One row: the object in little space, when its row was written, and by what."""

    packed: bytes
    at: float
    method: str = ""

    @property
    def found(self) -> Mapping[str, Any]:
        """The object."""
        found: dict[str, Any] = orjson.loads(self.packed)
        return found


class LogAnalyticsApi(HttpSimulator):
    """The service; use it as a context manager, see :class:`HttpSimulator`."""

    def __init__(
        self,
        *,
        workspace_id: str,
        token_is_valid: Callable[[str], str | None],
        certificates: LocalCertificates,
        behaviour: LogAnalyticsBehaviour | None = None,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        """``token_is_valid`` names the identity behind a bearer token, ``None`` if not good."""
        super().__init__(certificates=certificates)
        self.behaviour = behaviour or LogAnalyticsBehaviour()
        self.ahead = 0.0
        """Seconds by which its clock is ahead; raise it, and what is delayed arrives."""
        self._workspace_id = workspace_id
        self._token_is_valid = token_is_valid
        self._wall_clock = wall_clock
        self._rows: defaultdict[str, list[TableRow]] = defaultdict(list)

    def move_to(self, workspace_id: str) -> None:
        """Be another workspace from now on, without a row."""
        with self._changed:
            self._workspace_id = workspace_id
            self._rows.clear()

    def ingest(self, objects: Iterable[Mapping[str, Any]]) -> None:
        """Take objects that Sentinel has accepted: each gets a row, unless a rule drops it."""
        behaviour = self.behaviour
        with self._changed:
            for found in objects:
                if behaviour.drop is None or not behaviour.drop(found):
                    changed = behaviour.change(found) if behaviour.change else found
                    row = TableRow(orjson.dumps(changed), self._now + behaviour.delay)
                    self._write(changed["id"], row)
            self._changed.notify_all()

    def republish(self, *, originals_stay: bool = True) -> None:
        """Write everything again, as Sentinel does every 7 to 10 days."""
        with self._changed:
            for identifier, rows in list(self._rows.items()):
                newest = rows[-1]
                if not originals_stay:
                    rows.clear()
                self._write(identifier, TableRow(newest.packed, self._now, REPUBLISHER))

    def answer(self, request: Request) -> Response:
        """See :class:`HttpSimulator`."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or self._token_is_valid(token) is None:
            return _problem(401, "AuthenticationFailed", "The token is missing or not valid.")
        path = _PATH.fullmatch(request.path)
        if path is None or request.method != "POST":
            return _problem(404, "PathNotFoundError", "The requested path does not exist")
        if path[1] != self._workspace_id:
            return _problem(404, "WorkspaceNotFoundError", "The workspace could not be found")
        return self._refuse() or self._run(json.loads(request.body))

    @property
    def _now(self) -> float:
        return self._wall_clock() + self.ahead

    def _write(self, identifier: str, row: TableRow) -> None:
        rows = self._rows[identifier]
        rows.append(row)
        rows.sort(key=lambda one: one.at)
        del rows[:-ROWS_OF_AN_ID]

    def _refuse(self) -> Response | None:
        if self.behaviour.private_only:
            return _problem(
                403,
                "InsufficientAccessError",
                "Access is denied because this request was not made through a private endpoint, "
                "and public network access is disabled for your resource.",
            )
        if not self.behaviour.role_granted:
            return _problem(
                403,
                "InsufficientAccessError",
                "The provided credentials have insufficient access to perform the requested "
                "operation",
            )
        return None

    def _run(self, body: Mapping[str, Any]) -> Response:
        text = str(body.get("query"))
        span = _SPAN.fullmatch(str(body.get("timespan")))
        if TABLE not in text or span is None or not self.behaviour.has_table:
            return _problem(
                400,
                "BadArgumentError",
                "The request had some invalid properties",
                inner=f"SEM0100: 'where' operator: Failed to resolve table '{TABLE}'",
            )
        with self._changed:
            since, now = self._now - float(span[1]), self._now
            shown = {
                identifier: [row for row in rows if since <= row.at <= now]
                for identifier, rows in self._rows.items()
            }
        value = _VALUE.search(text)
        if value is None:
            return self._result(_counts(text, chain(*shown.values()), now=now))
        left_out = REPUBLISHER if f'!= "{REPUBLISHER}"' in text else None
        wanted = json.loads(base64.b64decode(value[1]))
        found = [
            rows[-1]
            for identifier, all_rows in shown.items()
            if (rows := [row for row in all_rows if row.method != left_out])
            and _is_asked(identifier, rows, wanted)
        ]
        columns = [name.strip() for name in _PROJECT.findall(text)[-1].split(",")]
        values = [[COLUMNS[name][1](row, now) for name in columns] for row in found]
        return self._result(_table([(name, COLUMNS[name][0]) for name in columns], values))

    def _result(self, table: dict[str, Any]) -> Response:
        result: dict[str, Any] = {"tables": [table]}
        if self.behaviour.partial:
            table["rows"] = table["rows"][: len(table["rows"]) // 2]
            result["error"] = {"code": "PartialError", "message": "There were some errors."}
        return json_response(result)


def _is_asked(identifier: str, rows: Iterable[TableRow], wanted: object) -> bool:
    """Whether rows of an id, the oldest first, are among what a value asks for."""
    if isinstance(wanted, list):
        return identifier in wanted
    asked = str(wanted).lower()
    return asked == identifier.lower() or any(
        asked == _observable(row).lower().rstrip(".") for row in rows
    )


def _counts(text: str, rows: Iterable[TableRow], *, now: float) -> dict[str, Any]:
    """One row with what the text counts: of the cycle, of these written again, older valid ones."""
    listed = list(rows)
    recent = [row for row in listed if row.at > now - CYCLE]
    counted = {
        "Recent": len(recent),
        "Republished": sum(row.method == REPUBLISHER for row in recent),
        "Older": sum(row.at <= now - CYCLE and _is_active(row, now) for row in listed),
    }
    names = [name for name in _COUNT.findall(text) if name in counted]
    return _table([(name, "long") for name in names], [[counted[name] for name in names]])


def _table(columns: list[tuple[str, str]], rows: list[list[Any]]) -> dict[str, Any]:
    return {
        "name": "PrimaryResult",
        "columns": [{"name": name, "type": kind} for name, kind in columns],
        "rows": rows,
    }


def _property(name: str) -> Callable[[TableRow, float], Any]:
    return lambda row, _now: row.found.get(name)


def _is_active(row: TableRow, now: float) -> bool:
    return not row.found.get("revoked") and _ends(row.found) > now


COLUMNS: Mapping[str, tuple[str, Callable[[TableRow, float], Any]]] = {
    "ArrivedAt": ("datetime", lambda row, _: _shown_time(row)),
    "Confidence": ("int", _property("confidence")),
    "Created": ("datetime", _property("created")),
    "Data": ("dynamic", lambda row, _: json.dumps(row.found)),
    "Id": ("string", lambda row, _: f"{_SOURCE}---{row.found['id']}"),
    "IsActive": ("bool", _is_active),
    "IsDeleted": ("bool", lambda _row, _: False),
    "IsRepublished": ("bool", lambda row, _: row.method == REPUBLISHER),
    "LastUpdateMethod": ("string", lambda row, _: row.method),
    "Modified": ("datetime", _property("modified")),
    "ObservableValue": ("string", lambda row, _: _observable(row)),
    "Pattern": ("string", _property("pattern")),
    "Revoked": ("bool", lambda row, _: bool(row.found.get("revoked"))),
    "SourceSystem": ("string", lambda _row, _: "Lumen"),
    "StixId": ("string", _property("id")),
    "TimeGenerated": ("datetime", lambda row, _: _shown_time(row)),
    "ValidFrom": ("datetime", _property("valid_from")),
    "ValidUntil": ("datetime", _property("valid_until")),
}
"""The columns that may be asked for, of the table and those that texts make: their types, and the
value in a row at a time."""


def _shown_time(row: TableRow) -> str:
    return datetime.fromtimestamp(row.at, UTC).isoformat().replace("+00:00", "Z")


def _ends(found: Mapping[str, Any]) -> float:
    until = found.get("valid_until")
    return datetime.fromisoformat(until).timestamp() if isinstance(until, str) else 0.0


def _observable(row: TableRow) -> str:
    found = _OBSERVABLE.search(str(row.found.get("pattern")))
    return found[1] if found else ""


def _problem(status: int, code: str, message: str, *, inner: str = "") -> Response:
    error: dict[str, Any] = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": "SemanticError", "message": inner}
    return json_response({"error": error}, status=status)
