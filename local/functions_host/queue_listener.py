"""Listens to one queue and runs a function for each of its messages.

Behaves like the queue extension of the Functions host: leases that are renewed while a function
runs, a bounded number of messages in flight, five deliveries, then a copy in `<queue>-poison`. A
process that dies leaves its messages leased; they come back when the lease expires. What becomes
of a message is decided in `queue_rules`, what a failed call means in `storage_failures`; this
module does the storage calls. It must not know which app it serves.
"""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import assert_never

import requests
from azure.core.exceptions import AzureError, ResourceExistsError, ResourceNotFoundError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.queue import ExponentialRetry, QueueClient, QueueMessage
from requests.adapters import HTTPAdapter

from local.functions_host.host_settings import QueueSettings
from local.functions_host.in_flight import InFlight
from local.functions_host.protos import TypedData
from local.functions_host.queue_rules import (
    Fate,
    decode_body,
    fate_after_run,
    fate_on_receipt,
    polling_delays,
    trigger_metadata,
)
from local.functions_host.storage_failures import Call, StorageFailures, brief, is_harmless
from local.functions_host.worker import Function, Result, Worker

log = logging.getLogger("host.queue")

# The lease the service's host takes; it is not configurable there.
AZURE_LEASE = timedelta(minutes=10)
# A message added without a time to live lives for seven days, and so does a poison copy.
POISON_TTL = timedelta(days=7)
POISON_SUFFIX = "-poison"
# Retries of a host that carries on; one that ends itself has `storage_failures` count its tries.
CLIENT_RETRIES = 4


class QueueListener:
    """Guarantee: at most `batchSize + newBatchThreshold` messages are in flight at any moment."""

    def __init__(
        self,
        *,
        function: Function,
        worker: Worker,
        connection: str,
        queue_name: str,
        settings: QueueSettings,
        failures: StorageFailures,
        lease: timedelta = AZURE_LEASE,
    ) -> None:
        self.in_flight = InFlight()
        self._failures = failures
        self._function = function
        self._worker = worker
        self._settings = settings
        self._lease = lease
        threads = settings.max_in_flight + 1
        retries = 0 if failures.end_the_host else CLIENT_RETRIES
        self._queue = _client(connection, queue_name, threads=threads, retries=retries)
        self._poison_queue = (
            None
            if queue_name.endswith(POISON_SUFFIX)
            else _client(connection, queue_name + POISON_SUFFIX, threads=threads, retries=retries)
        )
        self._stopping = threading.Event()
        self._never = threading.Event()
        name = f"listen-{queue_name}"
        self._listening = threading.Thread(target=self._listen, name=name, daemon=True)
        self._threads = ThreadPoolExecutor(settings.max_in_flight, thread_name_prefix=queue_name)

    def start(self) -> None:
        self._listening.start()

    def stop(self) -> None:
        """Fetch no more; what is in flight goes on (see `in_flight`)."""
        self._stopping.set()
        self._listening.join()

    def _listen(self) -> None:
        delays = polling_delays(self._settings.max_polling_interval)
        while not self._stopping.is_set():
            if not self.in_flight.wait_until_at_most(self._settings.new_batch_threshold, 0.5):
                continue
            messages = self._receive()
            for message in messages:
                self.in_flight.enter()
                self._threads.submit(self._handle, message)
            if messages:
                delays = polling_delays(self._settings.max_polling_interval)
            else:
                self._stopping.wait(next(delays))

    def _receive(self) -> list[QueueMessage]:
        """One batch under lease; none when the queue is missing or storage is not answering."""
        try:
            return self._failures.run(Call.RECEIVE, self._fetch, pause=self._stopping.wait)
        except ResourceNotFoundError:
            log.debug("queue %s does not exist yet", self._queue.queue_name)
        except AzureError as error:
            log.warning("receiving from %s failed: %s", self._queue.queue_name, brief(error))
        return []

    def _fetch(self) -> list[QueueMessage]:
        pages = self._queue.receive_messages(
            messages_per_page=self._settings.batch_size,
            visibility_timeout=_seconds(self._lease),
            retry_total=0,
        ).by_page()
        return list(next(pages, ()))

    def _handle(self, message: QueueMessage) -> None:
        lease = _Lease(self._queue, message, self._lease, self._failures)
        try:
            self._settle(message, lease, self._fate_of(message, lease))
        except AzureError as error:
            level = logging.DEBUG if is_harmless(error) else logging.WARNING
            log.log(level, "message %s was not settled: %s", message.id, brief(error))
        except Exception:
            log.exception("message %s: the host itself failed", message.id)
        finally:
            self.in_flight.leave()

    def _fate_of(self, message: QueueMessage, lease: "_Lease") -> Fate:
        body = decode_body(message.content, self._settings.message_encoding)
        fate = fate_on_receipt(
            dequeue_count=message.dequeue_count or 0,
            max_dequeue_count=self._settings.max_dequeue_count,
            decodes=body is not None,
            has_poison_queue=self._poison_queue is not None,
        )
        if body is None or fate is not Fate.RUN:
            return fate
        return fate_after_run(
            succeeded=self._run(message, body, lease).succeeded,
            dequeue_count=message.dequeue_count or 0,
            max_dequeue_count=self._settings.max_dequeue_count,
            has_poison_queue=self._poison_queue is not None,
        )

    def _run(self, message: QueueMessage, body: bytes, lease: "_Lease") -> Result:
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError:
            log.exception("%s: message %s is not text", self._function.name, message.id)
            return Result(succeeded=False)
        invocation = self._worker.invoke(
            self._function,
            TypedData(string=text),
            reason=f"New queue message detected on '{self._queue.queue_name}'.",
            metadata=trigger_metadata(message, text),
        )
        while (result := invocation.wait(lease.seconds_to_renewal)) is None:
            lease.renew()
        return result

    def _settle(self, message: QueueMessage, lease: "_Lease", fate: Fate) -> None:
        match fate:
            case Fate.DELETE:
                self._try(Call.SETTLE, lease.delete)
            case Fate.RELEASE:
                delay = self._settings.visibility_timeout
                self._try(Call.SETTLE, lambda: lease.release(delay))
            case Fate.POISON:
                self._poison(message)
                self._try(Call.SETTLE, lease.delete)
            case Fate.LEAVE:
                log.warning("message %s comes back when its lease expires", message.id)
            case Fate.RUN:
                raise AssertionError("a message that was not run cannot be settled")
            case _:
                assert_never(fate)

    def _try(self, call: Call, action: Callable[[], object]) -> None:
        """Call storage; what is in flight is settled also while the listener stops."""
        self._failures.run(call, action, pause=self._never.wait)

    def _poison(self, message: QueueMessage) -> None:
        """Add a copy to the poison queue; it has an id of its own and seven days to live."""
        poison_queue = self._poison_queue
        if poison_queue is None:
            raise AssertionError(f"{self._queue.queue_name} has no poison queue")
        name = poison_queue.queue_name
        log.warning(
            "Message has reached MaxDequeueCount of %d or does not decode. Moving message %s "
            "(dequeue count %s) to queue '%s'.",
            self._settings.max_dequeue_count,
            message.id,
            message.dequeue_count,
            name,
        )

        def copy() -> None:
            poison_queue.send_message(message.content, time_to_live=_seconds(POISON_TTL))

        try:
            self._try(Call.COPY, copy)
        except ResourceNotFoundError:
            try:
                self._try(Call.COPY, poison_queue.create_queue)
            except ResourceExistsError:
                log.debug("queue %s was created by another listener", name)
            self._try(Call.COPY, copy)


