"""The reference for rates and losses: an uploader that does one thing after another.

It is written for the comparison, after the way a connector without a queue works: fetch a page,
filter, post each 100 in order; up to 6 tries on 429 and 5xx, waiting as long as `Retry-After` says,
else 1 s, doubling; any other answer drops the chunk; a 200 counts whole. It keeps nothing between
two runs. What a page refuses ends the run. It shares no code with the product.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import requests

CHUNK: Final = 100
MAX_TRIES: Final = 6
FIRST_WAIT: Final = 1.0
LONGEST_WAIT: Final = 60.0
THRESHOLD: Final = 65
POLL_EVERY: Final = 1.0
TIMEOUT: Final = 100.0

_API_VERSION = "2024-02-01-preview"


@dataclass(slots=True, kw_only=True)
class Tally:
    """What the uploader believes: chunks that Sentinel took, and chunks it gave up."""

    taken: int = 0
    dropped: int = 0


class SequentialUploader:
    """Reads one feed and posts it, in the environment that a function host would be given."""

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        sleep: Callable[[float], object] = time.sleep,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """`settings` are app settings; `stopped` is asked before each chunk."""
        self.tally = Tally()
        self._settings = settings
        self._sleep = sleep
        self._stopped = stopped
        self._session = requests.Session()
        self._verify = settings["REQUESTS_CA_BUNDLE"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def run(self) -> None:
        """Read the whole feed once. Raises `requests.HTTPError` where Lumen refuses."""
        token = self._token()
        for page in self._pages():
            wanted = [found for found in page if confidence(found) >= THRESHOLD]
            for start in range(0, len(wanted), CHUNK):
                if self._stopped():
                    return
                self._deliver(wanted[start : start + CHUNK], token)

    def _deliver(self, objects: list[dict[str, Any]], token: str) -> None:
        tries = 0
        wait: float | None = 0.0
        status = 0
        while wait is not None:
            self._sleep(wait)
            answer = self._post(objects, token)
            tries, status = tries + 1, answer.status_code
            wait = wait_before_next(status, answer.headers.get("Retry-After"), tries=tries)
        if status == requests.codes.ok:
            self.tally.taken += 1
        else:
            self.tally.dropped += 1

    def _post(self, objects: list[dict[str, Any]], token: str) -> requests.Response:
        base, workspace = self._settings["SENTINEL_BASE_URL"], self._settings["WORKSPACE_ID"]
        return self._session.post(
            f"{base}/workspaces/{workspace}/threat-intelligence-stix-objects:upload",
            params={"api-version": _API_VERSION},
            headers={"Authorization": f"Bearer {token}"},
            json={
                "sourcesystem": "Lumen",
                "stixobjects": [{**found, "confidence": confidence(found)} for found in objects],
            },
            verify=self._verify,
            timeout=TIMEOUT,
        )

    def _pages(self) -> Iterator[list[dict[str, Any]]]:
        query = self._lumen("POST", "")["cache_id"]
        status = self._lumen("GET", f"/query-status/{query}")
        while status["status"] != "COMPLETED":
            self._sleep(POLL_EVERY)
            status = self._lumen("GET", f"/query-status/{query}")
        token = status["token_id"]
        while token:
            page = self._lumen("GET", f"/retrieve-results/{token}")
            yield page["results"]["stixobjects"]
            token = page["next_token"]

    def _lumen(self, method: str, path: str) -> dict[str, Any]:
        answer = self._session.request(
            method,
            f"{self._settings['LUMEN_BASE_URL']}/v3/reputation-query{path}",
            headers={"Authorization": self._settings["LUMEN_API_KEY"]},
            verify=self._verify,
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _token(self) -> str:
        host, tenant = self._settings["ENTRA_AUTHORITY_HOST"], self._settings["TENANT_ID"]
        answer = self._session.post(
            f"{host}/{tenant}/oauth2/v2.0/token",
            data={
                "grant_type": "client_credentials",
                "client_id": self._settings["CLIENT_ID"],
                "client_secret": self._settings["CLIENT_SECRET"],
                "scope": "https://management.azure.com/.default",
            },
            verify=self._verify,
            timeout=TIMEOUT,
        )
        answer.raise_for_status()
        return str(answer.json()["access_token"])


def wait_before_next(status: int, retry_after: str | None, *, tries: int) -> float | None:
    """Return the seconds before a chunk is tried again after so many tries; None: done with it."""
    passing = status == requests.codes.too_many_requests or 500 <= status <= 599  # noqa: PLR2004 - HTTP status class
    if tries >= MAX_TRIES or not passing:
        return None
    if retry_after is not None and retry_after.isdecimal():
        return float(retry_after)
    return min(FIRST_WAIT * 2.0 ** (tries - 1), LONGEST_WAIT)


def confidence(found: dict[str, Any]) -> int:
    """Return an indicator's confidence, which may be written as text; 0 where there is none."""
    try:
        return int(found.get("confidence", 0))
    except (TypeError, ValueError):
        return 0
