"""The keys of a run's rows: one partition a run, with its head and a row for each chunk.

They share a partition because a transaction writes rows of one partition only. So a producer can
write chunk rows only while the run is still its own.
"""

from typing import Final

TABLE: Final = "chunks"

HEAD_KEY: Final = "head"
"""Behind all chunk rows, whose keys begin with a digit."""

_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")


def partition_of(run_id: str) -> str:
    """Return the partition of a run: the digits of its time complemented, so the newest is first.

    Listing the latest runs is then one short read.
    """
    return newest_first(run_id)


def newest_first(name: str) -> str:
    """Return a name (time, dash, rest) so that the newest sorts first; twice: the name itself."""
    time, dash, rest = name.partition("-")
    return time.translate(_COMPLEMENT) + dash + rest


def run_id_of(partition: str) -> str:
    """Return the run of a partition: complementing twice gives back the digits."""
    return partition_of(partition)