class _Lease:
    """This host's claim on a message: the pop receipt of its last receive or renewal."""

    def __init__(
        self,
        queue: QueueClient,
        message: QueueMessage,
        length: timedelta,
        failures: StorageFailures,
    ) -> None:
        self._queue = queue
        self._message_id = message.id
        self._receipt = message.pop_receipt
        self._length = length
        self._failures = failures
        self._waits = failures.waits()
        self.seconds_to_renewal: float | None = length.total_seconds() / 2

    def renew(self) -> None:
        """Extend the lease. A failure is tried again sooner; a lost lease is not."""
        try:
            self._receipt = self._update(self._length, retry_total=0)
        except AzureError as error:
            self.seconds_to_renewal = self._wait_after(error)
            log.warning("message %s: lease not renewed: %s", self._message_id, brief(error))
        else:
            self._waits = self._failures.waits()
            self.seconds_to_renewal = self._length.total_seconds() / 2
            log.info("message %s: lease renewed", self._message_id)

    def _wait_after(self, error: AzureError) -> float | None:
        """Seconds until the next try; None: there is none, while the function goes on."""
        if is_harmless(error):
            return None
        if self._failures.end_the_host:
            return self._failures.next_wait(Call.RENEW, error, self._waits)
        return self._length.total_seconds() / 10

    def release(self, delay: timedelta) -> None:
        self._update(delay)

    def delete(self) -> None:
        self._queue.delete_message(self._message_id, self._receipt)

    def _update(self, visible_in: timedelta, **options: int) -> str | None:
        """Set when the message is next visible; without content it keeps the one it has."""
        updated = self._queue.update_message(
            self._message_id, self._receipt, visibility_timeout=_seconds(visible_in), **options
        )
        return updated.pop_receipt


def _client(connection: str, queue_name: str, *, threads: int, retries: int) -> QueueClient:
    """A client that sends and returns text as it is, and retries within seconds, if at all.

    Its pool has a connection for every thread; with the default of ten, urllib3 complains.
    """
    session = requests.Session()
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(pool_maxsize=threads))
    return QueueClient.from_connection_string(
        connection,
        queue_name,
        retry_policy=ExponentialRetry(initial_backoff=1, increment_base=2, retry_total=retries),
        transport=RequestsTransport(session=session, session_owner=False),
    )


def _seconds(span: timedelta) -> int:
    return round(span.total_seconds())
