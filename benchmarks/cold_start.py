"""Row 7: how long a fresh instance takes to import the app and to upload its first chunk.

Each start is a process of its own; its CPU time is what the code costs, its wall time what a
message waits. The first message is a chunk of 100 indicators, on time for its send slot: the app
reads its settings, makes all the clients of a consumer, gets a token, posts the chunk and writes
its row; Entra and Sentinel are simulators that answer at once. The reference imports the Azure SDK
packages that the app cannot do without (and what these import), gets a token by azure-identity,
posts the same chunk and writes one row with a bare client. Files are in the operating system's
cache, and byte code is compiled: as good as a cold start gets.

Not obvious: a start varies by half with what else the machine does, for seconds on end. So starts
come in pairs, ours and the reference's in turn, and the figure is the median of the pairs' ratios.
"""

import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from benchmarks.pipeline import open_cloud
from benchmarks.producer_cpu import make_messages
from benchmarks.table import Figure, Scale
from common.envelope import Envelope, decode_envelope, encode_envelope
from common.ledger import open_ledger
from common.ledger.states import ChunkState
from common.ledger.tables import AzureTables
from common.settings import Secret, StorageSettings
from local.cloud import LocalCloud
from local.feed import ListFeed, SyntheticFeed
from local.functions_host.process import child_environment

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
    chunk = _chunk()
    with open_cloud(ListFeed()) as cloud:
        environment = child_environment(cloud.app_settings())
        for number in range(PAIRS[scale]):
            ours.append(_start(_OURS, environment, _message(chunk, number)))
            reference.append(_start(_REFERENCE, environment, chunk.body))
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


def _chunk() -> Envelope:
    (text,) = make_messages(SyntheticFeed(FEED))[:1]
    return decode_envelope(text)


def _message(chunk: Envelope, number: int) -> bytes:
    """Return the chunk as another one of its run, on time however long the start takes."""
    return encode_envelope(replace(chunk, sequence=number, slot=time.time() + AHEAD)).encode()


def _check_uploaded(cloud: LocalCloud, pairs: int) -> None:
    """Raise unless each start uploaded its chunk, and each of ours wrote it down."""
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    states = [chunk.state for chunk in open_ledger(AzureTables(storage)).chunks.all()]
    assert states == [ChunkState.UPLOADED] * pairs, "not every start wrote its chunk's row"
    accepted = cloud.sentinel.count(method="POST", status=HTTPStatus.OK)
    assert accepted == 2 * pairs, "not every start uploaded its chunk"
