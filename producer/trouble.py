"""Trouble with Lumen: which problem a failed call means, and when it is over.

`WatchedLumen` wraps the client and remembers how its last call ended; `problem_of` says what that
means, and is pure. Storage trouble raises errors of the same types, so only errors of calls to
Lumen are judged here. Pages are fetched on a separate thread, so nothing here writes.
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

    A tick that ran out of time is not a problem. A gap is recorded in the run; if its query got no
    answer, it is also an outage, which `WatchedLumen` remembers.
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
        """Whether a call got a proper answer, and none failed since."""
        self.trouble: tuple[ProblemKind, str] | None = None
        """The problem that the last finished call met, and its text."""

    def start_query(
        self, *, give_up_at: float, before: Callable[[], object] = lambda: None
    ) -> str | None:
        """Call the client. A start that was cut off is both an outage and a gap."""
        ours: list[PipelineError] = []

        def watched() -> None:
            ours.clear()  # from an earlier try
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
        """Record that Lumen answered that it could not do what it was asked."""
        self._met(ProblemKind.LUMEN_UNAVAILABLE, error)

    def _met(self, kind: ProblemKind, error: PipelineError) -> None:
        self.has_answered, self.trouble = False, (kind, str(error))

    def _watch[T](self, call: Callable[[], T], *, is_ours: Callable[[], bool] = lambda: False) -> T:
        """Make a call and remember how it ended; errors of our own storage are not Lumen's."""
        try:
            answer = call()
        except PipelineError as error:
            kind = None if is_ours() else problem_of(error)
            if kind is not None:
                self._met(kind, error)
            raise
        # Only here, because the next page is fetched while this one is recorded.
        self.has_answered, self.trouble = True, None
        return answer
