"""Every KQL text binds to the tables that it names, by Kusto's own parser."""

from collections.abc import Mapping

import pytest

from tests.kql.kusto import TABLES, diagnostics
from tests.kql.texts import KQL, STARTS, files, named

TEXTS = named()

WRONG = {
    "an unknown table": ("ThreatIntelIndicator | count", "KS204"),
    "an unknown column": ("traces | where msg has 'x'", "KS142"),
    "an unknown function": ("traces | extend x = _GetWatchlist('x')", "KS211"),
    "a table that may be missing": ("union isfuzzy=true traces, (Syslog | take 1)", "KS205"),
    "a wrong type": ("ThreatIntelIndicators | where Confidence > '80'", "KS106"),
    "a text cut short": ("traces | summarize count() by", "KS006"),
}


@pytest.fixture(scope="module")
def found() -> Mapping[str, list[str]]:
    """What the parser says of every text, and of the wrong ones; one call for all."""
    return diagnostics(TEXTS | {name: text for name, (text, _) in WRONG.items()})


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_binds(name: str, found: Mapping[str, list[str]]) -> None:
    """Each table, column and function that it names exists, and every type fits."""
    assert found[name] == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str, found: Mapping[str, list[str]]) -> None:
    """The check above can fail: each kind of fault is a diagnostic of its own."""
    assert [one.split()[0] for one in found[name]] == [WRONG[name][1]]


def test_every_table_says_where_it_was_read() -> None:
    """A schema is a claim about somebody else's table: it has an address and a day."""
    assert TABLES["read"]
    for table in TABLES["tables"].values():
        assert table["source"].startswith("https://learn.microsoft.com/azure/")


def test_texts_can_be_joined() -> None:
    """Every file ends with a line break, and what a folder shares ends with its statement."""
    for path in [*files(), *(path for start in STARTS for path in KQL.rglob(start))]:
        assert path.read_text(encoding="utf-8").endswith(";\n" if path.name in STARTS else "\n")
