"""Judge one object of Lumen's feed: sent, left out, or invalid. Pure.

An indicator is sent as its canonical JSON: keys sorted, no spaces, whole numbers as integers. The
fingerprint is a hash of exactly the bytes that are posted to Sentinel. So it does not depend on the
key order and number format of Lumen's answer. This module does no I/O and knows no chunks.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final, Protocol

import msgspec
import orjson

from common.fingerprints import hash_all, hash_of
from common.text import ascii_only
from producer import ordinary
from producer.cutting import BEYOND_64_BITS, NESTED_TOO_DEEPLY, Unreadable
from producer.entries import days_of_all, milliseconds_of_all
from producer.ordinary import OrdinaryIndicator
from producer.versions import FILTERED, OLDER, Decision, KnownVersion, Policy, decide

REQUIRED_TEXTS: Final = ("id", "created", "modified", "pattern", "pattern_type", "valid_from")
"""Properties besides `type` that Sentinel requires of an indicator
(learn.microsoft.com/azure/sentinel/stix-objects-api, read 2026-11-22)."""

_INDICATOR_ID = re.compile(r"indicator--[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WHOLE_NUMBER = re.compile(r"\s*[+-]?\d{1,9}(\.\d*)?\s*")
_WHOLE_FLOAT = re.compile(rb"\.0[,}\]]")
_EXACT: Final = 2.0**53
"""Up to this number, floats represent every integer exactly."""

TOO_LARGE: Final = "does not fit in a queue message of 64 KiB, even alone and compressed"

_HIGHEST_CONFIDENCE: Final = 100
_MAX_SHOWN: Final = 100


class PatternKind(StrEnum):
    """The kinds of pattern; a pattern may be of both."""

    IPV4 = "ipv4-addr"
    DOMAIN = "domain-name"


_KINDS: Final = re.compile(
    r"""
    '(?:[^'\\]|\\.)*+(?:'|\\?\Z)                           # a string, also one without its end
    | /\*.*?(?:\*/|\Z) | //[^\n]*                            # a comment
    | (?<![\w-])(ipv4-addr|domain-name)\s*+:\s*+(?:value\b|'value')
    """,
    re.VERBOSE | re.DOTALL,
)
"""Strings and comments are skipped; the last alternative matches the object path of a comparison
(docs.oasis-open.org/cti/stix/v2.1, section 9, read 2026-11-28). Blanks may surround the colon."""


_ONE_COMPARISON: Final = re.compile(r"\[(ipv4-addr|domain-name):value = '[^'\\]*+'\]").fullmatch
"""The form of most patterns."""


class Listed(msgspec.Struct, frozen=True, gc=False):
    """A valid indicator as Lumen lists it, without its canonical JSON: most are not sent.

    `passes`: the operator's filters let it pass. `other_kind`: it is neither IPv4 nor domain.
    `record` is what the canonical JSON is made from.
    """

    id: str
    modified: str
    passes: bool
    other_kind: bool
    record: Any


class Indicator(msgspec.Struct, frozen=True, gc=False):
    """An indicator to send: its canonical JSON, what the ledger keeps of it, and how it is sent.

    `correction`: the filters would have dropped it. `is_known`: a version of it may still be on its
    way and has to be struck. `is_recent`: a request with such a version may be about to leave.
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


@dataclass(frozen=True, slots=True)
class Invalid:
    """An object that cannot be sent: why, and what could be read of it."""

    reason: str
    indicator_id: str
    pattern: str
    content: bytes


Verdict = Indicator | Decision | Invalid
"""A decision other than `ENQUEUED`: the indicator is valid, and is not sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """The operator's choice: the lowest confidence (0-100), and the kinds that are sent.

    `unknown_revoked`: a revoked indicator passes, too, if no version of it is known.
    """

    threshold: int
    ipv4: bool = True
    domain: bool = True
    unknown_revoked: bool = False

    def pass_on(self, confidence: int, kinds: set[str], *, is_revoked: bool) -> bool:
        """Whether an unknown indicator passes the filters."""
        is_in_force = self.unknown_revoked or not is_revoked
        return confidence >= self.threshold and is_in_force and self._want(kinds)

    def _want(self, kinds: set[str]) -> bool:
        """Whether `kinds` pass: one of them is switched on, or there are none."""
        if not kinds:
            return True
        return (self.ipv4 and PatternKind.IPV4 in kinds) or (
            self.domain and PatternKind.DOMAIN in kinds
        )


class Lookup(Protocol):
    """The known versions of indicators."""

    def find(self, id_hashes: Sequence[int]) -> Mapping[int, KnownVersion]:
        """Return the known version of each id, by position; unknown ids are left out."""
        ...

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        """Remember a version that is about to be put into a chunk."""
        ...


def judge_page(
    records: Iterable[object],
    filters: Filters,
    known: Lookup,
    policy: Policy,
    *,
    fits: Callable[[Indicator], bool] = lambda _indicator: True,
) -> Iterator[Verdict]:
    """Yield a verdict on each object of a page, in order; never raises for bad content.

    An indicator that does not fit in a message is invalid. Indicators to send are remembered
    in `known`, so that a later object of the same id is compared with them.
    """
    page = _examine_page(list(records), filters)
    page.look_up(known)
    # Again where ids repeat, because an earlier object may have the same one.
    left_out_of = page.judge if page.has_twins else page.left_out.__getitem__
    for at in page.order:
        if type(at) is not int:
            yield at  # type: ignore[misc] # an invalid one
            continue
        left_out = left_out_of(at)
        if left_out is not None:
            yield left_out
            continue
        verdict = page.rendered(at)
        known_version = page.version(at)
        if type(verdict) is Indicator and known_version is not None:
            verdict = _judge_known(verdict, known_version, policy, passes=page.passes[at])
        if type(verdict) is Indicator and not fits(verdict):
            verdict = refused(verdict, TOO_LARGE)
        if type(verdict) is Indicator:
            sent = KnownVersion(verdict.fingerprint, verdict.modified, is_on_its_way=True)
            known.remember(verdict.id_hash, sent)
            page.supersede(at, sent)
        yield verdict


class _Page:
    """The valid indicators of a page, in columns: that takes half the time.

    `order` follows the page: for each object an index into the columns, or what is wrong with it.
    """

    def __init__(
        self,
        records: Sequence[Any],
        order: Sequence["int | Invalid"],
        *,
        ids: Iterable[str],
        modified: Sequence[str],
        passes: Sequence[bool],
        other_kind: Sequence[bool],
    ) -> None:
        self.order = order
        self._records = records
        self.passes = passes
        self._other_kind = other_kind
        self.id_hashes = hash_all([one.encode() for one in ids])
        self.modified = milliseconds_of_all(modified)
        self.has_twins = len(set(self.id_hashes)) < len(self.id_hashes)
        self._versions: list[KnownVersion | None] = []
        """The known version of each, as it was found by the look-up."""
        self._sent: dict[int, KnownVersion] = {}
        """The versions that were sent of ids that are listed more than once."""
        self.left_out: list[Decision | None] = []
        """What `judge` says of each, after the look-up."""
        self._rendered: dict[int, Indicator | Invalid] = {}

    def look_up(self, known: Lookup) -> None:
        """Look up each known version, and render the indicators that may be sent."""
        places = range(len(self.passes))
        self._versions = list(map(known.find(self.id_hashes).get, places))
        self.left_out = list(map(_left_out, self._versions, self.passes, self.modified))
        self._rendered = self._render([at for at in places if self.left_out[at] is None])

    def judge(self, at: int) -> Decision | None:
        """Return why one is left out, if that shows without its canonical JSON, the slow part."""
        return _left_out(self.version(at), self.passes[at], self.modified[at])

    def rendered(self, at: int) -> Verdict:
        """Return one in the form it is sent in; invalid if JSON cannot hold it."""
        return self._rendered.get(at) or self._render([at])[at]

    def version(self, at: int) -> KnownVersion | None:
        """Return the known version: of an earlier object with the same id, else the one found."""
        found = self._versions[at]
        return self._sent.get(self.id_hashes[at], found) if self._sent else found

    def supersede(self, at: int, sent: KnownVersion) -> None:
        """Note `sent`, so that later objects with the same id are compared with it."""
        if self.has_twins:
            self._sent[self.id_hashes[at]] = sent

    def _render(self, chosen: Sequence[int]) -> dict[int, Indicator | Invalid]:
        """Return the `chosen` in the form they are sent in, by position; some may be invalid."""
        try:
            bodies = [_canonical(self._records[at]) for at in chosen]
        except _NO_JSON:
            return self._render_each(chosen)
        ends_on = days_of_all([_end_of(self._records[at]) for at in chosen])
        rendered = map(
            Indicator,
            bodies,
            [self.id_hashes[at] for at in chosen],
            hash_all(bodies),
            [self.modified[at] for at in chosen],
            ends_on,
            [self._other_kind[at] for at in chosen],
        )
        return dict(zip(chosen, rendered, strict=True))

    def _render_each(self, chosen: Sequence[int]) -> dict[int, Indicator | Invalid]:
        """Do what `_render` does, one by one, because JSON cannot represent one of them."""
        rendered: dict[int, Indicator | Invalid] = {}
        for at in chosen:
            record = self._records[at]
            try:
                _canonical(record)
            except _NO_JSON as error:
                if type(record) is OrdinaryIndicator:
                    record = ordinary.to_record(record)
                rendered[at] = _invalid(record, _not_carried(error))
            else:
                rendered |= self._render([at])
        return rendered


_NO_JSON: Final = (TypeError, ValueError, RecursionError)


def _left_out(version: KnownVersion | None, passes: bool, modified: int) -> Decision | None:  # noqa: FBT001 - by `map`
    if version is None:
        return None if passes else FILTERED
    return OLDER if modified < version.modified else None


def _canonical(record: "OrdinaryIndicator | dict[str, Any]") -> bytes:
    if type(record) is OrdinaryIndicator:
        return ordinary.canonical_json(record)
    return canonical_json(record)  # type: ignore[arg-type] # the other type


def _end_of(record: "OrdinaryIndicator | dict[str, Any]") -> str:
    """Return `valid_until` of a record; empty where it is not a text."""
    end = record.valid_until if type(record) is OrdinaryIndicator else record.get("valid_until")  # type: ignore[union-attr] # the other type
    return end if type(end) is str else ""


def _examine_page(records: list[object], filters: Filters) -> _Page:
    """Examine all objects of a page."""
    if all(type(record) is OrdinaryIndicator for record in records):
        page = _page_in_order(records, filters)
        if page is not None:
            return page
    return _page_of([examine(record, filters) for record in records])


def _page_of(examined: Sequence[Listed | Invalid]) -> _Page:
    """Return the page of objects that were examined one by one."""
    listed: list[Listed] = []
    order: list[int | Invalid] = []
    for found in examined:
        if type(found) is Listed:
            order.append(len(listed))
            listed.append(found)
        else:
            order.append(found)  # type: ignore[arg-type] # the other type
    return _Page(
        [one.record for one in listed],
        order,
        ids=[one.id for one in listed],
        modified=[one.modified for one in listed],
        passes=[one.passes for one in listed],
        other_kind=[one.other_kind for one in listed],
    )


def _page_in_order(records: Sequence[Any], filters: Filters) -> _Page | None:
    """Return the page of ordinary records; None if one may be invalid or has an unusual form."""
    in_order = _examine_in_order(records, filters)
    if in_order is None:
        return None
    texts, passes = in_order
    return _Page(
        records,
        range(len(records)),
        ids=texts[_ID :: len(_CHECKED)],
        modified=texts[_MODIFIED :: len(_CHECKED)],
        passes=passes,
        other_kind=[False] * len(records),
    )


def _judge_known(
    indicator: Indicator, known: KnownVersion, policy: Policy, *, passes: bool
) -> Indicator | Decision:
    """Return the verdict on a known indicator."""
    decision = decide(
        modified=indicator.modified,
        fingerprint=indicator.fingerprint,
        passes=passes,
        known=known,
        policy=policy,
    )
    if decision is not Decision.ENQUEUED:
        return decision
    return msgspec.structs.replace(
        indicator, correction=not passes, is_known=True, is_recent=known.is_recent
    )


def examine(record: object, filters: Filters) -> Listed | Invalid:
    """Return one decoded object of a page as an indicator, or why it is not one.

    A missing confidence counts as 0, because STIX leaves it optional. Decimals are cut off.
    """
    if type(record) is OrdinaryIndicator:
        in_order = _examine_in_order([record], filters)
        if in_order is not None:
            texts, (passes,) = in_order
            return Listed(texts[_ID], texts[_MODIFIED], passes, other_kind=False, record=record)
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
    if "confidence" in record:
        record = {**record, "confidence": confidence}
    return Listed(
        id=record["id"],
        modified=record["modified"],
        passes=filters.pass_on(confidence, kinds, is_revoked=record.get("revoked") is True),
        other_kind=not kinds,
        record=record,
    )


def kinds_of(pattern: str) -> set[str]:
    """Return the kinds that the comparisons of a pattern are about; text in strings is ignored."""
    only = _ONE_COMPARISON(pattern)
    return {only[1]} if only else {kind for kind in _KINDS.findall(pattern) if kind}


def refused(indicator: Indicator, reason: str) -> Invalid:
    """Return a judged indicator as one that cannot be sent after all."""
    return _invalid(orjson.loads(indicator.body), reason)


def canonical_json(record: dict[str, Any]) -> bytes:
    """Return `record` as JSON in UTF-8 with sorted keys and no spaces; 1.0 is written as 1.

    Raises `TypeError` or `ValueError` for what it cannot hold (lone surrogates, huge numbers).
    """
    body = orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    if _WHOLE_FLOAT.search(body):
        return orjson.dumps(_whole(record), option=orjson.OPT_SORT_KEYS)
    return body


def fingerprint_of(body: bytes) -> int:
    """Return 64 bits of a hash over an indicator's canonical JSON."""
    return hash_of(body)


def _examine_in_order(
    records: Sequence[Any], filters: Filters
) -> tuple[Sequence[str], Sequence[bool]] | None:
    """Examine ordinary records together; None if one may be invalid or has an unusual form.

    Returns their `_CHECKED` texts, one record after the other, and whether each passes the filters.
    """
    texts: list[Any] = []
    for one in records:
        texts += _CHECKED_TEXTS(one)
    try:
        lines = "\n".join(texts)
        confidences = [_CONFIDENCES[one.confidence] for one in records]
    except (TypeError, KeyError):  # a text is unset, or a confidence has an unusual form
        return None
    if lines.count("\n") != len(texts) - 1 or not _IN_ORDER(lines):
        return None
    threshold, unknown_revoked = filters.threshold, filters.unknown_revoked
    wants = {_IPV4: filters.ipv4, _DOMAIN: filters.domain}
    passes: list[bool] = []
    for record, confidence in zip(records, confidences, strict=True):
        record.confidence = confidence
        passes.append(
            confidence >= threshold
            and wants[record.pattern[:2]]
            and (unknown_revoked or record.revoked is not True)
        )
    return texts, passes


_CHECKED: Final = ("type", "id", "created", "modified", "pattern_type", "valid_from", "pattern")
_ID: Final = _CHECKED.index("id")
_MODIFIED: Final = _CHECKED.index("modified")
_CHECKED_TEXTS: Final = attrgetter(*_CHECKED)

_IPV4: Final = "[i"
_DOMAIN: Final = "[d"
"""How valid patterns of one comparison begin."""

_CONFIDENCES: Final[dict[object, int]] = {
    spelling: number
    for number in range(_HIGHEST_CONFIDENCE + 1)
    for spelling in (number, str(number))
}
"""The usual spellings of a confidence."""

_TEXT: Final = r"[!-~][^\n]*+\n"
_ONE_IN_ORDER: Final = (
    r"indicator\n"
    r"indicator--[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\n"
    rf"{_TEXT * 4}"
    r"\[(?:ipv4-addr|domain-name):value = '[0-9A-Za-z_.-]*+'\]"
)
_IN_ORDER: Final = re.compile(rf"{_ONE_IN_ORDER}(?:\n{_ONE_IN_ORDER})*+").fullmatch
"""Type, id, four texts that are not blank, and a pattern of one comparison, a line each. A line
break within a text shows, because there are then more lines than texts."""


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
    """Return an object that is not JSON: its bytes unchanged, and what can be read of them."""
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
    """Say in words why JSON, as Sentinel reads it, cannot represent an indicator."""
    match str(error):
        case "Integer exceeds 64-bit range":
            return BEYOND_64_BITS
        case "Recursion limit reached":
            return NESTED_TOO_DEEPLY
        case _:
            return "holds a text or number that JSON cannot carry"


def _content(record: object) -> bytes:
    """Return the record as JSON; as its Python form if JSON cannot represent it."""
    # Two libraries, because only the second writes numbers of any size, at any depth. Sorted, so
    # that equal records are kept once.
    try:
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError, RecursionError):
        pass
    try:
        return msgspec.json.encode(record, order="sorted")
    except (TypeError, ValueError, RecursionError):
        return ascii(record).encode()


def _shown(value: object) -> str:
    return ascii_only(value, limit=_MAX_SHOWN) if isinstance(value, str) else ""
