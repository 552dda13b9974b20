"""What the queries ask of the log is what the pipeline logs."""

from pathlib import Path

import pytest

from common.events import Event
from tests.kql.logged import facts_by_event
from tests.kql.texts import asked_of_log, log_files


def test_every_event_is_logged_somewhere() -> None:
    """The list of events and the calls that log them are one."""
    assert facts_by_event().keys() == set(Event)


@pytest.mark.parametrize("path", log_files(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_query_asks_for_what_is_logged(path: Path) -> None:
    """Events by their names; facts that an event of the query has."""
    events, facts = asked_of_log(path)
    assert events
    assert events <= set(Event)
    assert facts <= set().union(*(facts_by_event()[name] for name in events))
