"""The destination in the operator's hands: let chunks that wait go to the present workspace.

Every chunk's row names the workspace that it was made for, and a consumer with another workspace in
its settings defers it. After a move, or the correction of a typing error, `adopt` turns the rows
over.
"""

from collections import Counter
from dataclasses import dataclass, field

from common.ledger import Ledger
from common.ledger.sends import QUIET_AFTER, Sends


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was turned over: chunks and indicators; or why nothing was turned over yet.

    `left` are the destinations that the chunks were meant for, with how many. `changed` are chunks
    whose rows changed at that moment: the next call takes them, if they still wait.
    """

    chunks: int = 0
    indicators: int = 0
    left: dict[str, int] = field(default_factory=dict)
    changed: int = 0
    waits: str = ""


def adopt(ledger: Ledger, sends: Sends, *, destination: str, dry_run: bool = False) -> Adoption:
    """Turn every chunk over that waits for another destination.

    Only if no request to that destination can be under way, by the storage's clock. Called twice:
    nothing is left to do. If it dies halfway: the next call continues.
    """
    waiting = [
        chunk for chunk in ledger.chunks.all() if chunk.to_send and chunk.destination != destination
    ]
    for other in sorted({chunk.destination for chunk in waiting}):
        waits = _may_be_under_way(sends, other, destination=destination)
        if waits:
            return Adoption(waits=waits)
    chunks = indicators = changed = 0
    left: Counter[str] = Counter()
    for chunk in waiting:
        if not (dry_run or ledger.chunks.turn_over(chunk, destination)):
            changed += 1
            continue
        chunks += 1
        indicators += len(chunk.to_send)
        left[chunk.destination] += 1
    return Adoption(chunks=chunks, indicators=indicators, left=dict(left), changed=changed)


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
