"""Every answer is what the OpenAPI document says: each field is there, and of its type."""

from dataclasses import replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import pytest

from common.envelope import encode_envelope
from common.ledger.acts import Act
from common.ledger.problems import ProblemKind
from common.ledger.pulses import Books, Pulse
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.states import RunState
from ops.api import answers
from ops.api.answering import answer
from ops.api.openapi import document
from ops.api.responses import Response
from ops.api.table import READS, WRITES
from ops.callers import Caller
from ops.lost import LOST_AFTER
from tests.unit.ops.cli.test_both_ways import INDICATOR, held
from tests.unit.ops.samples import RUN, Bench, chunk

OPERATIONS = {one.path: one for one in (*READS, *WRITES)}

TAKEN = {one.takes for one in WRITES}
GIVEN = {one.answers for one in OPERATIONS.values()} | {answers.Acts, answers.Error, answers.Health}

CASES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("read/status", {}, "runs"),
    ("read/runs", {}, "runs"),
    ("read/runs/{id}", {"id": RUN}, "poison"),
    ("read/pulses", {"hours": 720}, "pulses"),
    ("read/problems", {}, "problems"),
    ("read/problems", {"ended": True}, "problems"),
    ("read/poison", {"limit": 1}, "groups"),
    ("read/poison", {"settled": True}, "poison"),
    ("read/poison/{id}", {"id": "unknown/"}, "message"),
    ("read/poison/{id}", {"id": f"{RUN}/{chunk(1).key}"}, "records"),
    ("read/rejections", {"limit": 1}, "rejections"),
    ("read/rejections/{id}", {"id": "invalid"}, "content"),
    ("read/find", {"q": "192.0.2.1"}, "workspace"),
    ("read/find", {"q": INDICATOR}, "ledger"),
    ("read/acts", {}, "acts"),
    ("read/doctor", {}, "lines"),
    ("act/poison/replay", {"all": True, "dryRun": True}, "handled"),
    ("act/poison/replay", {"all": True}, "handled"),
    ("act/poison/discard", {"reason": "Sentinel"}, "handled"),
    ("act/poison/rescue", {}, "count"),
    ("act/rejections/retry", {"all": True}, "handled"),
    ("act/chunks/lost", {"all": True}, "handled"),
    ("act/chunks/lost", {"names": ["a/b", "?"]}, "handled"),
    ("act/sync", {"full": True}, "requested_at"),
    ("act/sync", {"takeBack": True}, ""),
    ("act/pause", {"until": "2026-01-10T00:00:00Z"}, "paused_until"),
    ("act/resume", {}, ""),
    ("act/ack", {"all": True}, "handled"),
    ("act/ack", {"runs": ["nope"]}, "handled"),
    ("act/purge", {"days": 1}, "rejections"),
    ("act/purge", {"days": 1, "dryRun": True}, "rejections"),
    ("act/destination/adopt", {}, "left"),
    ("act/destination/adopt", {"dryRun": True}, "left"),
)


def lived() -> Bench:
    """Return a bench on which everything has happened once."""
    bench = Bench()
    ledger, now = bench.toolbox.ledger, bench.clock.now()
    known = bench.run(RunState.GAP, reason="token unknown")
    ledger.runs.acknowledge(known.run_id, at=now, by="ann")
    bench.write_row(0)
    bench.write_row(3, destination="sentinel.example/before")
    made = Rejection(
        run_id=RUN,
        position="chunk-000001-1-1",
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="[x = '1']",
        reason="no pattern_type",
        content=b'{"id":"a"}',
        at=now,
    )
    invalid = replace(made, run_id="invalid", position="00ff", rejected_by=RejectedBy.VALIDATION)
    ledger.rejections.record([made, invalid])
    ledger.rejections.note_wish(made, at=now, by="ann")
    ledger.acts.begin(Act(act="pause", by="ann", at=now))
    for number in range(2):
        at = now + timedelta(hours=number)
        ledger.pulses.write(
            Pulse(at=at, verdict="healthy", backlog=1, rate_per_minute=2.5), Books()
        )
    bench.clock.advance(LOST_AFTER.total_seconds() + 1)
    bench.run(RunState.GAP, reason="a circle of pages")
    bench.clock.advance(60)
    bench.run()
    for sequence in (1, 2):
        bench.poison(sequence, reason="Sentinel is broken")
    bench.rubbish()
    bench.poison_queue.send(encode_envelope(chunk(4)))
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "give the role")
    bench.hold(INDICATOR, sequence=5)
    held(bench)
    return bench


