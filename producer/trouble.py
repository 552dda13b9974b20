"""Trouble with Lumen: which problem of the feed a failed call means, and when it is over.

`WatchedLumen` wraps the client and remembers how its last call ended; `problem_of` says
what that means, and is pure. Storage trouble raises errors of the same types, so only what comes
from a call to Lumen is judged here. Pages are fetched on a thread of its own: nothing here writes.
"""

from collections.abc import Callable
from typing import Protocol

from common.errors import (
    ContractDriftError,
    CredentialError,
    GapError,
    OutOfTimeError,
    PipelineError,
    QueryFailedError,
    TryLaterError,
)
from common.ledger.problems import ProblemKind
from producer.lumen import Page, QueryStatus


class Lumen(Protocol):
    """What a sync run calls."""

    def start_query(
        self, *, give_up_at: float, before: Callable[[], object] = lambda: None
    ) -> str | None: ...
    def query_status(self, cache_id: str, *, give_up_at: float) -> QueryStatus: ...
    def fetch_page(self, token: str, *, give_up_at: float, is_first: bool = False) -> Page: ...


def problem_of(error: PipelineError) -> ProblemKind | None:
    """Return the problem that the error of a call to Lumen means, if any. Pure.

    Only a tick that ran out of time is none. A gap is recorded in the run; one whose query was
    not answered is an outage, too, which `WatchedLumen` knows.
    """
    match error:
        case CredentialError():
            return ProblemKind.LUMEN_ACCESS
        case ContractDriftError():
            return ProblemKind.LUMEN_DRIFT
        case OutOfTimeError():
            return None
        case QueryFailedError() | TryLaterError():
            return ProblemKind.LUMEN_UNAVAILABLE
        case _:
            return None


class WatchedLumen:
    """A client, and how its last call ended. The calls of one instance follow each other."""

    def __init__(self, lumen: Lumen) -> None:
        self._lumen = lumen
        self.has_answered = False
        """Whether a call was answered as it should be, and none met trouble since."""
        self.trouble: tuple[ProblemKind, str] | None = None
        """What the last call met that had an end, and in which words."""

    def start_query(
        self, *, give_up_at: float, before: Callable[[], object] = lambda: None
    ) -> str | None:
        """Call the client. A start that was cut off is an outage, besides being a gap."""
        ours: list[PipelineError] = []

        def watched() -> None:
            ours.clear()  # of a try before this one
            try:
                before()
            except PipelineError as error:
                ours.append(error)
                raise

        def call() -> str | None:
            return self._lumen.start_query(give_up_at=give_up_at, before=watched)

        try:
            return self._watch(call, is_ours=lambda: bool(ours))
        except GapError as gap:
            self._met(ProblemKind.LUMEN_UNAVAILABLE, gap)
            raise

    def query_status(self, cache_id: str, *, give_up_at: float) -> QueryStatus:
        """Call the client."""
        return self._watch(lambda: self._lumen.query_status(cache_id, give_up_at=give_up_at))

    def fetch_page(self, token: str, *, give_up_at: float, is_first: bool = False) -> Page:
        """Call the client."""
        return self._watch(
            lambda: self._lumen.fetch_page(token, give_up_at=give_up_at, is_first=is_first)
        )

    def query_failed(self, error: QueryFailedError) -> None:
        """Note that Lumen answered, and said that it could not do what it was asked."""
        self._met(ProblemKind.LUMEN_UNAVAILABLE, error)

    def _met(self, kind: ProblemKind, error: PipelineError) -> None:
        self.has_answered, self.trouble = False, (kind, str(error))

    def _watch[T](self, call: Callable[[], T], *, is_ours: Callable[[], bool] = lambda: False) -> T:
        """Make a call and remember how it ended; what our own storage raised is not Lumen's."""
        try:
            answer = call()
        except PipelineError as error:
            kind = None if is_ours() else problem_of(error)
            if kind is not None:
                self._met(kind, error)
            raise
        # Only here: the next page is being fetched while the one before it is noted.
        self.has_answered, self.trouble = True, None
        return answer
