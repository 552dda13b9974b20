"""A Lumen in memory: a list of pages behind the client's three calls, and what was asked of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.errors import GapError
from producer.lumen import Page, QueryState, QueryStatus


@dataclass
class ScriptedLumen:
    """Every query sees `pages` as they are when it starts; pages are known by `query/index`.

    `states` are told before COMPLETED, one a poll, to each query. `before` is called with each
    call's name and argument, and may raise. `inline` puts the first page into the answer.
    `no_results_at` is a page's token that Lumen answers with *No results found*.
    """

    pages: Sequence[Sequence[Any]]
    states: Sequence[QueryState] = ()
    inline: bool = False
    no_results: bool = False
    no_results_at: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)
    before: Callable[[str, str], None] = lambda _call, _argument: None
    _queries: dict[str, Sequence[Sequence[Any]]] = field(default_factory=dict)
    _polls: dict[str, int] = field(default_factory=dict)

    def start_query(
        self, *, give_up_at: float, before: Callable[[], object] = lambda: None
    ) -> str | None:
        before()
        self._called("start", "")
        if self.no_results:
            return None
        cache_id = f"query-{len(self._queries) + 1}"
        self._queries[cache_id] = list(self.pages)
        return cache_id

    def query_status(self, cache_id: str, *, give_up_at: float) -> QueryStatus:
        self._called("status", cache_id)
        if cache_id not in self._queries:
            raise GapError("no such query")
        polls = self._polls.get(cache_id, 0)
        self._polls[cache_id] = polls + 1
        if polls < len(self.states):
            return QueryStatus(state=self.states[polls])
        if self.inline:
            return QueryStatus(state=QueryState.COMPLETED, page=self._page(cache_id, 0))
        return QueryStatus(state=QueryState.COMPLETED, token=f"{cache_id}/0")

    def fetch_page(self, token: str, *, give_up_at: float, is_first: bool = False) -> Page:
        self._called("page", token)
        if token == self.no_results_at:
            if is_first:
                return Page(objects=[], next_token=None)
            raise GapError("no such token (400)")
        cache_id, _, index = token.partition("/")
        if cache_id not in self._queries:
            raise GapError("no such token")
        return self._page(cache_id, int(index))

    def forget(self) -> None:
        """Know no query and no token any more."""
        self._queries.clear()

    def count(self, call: str) -> int:
        """Return how often a call was made."""
        return sum(name == call for name, _ in self.calls)

    def _called(self, call: str, argument: str) -> None:
        self.calls.append((call, argument))
        self.before(call, argument)

    def _page(self, cache_id: str, index: int) -> Page:
        pages = self._queries[cache_id]
        following = f"{cache_id}/{index + 1}" if index + 1 < len(pages) else None
        return Page(objects=list(pages[index]) if pages else [], next_token=following)
