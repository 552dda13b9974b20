"""Indicators as Lumen sends them, small, valid and told apart by a number."""

from collections.abc import Sequence
from typing import Any

from producer.indicators import Filters, Indicator, Verdict, judge_page
from producer.versions import KnownVersion, Policy

EVERYTHING = Filters(threshold=0)


class DictKnown:
    """What is known, as a plain dict by the hash of the id."""

    def __init__(self, versions: dict[int, KnownVersion] | None = None) -> None:
        self.versions = dict(versions or {})

    def find(self, id_hashes: Sequence[int]) -> dict[int, KnownVersion]:
        return {at: self.versions[i] for at, i in enumerate(id_hashes) if i in self.versions}

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        self.versions[id_hash] = version


def judge(record: object, filters: Filters) -> Verdict:
    """Return what becomes of one object of which nothing is known."""
    (verdict,) = judge_page([record], filters, DictKnown(), Policy(today=0))
    return verdict


def raw_indicator(number: int = 0, **changes: object) -> dict[str, Any]:
    """Return a valid decoded object; `changes` overlay it, None as a value included."""
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": f"indicator--00000000-0000-4000-8000-{number:012x}",
        "created": "2026-01-01T00:00:00.000Z",
        "modified": "2026-01-02T00:00:00.000Z",
        "pattern": f"[domain-name:value = 'host-{number}.example']",
        "pattern_type": "stix",
        "valid_from": "2026-01-01T00:00:00Z",
        "confidence": 80,
        **changes,
    }


def without(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return `record` less one property."""
    return {key: value for key, value in record.items() if key != name}


def indicator(number: int = 0, **changes: object) -> Indicator:
    """Return a judged, valid indicator."""
    verdict = judge(raw_indicator(number, **changes), EVERYTHING)
    assert isinstance(verdict, Indicator)
    return verdict
