"""What becomes of one object of Lumen's feed: sent, left out, or invalid. Pure.

An indicator is sent as its canonical JSON: keys sorted, no spaces, whole numbers as integers. The
same bytes are hashed to its fingerprint and posted to Sentinel, so what is remembered is what was
sent, and neither key order nor number format of the source matters. This module does no I/O and
knows neither pages nor chunks.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Any, Final, Protocol

import msgspec
import orjson

from common.fingerprints import id_hash
from common.records import day_of, milliseconds_of
from producer import ordinary
from producer.ordinary import OrdinaryIndicator
from producer.versions import Decision, KnownVersion, Policy, decide

REQUIRED_TEXTS: Final = ("id", "created", "modified", "pattern", "pattern_type", "valid_from")
"""Properties besides `type` that Sentinel requires of an indicator
(learn.microsoft.com/azure/sentinel/stix-objects-api, read 2026-11-22)."""

_INDICATOR_ID = re.compile(r"indicator--[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,9}(\.\d*)?\s*")
_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_EXACT: Final = 2.0**53
"""Up to here a float names one integer."""

TOO_LARGE: Final = "does not fit in a queue message of 64 KiB, even alone and compressed"

_HIGHEST_CONFIDENCE: Final = 100
_MAX_SHOWN: Final = 100


class Kind(StrEnum):
    """What an indicator's pattern is about; a pattern may be about both."""

    IPV4 = "ipv4-addr"
    DOMAIN = "domain-name"