@pytest.mark.parametrize(("path", "given", "told"), CASES)
def test_an_answer_has_the_fields_that_are_documented(
    path: str, given: dict[str, Any], told: str
) -> None:
    """No field is missing, none is unknown, each is of its type; and the answer says something."""
    found = ask(path, given)
    assert found.status is HTTPStatus.OK, found.body
    assert isinstance(found.body, dict)
    msgspec.convert(found.body, OPERATIONS[path].answers)
    assert not told or found.body[told]


def test_every_operation_is_among_the_cases() -> None:
    """A new operation comes with a case."""
    assert {path for path, *_ in CASES} == set(OPERATIONS)


def ask(path: str, given: dict[str, Any]) -> Response:
    """Make one call on a bench on which everything has happened."""
    bench, name = lived(), given.get("id", "")
    return answer(
        lambda: bench.toolbox,
        method="GET" if path.startswith("read/") else "POST",
        path=path.replace("{id}", name),
        given={key: value for key, value in given.items() if key != "id"},
        caller=Caller(name="ann"),
    )


@pytest.mark.parametrize("damage", ["a field is missing", "a field is unknown", "another type"])
def test_a_wrong_answer_is_none(damage: str) -> None:
    """The test above can fail."""
    found = ask("read/runs", {}).body
    assert isinstance(found, dict)
    match damage:
        case "a field is missing":
            del found["runs"][0]["struck"]
        case "a field is unknown":
            found["runs"][0]["colour"] = "red"
        case _:
            found["runs"][0]["fetched"] = "many"
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(found, answers.Runs)


def test_the_acts_of_a_caller_and_an_error_have_their_types() -> None:
    """They are not in the table of operations."""
    bench = Bench()
    for path, wanted in (("act", answers.Acts), ("nothing", answers.Error)):
        found = answer(
            lambda: bench.toolbox, method="GET", path=path, given={}, caller=Caller(name="ann")
        )
        msgspec.convert(found.body, wanted)


def test_parameters_and_answers_have_names_of_their_own() -> None:
    """In the document one would take the place of the other."""
    taken, given = ({one.__name__ for one in types} for types in (TAKEN, GIVEN))
    assert not taken & given
    assert taken | given <= set(document()["components"]["schemas"])


def test_no_answer_is_documented_as_just_an_object() -> None:
    """Each names its fields."""
    found = document()
    schemas = found["components"]["schemas"]
    for path, methods in found["paths"].items():
        for operation in methods.values():
            reference = operation["responses"]["200"]["content"]["application/json"]["schema"]
            assert schemas[reference["$ref"].rpartition("/")[2]]["properties"], path


@pytest.mark.parametrize(
    ("given", "is_right"),
    [
        ({"all": True}, True),
        ({"reason": "x", "names": [], "all": False}, True),
        ({"names": ["a"], "reason": ""}, True),
        ({}, False),
        ({"all": False}, False),
        ({"names": ["a"], "all": True}, False),
        ({"names": ["a"], "reason": "x"}, False),
    ],
)
def test_the_document_says_that_one_way_is_chosen(given: dict[str, Any], is_right: bool) -> None:
    """Exactly one of the ways holds for a request that the API takes, and it agrees."""
    ways = document()["components"]["schemas"]["PoisonAct"]["oneOf"]
    assert (sum(holds(way, given) for way in ways) == 1) is is_right
    bench = lived()
    found = answer(
        lambda: bench.toolbox,
        method="POST",
        path="act/poison/replay",
        given=given,
        caller=Caller(name="ann"),
    )
    assert (found.status is not HTTPStatus.BAD_REQUEST) is is_right


def holds(way: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether a request is of a way, by the few words of JSON Schema that these use."""
    said = [
        name
        for choice in way["anyOf"]
        for name in choice["required"]
        if name in given and fits(choice["properties"][name], given[name])
    ]
    others = way["properties"]
    return bool(said) and all(fits(others[name], given[name]) for name in others if name in given)


def fits(schema: dict[str, Any], value: Any) -> bool:
    """Whether a value is as long as a schema wants, or the one that it names."""
    (word, wanted), *_ = schema.items()
    if word == "const":
        return value is wanted
    size = len(value)
    return bool(size >= wanted if word.startswith("min") else size <= wanted)
