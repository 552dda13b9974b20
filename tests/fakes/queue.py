"""A queue in memory, with the delays remembered; what was taken is hidden until it is shown."""

from collections.abc import Callable
from dataclasses import dataclass

from common.envelope import MAX_ENVELOPE_BYTES
from common.queues import MAX_TAKEN, Taken


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """One message as it was sent."""

    text: str
    delay: float


class FakeQueue:
    """Keeps what was sent. `before` is called with each text and may raise."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.hidden: set[int] = set()
        """Places in `sent` of messages that somebody has taken."""
        self._gone: set[int] = set()
        self.before: Callable[[str], None] = lambda _text: None

    def send(self, text: str, *, delay: float = 0.0) -> None:
        self.before(text)
        if len(text.encode()) > MAX_ENVELOPE_BYTES:
            raise ValueError("a message does not fit in a queue")
        self.sent.append(Sent(text=text, delay=delay))

    def depth(self) -> int:
        return len(self.sent) - len(self._gone)

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