_KINDS = re.compile(r"\b(ipv4-addr|domain-name):value\b")


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A valid indicator as Lumen lists it, not yet rendered: most are not sent.

    `passes` the operator's filters or not. `record` is what `render` takes.
    """

    id_hash: int
    modified: str
    passes: bool
    other_kind: bool
    record: Any


class Indicator(msgspec.Struct, frozen=True, gc=False):
    """An indicator to send: its canonical JSON, what the ledger keeps of it, and how it is sent.

    `correction`: the filters would have dropped it. `is_known`: a version of it may still be on its
    way and has to be struck. `is_recent`: a request with one may be about to leave.
    """

    body: bytes
    id_hash: int
    fingerprint: int
    modified: int
    ends_on: int
    other_kind: bool = False
    correction: bool = False
    is_known: bool = False
    is_recent: bool = False


class LeftOut(Enum):
    """Why a valid indicator is not sent.

    Filtered: nothing is known of it, and the operator does not want it. Unchanged: this version is
    known. Older: a newer one is.
    """

    FILTERED = "filtered"
    UNCHANGED = "unchanged"
    OLDER = "older"


FILTERED: Final = LeftOut.FILTERED
UNCHANGED: Final = LeftOut.UNCHANGED
OLDER: Final = LeftOut.OLDER


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
    """The operator's choice: lowest confidence (0-100), and the kinds that are sent.

    `unknown_revoked`: an indicator that is revoked is sent although nothing is known of it.
    """

    threshold: int
    ipv4: bool = True
    domain: bool = True
    unknown_revoked: bool = False

    def wants(self, kinds: set[str]) -> bool:
        """Whether an indicator about `kinds` passes: of another kind, or one is switched on."""
        if not kinds:
            return True
        return (self.ipv4 and Kind.IPV4 in kinds) or (self.domain and Kind.DOMAIN in kinds)


class Lookup(Protocol):
    """What is known of indicators."""

    def look(self, id_hashes: Sequence[int]) -> Mapping[int, KnownVersion]:
        """Return what is known of each id, by its position; unknown ones are left out."""
        ...

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        """Know a version that is about to be put into a chunk."""
        ...


def judge_page(
    records: Iterable[object],
    filters: Filters,
    known: Lookup,
    policy: Policy,
    *,
    fits: Callable[[Indicator], bool] = lambda _indicator: True,
) -> Iterator[Verdict]:
    """Yield what becomes of each object of a page, in order; never raises for bad content.

    An indicator that does not fit in a message is invalid. What is to be sent is remembered in
    `known`, so that a later object of the same id is compared with it.
    """
    examined = [examine(record, filters) for record in records]
    # `type() is`, for isinstance() is slow to say no where the class is a msgspec.Struct.
    valid = [number for number, found in enumerate(examined) if type(found) is Listed]
    found = known.look([examined[number].id_hash for number in valid])  # type: ignore[union-attr]
    known_at = {valid[position]: version for position, version in found.items()}
    mine: dict[int, KnownVersion] = {}
    for number, listed in enumerate(examined):
        if type(listed) is not Listed:
            yield listed  # type: ignore[misc] # the other type
            continue
        version = mine.get(listed.id_hash) or known_at.get(number)
        verdict = _judge(listed, version, policy)
        if type(verdict) is Indicator:
            if not fits(verdict):
                yield refused(verdict, TOO_LARGE)
                continue
            mine[verdict.id_hash] = sent = KnownVersion(
                verdict.fingerprint, verdict.modified, is_on_its_way=True
            )
            known.remember(verdict.id_hash, sent)
        yield verdict


def _judge(listed: Listed, known: KnownVersion | None, policy: Policy) -> Verdict:
    """Return what becomes of a valid indicator, given what is known of it."""
    if known is None:
        return render(listed) if listed.passes else FILTERED
    if milliseconds_of(listed.modified) < known.modified:
        return OLDER  # without its canonical JSON, which is the slow part
    indicator = render(listed)
    if isinstance(indicator, Invalid):
        return indicator
    match decide(
        modified=indicator.modified,
        fingerprint=indicator.fingerprint,
        passes=listed.passes,
        known=known,
        policy=policy,
    ):
        case Decision.ENQUEUED:
            return msgspec.structs.replace(
                indicator,
                correction=not listed.passes,
                is_known=True,
                is_recent=known.is_recent,
            )
        case Decision.UNCHANGED:
            return UNCHANGED
        case Decision.OLDER:
            return OLDER
        case Decision.FILTERED:
            return FILTERED


def examine(record: object, filters: Filters) -> Listed | Invalid:
    """Return one decoded object of a page as an indicator, or why it is none.

    A missing confidence counts as 0, as STIX leaves it optional. Fractions are cut.
    """
    if type(record) is OrdinaryIndicator:
        listed = _examine_ordinary(record, filters)
        if listed is not None:
            return listed
        record = ordinary.to_record(record)
    if not isinstance(record, dict):
        return _invalid(record, f"is {type(record).__name__}, not an object")
    fault = _fault(record)
    if fault:
        return _invalid(record, fault)
    confidence = _confidence(record.get("confidence", 0))
    if confidence is None:
        return _invalid(record, "confidence is not a number from 0 to 100")
    kinds = set(_KINDS.findall(record["pattern"]))
    if "confidence" in record:
        record = {**record, "confidence": confidence}
    return Listed(
        id_hash=id_hash(record["id"]),
        modified=record["modified"],
        passes=(
            confidence >= filters.threshold
            and filters.wants(kinds)
            and (filters.unknown_revoked or record.get("revoked") is not True)
        ),
        other_kind=not kinds,
        record=record,
    )


def render(listed: Listed) -> Indicator | Invalid:
    """Return a valid indicator as it is sent; invalid after all where JSON cannot carry it."""
    record = listed.record
    valid_until: object
    try:
        if type(record) is OrdinaryIndicator:
            body, valid_until = ordinary.canonical_json(record), record.valid_until
        else:
            body, valid_until = canonical_json(record), record.get("valid_until")
    except (TypeError, ValueError, RecursionError):
        if type(record) is OrdinaryIndicator:
            record = ordinary.to_record(record)
        return _invalid(record, "holds a text or number that JSON cannot carry")
    return Indicator(
        body=body,
        id_hash=listed.id_hash,
        fingerprint=fingerprint_of(body),
        modified=milliseconds_of(listed.modified),
        ends_on=day_of(valid_until if isinstance(valid_until, str) else None),
        other_kind=listed.other_kind,
    )


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


def _examine_ordinary(record: OrdinaryIndicator, filters: Filters) -> Listed | None:
    """Examine a record that is in order at first sight; None when the general way must look."""
    indicator_id, modified = record.id, record.modified
    texts = (
        record.type,
        indicator_id,
        record.created,
        modified,
        record.pattern_type,
        record.valid_from,
        record.pattern,
    )
    try:
        found = _IN_ORDER("\n".join(texts))  # type: ignore[arg-type] # what is unset raises
    except TypeError:
        return None
    confidence = _CONFIDENCES.get(record.confidence)
    if found is None or confidence is None:
        return None
    record.confidence = confidence
    return Listed(
        id_hash=id_hash(indicator_id),  # type: ignore[arg-type] # it is a text, or there is no match
        modified=modified,  # type: ignore[arg-type] # the same
        passes=(
            confidence >= filters.threshold
            and (filters.ipv4 if found[1] == _IPV4 else filters.domain)
            and (filters.unknown_revoked or record.revoked is not True)
        ),
        other_kind=False,
        record=record,
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


def _content(record: object) -> bytes:
    """Return the record as JSON; as its Python form where JSON cannot carry it."""
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)  # equal ones are kept once
    except (TypeError, ValueError, RecursionError):
        return ascii(record).encode()


def _shown(value: object) -> str:
    if not isinstance(value, str):
        return ""
    return value.encode("ascii", "replace").decode()[:_MAX_SHOWN]
