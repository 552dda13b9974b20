"""Row 7: how long a fresh instance takes to import the app and to upload its first chunk.

Each start is a process of its own; its CPU time is what the code costs, its wall time what a
message waits. The first message is a chunk of 100 indicators, on time for its send slot: the app
reads its settings, makes all the clients of a consumer, gets a token, posts the chunk and writes
its row; Entra and Sentinel are simulators that answer at once. The reference imports the Azure SDK
packages that the app cannot do without (and what these import), gets a token by azure-identity,
posts the same chunk, reads one row and writes one with a bare client. Files are in the operating
system's cache, and byte code is compiled: as good as a cold start gets.

Not obvious: a start varies by half with what else the machine does, for seconds on end. So starts
come in pairs, ours and the reference's in turn, and the figure is the median of the pairs' ratios.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.pipeline import open_cloud
from benchmarks.producer_cpu import pages_of, produce
from benchmarks.table import Figure, Scale
from common.ledger import open_ledger
from common.ledger.chunks import insertion
from common.ledger.partitions import TABLE as CHUNKS_TABLE
from common.ledger.states import ChunkState
from common.ledger.tables import AzureTables
from common.settings import Secret, StorageSettings, destination_of
from local.cloud import LocalCloud
from local.functions_host.process import child_environment
from local.services.feed import ListFeed, SyntheticFeed
from producer.chunking import PackedChunk
from producer.drain import new_row

GOAL: Final = 1.3
PAIRS: Final = {Scale.QUICK: 10, Scale.FULL: 40}
FEED: Final = 1_000
"""Indicators of which at least a chunk passes the filters."""

AHEAD: Final = 60.0
"""Seconds by which a chunk's slot is ahead: the app takes that for a difference of clocks."""

ROOT: Final = Path(__file__).parents[1]

_REPORT: Final = """
import json, sys, time
def spent():
    return time.process_time() - cpu, time.perf_counter() - wall
given = sys.stdin.buffer.read()
cpu, wall = time.process_time(), time.perf_counter()
{imports}
imported = spent()
{work}
print(json.dumps([imported, spent()]))
"""

_OURS: Final = _REPORT.format(
    imports="import function_app",
    work="""
from azure.functions import QueueMessage
functions = {f.get_function_name(): f for f in function_app.app.get_functions()}
functions["sentinel_upload"].get_user_function()(QueueMessage(body=given))
""",
)

_REFERENCE: Final = _REPORT.format(
    imports="""
import azure.core, azure.functions, azure.storage.queue, azure.data.tables, azure.identity
""",
    work="""
import os
import requests
from azure.core.exceptions import ResourceNotFoundError
credential = azure.identity.ClientSecretCredential(
    os.environ["TENANT_ID"], os.environ["CLIENT_ID"], os.environ["CLIENT_SECRET"],
    authority=os.environ["ENTRA_AUTHORITY_HOST"], disable_instance_discovery=True)
token = credential.get_token("https://management.azure.com/.default").token
requests.post(
    os.environ["SENTINEL_BASE_URL"] + "/workspaces/" + os.environ["WORKSPACE_ID"]
    + "/threat-intelligence-stix-objects:upload?api-version=2024-02-01-preview",
    data=b'{"sourcesystem":"Lumen","stixobjects":%s}' % given,
    headers={"Authorization": "Bearer " + token, "Content-Type": "application/json"},
).raise_for_status()
service = azure.data.tables.TableServiceClient.from_connection_string(
    os.environ["PipelineStorage"])
table = service.get_table_client("reference")
row = {"PartitionKey": "a", "RowKey": "b"}
try:
    table.get_entity("a", "b")
except ResourceNotFoundError:
    pass
try:
    table.upsert_entity(row)
except ResourceNotFoundError:
    service.create_table("reference")
    table.upsert_entity(row)
""",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """Seconds since a process began its work."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What one start took: until the import was done, and until the chunk was."""

    imported: Spent
    uploaded: Spent


def measure(scale: Scale, feed: Path | None) -> list[Figure]:  # noqa: ARG001 - one chunk will do
    """Start both in turn, often."""
    ours, reference = [], []
    chunk = produce(tuple(pages_of(SyntheticFeed(FEED))))[0]
    with open_cloud(ListFeed()) as cloud:
        settings = cloud.app_settings()
        environment = child_environment(settings)
        destination = destination_of(settings["SENTINEL_BASE_URL"], settings["WORKSPACE_ID"])
        for number in range(PAIRS[scale]):
            again = replace(chunk, envelope=replace(chunk.envelope, sequence=number))
            _write_row(cloud, again, destination)
            ours.append(_start(_OURS, environment, _message(again)))
            reference.append(_start(_REFERENCE, environment, chunk.envelope.body))
        _check_uploaded(cloud, PAIRS[scale])
    return [
        judge(
            "7a",
            "cold start, import of function_app",
            [start.imported for start in ours],
            [start.imported for start in reference],
        ),
        judge(
            "7b",
            "cold start, import and first chunk",
            [start.uploaded for start in ours],
            [start.uploaded for start in reference],
        ),
    ]


def judge(row: str, what: str, ours: Sequence[Spent], reference: Sequence[Spent]) -> Figure:
    """Return the figure of starts that were made in pairs, in their order. Pure."""
    ratios = [one.cpu / other.cpu for one, other in zip(ours, reference, strict=True)]
    low, ratio, high = quantiles(ratios, n=4, method="inclusive")
    return Figure(
        row=row,
        what=what,
        value=_shown(ours),
        reference=f"{_shown(reference)} for the SDK",
        ratio=ratio,
        goal=f"at most {GOAL:g} x",
        met=ratio <= GOAL,
        note=f"medians of {len(ratios)} pairs; the middle half of their ratios lies between "
        f"{low:.2f} and {high:.2f}, all between {min(ratios):.2f} and {max(ratios):.2f}",
    )


def _shown(starts: Sequence[Spent]) -> str:
    cpu, wall = median(start.cpu for start in starts), median(start.wall for start in starts)
    return f"{cpu * 1000:.0f} ms CPU, {wall * 1000:.0f} ms wall"


def _start(program: str, environment: Mapping[str, str], given: bytes) -> Start:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        input=given,
        check=True,
        capture_output=True,
    )
    imported, uploaded = json.loads(done.stdout)
    return Start(
        imported=Spent(cpu=imported[0], wall=imported[1]),
        uploaded=Spent(cpu=uploaded[0], wall=uploaded[1]),
    )


def _message(chunk: PackedChunk) -> bytes:
    """Return the chunk's message, on time however long the start takes."""
    return chunk.text(slot=time.time() + AHEAD).encode()


def _write_row(cloud: LocalCloud, chunk: PackedChunk, destination: str) -> None:
    """Write the chunk's row, as the producer does before it sends the message."""
    tables = AzureTables(StorageSettings(connection_string=Secret(cloud.connection_string)))
    row = new_row(chunk, destination=destination, at=datetime.now(UTC))
    tables.table(CHUNKS_TABLE).insert(insertion(row).row)


def _check_uploaded(cloud: LocalCloud, pairs: int) -> None:
    """Raise unless each start uploaded its chunk, and each of ours wrote it down."""
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    states = [chunk.state for chunk in open_ledger(AzureTables(storage)).chunks.all()]
    assert states == [ChunkState.UPLOADED] * pairs, "not every start wrote its chunk's row"
    accepted = cloud.sentinel.count(method="POST", status=HTTPStatus.OK)
    assert accepted == 2 * pairs, "not every start uploaded its chunk"
