"""Messages that the app has put on its queue long before they are due, and how to have them now.

On Azure a chunk with a newer version of an indicator waits invisible, until no request with an
older one can be under way. On one machine it is visible that none is, so waiting is useless:
`bring_forward` makes such messages visible at once, by the pop receipt that their sender got. It
asks the queue itself, so what the app does and when it would have happened stays as it is.
"""

import re
import threading
import time
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as ET

from azure.core.exceptions import HttpResponseError
from azure.storage.queue import QueueClient

from local.services.storage_proxy import StorageProxy
from local.services.storage_requests import StorageRequest

_CREATED = 201


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldMessage:
    """One message: its text, for how many seconds it was put out of sight, and until when."""

    queue: str
    text: str
    delay: float
    due: float = field(compare=False)
    """By the monotonic clock."""
    message_id: str = field(compare=False, repr=False)
    pop_receipt: str = field(compare=False, repr=False)


class HeldMessages:
    """Every message that was put on a queue of an account for `at_least` so many seconds."""

    def __init__(self, proxy: StorageProxy, connection_string: str, *, at_least: float) -> None:
        self.at_least = at_least
        self.seen: list[HeldMessage] = []
        """All there ever were, in the order in which they were put."""
        self._waiting: list[HeldMessage] = []
        self._connection_string = connection_string
        self._lock = threading.Lock()
        proxy.watch(self._note)

    @property
    def waiting(self) -> list[HeldMessage]:
        """Those that no instance can have received yet."""
        now = time.monotonic()
        with self._lock:
            self._waiting = [message for message in self._waiting if message.due > now]
            return list(self._waiting)

    def bring_forward(self) -> int:
        """Make those that wait visible now; return how many there were."""
        waiting = self.waiting
        for message in waiting:
            with QueueClient.from_connection_string(
                self._connection_string, message.queue
            ) as queue:
                try:
                    queue.update_message(
                        message.message_id, message.pop_receipt, visibility_timeout=0
                    )
                except HttpResponseError as error:
                    if error.status_code not in {400, 404}:  # it went in the meantime
                        raise
        with self._lock:
            self._waiting = [message for message in self._waiting if message not in waiting]
        return len(waiting)

    def _note(self, request: StorageRequest, status: int, body: bytes) -> None:
        """Look at a request to storage and its answer."""
        if request.operation != "put_message" or status != _CREATED:
            return
        asked = parse_qs(urlsplit(request.target).query)
        delay = float(asked.get("visibilitytimeout", ["0"])[0])
        if delay < self.at_least:
            return
        answer = ET.fromstring(body.decode("utf-8-sig"))  # noqa: S314 - Azurite's own
        named = re.search(r"/([^/]+)/messages", urlsplit(request.target).path)
        message = HeldMessage(
            queue=unquote(named[1]) if named else "",
            text=ET.fromstring(request.body).findtext("MessageText") or "",  # noqa: S314 - ours
            delay=delay,
            due=time.monotonic() + delay,
            message_id=answer.findtext(".//MessageId") or "",
            pop_receipt=answer.findtext(".//PopReceipt") or "",
        )
        with self._lock:
            self.seen.append(message)
            self._waiting.append(message)
