"""Reading Lumen's answers without a network: states, pages, and which tokens are followed."""

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import ContractDriftError
from producer.lumen import (
    MAX_TOKEN,
    Page,
    QueryState,
    QueryStatus,
    check_token,
    read_page,
    read_status,
    token_to_follow,
)


def token(claims: object, *, urlsafe: bool = False, padded: bool = True) -> str:
    """Return a page token in Lumen's form."""
    encode = base64.urlsafe_b64encode if urlsafe else base64.b64encode
    text = encode(json.dumps(claims).encode()).decode()
    return text if padded else text.rstrip("=")


@pytest.mark.parametrize("state", QueryState)
@pytest.mark.parametrize("spelling", [str.upper, str.lower, str.title])
def test_every_state_of_the_contract_is_read(state: QueryState, spelling: object) -> None:
    """The six states are known, in any case."""
    assert callable(spelling)
    found = read_status({"status": spelling(state.value), "token_id": "t", "error": None})
    assert found.state is state


@pytest.mark.parametrize("status", ["", "DONE", None, 7, ["COMPLETED"]])
def test_a_state_without_a_name_is_drift(status: object) -> None:
    """A state that the contract does not name is never taken for running or completed."""
    with pytest.raises(ContractDriftError, match="status"):
        read_status({"status": status})
    with pytest.raises(ContractDriftError, match="status"):
        read_status({})


def test_a_completed_query_names_its_first_page() -> None:
    """The token is given back as it came."""
    assert read_status({"status": "COMPLETED", "token_id": "t/+="}) == QueryStatus(
        state=QueryState.COMPLETED, token="t/+="
    )


@pytest.mark.parametrize("objects", [[], [{"id": 1}, {"id": 2}]])
@pytest.mark.parametrize("nothing", [{}, {"token_id": ""}, {"token_id": None}])
def test_a_completed_query_without_a_token_carries_its_page(
    objects: list[object], nothing: dict[str, object]
) -> None:
    """The older form: the results stand in the status answer, often none."""
    found = read_status({"status": "COMPLETED", "results": {"stixobjects": objects}, **nothing})
    assert found.token is None
    assert found.page == Page(objects=objects, next_token=None)


@pytest.mark.parametrize("nothing", [{}, {"token_id": ""}, {"token_id": None, "results": None}])
def test_a_completed_query_with_neither_token_nor_page_is_an_empty_feed(
    nothing: dict[str, object],
) -> None:
    """As the public V2 connector reads it."""
    found = read_status({"status": "COMPLETED", **nothing})
    empty = Page(objects=[], next_token=None)
    assert found == QueryStatus(state=QueryState.COMPLETED, page=empty)


@pytest.mark.parametrize("results", [{}, [], "", 0, {"stixobjects": None}])
def test_a_completed_query_with_odd_results_is_drift(results: object) -> None:
    """What is there and is no page is not taken for an empty feed."""
    with pytest.raises(ContractDriftError, match="stixobjects"):
        read_status({"status": "COMPLETED", "results": results})


@pytest.mark.parametrize("error", ["broken at the source", None, ""])
def test_a_failed_query_gives_its_error(error: str | None) -> None:
    """The service's own words are kept beside the state."""
    found = read_status({"status": "FAILED", "error": error})
    assert found == QueryStatus(state=QueryState.FAILED)


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"results": None},
        {"results": []},
        {"results": {}},
        {"results": {"stixobjects": None}},
        {"results": {"stixobjects": {"message": "not a list"}}},
        {"results": {"stixobjects": "[]"}},
        {"stixobjects": []},
    ],
)
def test_a_page_that_is_no_list_is_drift(answer: dict[str, object]) -> None:
    """It is not taken for an empty page."""
    with pytest.raises(ContractDriftError, match="stixobjects"):
        read_page(answer)


@pytest.mark.parametrize("urlsafe", [False, True])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("index", "total", "followed"),
    [(0, 1, True), (1, 2, True), (2, 2, False), (3, 2, False), (0, 0, False), ("1", "2", True)],
)
def test_a_token_is_followed_while_it_lies_before_the_end(
    index: object, total: object, followed: bool, urlsafe: bool, padded: bool
) -> None:
    """The last page may carry a token whose index is the total: that is the end."""
    made = token(
        {"index": index, "total_chunks": total, "x": "?>~ÿ"}, urlsafe=urlsafe, padded=padded
    )
    assert token_to_follow(made) == (made if followed else None)


@pytest.mark.parametrize(
    "opaque",
    [
        "opaque",
        "a",
        "0123456789abcdef",
        token([]),
        token(None),
        token("text"),
        token({"index": 5}),
        token({"total_chunks": 5}),
        token({"index": None, "total_chunks": 5}),
        token({"index": "x", "total_chunks": "y"}),
        token({"index": [5], "total_chunks": [5]}),
        base64.b64encode(b"[" * 5000).decode(),
        base64.b64encode(b'{"index": Infinity, "total_chunks": 1}').decode(),
        base64.b64encode(b"\xff\xfe\x00").decode(),
    ],
    ids=lambda text: repr(text)[:24],
)
def test_an_opaque_token_is_followed_as_it_is(opaque: str) -> None:
    """What is not base64 of JSON with the two numbers says nothing about the end."""
    assert token_to_follow(opaque) == opaque


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_token_is_the_end(nothing: object) -> None:
    """A missing or empty token ends the feed."""
    assert token_to_follow(nothing) is None


@pytest.mark.parametrize("name", ["cache_id", "token_id", "next_token"])
@pytest.mark.parametrize(
    "token",
    ["ünïcode", "\ud800", "a\x80", ".", "..", "x" * (MAX_TOKEN + 1), 0, 7, [], {}, False, ["x"]],
    ids=lambda token: ascii(token)[:12],
)
def test_a_token_that_cannot_stand_in_a_url_is_drift(name: str, token: object) -> None:
    """It is neither followed nor taken for none: one check for the three of them."""
    with pytest.raises(ContractDriftError, match=name):
        check_token(token, name=name)
    answer = {"results": {"stixobjects": []}, "status": "COMPLETED", name: token}
    if name != "cache_id":
        with pytest.raises(ContractDriftError, match=name):
            (read_status if name == "token_id" else read_page)(answer)


@given(
    text=st.text(st.characters(codec="ascii"), min_size=1).filter(lambda text: text.strip("."))
    | st.binary(min_size=1).map(lambda raw: base64.b64encode(raw).decode())
)
def test_looking_at_a_token_never_raises(text: str) -> None:
    """Any text of a URL is followed, unless it says that it lies behind the end."""
    assert token_to_follow(text) in {text, None}
