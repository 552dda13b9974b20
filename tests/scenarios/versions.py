"""Small feeds of given versions of given indicators."""

from collections.abc import Iterable
from typing import Any

from local.services.feed import ListFeed


def version(
    number: int, minute: int = 0, *, confidence: int = 80, revoked: bool = False
) -> dict[str, Any]:
    """Return an indicator as it was modified at some minute, in the shape that Lumen gives it."""
    found: dict[str, Any] = {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--00000000-0000-4000-8000-{number:012d}",
        "created": "2026-01-01T00:00:00.000Z",
        "modified": f"2026-01-01T00:{minute:02d}:00.000Z",
        "pattern": f"[domain-name:value = 'h{number}.example']",
        "pattern_type": "stix",
        "valid_from": "2026-01-01T00:00:00.000Z",
        "confidence": confidence,
    }
    return {**found, "revoked": True} if revoked else found


def id_of(number: int) -> str:
    """Return the id of an indicator."""
    return str(version(number)["id"])


def feed_of(*groups: Iterable[dict[str, Any]]) -> ListFeed:
    """Return a feed that lists the versions of each group, one group after the other."""
    return ListFeed([one for group in groups for one in group])
