"""A simulated Microsoft Sentinel STIX upload API.

Promise: it refuses what the service refuses (learn.microsoft.com, stix-objects-api) in the order a
gateway would: token, rate limit, workspace, role, request, records; and it remembers what it has
accepted, so that a test can ask the one question that counts: is anything missing?
Not obvious: an object counts as accepted *before* the latency has passed, as with the real service
a caller that gave up waiting may find its objects stored. Requests answered 429 use up no budget.
It must not keep bearer tokens, nor whole objects unless asked to.
"""

import math
import random
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import orjson

from local.services.accepted_objects import Accepted, AcceptedObjects, digest
from local.services.http_simulator import HttpSimulator, Request, Response, json_response
from local.services.tls import LocalCertificates

__all__ = ["Accepted", "SentinelApi", "SentinelBehaviour", "digest"]

API_VERSION = "2024-02-01-preview"
MAX_OBJECTS_PER_REQUEST = 100
REQUESTS_PER_MINUTE = 100
"""Per calling identity; both limits from learn.microsoft.com, stix-objects-api."""

REQUIRED_FIELDS = ("id", "type", "created", "modified", "pattern", "pattern_type", "valid_from")

_UPLOAD_SUFFIX = "/threat-intelligence-stix-objects:upload"


@dataclass(slots=True, kw_only=True)
class SentinelBehaviour:
    """What this Sentinel is like; may be changed while it runs."""

    role_granted: bool = True
    """Whether callers hold the role on the workspace; 403 if not."""
    success_body: bytes = b""
    """The body of a 200 without errors: nothing, ``{}`` or ``{"errors": []}``."""
    reject_record: Callable[[dict[str, Any]], bool] | None = None
    """Records to reject besides the invalid ones."""
    refuse_whole_on_bad_record: bool = False
    """Answer 400 to the whole request because of one bad record, instead of 200 with errors."""
    refusal_lists_errors: bool = True
    """Whether that 400 carries the ``errors`` array."""
    throttle_message: str = "Rate limit is exceeded. Try again in {seconds} seconds."
    """The ``message`` of a 429; write an absurd one to see what the caller makes of it."""
    retry_after: str | None = None
    """The ``Retry-After`` header of a 429, e.g. ``"{seconds}"``; not sent by default."""


class SlidingWindow:
    """At most so many admissions in any window; the refused ones are not counted."""

    def __init__(self, *, seconds: float) -> None:
        self._seconds = seconds
        self._admitted: deque[float] = deque()

    def seconds_to_wait(self, now: float, *, limit: int) -> float:
        """Admit the caller and return 0, or return how long until there is room again."""
        admitted = self._admitted
        while admitted and admitted[0] <= now - self._seconds:
            admitted.popleft()
        if len(admitted) < limit:
            admitted.append(now)
            return 0.0
        return admitted[len(admitted) - limit] + self._seconds - now if limit else self._seconds


