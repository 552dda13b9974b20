"""Wishes as the first objects of a run: decide whether a record that an operator asks for is sent.

They come before the objects of Lumen's first page, so they are counted, chunked, struck and resumed
like everything that Lumen lists. Only the decision differs (`decide_wish`): a record that Sentinel
refused is known, and would be *unchanged*.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import msgspec

from producer.cutting import Unreadable, decode_object
from producer.indicators import (
    Filters,
    Indicator,
    Lookup,
    Verdict,
    judge_page,
)
from producer.lumen import Page
from producer.versions import Decision, KnownVersion, Policy, decide_wish

WISHES_A_RUN: Final = 500
"""Wishes that a run takes: their names are in its head, about 90 bytes each, in a property of 64
KiB. Later runs take the others."""

GONE: Final = "the wish is not there any more"

_EVERYTHING: Final = Filters(threshold=0, unknown_revoked=True)


class _Nothing:
    """Knows no version: for judging only what a record is."""

    def find(self, id_hashes: Sequence[int]) -> Mapping[int, KnownVersion]:  # noqa: ARG002
        return {}

    def remember(self, id_hash: int, version: KnownVersion) -> None:
        """Forget it."""


def put_in_front(page: Page, contents: Iterable[bytes | None]) -> Page:
    """Return a page that begins with wishes; a wish that was removed meanwhile keeps its place.

    So the indexes of a checkpoint stay valid.
    """
    wished: list[Any] = [
        Unreadable(b"", GONE) if content is None else decode_object(content) for content in contents
    ]
    return replace(page, objects=[*wished, *page.objects], wished=len(wished))


def judge_wishes(
    records: Iterable[object], known: Lookup, *, fits: Callable[[Indicator], bool]
) -> Iterator[Verdict]:
    """Yield the verdict on each record that an operator asks for, in order.

    Records to send are remembered in `known`.
    """
    for record in records:
        (verdict,) = judge_page([record], _EVERYTHING, _Nothing(), Policy(today=0), fits=fits)
        yield _judge(verdict, known) if type(verdict) is Indicator else verdict


def _judge(indicator: Indicator, known: Lookup) -> Verdict:
    version = known.find([indicator.id_hash]).get(0)
    decision = decide_wish(
        modified=indicator.modified, fingerprint=indicator.fingerprint, known=version
    )
    if decision is not Decision.ENQUEUED:
        return decision
    sent = KnownVersion(indicator.fingerprint, indicator.modified, is_on_its_way=True)
    known.remember(indicator.id_hash, sent)
    if version is None:
        return indicator
    return msgspec.structs.replace(indicator, is_known=True, is_recent=version.is_recent)
