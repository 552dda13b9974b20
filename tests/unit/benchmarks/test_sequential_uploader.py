"""The reference keeps to its rules: they decide what the comparison is worth."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from benchmarks.sequential_uploader import SequentialUploader, confidence, wait_before_next
from local.services.entra import Entra
from local.services.faults import Answer, Fault
from local.services.feed import SyntheticFeed, expected_ids
from local.services.lumen_api import PAGE_PATH, LumenApi
from local.services.sentinel_api import SentinelApi
from local.services.tls import LocalCertificates

FEED = SyntheticFeed(900)
WANTED = expected_ids(FEED, threshold=65)


@pytest.mark.parametrize("status", [429, 500, 503, 599])
def test_waits_double_until_the_sixth_try(status: int) -> None:
    """1, 2, 4, 8, 16 seconds; then the chunk is done with."""
    waits = [wait_before_next(status, None, tries=tries) for tries in range(1, 8)]
    assert waits == [1, 2, 4, 8, 16, None, None]


@pytest.mark.parametrize(
    ("header", "wait"), [("0", 0), ("90", 90), ("soon", 1), ("", 1), (None, 1)]
)
def test_a_retry_after_header_is_obeyed(header: str | None, wait: float) -> None:
    """In seconds, however many; what cannot be read counts as none."""
    assert wait_before_next(429, header, tries=1) == wait


@pytest.mark.parametrize("status", [200, 201, 302, 400, 401, 403, 404, 413, 422, 600])
def test_any_other_answer_ends_the_chunk(status: int) -> None:
    """Taken or dropped: it is not tried again, whatever the header says."""
    assert wait_before_next(status, "1", tries=1) is None


@pytest.mark.parametrize(
    ("given", "number"), [(80, 80), ("80", 80), ("high", 0), (None, 0), ([], 0)]
)
def test_confidence_may_be_text(given: object, number: int) -> None:
    """What is no number counts as no confidence."""
    assert confidence({"confidence": given}) == number


@dataclass(frozen=True, slots=True)
class Stage:
    """An uploader before simulators of its own, and what it has waited."""

    uploader: SequentialUploader
    lumen: LumenApi
    sentinel: SentinelApi
    waits: list[float] = field(default_factory=list)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Pages of 300 objects, of which about half are wanted: two requests each."""
    certificates = LocalCertificates(tmp_path)
    entra = Entra(
        tenant_id="tenant", client_id="client", client_secret="secret", certificates=certificates
    )
    lumen = LumenApi(FEED, api_key="key", certificates=certificates, page_size=300)
    sentinel = SentinelApi(
        workspace_id="workspace",
        token_is_valid=entra.token_is_valid,
        certificates=certificates,
        requests_per_minute=None,
    )
    waits: list[float] = []
    with ExitStack() as stack:
        for simulator in (entra, lumen, sentinel):
            stack.enter_context(simulator)
        settings = {
            "LUMEN_API_KEY": "key",
            "LUMEN_BASE_URL": lumen.url,
            "WORKSPACE_ID": "workspace",
            "TENANT_ID": "tenant",
            "CLIENT_ID": "client",
            "CLIENT_SECRET": "secret",
            "ENTRA_AUTHORITY_HOST": entra.url,
            "SENTINEL_BASE_URL": sentinel.url,
            "REQUESTS_CA_BUNDLE": str(certificates.authority),
        }
        uploader = stack.enter_context(SequentialUploader(settings, sleep=waits.append))
        yield Stage(uploader, lumen, sentinel, waits)


def test_without_faults_everything_arrives(stage: Stage) -> None:
    """Exactly the wanted indicators, in requests of at most 100, without a wait."""
    stage.uploader.run()
    assert set(stage.sentinel.accepted) == WANTED
    assert stage.uploader.tally.taken == stage.sentinel.requests
    assert stage.uploader.tally.dropped == 0
    assert not any(stage.waits)


def test_a_refused_chunk_is_dropped_and_the_next_one_sent(stage: Stage) -> None:
    """400 costs the chunk, after one try."""
    stage.sentinel.inject(Fault(effect=Answer(400)))
    stage.uploader.run()
    assert len(stage.sentinel.missing(WANTED)) == 100
    assert stage.uploader.tally.dropped == 1


def test_a_chunk_is_dropped_after_six_tries(stage: Stage) -> None:
    """Five waits in between; the chunk after it is sent as if nothing had been."""
    stage.sentinel.inject(Fault(effect=Answer(500), times=6))
    stage.uploader.run()
    assert [wait for wait in stage.waits if wait] == [1, 2, 4, 8, 16]
    assert len(stage.sentinel.missing(WANTED)) == 100


def test_a_page_that_is_refused_ends_the_run(stage: Stage) -> None:
    """What was read before it has been sent; a later run reads everything anew."""
    stage.lumen.inject(Fault(effect=Answer(404), path=PAGE_PATH, after=1))
    with pytest.raises(requests.HTTPError):
        stage.uploader.run()
    assert 0 < len(stage.sentinel.accepted) < len(WANTED)
    stage.uploader.run()
    assert set(stage.sentinel.accepted) == WANTED
