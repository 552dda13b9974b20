"""The simulated Sentinel: what it refuses, what it throttles, and what it remembers."""

import json
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from local.services.accepted_objects import AcceptedObjects
from local.services.feed import REQUIRED_FIELDS, SyntheticFeed
from local.services.http_simulator import Answer, DoThenReset, DoThenStall, Fault
from local.services.sentinel_api import SentinelApi, digest, peak_rate
from local.services.tls import LocalCertificates
from tests.patience import PATIENCE
from tests.unit.local.conftest import Clock

WORKSPACE = "11111111-2222-3333-4444-555555555555"
PATH = f"/workspaces/{WORKSPACE}/threat-intelligence-stix-objects:upload"
QUERY = "api-version=2024-02-01-preview"


@pytest.fixture
def sentinel(certificates: LocalCertificates, clock: Clock) -> Iterator[SentinelApi]:
    """A running Sentinel that knows two callers by their tokens, five requests a minute each."""
    with SentinelApi(
        workspace_id=WORKSPACE,
        token_is_valid={"good": "app", "other": "another-app"}.get,
        certificates=certificates,
        requests_per_minute=5,
        keep_objects=True,
        clock=clock,
    ) as simulator:
        yield simulator


Upload = Callable[..., requests.Response]


@pytest.fixture
def upload(sentinel: SentinelApi, client: requests.Session) -> Upload:
    """Post a list of objects, or a raw body, as a well-behaved caller would."""

    def post(
        objects: object, *, path: str = PATH, query: str = QUERY, bearer: str = "Bearer good"
    ) -> requests.Response:
        if isinstance(objects, bytes):
            body = objects
        else:
            body = json.dumps({"sourcesystem": "Lumen", "stixobjects": objects}).encode()
        headers = {"Authorization": bearer} if bearer else {}
        url = f"{sentinel.url}{path}?{query}"
        return client.post(url, data=body, headers=headers, timeout=PATIENCE)

    return post


def indicators(count: int, generation: int = 0) -> list[dict[str, Any]]:
    """Valid objects, their confidence cast to whole numbers."""
    feed = SyntheticFeed(count)
    if generation:
        feed = feed.changed(1.0, generation)
    found = [json.loads(one) for one in feed.encoded(0, count)]
    return [{**one, "confidence": int(one["confidence"])} for one in found]


def test_accepted_objects_are_remembered(sentinel: SentinelApi, upload: Upload) -> None:
    """A hundred objects: 200 with an empty body, and each is held with digest and confidence."""
    objects = indicators(100)
    answer = upload(objects)
    assert (answer.status_code, answer.content) == (200, b"")
    assert sentinel.accepted_total == len(sentinel.accepted) == 100
    assert sentinel.missing(one["id"] for one in objects) == set()
    assert sentinel.missing(["indicator--not-sent"]) == {"indicator--not-sent"}
    for one in objects:
        held = sentinel.accepted[one["id"]]
        assert (held.digest, held.confidence) == (digest(one), one["confidence"])
    assert list(sentinel.objects.values()) == objects


def test_repeats_are_told_from_new_versions(sentinel: SentinelApi, upload: Upload) -> None:
    """The same version again is a duplicate, another version is not; both are counted."""
    for objects in (indicators(3), indicators(3), indicators(3, generation=1)):
        upload(objects)
    (first, *_) = indicators(3, generation=1)
    assert (sentinel.accepted_total, len(sentinel.accepted), sentinel.duplicates) == (9, 3, 3)
    assert sentinel.accept_count(first["id"]) == 3
    assert sentinel.accept_count("indicator--not-sent") == 0
    assert sentinel.accepted[first["id"]].digest == digest(first)


@pytest.mark.parametrize("body", [b"", b"{}", b'{"errors": []}'])
def test_success_can_be_told_in_three_ways(
    sentinel: SentinelApi, upload: Upload, body: bytes
) -> None:
    """The body of a clean 200 is as set."""
    sentinel.behaviour.success_body = body
    assert upload(indicators(1)).content == body


@pytest.mark.parametrize("bearer", ["", "Bearer bad", "good", "Basic good"])
def test_without_a_good_bearer_token_it_is_401(
    sentinel: SentinelApi, upload: Upload, bearer: str
) -> None:
    """Missing, unknown and differently presented tokens are refused, nothing is accepted."""
    assert upload(indicators(1), bearer=bearer).status_code == 401
    assert sentinel.accepted_total == 0


