"""What the queries ask of the log is what the pipeline logs."""

import re
from pathlib import Path

import pytest

from common.events import Event
from tests.kql.logged import facts_by_event
from tests.kql.texts import KQL, files

LOGGED = facts_by_event()
LOG_TEXTS = [path for path in files() if path.is_relative_to(KQL / "log")]

_EVENT = re.compile(r'events\("([\w-]+)"\)')
_FACT = re.compile(r'facts(?:\.(\w+)|\["(\w+)"\])')


def test_every_event_is_logged_somewhere() -> None:
    """The list of events and the calls that log them are one."""
    assert LOGGED.keys() == set(Event)


@pytest.mark.parametrize("path", LOG_TEXTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_query_asks_for_what_is_logged(path: Path) -> None:
    """Events by their names; facts that an event of the query has. `pulse` is the newest health."""
    text = re.sub(r"^pulse$", 'events("health")', path.read_text("utf-8"), flags=re.MULTILINE)
    named = _EVENT.findall(text)
    assert named
    assert set(named) <= set(Event)
    known = set().union(*(LOGGED[name] for name in named))
    assert {one or other for one, other in _FACT.findall(text)} <= known
