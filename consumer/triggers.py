"""The two queue triggers: chunks to upload, and messages that the host gave up.

Importing needs no setting: clients are made on the first call and kept for the instance's life.
While the settings are wrong, chunks are deferred with that reason instead of being used up, and the
problem shows.
"""

import random
from contextlib import suppress
from functools import cache

import azure.functions as func

from common.clock import SystemClock
from common.errors import PipelineError, SettingsError
from common.identity import SentinelTokens, storage_credential
from common.ledger import Ledger, open_ledger
from common.ledger.acceptance import Acceptance
from common.ledger.problems import Kind, Problems
from common.ledger.sends import Sends
from common.ledger.slots import Slots
from common.ledger.tables import AzureTables
from common.queues import POISON_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.settings import STORAGE_CONNECTION, read_settings, read_storage_settings
from common.storage_options import POOL_SIZE
from consumer.deferral import Deferrer, defer_message, longest_wait
from consumer.deliver import Deliverer
from consumer.pacing import Pacer
from consumer.poison import KEEP_AGAIN_AFTER, PoisonKeeper, handle_poison
from consumer.sentinel import SentinelClient

SAFE_DELAY = 60.0
"""Seconds between tries while the settings, that of the delay among them, are wrong."""

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name=UPLOAD_QUEUE, connection=STORAGE_CONNECTION)
def sentinel_upload(message: func.QueueMessage) -> None:
    """Upload one chunk to Sentinel."""
    text = message.get_body().decode()
    try:
        deliverer = _deliverer()
    except SettingsError as error:
        defer_message(text, str(error), deferrer=_safe_deferrer())
        with suppress(PipelineError):  # the settings of the tables may be among them
            _safe_problems().raise_problem(Kind.ACCESS, str(error))
        return
    deliverer.deliver(text)


@blueprint.queue_trigger(arg_name="message", queue_name=POISON_QUEUE, connection=STORAGE_CONNECTION)
def keep_poison(message: func.QueueMessage) -> None:
    """Put back, or keep, one message that the host gave up."""
    text = message.get_body().decode()
    queue = _queue(POISON_QUEUE)
    try:
        keeper = _keeper()
    except SettingsError:
        queue.send(text, delay=KEEP_AGAIN_AFTER)
        return
    handle_poison(text, keeper=keeper, queue=queue, upload_queue=_queue(UPLOAD_QUEUE))


@cache
def _deliverer() -> Deliverer:
    settings = read_settings()
    clock = SystemClock()
    return Deliverer(
        sentinel=SentinelClient(
            base_url=settings.sentinel_base_url,
            workspace_id=settings.workspace_id,
            clock=clock,
            connections=POOL_SIZE,
        ),
        tokens=SentinelTokens(settings, clock=clock),
        ledger=_ledger(),
        problems=Problems(_tables(), clock=clock, stands_for=longest_wait(settings.deferral_delay)),
        acceptance=Acceptance(_tables(), clock=clock),
        sends=Sends(_tables(), clock=clock),
        pacer=Pacer(
            Slots(
                _tables(), clock=clock, requests_per_minute=settings.sentinel_requests_per_minute
            ),
            clock=clock,
        ),
        deferrer=_make_deferrer(settings.deferral_delay, ledger=_ledger()),
        keeper=_keeper(),
        clock=clock,
    )


@cache
def _safe_deferrer() -> Deferrer:
    """Return a deferrer that needs no setting but where the queue is."""
    return _make_deferrer(SAFE_DELAY, ledger=None)


@cache
def _safe_problems() -> Problems:
    """Return the problems as they count while the deferrer that needs no setting is at work."""
    return Problems(_tables(), clock=SystemClock(), stands_for=longest_wait(SAFE_DELAY))


def _make_deferrer(first_delay: float, *, ledger: Ledger | None) -> Deferrer:
    return Deferrer(
        queue=_queue(UPLOAD_QUEUE),
        ledger=ledger,
        clock=SystemClock(),
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
        first_delay=first_delay,
    )


@cache
def _keeper() -> PoisonKeeper:
    return PoisonKeeper(ledger=_ledger(), clock=SystemClock())


@cache
def _queue(name: str) -> AzureQueue:
    storage = read_storage_settings(queues_only=True)
    return AzureQueue(name, storage, credential=storage_credential(storage))


@cache
def _ledger() -> Ledger:
    return open_ledger(_tables())


@cache
def _tables() -> AzureTables:
    storage = read_storage_settings()
    return AzureTables(storage, credential=storage_credential(storage))