def test_without_the_role_it_is_403(sentinel: SentinelApi, upload: Upload) -> None:
    """The role can be taken and given while it runs."""
    sentinel.behaviour.role_granted = False
    assert upload(indicators(1)).status_code == 403
    sentinel.behaviour.role_granted = True
    assert upload(indicators(1)).status_code == 200


@pytest.mark.parametrize("path", [PATH.replace("1111", "9999"), "/", PATH + "s"])
def test_another_workspace_or_path_is_404(upload: Upload, path: str) -> None:
    """Only the one workspace exists."""
    assert upload(indicators(1), path=path).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"sourcesystem": "lumen", "stixobjects": [{}]}',
        b'{"stixobjects": [{}]}',
        b'{"sourcesystem": "Lumen"}',
        b'{"sourcesystem": "Lumen", "stixobjects": {}}',
        b'{"sourcesystem": "Lumen", "stixobjects": []}',
        json.dumps({"sourcesystem": "Lumen", "stixobjects": indicators(101)}).encode(),
    ],
)
def test_a_wrong_body_is_400(sentinel: SentinelApi, upload: Upload, body: bytes) -> None:
    """Each is refused as a whole, with a message."""
    answer = upload(body)
    assert answer.status_code == 400
    assert answer.json()["message"]
    assert sentinel.accepted_total == 0


@pytest.mark.parametrize("query", ["", "api-version=2023-01-01", "version=2024-02-01-preview"])
def test_a_wrong_api_version_is_400(upload: Upload, query: str) -> None:
    """The version is required to the letter."""
    assert upload(indicators(1), query=query).status_code == 400


BAD_RECORDS = [
    *({key: value for key, value in indicators(1)[0].items() if key != name}
      for name in REQUIRED_FIELDS),
    *({**indicators(1)[0], "confidence": value} for value in ("80", 80.0, True, None, -1, 101)),
    {**indicators(1)[0], "pattern": ""},
    "text",
    None,
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_RECORDS)
def test_a_bad_record_is_rejected_alone(sentinel: SentinelApi, upload: Upload, bad: object) -> None:
    """200 with its index and the reasons; its neighbours are accepted."""
    first, second, third = indicators(3)
    answer = upload([second, third, bad])
    (error,) = answer.json()["errors"]
    assert (answer.status_code, error["recordIndex"]) == (200, 2)
    assert all(isinstance(message, str) for message in error["errorMessages"])
    assert error["errorMessages"]
    assert set(sentinel.accepted) == {second["id"], third["id"]}
    assert sentinel.missing([first["id"]])


def test_a_record_without_confidence_is_good(sentinel: SentinelApi, upload: Upload) -> None:
    """Confidence is optional, and none is remembered as none."""
    (one,) = indicators(1)
    del one["confidence"]
    assert upload([one]).content == b""
    assert sentinel.accepted[one["id"]].confidence is None


@pytest.mark.parametrize("listed", [True, False])
def test_a_bad_record_can_cost_the_whole_request(
    sentinel: SentinelApi, upload: Upload, *, listed: bool
) -> None:
    """In that mode it is 400, with or without the errors, and nothing is accepted."""
    objects = indicators(3)
    sentinel.behaviour.reject_record = lambda one: bool(one["id"] == objects[1]["id"])
    assert upload(objects).json()["errors"][0]["recordIndex"] == 1
    assert set(sentinel.accepted) == {objects[0]["id"], objects[2]["id"]}
    sentinel.behaviour.refuse_whole_on_bad_record = True
    sentinel.behaviour.refusal_lists_errors = listed
    answer = upload(objects)
    assert answer.status_code == 400
    assert ("errors" in answer.json()) == listed
    assert sentinel.accepted_total == 2


def test_the_limit_slides(sentinel: SentinelApi, upload: Upload, clock: Clock) -> None:
    """Five in any minute; the sixth is told when, refusals cost nothing, the wait told suffices."""
    told = []
    for second in (0, 10, 20, 30, 40, 50, 59, 60):
        clock.now = 1000.0 + second
        told.append(upload(indicators(1)).status_code)
    assert told == [200] * 5 + [429, 429, 200]
    answer = upload(indicators(1))
    assert answer.json() == {
        "statusCode": 429,
        "message": "Rate limit is exceeded. Try again in 10 seconds.",
    }
    assert "Retry-After" not in answer.headers
    clock.now += 10
    assert upload(indicators(1)).status_code == 200
    assert (sentinel.throttled, sentinel.requests, sentinel.peak_rate) == (3, 10, 8)


