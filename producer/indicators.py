"""What becomes of one object of Lumen's feed: sent, filtered, unchanged, or invalid. Pure.

An indicator is sent as its canonical JSON: keys sorted, no spaces, whole numbers as integers. The
same bytes are hashed to its fingerprint and posted to Sentinel, so what is remembered is what was
sent, and neither key order nor number format of the source matters. This module does no I/O and
knows neither pages nor chunks.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final

import msgspec
import orjson

from common.fingerprints import KnownVersions
from producer import ordinary
from producer.cutting import BEYOND_64_BITS, NESTED_TOO_DEEPLY, Unreadable
from producer.ordinary import OrdinaryIndicator

REQUIRED_TEXTS: Final = ("id", "created", "modified", "pattern", "pattern_type", "valid_from")
"""Properties besides `type` that Sentinel requires of an indicator
(learn.microsoft.com/azure/sentinel/stix-objects-api, read 2026-11-22)."""

_INDICATOR_ID = re.compile(r"indicator--[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,9}(\.\d*)?\s*")
_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_EXACT: Final = 2.0**53
"""Up to here a float names one integer."""

_HIGHEST_CONFIDENCE: Final = 100
_MAX_SHOWN: Final = 100


class Kind(StrEnum):
    """What an indicator's pattern is about; a pattern may be about both."""

    IPV4 = "ipv4-addr"
    DOMAIN = "domain-name"


_KINDS: Final = re.compile(
    r"""
    '(?:[^'\\]|\\.)*+(?:'|\Z)                              # a string
    | /\*.*?(?:\*/|\Z) | //[^\n]*                            # a comment
    | (?<![\w-])(ipv4-addr|domain-name)\s*+:\s*+(?:value\b|'value')
    """,
    re.VERBOSE | re.DOTALL,
)
"""What is in a string or a comment of a pattern is passed over; else the object path of a
comparison (docs.oasis-open.org/cti/stix/v2.1, section 9, read 2026-11-28). Blanks may stand around
the colon."""


_ONE_COMPARISON: Final = re.compile(r"\[(ipv4-addr|domain-name):value = '[^'\\]*+'\]").fullmatch
"""What most patterns are."""


class Indicator(msgspec.Struct, frozen=True, gc=False):
    """An indicator to send: id, canonical JSON, 64-bit fingerprint, whether of another kind."""

    indicator_id: str
    body: bytes
    fingerprint: int
    other_kind: bool


class LeftOut(Enum):
    """Why a valid indicator is not sent.

    Filtered: the operator does not want it. Unchanged: Sentinel has answered for it already, or
    it is on its way.
    """

    FILTERED = "filtered"
    UNCHANGED = "unchanged"


FILTERED: Final = LeftOut.FILTERED
UNCHANGED: Final = LeftOut.UNCHANGED


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that cannot be sent: why, and what is known of it."""

    reason: str
    indicator_id: str
    pattern: str
    content: bytes


Verdict = Indicator | LeftOut | Invalid


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The operator's choice: lowest confidence (0-100), and the kinds that are sent."""

    threshold: int
    ipv4: bool = True
    domain: bool = True

    def wants(self, kinds: set[str]) -> bool:
        """Whether an indicator about `kinds` passes: of another kind, or one is switched on."""
        if not kinds:
            return True
        return (self.ipv4 and Kind.IPV4 in kinds) or (self.domain and Kind.DOMAIN in kinds)


def judge(record: object, filters: Filters) -> Verdict:
    """Return what becomes of one decoded object of a page; never raises for bad content.

    A missing confidence counts as 0, as STIX leaves it optional. Fractions are cut.
    """
    if type(record) is OrdinaryIndicator:
        verdict = _judge_ordinary(record, filters)
        if verdict is not None:
            return verdict
        record = ordinary.to_record(record)
    if not isinstance(record, dict):
        if isinstance(record, Unreadable):
            return _unreadable(record)
        return _invalid(record, f"is {type(record).__name__}, not an object")
    fault = _fault(record)
    if fault:
        return _invalid(record, fault)
    confidence = _confidence(record.get("confidence", 0))
    if confidence is None:
        return _invalid(record, "confidence is not a number from 0 to 100")
    kinds = kinds_of(record["pattern"])
    if confidence < filters.threshold or not filters.wants(kinds):
        return FILTERED
    if "confidence" in record:
        record = {**record, "confidence": confidence}
    try:
        body = canonical_json(record)
    except (TypeError, ValueError, RecursionError) as error:
        return _invalid(record, _not_carried(error))
    return Indicator(
        indicator_id=record["id"],
        body=body,
        fingerprint=fingerprint_of(body),
        other_kind=not kinds,
    )


def kinds_of(pattern: str) -> set[str]:
    """Return the kinds that the comparisons of a pattern are about; what a string says is none."""
    only = _ONE_COMPARISON(pattern)
    return {only[1]} if only else {kind for kind in _KINDS.findall(pattern) if kind}


def judge_all(
    records: Iterable[object], filters: Filters, known: KnownVersions
) -> Iterator[Verdict]:
    """Yield what becomes of each object of a page; `UNCHANGED` if `known` has it in this form."""
    for record in records:
        verdict = judge(record, filters)
        # `type() is`, for isinstance() is slow to say no where the class is a msgspec.Struct.
        if type(verdict) is Indicator and known.has(verdict.indicator_id, verdict.fingerprint):
            yield UNCHANGED
        else:
            yield verdict


