"""What a failed call to storage means to the host: nothing, another try, or its end.

The Functions host ends itself when storage refuses a call of a queue listener, or does not answer
for about 24 seconds; what it was working on comes back later, with a higher dequeue count. This
host does so only when it is asked to (`--stop-on-storage-error`): a test may then restart it as
Azure would. Without that it carries on, so that a test may restart the storage.

Source: Microsoft.Azure.WebJobs.Extensions.Storage.Queues 5.3.10 on WebJobs 3.0.48, measured
2026-11-28 (docs/contracts.md).
"""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from enum import StrEnum

from azure.core.exceptions import AzureError

log = logging.getLogger("host")

# Six tries at about 0, 0.8, 2.5, 5.8, 12 and 23.5 s: the waits between them double.
RETRIES = 5
AZURE_PATIENCE = timedelta(seconds=24.8)

# The message is someone else's by now, or its queue is gone.
# Compared one by one: the client gives an enum member, which equals its text and hashes otherwise.
HARMLESS_CODES = ("MessageNotFound", "PopReceiptMismatch", "QueueNotFound", "QueueBeingDeleted")

_SERVER_ERRORS = range(500, 600)
_PASSING = (408, 429)


class Call(StrEnum):
    """What the listener asked of storage."""

    RECEIVE = "receive"
    RENEW = "renew"
    SETTLE = "delete or release"
    COPY = "copy to the poison queue"


class Meaning(StrEnum):
    """What the answer means to the host."""

    HARMLESS = "go on"
    POLL = "go on with the next poll"
    RETRY = "try again, and end the host when tries do not help"
    END = "end the host"


def meaning_of(call: Call, *, status: int | None, code: str) -> Meaning:
    """The meaning of a failed call; `status` None: there was no answer."""
    if code in HARMLESS_CODES and (call is not Call.COPY or code == "QueueNotFound"):
        return Meaning.HARMLESS
    if status is None or status in _PASSING:
        return Meaning.RETRY
    if status in _SERVER_ERRORS:
        return Meaning.POLL if call is Call.RECEIVE else Meaning.RETRY
    return Meaning.END


def retry_waits(patience: timedelta) -> Iterator[float]:
    """Seconds between the tries, which double and add up to `patience`."""
    shortest = patience.total_seconds() / (2**RETRIES - 1)
    return (shortest * 2**number for number in range(RETRIES))


def is_harmless(error: AzureError) -> bool:
    """Whether the error only says that the message is someone else's, or that its queue is gone."""
    return _code(error) in HARMLESS_CODES


class StorageFailures:
    """The rules of one host: `patience` None is for a host that carries on whatever happens."""

    def __init__(self, *, patience: timedelta | None, end_host: Callable[[], None]) -> None:
        self._patience = patience
        self._end_host = end_host

    @property
    def end_the_host(self) -> bool:
        """Whether this host may end itself, and so tries calls by these rules."""
        return self._patience is not None

    def run[T](self, call: Call, action: Callable[[], T], *, pause: Callable[[float], bool]) -> T:
        """Call `action`, again where that may help; `pause` says whether to stop trying.

        Raises what `action` raises, after having told the host where that is its end.
        """
        waits = self.waits()
        while True:
            try:
                return action()
            except AzureError as error:
                wait = self.next_wait(call, error, waits)
                if wait is None or pause(wait):
                    raise

    def waits(self) -> Iterator[float]:
        """The waits of one call that fails again and again."""
        return iter(()) if self._patience is None else retry_waits(self._patience)

    def next_wait(self, call: Call, error: AzureError, waits: Iterator[float]) -> float | None:
        """Seconds until the call is to be tried again; None: not at all. May end the host."""
        if self._patience is None:
            return None
        status = getattr(error, "status_code", None)
        meaning = meaning_of(call, status=status, code=_code(error))
        wait = next(waits, None) if meaning is Meaning.RETRY else None
        if wait is None and meaning in (Meaning.RETRY, Meaning.END):
            log.critical(
                "An unhandled exception has occurred. Host is shutting down. (%s: %s)",
                call,
                brief(error),
            )
            self._end_host()
        return wait


def brief(error: Exception) -> str:
    """An error's kind and first line, without the request's whole story."""
    return f"{type(error).__name__}: {str(error).partition('\n')[0]}"


def _code(error: AzureError) -> str:
    code = getattr(error, "error_code", None)
    return str(getattr(code, "value", code) or "")
