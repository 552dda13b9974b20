"""Row 3: the most memory that a sync takes, and how little it depends on the size of the feed.

A fresh process imports the whole app and runs one sync; what it ever held at once is VmHWM as Linux
counts it. The first sync has nothing known and enqueues everything. The next one reads the row of
each chunk that the first one made, folds them into the version index, and finds the feed
unchanged. Lumen is an adapter at the border of `requests` that makes up each page when it is asked
for; storage is Azurite, in a process of its own. What the version index takes is row 9.

    python -m benchmarks.memory sync 100000    (with the app's settings in the environment)
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import requests
from requests.adapters import BaseAdapter
from urllib3 import HTTPResponse

from benchmarks.app_settings import APP_SETTINGS
from benchmarks.pages import PAGE, encode_page
from benchmarks.table import Figure, Scale
from common.ledger import open_ledger
from common.ledger.partitions import TABLE as CHUNKS_TABLE
from common.ledger.states import ChunkState, RunState
from common.ledger.tables import AzureTables, Row, Value
from common.settings import Secret, StorageSettings, read_settings
from common.transport import PlainSession
from local.functions_host.process import child_environment
from local.services.azurite import ACCOUNTS, Azurite
from local.services.feed import SyntheticFeed

SETTINGS: Final = {**APP_SETTINGS, "LUMEN_CONFIDENCE_THRESHOLD": "0"}
"""Everything passes, so that a million indicators are 10,000 chunks."""

SIZES: Final = {Scale.QUICK: (10_000, 100_000), Scale.FULL: (100_000, 1_000_000)}
MOST_GROWTH: Final = 100.0
MOST: Final = 350.0
ROOT: Final = Path(__file__).parents[1]
WITHIN: Final = 1500.0


def measure(scale: Scale, feed: Path | None) -> list[Figure]:  # noqa: ARG001 - synthetic will do
    """Run the syncs and the load, each in a process of its own."""
    small, large = SIZES[scale]
    with Azurite() as azurite:
        accounts = [azurite.connection_string(account) for account in ACCOUNTS[1:4]]
        few = _peak("sync", small, accounts[0])
        many = _peak("sync", large, accounts[1])
        chunks = _deliver(accounts[1])
        after = _peak("sync-again", large, accounts[1])
        before = _peak("nothing", 0, accounts[2])
    return [
        Figure(
            row="3a",
            what=f"peak memory of a first load of {large:,} indicators",
            value=f"{many:.0f} MB",
            reference=f"{few:.0f} MB for {small:,}",
            ratio=many / few,
            goal=f"at most +{MOST_GROWTH:.0f} MB, under {MOST:.0f} MB",
            met=many - few <= MOST_GROWTH and many < MOST,
            note=f"{many - few:+.0f} MB; {before:.0f} MB of it is the imported app",
        ),
        Figure(
            row="3b",
            what=f"peak memory of the sync after that load, which folds its {chunks:,} chunks",
            value=f"{after:.0f} MB",
            reference=f"{before:.0f} MB for the imported app",
            ratio=after / before,
            goal=f"at most +{MOST_GROWTH:.0f} MB, under {MOST:.0f} MB",
            met=after - before <= MOST_GROWTH and after < MOST,
            note=f"{after - before:+.0f} MB; {after - many:+.0f} MB against the first load",
        ),
    ]


def _peak(work: str, count: int, storage: str) -> float:
    """Return the VmHWM of a process that does `work`, in MB."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.memory", work, str(count)],
        cwd=ROOT,
        env=child_environment({**SETTINGS, "PipelineStorage": storage}),
        check=True,
        capture_output=True,
        text=True,
        timeout=WITHIN,
    )
    return float(done.stdout.split()[-1])


def _deliver(storage: str) -> int:
    """Leave the ledger as the consumers would; return how many chunks there are.

    They write their rows one by one; here the same rows are written in batches. The messages stay
    on the queue: Azurite answers no request for minutes while it cleans up so many.
    """
    tables = _tables(storage)
    chunks = list(open_ledger(tables).chunks.all())
    rows = [chunk.row for chunk in chunks if chunk.row is not None]
    outcome: dict[str, Value] = {"state": ChunkState.UPLOADED.value, "rejected": 0}
    tables.table(CHUNKS_TABLE).merge_all(
        [
            Row(
                partition=row.partition,
                key=row.key,
                data={**outcome, "accepted": row.data["count"]},
            )
            for row in rows
        ]
    )
    return len(chunks)


def _tables(storage: str) -> AzureTables:
    return AzureTables(StorageSettings(connection_string=Secret(storage)))


class MadeUpLumen(BaseAdapter):
    """Answers the three calls of Lumen's API with a synthetic feed, page by page."""

    def __init__(self, count: int) -> None:
        self._feed = SyntheticFeed(count)

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer one call."""
        answer = requests.Response()
        answer.status_code = 200
        body = self._body(str(request.url).rpartition("/")[2])
        answer.raw = HTTPResponse(BytesIO(body), preload_content=False)  # read piece by piece
        return answer

    def close(self) -> None:
        """Nothing is open."""

    def _body(self, last: str) -> bytes:
        if last == "reputation-query":
            return b'{"cache_id":"the-query"}'
        if last == "the-query":
            return b'{"status":"COMPLETED","token_id":"page-0"}'
        start = int(last.removeprefix("page-"))
        return encode_page(self._feed, start, following=f"page-{start + PAGE}")


def _sync(count: int, *, enqueued: int) -> None:
    from producer.sync import run_sync  # noqa: PLC0415 - counts as the app's memory
    from producer.wiring import sync_config, sync_tools  # noqa: PLC0415

    settings = read_settings()
    session = PlainSession()
    session.mount("https://", MadeUpLumen(count))
    tools = sync_tools(settings, session=session)
    config = replace(sync_config(settings), poll_interval=0.0)
    run = run_sync(config, tools, owner="benchmark")
    assert run is not None
    assert run.state is RunState.COMPLETE, run.reason
    assert (run.counts.fetched, run.counts.enqueued) == (count, enqueued)


def high_water_mark() -> float:
    """Return the most memory this process has held at once, in MB (proc(5): VmHWM, in kB)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    fields: Mapping[str, str] = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) * 1024 / 1e6


def main() -> None:
    """Do one kind of work in this process; print the memory it took."""
    import function_app  # noqa: F401, PLC0415 - the whole app, as an instance has it

    work, count = sys.argv[1], int(sys.argv[2])
    works: dict[str, Callable[[int], None]] = {
        "sync": lambda count: _sync(count, enqueued=count),
        "sync-again": lambda count: _sync(count, enqueued=0),
    }
    if work in works:
        works[work](count)
    print(high_water_mark())


if __name__ == "__main__":
    main()
