"""The border to Azure Storage queues: send an envelope, now or later, for ever.

The body goes out as plain text (`messageEncoding: none` in host.json) and never expires; the
host receives, renews and deletes. Here only an operator's rescue does, from the poison queue. A
missing queue is made on first use.
Nothing of azure-storage-queue passes this module.
"""

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from azure.core.credentials import TokenCredential
from azure.core.exceptions import HttpResponseError
from azure.storage.queue import ExponentialRetry, QueueClient

from common.envelope import MAX_ENVELOPE_BYTES
from common.settings import StorageSettings
from common.storage_errors import already_exists, error_code, is_unmade, storage_errors
from common.storage_options import client_options

UPLOAD_QUEUE: Final = "sentinel-upload"
"""Where chunks wait for their upload."""

POISON_QUEUE: Final = UPLOAD_QUEUE + "-poison"
"""Where the Functions host puts messages that failed `maxDequeueCount` times."""

SYNC_QUEUE: Final = "sync-requests"
"""Where an operator's request for a sync run wakes the producer."""

SYNC_MESSAGE: Final = "sync"
"""The text of its messages; the row of the request has the details."""

NEVER_EXPIRES: Final = -1
"""Time to live of a message that must not vanish; unset means 7 days
(learn.microsoft.com/rest/api/storageservices/put-message, read 2026-11-22)."""

MAX_DELAY: Final = 7 * 24 * 3600
"""Longest visibility delay in seconds (same source)."""

MAX_PEEKED: Final = 32
"""Most messages that a call may peek at
(learn.microsoft.com/rest/api/storageservices/peek-messages, read 2026-11-28)."""

MAX_TAKEN: Final = 32
"""Most messages of an answer
(learn.microsoft.com/rest/api/storageservices/get-messages, read 2026-11-28)."""

_NOT_OURS: Final = frozenset({"MessageNotFound", "PopReceiptMismatch", "QueueNotFound"})
"""Codes of a delete that comes too late (…/queue-service-error-codes, read 2026-11-28)."""

_RETRIES: Final = 3
_FIRST_RETRY_AFTER: Final = 2
"""Seconds before the first retry within a call; doubles with each. The SDK's own default waits 18,
24 and 42 s in an invocation that is billed."""

_ROLE: Final = "Storage Queue Data Contributor"


MAX_BACKLOG: Final = timedelta(days=1)
"""No new query starts while the queue takes longer to drain: it would only grow."""


def drain_time(depth: int, *, requests_per_minute: float) -> timedelta:
    """Return how long `depth` chunks take at a rate of so many requests a minute."""
    return timedelta(minutes=depth / requests_per_minute)


class SendQueue(Protocol):
    """A queue for its senders."""

    def send(self, text: str, *, delay: float = 0.0) -> None:
        """Enqueue `text`, invisible for `delay` seconds."""
        ...

    def depth(self) -> int:
        """Return about how many messages there are, invisible ones included."""
        ...


class WatchedQueue(SendQueue, Protocol):
    """A queue for operators."""

    def peek(self) -> list[str]:
        """Return the texts of the oldest visible messages, up to `MAX_PEEKED`; nothing changes."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message that was taken: hidden from others for a while, but not deleted."""

    text: str
    message_id: str
    pop_receipt: str


class ReceiveQueue(WatchedQueue, Protocol):
    """A queue for operators who also take messages from it."""

    def take(self, *, hidden_for: float) -> list[Taken]:
        """Return some of the visible messages, and hide them for so many seconds."""
        ...

    def remove(self, taken: Taken) -> None:
        """Delete a message; nothing happens if it was taken again or removed since."""
        ...


class AzureQueue:
    """One queue of a storage account (or of Azurite). Safe to use from several threads."""

    def __init__(
        self, name: str, storage: StorageSettings, *, credential: TokenCredential | None = None
    ) -> None:
        options = client_options() | {"retry_policy": _retry_policy()}
        if storage.connection_string is not None:
            self._client = QueueClient.from_connection_string(
                storage.connection_string.reveal(), name, **options
            )
        else:
            assert storage.queue_endpoint is not None  # noqa: S101 - read_settings promises it
            self._client = QueueClient(
                storage.queue_endpoint, name, credential=credential, **options
            )

    def send(self, text: str, *, delay: float = 0.0) -> None:
        """Enqueue `text`, invisible for `delay` seconds: at most `MAX_DELAY`, rounded up.

        Guarantee: on return the message is durable and never expires. Called twice: two copies.
        Raises: `ThrottledError`, `UnavailableError`, `CredentialError`; `ValueError` when the
        text exceeds 64 KiB.
        """
        if len(text.encode()) > MAX_ENVELOPE_BYTES:
            raise ValueError(f"a message of {len(text.encode())} bytes does not fit in a queue")
        seconds = math.ceil(min(max(delay, 0.0), MAX_DELAY))
        with storage_errors(f"queue {self._client.queue_name}", role=_ROLE):
            try:
                self._put(text, seconds)
            except HttpResponseError as error:
                if not is_unmade(error):
                    raise
                with already_exists():
                    self._client.create_queue()
                self._put(text, seconds)

    def depth(self) -> int:
        """Return about how many messages there are, invisible ones included; 0 without a queue."""
        with storage_errors(f"queue {self._client.queue_name}", role=_ROLE):
            try:
                return self._client.get_queue_properties().approximate_message_count or 0
            except HttpResponseError as error:
                if not is_unmade(error):
                    raise
                return 0

    def peek(self) -> list[str]:
        """Return the texts of the oldest visible messages, up to `MAX_PEEKED`; [] without a queue.

        Raises as `send` does. Called twice: the same, unless one was received meanwhile.
        """
        with storage_errors(f"queue {self._client.queue_name}", role=_ROLE):
            try:
                return [str(m.content) for m in self._client.peek_messages(MAX_PEEKED)]
            except HttpResponseError as error:
                if not is_unmade(error):
                    raise
                return []

    def take(self, *, hidden_for: float) -> list[Taken]:
        """Return up to `MAX_TAKEN` of the visible messages, hidden for so many seconds."""
        with storage_errors(f"queue {self._client.queue_name}", role=_ROLE):
            try:
                pages = self._client.receive_messages(
                    messages_per_page=MAX_TAKEN, visibility_timeout=math.ceil(hidden_for)
                ).by_page()
                found = list(next(pages, []))
            except HttpResponseError as error:
                if not is_unmade(error):
                    raise
                return []
        return [
            Taken(text=one.content or "", message_id=one.id, pop_receipt=one.pop_receipt or "")
            for one in found
        ]

    def remove(self, taken: Taken) -> None:
        """Delete a message; called twice, or when it is another's by now: nothing happens."""
        with storage_errors(f"queue {self._client.queue_name}", role=_ROLE):
            try:
                self._client.delete_message(taken.message_id, taken.pop_receipt)
            except HttpResponseError as error:
                if error_code(error) not in _NOT_OURS:
                    raise

    def _put(self, text: str, seconds: int) -> None:
        self._client.send_message(text, visibility_timeout=seconds, time_to_live=NEVER_EXPIRES)


def _retry_policy() -> ExponentialRetry:
    return ExponentialRetry(
        initial_backoff=0,
        increment_base=_FIRST_RETRY_AFTER,
        retry_total=_RETRIES,
        random_jitter_range=1,
    )
