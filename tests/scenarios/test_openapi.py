"""The app keeps to its OpenAPI document: schemathesis makes requests of it, right and wrong ones.

The ledger behind it holds something of each kind. The same requests are made each time; what fails
is printed with a command that repeats it.
"""

import json
import subprocess
import sys
from pathlib import Path

from common.clock import SystemClock
from common.envelope import Envelope, chunk_id_of, encode_envelope
from common.ledger.poison import PoisonedBy, poison_of_raw
from common.ledger.problems import ProblemKind
from common.ledger.pulses import Books, Pulse
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.runs import Run, new_run_id
from common.ledger.states import RunState
from local.functions_host.process import PROJECT_ROOT
from local.services.feed import SyntheticFeed
from tests.patience import PATIENCE
from tests.scenarios.conftest import NewWorld
from tests.scenarios.world import CONSUMER, World

PRODUCER = ("lumen_sync", "sync_now")


def live(world: World) -> None:
    """Write something of each kind into the ledger."""
    now, ledger = SystemClock().now(), world.ledger
    run = Run(
        run_id=new_run_id(now), state=RunState.GAP, started_at=now, updated_at=now, reason="why"
    )
    ledger.runs.create(run)
    body = b'[{"id":"a"},{"id":"b"}]'
    envelope = Envelope(
        run_id=run.run_id,
        chunk_id=chunk_id_of(body),
        sequence=0,
        count=2,
        body=body,
        fingerprints=(1, 2),
        ledger_id=ledger.chunks.ledger_id(),
    )
    for text in (encode_envelope(envelope), "rubbish"):
        kept = poison_of_raw(text, reason="why", poisoned_by=PoisonedBy.HOST, at=now)
        ledger.poison.keep(kept)
    rejection = Rejection(
        run_id=run.run_id,
        position="chunk-000000-1-1",
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="[x = '1']",
        reason="no pattern_type",
        content=b"{}",
        at=now,
    )
    ledger.rejections.record([rejection])
    ledger.pulses.write(Pulse(at=now, verdict="healthy", backlog=1), Books())
    world.problems.raise_problem(ProblemKind.ACCESS, "give the role")


def test_the_app_answers_as_its_document_says(new_world: NewWorld, tmp_path: Path) -> None:
    """No request is answered with another status, field or type than is described; none with 500.

    Wrong ones are refused, right ones are not, and without a key nothing is answered.
    """
    world = new_world(SyntheticFeed(1))
    live(world)
    host = world.cloud.start_host(disabled=(*CONSUMER, *PRODUCER))
    document = PROJECT_ROOT / "docs/openapi.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            f"--config-file={PROJECT_ROOT / 'tests/scenarios/schemathesis.toml'}",
            *("run", str(document), f"--url={host.url}"),
            f"--header=x-functions-key: {host.host_key}",
        ],
        cwd=tmp_path,  # it leaves notes on what fails
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    paths = json.loads(document.read_text(encoding="utf-8"))["paths"]
    assert f"Tested: {sum(map(len, paths.values()))}" in done.stdout