def refused(indicator: Indicator, reason: str) -> Invalid:
    """Return a judged indicator as one that cannot be sent after all."""
    return _invalid(orjson.loads(indicator.body), reason)


def canonical_json(record: dict[str, Any]) -> bytes:
    """Return `record` as JSON in UTF-8 with sorted keys and no spaces; 1.0 is written as 1.

    Raises `TypeError` or `ValueError` for what has no such form (lone surrogates, huge numbers).
    """
    body = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    if _WHOLE_FLOAT.search(body):
        return orjson.dumps(_whole(record), option=orjson.OPT_SORT_KEYS)
    return body


def fingerprint_of(body: bytes) -> int:
    """Return 64 bits of a hash over an indicator's canonical JSON."""
    digest = _NEW_DIGEST()
    digest.update(body)
    return int.from_bytes(digest.digest())


_NEW_DIGEST: Final = hashlib.blake2b(digest_size=8).copy
"""Copying an empty hash takes half the time of making one."""


def _judge_ordinary(record: OrdinaryIndicator, filters: Filters) -> Indicator | LeftOut | None:
    """Judge a record that is in order at first sight; None when the general way must look."""
    indicator_id = record.id
    texts = (
        record.type,
        indicator_id,
        record.created,
        record.modified,
        record.pattern_type,
        record.valid_from,
        record.pattern,
    )
    try:
        found = _IN_ORDER("\n".join(texts))  # type: ignore[arg-type] # what is unset raises
    except TypeError:
        return None
    confidence = _CONFIDENCES.get(record.confidence)
    if found is None or confidence is None or not isinstance(indicator_id, str):
        return None
    if confidence < filters.threshold:
        return FILTERED
    if not (filters.ipv4 if found[1] == _IPV4 else filters.domain):
        return FILTERED
    record.confidence = confidence
    try:
        body = ordinary.canonical_json(record)
    except ValueError:
        return None
    return Indicator(
        indicator_id=indicator_id, body=body, fingerprint=fingerprint_of(body), other_kind=False
    )


_IPV4: Final = Kind.IPV4.value
_CONFIDENCES: Final[dict[object, int]] = {
    spelling: number
    for number in range(_HIGHEST_CONFIDENCE + 1)
    for spelling in (number, str(number))
}
"""The usual spellings of a confidence."""

_TEXT: Final = r"[!-~][^\n]*+\n"
_IN_ORDER: Final = re.compile(
    r"indicator\n"
    r"indicator--[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\n"
    rf"{_TEXT * 4}"
    r"\[(ipv4-addr|domain-name):value = '[0-9A-Za-z_.-]*+'\]"
).fullmatch
"""Type, id, four texts that are not blank, and a pattern of one comparison, a line each. A text
with a line break of its own adds a line, and so is not in order."""


def _whole(value: Any) -> Any:
    """Return `value` with every float that is a whole number as an integer."""
    match value:
        case float():
            return int(value) if value.is_integer() and abs(value) <= _EXACT else value
        case dict():
            return {name: _whole(inner) for name, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
        case _:
            return value


def _fault(record: dict[str, Any]) -> str:
    if record.get("type") != "indicator":
        return "type is not 'indicator'"
    for name in REQUIRED_TEXTS:
        value = record.get(name)
        if not isinstance(value, str) or not value.strip():
            return f"{name} is missing or not a text"
    if not _INDICATOR_ID.fullmatch(record["id"]):
        return "id is not of the form indicator--<uuid>"
    return ""


def _confidence(value: object) -> int | None:
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if 0 <= value <= _HIGHEST_CONFIDENCE else None


def _invalid(record: object, reason: str) -> Invalid:
    known = record if isinstance(record, dict) else {}
    return Invalid(
        reason=reason,
        indicator_id=_shown(known.get("id")),
        pattern=_shown(known.get("pattern")),
        content=_content(record),
    )


def _unreadable(record: Unreadable) -> Invalid:
    """Return an object that is not JSON: its bytes as they came, and what can be read of them."""
    named = {
        name.decode(): found[1].decode("ascii", "replace")
        for name, find in _READABLE.items()
        if (found := find(record.content))
    }
    return Invalid(
        reason=record.reason,
        indicator_id=_shown(named.get("id")),
        pattern=_shown(named.get("pattern")),
        content=record.content,
    )


_READABLE: Final = {
    name: re.compile(rb'"%s"\s*+:\s*+"((?:[^"\\]|\\.)*+)"' % name, re.DOTALL).search
    for name in (b"id", b"pattern")
}


def _not_carried(error: Exception) -> str:
    """Say in words why the JSON of Sentinel cannot carry an indicator."""
    match str(error):
        case "Integer exceeds 64-bit range":
            return BEYOND_64_BITS
        case "Recursion limit reached":
            return NESTED_TOO_DEEPLY
        case _:
            return "holds a text or number that JSON cannot carry"


def _content(record: object) -> bytes:
    """Return the record as JSON; as its Python form where JSON cannot carry it."""
    # Two libraries, for one of them writes numbers of any size, at any depth. Sorted: equal ones
    # are kept once.
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return msgspec.json.encode(record, order="sorted")
    except (TypeError, ValueError, RecursionError):
        return ascii(record).encode()


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value.encode("ascii", "replace").decode()[:_MAX_SHOWN]
