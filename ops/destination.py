"""The destination in the operator's hands: let chunks that wait go to the present workspace.

Every chunk's row names the workspace that it was made for, and a consumer with another workspace in
its settings defers it. After a move, or the correction of a typing error, `adopt` turns the rows
over.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import batched

from common.ledger import Ledger
from common.ledger.chunks import Chunk
from common.ledger.sends import QUIET_AFTER, Sends
from common.ledger.tables import MAX_BATCH_ENTITIES


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was turned over: chunks and indicators; or why nothing was turned over yet.

    `left` are the destinations that the chunks were meant for, with how many. `changed` are chunks
    whose rows changed at that moment, and `remaining` those that there was no time for: the next
    call takes both, if they still wait.
    """

    chunks: int = 0
    indicators: int = 0
    left: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    waits: str = ""
    remaining: int = 0


@dataclass(slots=True, kw_only=True)
class _Found:
    """Chunks that wait for other destinations; of each run, the key of the first."""

    indicators: int = 0
    left: Counter[str] = field(default_factory=Counter)
    firsts: dict[str, str] = field(default_factory=dict)

    def add(self, chunk: Chunk) -> None:
        self.indicators += len(chunk.to_send)
        self.left[chunk.destination] += 1
        self.firsts.setdefault(chunk.run_id, chunk.key)

    def told(self, *, changed: int = 0, remaining: int = 0) -> Adoption:
        return Adoption(
            chunks=self.left.total(),
            indicators=self.indicators,
            left=dict(self.left),
            changed=changed,
            remaining=remaining,
        )


def adopt(
    ledger: Ledger,
    sends: Sends,
    *,
    destination: str,
    dry_run: bool = False,
    go_on: Callable[[], bool] = lambda: True,
) -> Adoption:
    """Turn every chunk over that waits for another destination, for as long as it may `go_on`.

    Only if no request to that destination can be under way, by the storage's clock. Called twice:
    nothing is left to do. If it dies halfway: the next call continues.
    """
    waiting = _Found()
    for chunk in ledger.chunks.outcomes():
        if chunk.waits_elsewhere(destination):
            waiting.add(chunk)
    for other in sorted(waiting.left):
        waits = _may_be_under_way(sends, other, destination=destination)
        if waits:
            return Adoption(waits=waits)
    if dry_run:
        return waiting.told()
    done, changed, left = _Found(), 0, 0
    for batch in _batches(ledger, waiting, destination):
        if not go_on():
            left = max(1, waiting.left.total() - done.left.total() - changed)
            break
        turned = ledger.chunks.turn_over_all(batch, destination)
        changed += len(batch) - len(turned)
        for chunk in turned:
            done.add(chunk)
    return done.told(changed=changed, remaining=left)


def _batches(ledger: Ledger, waiting: _Found, destination: str) -> Iterator[tuple[Chunk, ...]]:
    """Yield the chunks that wait as they are now, whole, in transactions of one run each."""
    for run_id, first in waiting.firsts.items():
        chunks = ledger.chunks.of_run(run_id, from_key=first)
        mine = (chunk for chunk in chunks if chunk.waits_elsewhere(destination))
        yield from batched(mine, MAX_BATCH_ENTITIES, strict=False)


def _may_be_under_way(sends: Sends, other: str, *, destination: str) -> str:
    """Return why to wait, if a request to the other destination may be under way; else empty."""
    age = sends.age(other)
    seconds = QUIET_AFTER if age is None else age.total_seconds()
    if seconds >= QUIET_AFTER:
        return ""
    return (
        f"something was sent to {other} {seconds:.0f} s ago, and a request may be under way: try "
        f"again in {QUIET_AFTER - seconds:.0f} s, when the app is set for {destination}"
    )
