"""The destination in the operator's hands: let chunks that wait go to the present workspace.

Every chunk's row names the workspace that it was made for, and a consumer that is set for another
one defers it. After a move, or a typing error that was corrected, `adopt` turns the rows over.
"""

from dataclasses import dataclass

from common.delivery import LONGEST_DELIVERY
from common.ledger import Ledger
from common.ledger.problems import Problems


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """What was turned over: chunks and indicators; or why nothing was, yet."""

    chunks: int = 0
    indicators: int = 0
    waits: str = ""


def adopt(
    ledger: Ledger, problems: Problems, *, destination: str, dry_run: bool = False
) -> Adoption:
    """Turn every chunk over that waits for another destination.

    Only when nothing was accepted for `LONGEST_DELIVERY`, by the storage's clock: a request to the
    earlier workspace may be under way until then. Called twice: nothing more to do. If it dies
    halfway: called again, it goes on. A row that changes at the same moment is left to that.
    """
    age = problems.success_age()
    if age is not None and age.total_seconds() < LONGEST_DELIVERY:
        return Adoption(
            waits=f"something was accepted {age.total_seconds():.0f} s ago; a request to the "
            f"earlier workspace may be under way: try again in {LONGEST_DELIVERY:.0f} s, with the "
            "app set for the present one, or with the function sentinel_upload disabled"
        )
    chunks = indicators = 0
    for chunk in ledger.chunks.all():
        if not chunk.to_send or chunk.destination == destination:
            continue
        if dry_run or ledger.chunks.turn_over(chunk, destination):
            chunks += 1
            indicators += len(chunk.to_send)
    return Adoption(chunks=chunks, indicators=indicators)
