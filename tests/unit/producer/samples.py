"""Indicators as Lumen sends them, small, valid and told apart by a number."""

from typing import Any

from producer.indicators import Filters, Indicator, judge

EVERYTHING = Filters(threshold=0)


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