def test_the_limit_is_per_identity(upload: Upload) -> None:
    """One caller's requests leave the other's budget alone."""
    assert [upload(indicators(1)).status_code for _ in range(6)][-1] == 429
    assert upload(indicators(1), bearer="Bearer other").status_code == 200


def test_the_limit_holds_under_contention(sentinel: SentinelApi, upload: Upload) -> None:
    """Of twenty callers at once exactly five get through."""
    with ThreadPoolExecutor(10) as pool:
        told = list(pool.map(lambda _: upload(indicators(1)).status_code, range(20)))
    assert sorted(told) == [200] * 5 + [429] * 15
    assert sentinel.accepted_total == 5


def test_a_throttled_caller_can_be_told_otherwise(sentinel: SentinelApi, upload: Upload) -> None:
    """Header and message can be set, to absurd values as well; no limit is possible, too."""
    sentinel.requests_per_minute = 0
    sentinel.behaviour.retry_after = "{seconds}"
    assert upload(indicators(1)).headers["Retry-After"] == "60"
    sentinel.behaviour.retry_after = "Thu, 01 Jan 1970 00:00:00 GMT"
    sentinel.behaviour.throttle_message = "Try again in -5 seconds."
    answer = upload(indicators(1))
    assert answer.headers["Retry-After"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert answer.json()["message"] == "Try again in -5 seconds."
    sentinel.requests_per_minute = None
    assert {upload(indicators(1)).status_code for _ in range(9)} == {200}


def test_an_unanswered_upload_was_accepted(sentinel: SentinelApi, upload: Upload) -> None:
    """Accepted and reset, accepted and stalled, accepted and slow: the caller cannot know."""
    sentinel.inject(Fault(effect=DoThenReset()))
    with pytest.raises(requests.ConnectionError):
        upload(indicators(1))
    sentinel.inject(Fault(effect=DoThenStall(3600)))
    sentinel.latency = (3600.0, 3601.0)
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(upload, indicators(1))
        sentinel.wait_for(lambda: sentinel.accepted_total == 2)
        assert not pending.done()
        sentinel.stop()
        assert isinstance(pending.exception(PATIENCE), requests.ConnectionError)


def test_an_injected_answer_accepts_nothing(sentinel: SentinelApi, upload: Upload) -> None:
    """A 500 from a fault is no acceptance, and an injected 429 counts as throttled."""
    sentinel.inject(Fault(effect=Answer(500)))
    sentinel.inject(Fault(effect=Answer(429)))
    assert [upload(indicators(1)).status_code for _ in range(2)] == [500, 429]
    assert (sentinel.accepted_total, sentinel.throttled) == (0, 1)


@pytest.mark.parametrize(
    ("arrivals", "peak"),
    [([], 0), ([5.0], 1), ([0, 59.9, 60, 119.9], 2), ([0, 0, 60, 30, 59], 4)],
)
def test_the_peak_is_of_any_window(arrivals: list[float], peak: int) -> None:
    """A window is half open: what arrived exactly a minute ago is out of it."""
    assert peak_rate(arrivals, seconds=60) == peak


@pytest.mark.parametrize(
    "identifier",
    [
        "indicator--237b64dc-6c73-51ce-95d2-483e8f0895f3",
        "indicator--237B64DC-6C73-51CE-95D2-483E8F0895F3",
        "237b64dc-6c73-51ce-95d2-483e8f0895f3",
        "indicator--{237b64dc-6c73-51ce-95d2-483e8f0895f3}",
        "indicator--1",
        "malware--237b64dc-6c73-51ce-95d2-483e8f0895f3",
    ],
)
def test_every_form_of_id_is_remembered_as_it_came(identifier: str) -> None:
    """The compact key of canonical ids is never mistaken for another spelling."""
    held = AcceptedObjects()
    held.add({"id": identifier, "confidence": 100})
    assert list(held) == [identifier]
    assert held[identifier].confidence == 100
    canonical = "indicator--237b64dc-6c73-51ce-95d2-483e8f0895f3"
    assert (canonical in held) == (identifier == canonical)


def test_memory_is_compact() -> None:
    """An object costs at most 250 bytes to remember, a quarter gigabyte for a million."""
    objects = indicators(2000)
    held = AcceptedObjects()
    tracemalloc.start()
    for one in objects:
        held.add(one)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used / len(objects) < 250