class SentinelApi(HttpSimulator):
    """The service; use it as a context manager, see :class:`HttpSimulator`."""

    def __init__(
        self,
        *,
        workspace_id: str,
        token_is_valid: Callable[[str], str | None],
        certificates: LocalCertificates,
        requests_per_minute: int | None = REQUESTS_PER_MINUTE,
        window_seconds: float = 60.0,
        latency: float | tuple[float, float] = 0.0,
        keep_objects: bool = False,
        seed: int = 0,
        behaviour: SentinelBehaviour | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``token_is_valid`` names the identity behind a bearer token, ``None`` if it is not good.

        ``latency`` is in seconds, a range being drawn from evenly. ``requests_per_minute`` holds
        for any stretch of ``window_seconds``; ``None`` lifts the limit.
        """
        super().__init__(certificates=certificates, clock=clock)
        self.behaviour = behaviour or SentinelBehaviour()
        self.requests_per_minute = requests_per_minute
        self.latency = latency
        self.objects: dict[str, dict[str, Any]] = {}
        """The last accepted version of every object, filled with ``keep_objects`` only."""
        self.shown_in: Callable[[list[dict[str, Any]]], None] | None = None
        """Called with what each request had accepted: the table in which it is to show."""
        self._keep_objects = keep_objects
        self._workspace_id = workspace_id
        self._token_is_valid = token_is_valid
        self._window_seconds = window_seconds
        self._windows: defaultdict[str, SlidingWindow] = defaultdict(
            lambda: SlidingWindow(seconds=window_seconds)
        )
        self._random = random.Random(seed)  # noqa: S311 - latencies, not secrets
        self._accepted = AcceptedObjects()

    @property
    def accepted(self) -> AcceptedObjects:
        """Every accepted id with its last version."""
        return self._accepted

    @property
    def accepted_total(self) -> int:
        """How many objects were accepted, repeats included."""
        return self._accepted.total

    @property
    def duplicates(self) -> int:
        """How many objects were accepted although they equalled the id's last version."""
        return self._accepted.duplicates

    @property
    def throttled(self) -> int:
        """How many requests were answered 429, injected ones included."""
        return self.count(status=429)

    @property
    def peak_rate(self) -> int:
        """The most requests that ever arrived within one window, whatever they were answered."""
        return peak_rate((e.at for e in self.exchanges), seconds=self._window_seconds)

    def move_to(self, workspace_id: str) -> None:
        """Be another workspace from now on; what the one before has accepted stays known."""
        self._workspace_id = workspace_id

    def accept_count(self, identifier: str) -> int:
        """How often this id was accepted."""
        with self._changed:
            found = self._accepted.get(identifier)
            return found.times if found else 0

    def missing(self, identifiers: Iterable[str]) -> set[str]:
        """Those of the ids that were never accepted."""
        with self._changed:
            return {one for one in identifiers if one not in self._accepted}

    def answer(self, request: Request) -> Response:
        """See :class:`HttpSimulator`."""
        if not request.path.endswith(_UPLOAD_SUFFIX):
            return _problem(404, "Resource not found")
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        identity = self._token_is_valid(token) if scheme == "Bearer" else None
        if identity is None:
            return _problem(401, "The access token is missing, malformed or expired.")
        refusal = self._throttle(identity) or self._refuse(request)
        if refusal:
            return refusal
        objects = _objects_of(request.body)
        if isinstance(objects, str):
            return _problem(400, objects)
        return self._take(objects)

    def _throttle(self, identity: str) -> Response | None:
        with self._changed:
            limit = self.requests_per_minute
            if limit is None:
                return None
            wait = self._windows[identity].seconds_to_wait(self._clock(), limit=limit)
        if not wait:
            return None
        seconds = str(max(1, math.ceil(wait)))
        header = self.behaviour.retry_after
        return _problem(
            429,
            self.behaviour.throttle_message.replace("{seconds}", seconds),
            headers={"Retry-After": header.replace("{seconds}", seconds)} if header else {},
        )

    def _refuse(self, request: Request) -> Response | None:
        if request.path != f"/workspaces/{self._workspace_id}{_UPLOAD_SUFFIX}":
            return _problem(404, "The workspace could not be found.")
        if not self.behaviour.role_granted:
            return _problem(403, "The client does not have authorization to perform action.")
        if request.method != "POST":
            return _problem(405, "Method not allowed")
        if request.query.get("api-version") != API_VERSION:
            return _problem(400, f"api-version must be {API_VERSION}")
        return None

    def _take(self, objects: list[Any]) -> Response:
        behaviour = self.behaviour
        problems = {
            index: messages
            for index, found in enumerate(objects)
            if (messages := record_problems(found, behaviour.reject_record))
        }
        errors: list[dict[str, object]] = [
            {"recordIndex": index, "errorMessages": messages}
            for index, messages in problems.items()
        ]
        if errors and behaviour.refuse_whole_on_bad_record:
            message = "The request holds invalid STIX objects."
            return _problem(400, message, errors=errors if behaviour.refusal_lists_errors else None)
        with self._changed:
            for index, found in enumerate(objects):
                if index not in problems:
                    self._accepted.add(found)
                    if self._keep_objects:
                        self.objects[found["id"]] = found
            delay = self._draw_latency()
        if self.shown_in is not None:
            self.shown_in([found for at, found in enumerate(objects) if at not in problems])
        body = orjson.dumps({"errors": errors}) if errors else behaviour.success_body
        return Response(200, body, delay=delay)

    def _draw_latency(self) -> float:
        if isinstance(self.latency, tuple):
            return self._random.uniform(*self.latency)
        return self.latency


def record_problems(
    found: Any, reject: Callable[[dict[str, Any]], bool] | None = None
) -> list[str]:
    """Why a record is rejected; empty if it is not."""
    if not isinstance(found, dict):
        return ["The record is not a STIX object."]
    problems = [
        f"The required field '{name}' is missing or not a text."
        for name in REQUIRED_FIELDS
        if not isinstance(found.get(name), str) or not found[name]
    ]
    confidence = found.get("confidence", 0)
    if type(confidence) is not int or not 0 <= confidence <= 100:  # noqa: PLR2004 - STIX's scale
        problems.append("The field 'confidence' must be an integer from 0 to 100.")
    if not problems and reject and reject(found):
        problems.append("The record was rejected.")
    return problems


def peak_rate(arrivals: Iterable[float], *, seconds: float) -> int:
    """The most arrivals within any window of so many seconds."""
    window: deque[float] = deque()
    peak = 0
    for arrival in sorted(arrivals):
        while window and window[0] <= arrival - seconds:
            window.popleft()
        window.append(arrival)
        peak = max(peak, len(window))
    return peak


def _objects_of(body: bytes) -> list[Any] | str:
    """The objects of a request's body, or what is wrong with it."""
    try:
        upload = orjson.loads(body)
    except orjson.JSONDecodeError:
        return "The request body is not valid JSON."
    if not isinstance(upload, dict):
        return "The request body must be a JSON object."
    if upload.get("sourcesystem") != "Lumen":
        return "sourcesystem must be 'Lumen'."
    objects = upload.get("stixobjects")
    if not isinstance(objects, list) or not objects:
        return "stixobjects must be a list of at least one object."
    if len(objects) > MAX_OBJECTS_PER_REQUEST:
        return f"stixobjects holds more than {MAX_OBJECTS_PER_REQUEST} objects."
    return objects


def _problem(
    status: int,
    message: str,
    *,
    headers: dict[str, str] | None = None,
    errors: list[dict[str, object]] | None = None,
) -> Response:
    payload: dict[str, object] = {"statusCode": status, "message": message}
    if errors:
        payload["errors"] = errors
    return json_response(payload, status=status, headers=headers)
