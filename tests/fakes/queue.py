"""A queue in memory, with the delays remembered; what was taken is hidden until it is shown."""

from collections.abc import Callable
from dataclasses import dataclass, field

from common.envelope import MAX_ENVELOPE_BYTES
from common.queues import MAX_PEEKED, MAX_TAKEN, Taken


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
        self.hidden: set[int] = set()
        """Places in `sent` of messages that somebody has taken."""
        self._gone: set[int] = set()
        self.before: Callable[[str], None] = lambda _text: None
        self.before_peek: Callable[[], None] = lambda: None

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self.before(text)
        if len(text.encode()) > MAX_ENVELOPE_BYTES:
            raise ValueError("a message does not fit in a queue")
        self.sent.append(Sent(text=text, delay=delay, visible_at=self._now() + max(delay, 0.0)))

    def depth(self) -> int:
        return len(self.sent) - len(self._gone)

    def peek(self) -> list[str]:
        self.before_peek()
        now = self._now()
        away = self.hidden | self._gone
        visible = [
            sent for n, sent in enumerate(self.sent) if n not in away and sent.visible_at <= now
        ]
        return [sent.text for sent in sorted(visible, key=lambda sent: sent.visible_at)][
            :MAX_PEEKED
        ]

    def take(self, *, hidden_for: float) -> list[Taken]:
        assert hidden_for > 0
        visible = [n for n in range(len(self.sent)) if n not in self.hidden | self._gone]
        self.hidden.update(visible[:MAX_TAKEN])
        return [
            Taken(text=self.sent[n].text, message_id=str(n), pop_receipt="")
            for n in visible[:MAX_TAKEN]
        ]

    def remove(self, taken: Taken) -> None:
        self._gone.add(int(taken.message_id))
