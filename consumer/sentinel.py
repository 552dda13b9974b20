"""Sentinel's upload API: post the exact bytes, and decide what the answer means.

`classify_answer` is the only table of statuses, a pure function; `SentinelClient` only posts. A
timeout may hide an accepted upload. Repeating it is safe, because Sentinel replaces an indicator of
the same id. This module must not know the queue or the ledger.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final

from common.backoff import retry_after_seconds
from common.clock import Clock
from common.delivery import REQUEST_WITHIN
from common.events import quoted
from common.settings import destination_of
from common.text import printable_line
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within
from common.uploads import upload_body, upload_url

CONNECT_TIMEOUT: Final = 10.0
READ_TIMEOUT: Final = 75.0
"""Seconds without a byte. Users report 6 to 8 s for a request of 100 objects (docs/contracts.md).
`REQUEST_WITHIN` bounds the whole request, even if its bytes keep coming."""

MAX_ANSWER: Final = 4 * 1024 * 1024
"""Bytes of an answer: errors for all of 100 records take a hundredth of that."""

DEFAULT_THROTTLE: Final = 60.0
"""Seconds to wait when a 429 does not say how long: the limit is counted per minute."""

MAX_THROTTLE: Final = 3600.0
"""The longest wait in seconds that a 429 is granted."""

MAX_MESSAGES: Final = 10
"""Error messages kept of one rejected record."""

MAX_MESSAGE: Final = 500
"""Characters kept of one such message."""

THROTTLED: Final = "Sentinel asked to slow down (429)"

MAX_INDEX: Final = 2**31
"""A larger index is ignored, because an index becomes part of a key in the ledger."""

REFUSED_EACH: Final = "Sentinel refused every record of the request (200)"

MAX_SAID: Final = 100
"""Characters kept of the message of a refused request."""

_INDEX = re.compile(r"-?[0-9]{1,10}(\.0+)?", re.ASCII)
_WAIT_IN_TEXT = re.compile(r"try again in\s+(\d{1,9})\s+second", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordError:
    """One record that Sentinel refused: its index in the chunk from 0, and the messages."""

    index: int
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uploaded:
    """The request was accepted: `count` records less the `rejected` ones.

    `stray` are errors whose index names no record of the chunk: contract drift. Even if each of
    them stands for a rejected record, at least one record was accepted.
    """

    rejected: tuple[RecordError, ...] = ()
    stray: tuple[RecordError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The whole request was refused for its content; `named` are the records it named."""

    reason: str
    named: tuple[RecordError, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshToken:
    """The token was not accepted."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorNeeded:
    """Nothing will be accepted before an operator acts; not the message's fault."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttled:
    """Too many requests; `wait` is in seconds."""

    reason: str
    wait: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """No usable answer; the upload may even have been accepted."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """An answer that the contract does not describe."""

    reason: str


Answer = Uploaded | Refused | RefreshToken | OperatorNeeded | Throttled | Unavailable | Drift


def classify_answer(
    status: int, headers: Mapping[str, str], body: bytes, *, count: int, now: datetime
) -> Answer:
    """Return what an answer to the upload of `count` records means.

    The contract: docs/contracts.md, after learn.microsoft.com/azure/sentinel/stix-objects-api
    (read 2026-11-22). `headers` must look names up in any case, as those of `requests` do.
    """
    match status:
        case _ if 200 <= status <= 299:  # noqa: PLR2004 - HTTP status class
            return _read_receipt(body, count)
        case 400 | 413 | 422:
            return Refused(
                reason=f"Sentinel refused the request ({status}){_said(body)}",
                named=_named_records(body, count),
            )
        case 401:
            return RefreshToken(reason="Sentinel did not accept the token (401)")
        case 403:
            return OperatorNeeded(
                reason="Sentinel denies access (403): give the application the role Microsoft "
                "Sentinel Contributor on the workspace"
            )
        case 404:
            return OperatorNeeded(
                reason="Sentinel does not know the workspace (404): correct WORKSPACE_ID, or "
                "SENTINEL_BASE_URL for another cloud"
            )
        case 429:
            return Throttled(reason=THROTTLED, wait=_wait(headers, body, now))
        case 408 | 425:
            return Unavailable(reason=f"Sentinel timed out ({status})")
        case _ if 500 <= status <= 599:  # noqa: PLR2004 - HTTP status class
            return Unavailable(reason=f"Sentinel is unavailable ({status})")
        case _:
            return Drift(reason=f"Sentinel answered {status}, which its API does not name")


class SentinelClient:
    """Posts chunks to one workspace. Safe to use from several threads."""

    def __init__(
        self,
        *,
        base_url: str,
        workspace_id: str,
        clock: Clock,
        connections: int,
    ) -> None:
        self._url = upload_url(base_url, workspace_id)
        self.destination = destination_of(base_url, workspace_id)
        """Where the chunks go, in the form that chunks name it."""
        self._clock = clock
        self._session = PlainSession(connections=connections)

    def upload(self, objects: bytes, *, count: int, token: str) -> Answer:
        """Post `objects`, a JSON array of `count` records, as they are; return the answer.

        One request: a caller that repeats it needs another send slot. Called twice: accepted twice,
        stored once. Ends within `REQUEST_WITHIN` seconds.
        """
        try:
            with (
                within(REQUEST_WITHIN),
                self._session.post(
                    self._url,
                    data=upload_body(objects),
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Content-Type": "application/json",
                    },
                    timeout=(CONNECT_TIMEOUT, READ_TIMEOUT),
                    allow_redirects=False,
                    stream=True,
                ) as response,
            ):
                body = read_body(response, limit=MAX_ANSWER)
        except TRANSPORT_ERRORS as error:
            return Unavailable(reason=f"Sentinel cannot be reached ({type(error).__name__})")
        if body is None:
            return Drift(reason=f"Sentinel's answer is larger than {MAX_ANSWER} bytes")
        return classify_answer(
            response.status_code,
            response.headers,
            body,
            count=count,
            now=self._clock.now(),
        )


def _read_receipt(body: bytes, count: int) -> Answer:
    """Read a 2xx: an empty body, `{}` and `{"errors": []}` all mean that everything was accepted.

    With an error for every record nothing was accepted, and that says as little about each record
    as a 400. Any other body is drift: some services answer 200 and report a failure in the body.
    """
    errors = _read_errors(body, count)
    if isinstance(errors, Drift):
        return errors
    if _reports_failure(body):
        return Drift(reason="Sentinel answered 200 with a body that reports a failure")
    if len(errors.named) + len(errors.stray) < count:
        return Uploaded(rejected=errors.named, stray=errors.stray)
    if errors.stray:
        return Refused(reason=f"{REFUSED_EACH}, and named some that it did not have")
    return Refused(reason=REFUSED_EACH, named=errors.named)


def _reports_failure(body: bytes) -> bool:
    """Whether the JSON body of a 2xx is an object with an error, or with the status of one."""
    found: Any = json.loads(body) if body.strip() else None
    if not isinstance(found, dict):
        return False
    statuses = (found.get(name) for name in ("statusCode", "status"))
    is_failed = any(isinstance(one, int) and one >= HTTPStatus.BAD_REQUEST for one in statuses)
    return is_failed or found.get("error") is not None


def _named_records(body: bytes, count: int) -> tuple[RecordError, ...]:
    """Return the records that a refusal names, if any; a 400 may carry `errors`, too."""
    errors = _read_errors(body, count)
    return () if isinstance(errors, Drift) or errors.stray else errors.named


@dataclass(frozen=True, slots=True, kw_only=True)
class _Errors:
    """The errors of an answer: of records of the request, each once and in order, and others."""

    named: tuple[RecordError, ...] = ()
    stray: tuple[RecordError, ...] = ()


def _read_errors(body: bytes, count: int) -> _Errors | Drift:
    if not body.strip():
        return _Errors()
    try:
        listed = _listed_errors(json.loads(body))
        if isinstance(listed, Drift):
            return listed
        read = list(map(_record_error, listed))
    except (ValueError, RecursionError):
        return Drift(reason="Sentinel answered 200 with a body that is not JSON")
    found: dict[int, RecordError] = {}
    stray: list[RecordError] = []
    for error in read:
        if error is None:
            return Drift(reason="Sentinel answered 200 with an error of an unknown form")
        if 0 <= error.index < count:
            found[error.index] = error
        else:
            stray.append(error)
    return _Errors(named=tuple(found[i] for i in sorted(found)), stray=tuple(stray))


def _listed_errors(answer: object) -> list[Any] | Drift:
    """Return the list of errors in an answer: bare, or in a receipt, where `null` means none."""
    if isinstance(answer, dict):
        if answer and "errors" not in answer:
            return Drift(reason="Sentinel answered 200 with a body that is not a receipt")
        answer = [] if answer.get("errors") is None else answer["errors"]
    if not isinstance(answer, list):
        return Drift(reason="Sentinel answered 200 with errors that are not a list")
    return answer


def _record_error(item: object) -> RecordError | None:
    """Read one error in the forms that services produce: an index `3`, `3.0` or `"3"`; one text."""
    if not isinstance(item, dict):
        return None
    index, messages = _record_index(item.get("recordIndex")), item.get("errorMessages")
    messages = [messages] if isinstance(messages, str) else messages or []
    if index is None or not isinstance(messages, list):
        return None
    shown = (printable_line(str(one), limit=MAX_MESSAGE) for one in messages[:MAX_MESSAGES])
    return RecordError(index=index, messages=tuple(shown))


def _record_index(value: object) -> int | None:
    if isinstance(value, str) and _INDEX.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return None if abs(value) > MAX_INDEX or value != int(value) else int(value)


def _wait(headers: Mapping[str, str], body: bytes, now: datetime) -> float:
    """Return the seconds a 429 asks for: by header, else by its text, else the default."""
    asked = retry_after_seconds(headers.get("Retry-After"), now=now)
    if asked is None:
        found = _WAIT_IN_TEXT.search(body[:10_000].decode("utf-8", "replace"))
        asked = float(found[1]) if found else DEFAULT_THROTTLE
    return min(max(asked, 1.0), MAX_THROTTLE)


def _said(body: bytes) -> str:
    """Return the service's own short message, if there is one; never a record."""
    try:
        fields: Any = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    message = fields.get("message") if isinstance(fields, dict) else None
    return (
        f": {quoted(printable_line(message, limit=MAX_SAID))}" if isinstance(message, str) else ""
    )
