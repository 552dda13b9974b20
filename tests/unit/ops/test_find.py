"""Finding a value: what is asked of the workspace, and how both parts come together."""

import base64
import json
import re
from datetime import UTC, datetime
from typing import Any

import pytest

from common.errors import (
    ContractDriftError,
    CredentialError,
    PartialAnswerError,
    PipelineError,
    QueryRefusedError,
    SettingsError,
    ThrottledError,
    UnavailableError,
)
from common.kql import read_kql
from common.ledger.rejections import RejectedBy, Rejection
from common.transport import time_left
from common.workspace import Workspace
from ops.find import (
    MAX_HELD,
    WORKSPACE_WITHIN,
    Held,
    Kind,
    describe_finding,
    find,
    held_of,
    kind_of,
    refanged,
)
from ops.toolbox import Toolbox
from ops.traces import Place
from tests.unit.ops.samples import HERE, Bench

ONE, TWO = (f"indicator--00000000-0000-4000-8000-00000000000{n}" for n in (1, 2))
NOW = datetime(2026, 1, 1, tzinfo=UTC)

NASTY = (
    "'; ThreatIntelIndicators | take 1 //",
    'x" | union *',
    "x') | project Data",
    "back\\slash\\'",
    "line\nbreak\r\n| count",
    "\N{LINE SEPARATOR}| count",
    "{asked}",
    "null\0byte",
    "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher.example",
    "\ud800",
)


def row(indicator: str = ONE, **values: Any) -> dict[str, Any]:
    """Return a row of the workspace."""
    return {
        "StixId": indicator,
        "ObservableValue": "192.0.2.1",
        "Confidence": 80,
        "IsActive": True,
        "Revoked": False,
        "IsDeleted": None,
        "ValidFrom": NOW,
        "ValidUntil": None,
        "Modified": NOW,
        "TimeGenerated": NOW,
        "IsRepublished": False,
    } | values


@pytest.mark.parametrize("value", NASTY)
def test_a_value_enters_the_query_only_in_base64(value: str) -> None:
    """The rest of the text is as it is in its file, and what is decoded is the value."""
    bench = Bench()
    find(bench.toolbox, value)
    (text,) = bench.workspace.asked
    before, after = read_kql("find").split("{asked}")
    assert text.startswith(before)
    assert text.endswith(after)
    encoded = text.removeprefix(before).removesuffix(after)
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", encoded)
    assert json.loads(base64.b64decode(encoded)) == refanged(value)
    assert before.endswith("parse_json(base64_decode_tostring('")


@pytest.mark.parametrize(
    ("text", "value", "kind"),
    [
        (f" {ONE}\n", ONE, Kind.INDICATOR),
        (ONE.upper(), ONE.upper(), Kind.INDICATOR),
        ("192.0.2.1", "192.0.2.1", Kind.ADDRESS),
        ("192[.]0[.]2[.]1", "192.0.2.1", Kind.ADDRESS),
        ("2001:db8::1", "2001:db8::1", Kind.ADDRESS),
        ("bad[.]example.", "bad.example", Kind.DOMAIN),
        ("192.0.2.999", "192.0.2.999", Kind.DOMAIN),
        ("indicator--1", "indicator--1", Kind.DOMAIN),
    ],
)
def test_what_a_value_is(text: str, value: str, kind: Kind) -> None:
    """Also as reports spell it, so that nobody clicks on it."""
    assert (refanged(text), kind_of(refanged(text))) == (value, kind)


def test_an_address_leads_to_its_ids_and_what_the_ledger_knows_of_them() -> None:
    """Two indicators may name one address."""
    bench = Bench()
    bench.workspace.rows = [row(TWO), row(ONE)]
    bench.hold(ONE)
    found = find(bench.toolbox, "192.0.2.1")
    assert [held.indicator for held in found.holding.held] == [TWO, ONE]
    assert [(one.indicator, one.place) for one in found.indicators] == [
        (TWO, Place.NOT_LISTED),
        (ONE, Place.ON_ITS_WAY),
    ]
    assert found.is_whole


def test_an_id_is_looked_up_once_however_it_is_written() -> None:
    """As Sentinel spells it, where Sentinel has it."""
    bench = Bench()
    bench.workspace.rows = [row(ONE)]
    assert [one.indicator for one in find(bench.toolbox, ONE.upper()).indicators] == [ONE]
    bench.workspace.rows = []
    assert [one.indicator for one in find(bench.toolbox, ONE).indicators] == [ONE]


def test_a_rejection_leads_from_an_address_to_its_id() -> None:
    """What Sentinel refused is in no workspace."""
    bench = Bench()
    bench.toolbox.ledger.rejections.record(
        [
            Rejection(
                run_id="run",
                position=str(number),
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=indicator,
                pattern=f"[ipv4-addr:value = '{address}']",
                reason="no pattern_type",
                content=b"{}",
                at=NOW,
            )
            for number, (indicator, address) in enumerate(
                [(ONE, "192.0.2.1"), (TWO, "192.0.2.11"), ("", "192.0.2.1")]
            )
        ]
    )
    (only,) = find(bench.toolbox, "192.0.2.1").indicators
    assert (only.indicator, only.place) == (ONE, Place.REJECTED)


FAILURES = (
    CredentialError("give the role"),
    QueryRefusedError("by its private link only"),
    ThrottledError("asked to slow down"),
    PartialAnswerError("a part"),
    UnavailableError("no answer"),
    ContractDriftError("refused as such"),
)


