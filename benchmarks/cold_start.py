"""Row 7: how long a fresh instance takes to import the app and to answer its first message.

Each start is a process of its own; its CPU time is what the code costs, its wall time what a
message waits. The first message is one that cannot be decoded: it is kept as poison, for which the
app reads its settings and makes all the clients of a consumer. The reference imports the Azure SDK
packages that the app cannot do without (and what these import), and writes one row with a bare
client. Files are in the
operating system's cache, and byte code is compiled: as good as a cold start gets.
"""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.app_settings import APP_SETTINGS
from benchmarks.table import Figure, Scale
from local.azurite import Azurite
from local.functions_host.process import child_environment

GOAL: Final = 1.3
ROUNDS: Final = {Scale.QUICK: 4, Scale.FULL: 10}
ROOT: Final = Path(__file__).parents[1]

_REPORT: Final = """
import json, sys, time
def spent():
    return time.process_time() - cpu, time.perf_counter() - wall
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
functions["sentinel_upload"].get_user_function()(QueueMessage(body=b"not an envelope"))
""",
)

_REFERENCE: Final = _REPORT.format(
    imports="""
import azure.core, azure.functions, azure.storage.queue, azure.data.tables, azure.identity
""",
    work="""
import os
from azure.core.exceptions import ResourceNotFoundError
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
class Start:
    """What one start took, in seconds: (CPU, wall) after the import, and after the message."""

    imported: tuple[float, float]
    answered: tuple[float, float]


def measure(scale: Scale, feed: Path | None) -> list[Figure]:  # noqa: ARG001 - needs no feed
    """Start both alternately; each figure is the best of several starts."""
    with Azurite() as azurite:
        environment = child_environment(
            {**APP_SETTINGS, "PipelineStorage": azurite.connection_string()}
        )
        starts = [
            (_start(_OURS, environment), _start(_REFERENCE, environment))
            for _ in range(ROUNDS[scale])
        ]
    ours, reference = ([pair[side] for pair in starts] for side in (0, 1))
    return [
        _figure(
            "7a",
            "cold start, import of function_app",
            [start.imported for start in ours],
            [start.imported for start in reference],
        ),
        _figure(
            "7b",
            "cold start, import and first message",
            [start.answered for start in ours],
            [start.answered for start in reference],
        ),
    ]


def _start(program: str, environment: dict[str, str]) -> Start:
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    imported, answered = json.loads(done.stdout)
    return Start(imported=tuple(imported), answered=tuple(answered))


def _figure(
    row: str,
    what: str,
    ours: list[tuple[float, float]],
    reference: list[tuple[float, float]],
) -> Figure:
    cpu, wall = (min(start[kind] for start in ours) for kind in (0, 1))
    their_cpu, their_wall = (min(start[kind] for start in reference) for kind in (0, 1))
    return Figure(
        row=row,
        what=what,
        value=f"{cpu * 1000:.0f} ms CPU, {wall * 1000:.0f} ms wall",
        reference=f"{their_cpu * 1000:.0f} ms CPU, {their_wall * 1000:.0f} ms wall for the SDK",
        ratio=cpu / their_cpu,
        goal=f"at most {GOAL:g} x",
        met=cpu <= GOAL * their_cpu,
    )
