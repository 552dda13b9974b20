"""The queue triggers: what they do while the settings are wrong."""

from collections.abc import Callable

import azure.functions as func
import pytest

from common.envelope import encode_envelope
from common.errors import SettingsError
from common.ledger.problems import ProblemKind
from common.queues import UPLOAD_QUEUE
from consumer import triggers
from tests.unit.consumer.samples import Bench, envelope


def deliver(message: func.QueueMessage) -> None:
    """Let the trigger deliver a message."""
    builder = triggers.sentinel_upload
    body: Callable[..., None] = builder._function.get_user_function()
    body(message)


@pytest.mark.parametrize("tables_are_named", [True, False])
def test_wrong_settings_are_a_problem_and_cost_no_message(
    monkeypatch: pytest.MonkeyPatch, tables_are_named: bool
) -> None:
    """The copy first; then the status says why nothing arrives, if it can be written."""
    bench = Bench()
    queues: list[str] = []

    def tables() -> object:
        if not tables_are_named:
            raise SettingsError(["PipelineStorage: names no tables"])
        return bench.tables

    def queue(name: str) -> object:
        queues.append(name)
        return bench.queue

    def deliverer() -> object:
        raise SettingsError(["SENTINEL_CLIENT_SECRET: is required and not set"])

    monkeypatch.setattr(triggers, "_tables", tables)
    monkeypatch.setattr(triggers, "_queue", queue)
    monkeypatch.setattr(triggers, "_deliverer", deliverer)
    monkeypatch.setattr(triggers, "_safe_deferrer", triggers._safe_deferrer.__wrapped__)
    monkeypatch.setattr(triggers, "_safe_problems", triggers._safe_problems.__wrapped__)
    deliver(func.QueueMessage(body=encode_envelope(envelope()).encode()))
    copy, _ = bench.take()
    assert (copy.deferrals, queues) == (1, [UPLOAD_QUEUE])
    rows = list(bench.tables.table("control").query("problem"))
    assert [row.data["kind"] for row in rows] == [ProblemKind.ACCESS] * tables_are_named
    assert all("SENTINEL_CLIENT_SECRET" in str(row.data["what"]) for row in rows)
