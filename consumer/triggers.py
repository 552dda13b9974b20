"""The two queue triggers: chunks to upload, and messages that the host gave up.

Importing needs no setting: clients are made on the first call and kept for the instance's life.
While the settings are wrong, chunks are deferred with that reason instead of using up their
deliveries, and a problem is open.
"""

import random
from contextlib import suppress
from functools import cache

import azure.functions as func

from common.clock import SystemClock
from common.errors import PipelineError, SettingsError
from common.identity import SentinelTokens, storage_credential
from common.ledger import open_ledger
from common.ledger.problems import ProblemKind, Problems
from common.ledger.tables import AzureTables
from common.queues import POISON_QUEUE, UPLOAD_QUEUE, AzureQueue
from common.settings import STORAGE_CONNECTION, read_settings, read_storage_settings
from common.storage_options import POOL_SIZE
from consumer.deferral import Deferrer, defer_message, longest_wait
from consumer.deliver import Deliverer
from consumer.poison import KEEP_AGAIN_AFTER, PoisonKeeper, handle_poison
from consumer.sentinel import SentinelClient
from consumer.wiring import make_deliverer

SAFE_DELAY = 60.0
"""Seconds between tries while the settings are wrong, `DEFERRAL_DELAY` included."""

blueprint = func.Blueprint()


@blueprint.queue_trigger(arg_name="message", queue_name=UPLOAD_QUEUE, connection=STORAGE_CONNECTION)
def sentinel_upload(message: func.QueueMessage) -> None:
    """Upload one chunk to Sentinel."""
    text = message.get_body().decode()
    try:
        deliverer = _deliverer()
    except SettingsError as error:
        defer_message(text, str(error), deferrer=_safe_deferrer())
        with suppress(PipelineError):  # the settings of the tables may be wrong, too
            _safe_problems().raise_problem(ProblemKind.ACCESS, str(error))
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
    return make_deliverer(
        _tables(),
        queue=_queue(UPLOAD_QUEUE),
        sentinel=SentinelClient(
            base_url=settings.sentinel_base_url,
            workspace_id=settings.workspace_id,
            clock=clock,
            connections=POOL_SIZE,
        ),
        tokens=SentinelTokens(settings, audience=settings.sentinel_audience, clock=clock),
        clock=clock,
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
        requests_per_minute=settings.sentinel_requests_per_minute,
        first_delay=settings.deferral_delay,
    )


@cache
def _safe_deferrer() -> Deferrer:
    """Return a deferrer that needs no setting but the queue's."""
    return Deferrer(
        queue=_queue(UPLOAD_QUEUE),
        ledger=None,
        clock=SystemClock(),
        rng=random.Random(),  # noqa: S311 - jitter, not secrets
        first_delay=SAFE_DELAY,
    )


@cache
def _safe_problems() -> Problems:
    """Return the problems, with the delays of the deferrer that needs no other setting."""
    return Problems(_tables(), clock=SystemClock(), stands_for=longest_wait(SAFE_DELAY))


@cache
def _keeper() -> PoisonKeeper:
    return PoisonKeeper(ledger=open_ledger(_tables()), clock=SystemClock())


@cache
def _queue(name: str) -> AzureQueue:
    storage = read_storage_settings(queues_only=True)
    return AzureQueue(name, storage, credential=storage_credential(storage))


@cache
def _tables() -> AzureTables:
    storage = read_storage_settings()
    return AzureTables(storage, credential=storage_credential(storage))