@pytest.mark.parametrize("failure", FAILURES, ids=lambda one: type(one).__name__)
def test_where_the_workspace_does_not_answer_an_id_gets_the_ledgers_part(
    failure: PipelineError,
) -> None:
    """And the answer says why there is no other."""
    bench = Bench()
    bench.workspace.failure = failure
    bench.hold(ONE)
    found = describe_finding(find(bench.toolbox, ONE))
    assert found["workspace"] == {
        "was_asked": False,
        "why_not": str(failure),
        "held": [],
        "has_more": False,
    }
    assert found["ledger"]["indicators"][0]["is"] == "on its way"


def test_settings_that_are_wrong_are_named() -> None:
    """An app that uploads nothing yet can still be asked."""
    bench = Bench()

    def no_settings() -> Workspace:
        raise SettingsError(["WORKSPACE_ID: is required and not set"])

    toolbox = Toolbox(
        **{name: getattr(bench.toolbox, name) for name in Toolbox.__dataclass_fields__}
        | {"workspace": no_settings}
    )
    assert "WORKSPACE_ID" in find(toolbox, ONE).holding.why_not


def test_the_workspace_has_a_time_of_its_own() -> None:
    """Less than an answer has: the ledger still gets its part."""
    bench = Bench()
    left: list[float] = []

    class Slow:
        def query(self, _text: str, *, span: object) -> list[dict[str, Any]]:
            left.append(time_left())
            raise UnavailableError("no answer")

    toolbox = Toolbox(
        **{name: getattr(bench.toolbox, name) for name in Toolbox.__dataclass_fields__}
        | {"workspace": Slow}
    )
    assert find(toolbox, ONE).holding.why_not == "no answer"
    assert 0 < left[0] <= WORKSPACE_WITHIN


def test_more_than_fits_is_said() -> None:
    """A sinkhole may have many indicators."""
    bench = Bench()
    bench.workspace.rows = [
        row(f"indicator--{n:08d}-0000-4000-8000-000000000000") for n in range(MAX_HELD + 1)
    ]
    found = find(bench.toolbox, "192.0.2.1")
    assert (len(found.holding.held), found.holding.has_more) == (MAX_HELD, True)
    assert (len(found.indicators), found.has_more) == (MAX_HELD, True)


@pytest.mark.parametrize(("count", "has_more"), [(MAX_HELD, False), (MAX_HELD + 1, True)])
def test_rejections_beyond_what_is_looked_up_are_said(count: int, has_more: bool) -> None:
    """The workspace has none of them, so only the ledger's part can say it."""
    bench = Bench()
    bench.toolbox.ledger.rejections.record(
        [
            Rejection(
                run_id="run",
                position=str(number),
                rejected_by=RejectedBy.SENTINEL,
                indicator_id=f"indicator--{number:08d}-0000-4000-8000-000000000000",
                pattern="[domain-name:value = 'bad.example']",
                reason="no pattern_type",
                content=b"{}",
                at=NOW,
            )
            for number in range(count)
        ]
    )
    found = describe_finding(find(bench.toolbox, "bad.example"))
    assert len(found["ledger"]["indicators"]) == MAX_HELD
    assert (found["ledger"]["has_more"], found["workspace"]["has_more"]) == (has_more, False)


@pytest.mark.parametrize(
    ("columns", "state"),
    [
        ({}, "active"),
        ({"IsActive": False}, "not active"),
        ({"IsActive": None}, "unknown"),
        ({"Revoked": True}, "revoked"),
        ({"Revoked": True, "IsActive": None}, "revoked"),
        ({"IsDeleted": True}, "deleted"),
        ({"IsDeleted": True, "Revoked": True, "IsActive": None}, "deleted"),
    ],
)
def test_the_state_of_a_row_in_one_word(columns: dict[str, Any], state: str) -> None:
    """Deleted and revoked come first, whatever `IsActive` says."""
    bench = Bench()
    bench.workspace.rows = [row(ONE, **columns)]
    (held,) = describe_finding(find(bench.toolbox, ONE))["workspace"]["held"]
    assert held["state"] == state
    assert held["is_deleted"] == columns.get("IsDeleted")


def test_columns_of_other_types_are_left_out() -> None:
    """A transformation in the workspace may change or drop them."""
    assert held_of({"StixId": ONE, "Confidence": "80", "IsActive": 1, "ValidUntil": "x"}) == Held(
        indicator=ONE,
        value="",
        confidence=None,
        is_active=None,
        is_revoked=None,
        is_deleted=None,
        valid_from=None,
        valid_until=None,
        modified=None,
        seen_at=None,
        is_republished=False,
    )


def test_an_answer_is_plain_json() -> None:
    """Moments in ISO, states in words, each trace with its version."""
    bench = Bench()
    bench.workspace.rows = [row(ONE)]
    bench.hold(ONE, modified="2025-12-01T00:00:00Z")
    found = describe_finding(find(bench.toolbox, "192.0.2.1"))
    assert json.loads(json.dumps(found)) == found
    (held,) = found["workspace"]["held"]
    assert (held["modified"], held["valid_until"]) == ("2026-01-01T00:00:00+00:00", None)
    (trace,) = found["ledger"]["indicators"][0]["traces"]
    assert (trace["is"], trace["modified"]) == ("on its way", "2025-12-01T00:00:00+00:00")
    assert HERE not in trace["what"]
