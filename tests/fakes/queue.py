"""A queue in memory, as its senders see it, with the delays remembered."""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.envelope import MAX_ENVELOPE_BYTES
from common.queues import MAX_PEEKED


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message as it was sent."""

    text: str
    delay: float
    visible_at: float = field(default=0.0, compare=False)


class FakeQueue:
    """Keeps what was sent, by a clock in seconds. `before` is called with each text; may raise.

    `before_peek` is called before each look.
    """

    def __init__(self, now: Callable[[], float] = lambda: 0.0) -> None:
        self._now = now
        self.sent: list[Sent] = []
        self.before: Callable[[str], None] = lambda _text: None
        self.before_peek: Callable[[], None] = lambda: None

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self.before(text)
        if len(text.encode()) > MAX_ENVELOPE_BYTES:
            raise ValueError("a message does not fit in a queue")
        self.sent.append(Sent(text=text, delay=delay, visible_at=self._now() + max(delay, 0.0)))

    def depth(self) -> int:
        return len(self.sent)

    def peek(self) -> list[str]:
        self.before_peek()
        now = self._now()
        visible = [sent for sent in self.sent if sent.visible_at <= now]
        return [sent.text for sent in sorted(visible, key=lambda sent: sent.visible_at)][
            :MAX_PEEKED
        ]
