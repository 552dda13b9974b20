"""How long things take on one core, apart from other load on the machine.

CPU time of this process, the best of several rounds. What is compared is measured alternately,
piece by piece, so that a busy machine slows both sides and no figure owes its value to a quiet
moment that the other did not have.
"""

import time
from collections.abc import Callable, Sequence


def best_cpu[T](
    works: Sequence[Callable[[T], object]], pieces: Sequence[T], *, rounds: int
) -> list[float]:
    """Return, for each of `works`, the seconds it takes for all `pieces`.

    Each piece counts with its best round. What a work returns is kept alive only until the next.
    """
    best = {(work, piece): float("inf") for work in range(len(works)) for piece in _range(pieces)}
    for _ in range(rounds):
        for piece in _range(pieces):
            for work, do in enumerate(works):
                start = time.process_time()
                do(pieces[piece])
                spent = time.process_time() - start
                best[work, piece] = min(best[work, piece], spent)
    return [sum(best[work, piece] for piece in _range(pieces)) for work in range(len(works))]


def _range(pieces: Sequence[object]) -> range:
    return range(len(pieces))
