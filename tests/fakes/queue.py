"""A queue in memory, as its senders see it, with the delays remembered."""

from collections.abc import Callable
from dataclasses import dataclass

from common.envelope import MAX_ENVELOPE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message as it was sent."""

    text: str
    delay: float


class FakeQueue:
    """Keeps what was sent. `before` is called with each text and may raise."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.before: Callable[[str], None] = lambda _text: None

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self.before(text)
        if len(text.encode()) > MAX_ENVELOPE_BYTES:
            raise ValueError("a message does not fit in a queue")
        self.sent.append(Sent(text=text, delay=delay))

    def depth(self) -> int:
        return len(self.sent)
