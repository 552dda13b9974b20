"""The ledger: what the pipeline knows about runs, chunks, rejections and poison.

`Ledger` gathers the kinds of rows; each module owns one table and its meaning, `states`
owns the states and the moves between them, and `tables` is the only one that knows Azure.
"""

from dataclasses import dataclass

from common.ledger.acts import Acts
from common.ledger.arrivals import Arrivals
from common.ledger.chunks import Chunks
from common.ledger.control import Control
from common.ledger.poison import Poison
from common.ledger.pulses import Pulses
from common.ledger.rejections import Rejections
from common.ledger.runs import Runs
from common.ledger.tables import Tables
from common.ledger.versions import Versions
from common.ledger.wishes import Wishes

__all__ = ["Ledger", "open_ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """All rows of the pipeline."""

    runs: Runs
    chunks: Chunks
    rejections: Rejections
    poison: Poison
    control: Control
    wishes: Wishes
    pulses: Pulses
    acts: Acts
    versions: Versions
    arrivals: Arrivals


def open_ledger(tables: Tables) -> Ledger:
    """Return the ledger kept in `tables`; touches nothing before the first call."""
    return Ledger(
        runs=Runs(tables),
        chunks=Chunks(tables),
        rejections=Rejections(tables),
        poison=Poison(tables),
        control=Control(tables),
        wishes=Wishes(tables),
        pulses=Pulses(tables),
        acts=Acts(tables),
        versions=Versions(tables),
        arrivals=Arrivals(tables),
    )
