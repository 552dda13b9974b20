"""Log lines: a closed list of names, facts as JSON, and nothing that could carry a body."""

import inspect
import json
import logging
import re

import pytest

from common import events
from common.events import Event, emit, new_trace_parent, quoted, traced
from common.text import MAX_TEXT
from common.version import VERSION

LOGGER = "lumen_sentinel"


def emitted(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    """Return level and text of each line logged so far."""
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_a_line_is_a_name_and_facts(caplog: pytest.LogCaptureFixture) -> None:
    """A log line is the event's name, a space and one JSON object, which ends in the version."""
    with caplog.at_level(logging.INFO, LOGGER):
        emit(Event.CHUNK_UPLOADED, chunk="c1", accepted=99, share=0.5, late=False, why=None)
    [(level, line)] = emitted(caplog)
    name, _, facts = line.partition(" ")
    assert (level, name) == (logging.INFO, "chunk-uploaded")
    expected = {"chunk": "c1", "accepted": 99, "share": 0.5, "late": False, "why": None}
    assert json.loads(facts) == expected | {"trace": "", "version": VERSION}


@pytest.mark.parametrize(
    ("parent", "trace"),
    [
        (
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "0af7651916cd43dd8448eb211c80319c",
        ),
        ("", ""),
        ("somebody else's text", ""),
    ],
)
def test_a_line_carries_the_trace(
    parent: str, trace: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the trace context that it is logged in, and of none once that is left."""
    with caplog.at_level(logging.INFO, LOGGER):
        with traced(new_trace_parent()), traced(parent):
            emit(Event.SYNC_SKIPPED)
        emit(Event.SYNC_SKIPPED)
    lines = [json.loads(line.partition(" ")[2])["trace"] for _, line in emitted(caplog)]
    assert lines == [trace, ""]


def test_a_new_trace_is_a_trace(caplog: pytest.LogCaptureFixture) -> None:
    """Where the host gives none, each tick has one of its own."""
    with caplog.at_level(logging.INFO, LOGGER):
        for _ in range(2):
            with traced(new_trace_parent()):
                emit(Event.SYNC_SKIPPED)
    first, second = (json.loads(line.partition(" ")[2])["trace"] for _, line in emitted(caplog))
    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second


def test_text_from_outside_cannot_break_the_line(caplog: pytest.LogCaptureFixture) -> None:
    """A forged line break, quote or placeholder stays inside its fact."""
    hostile = 'one\nchunk-uploaded {"accepted":1}\r\n%s "quoted" \u2028 é'
    with caplog.at_level(logging.INFO, LOGGER):
        emit(Event.SYNC_FAILED, reason=hostile)
    [(_, line)] = emitted(caplog)
    assert len(line.splitlines()) == 1
    assert line.isascii()
    shown = " ".join(hostile.split()).replace("accepted", "…").replace("quoted", "…")
    assert json.loads(line.partition(" ")[2])["reason"] == shown


def test_a_fact_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Text longer than a log line should carry is cut, and shows that it is."""
    with caplog.at_level(logging.INFO, LOGGER):
        emit(Event.SYNC_FAILED, reason="x" * 10_000)
    [(_, line)] = emitted(caplog)
    assert json.loads(line.partition(" ")[2])["reason"] == "x" * (MAX_TEXT - 1) + "…"


@pytest.mark.parametrize(
    "said",
    [
        "Invalid pattern [ipv4-addr:value = '198.18.0.1']",
        'Invalid "pattern" of "a.example"',
        '"',
        "",
        "x" * 2 * MAX_TEXT,
    ],
)
@pytest.mark.parametrize("cut_at", [None, 60])
def test_what_another_service_said_is_in_no_line(
    said: str, cut_at: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever the reason was cut on its way; the rest of it stays."""
    reason = f"Sentinel refused the request (400): {quoted(said)}"[:cut_at]
    with caplog.at_level(logging.INFO, LOGGER):
        emit(Event.CHUNK_DEFERRED, reason=reason + ("; and so on" if cut_at is None else ""))
    [(_, line)] = emitted(caplog)
    shown = json.loads(line.partition(" ")[2])["reason"]
    more = "; and so on" if cut_at is None else ""
    assert shown == f'Sentinel refused the request (400): "…"{more}'


@pytest.mark.parametrize("event", Event)
def test_what_needs_a_person_is_louder(event: Event, caplog: pytest.LogCaptureFixture) -> None:
    """Losses and failures are errors, waits are warnings, the rest is information."""
    loud = {
        Event.SYNC_GAP: logging.ERROR,
        Event.SYNC_FAILED: logging.ERROR,
        Event.CHUNK_POISONED: logging.ERROR,
        Event.CONTRACT_DRIFT: logging.ERROR,
        Event.SYNC_INTERRUPTED: logging.WARNING,
        Event.CHUNK_DEFERRED: logging.WARNING,
        Event.CHUNK_PUT_BACK: logging.WARNING,
        Event.VERSIONS_DROPPED: logging.WARNING,
    }
    with caplog.at_level(logging.DEBUG, LOGGER):
        emit(event)
    line = f'{event.value} {{"trace":"","version":"{VERSION}"}}'
    assert emitted(caplog) == [(loud.get(event, logging.INFO), line)]


def test_every_event_says_when_and_what_to_do() -> None:
    """Each member of the list stands under a comment of its own, and is named by its value."""
    source = inspect.getsource(events.Event)
    commented = re.findall(
        r'^    # .+\n(?:    # .+\n)*    (\w+) = "([\w-]+)"$', source, re.MULTILINE
    )
    assert [name for name, _ in commented] == [event.name for event in Event]
    assert all(value == name.lower().replace("_", "-") for name, value in commented)
