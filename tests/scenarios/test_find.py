"""Where is it? An operator at a laptop finds indicators in every state, on the real parts."""

import json
from typing import Any

from common.queues import POISON_QUEUE
from local.functions_host.process import HostProcess
from local.services.faults import Delay, Fault
from tests.scenarios.conftest import NewWorld
from tests.scenarios.test_laptop import Operate, at
from tests.scenarios.versions import feed_of, id_of, version
from tests.scenarios.world import CONSUMER, World, assert_conserved, put_back_often, until

KNOWN, FILTERED, REJECTED, GIVEN_UP, NEVER = range(1, 6)

NASTY = (
    "' | union *",
    'h1.example" or "1" == "1',
    "h1.example') | count",
    "h1.example\\",
    "h1.example\n| where true",
)
"""Values that would change a query, were they a part of its text."""


def found(operate: Operate, value: str) -> dict[str, Any]:
    """Return what the program says of a value, as JSON."""
    answer = operate("find", value, "--json")
    assert answer.stderr == "", answer
    told: dict[str, Any] = json.loads(answer.stdout)
    return told


def state(operate: Operate, number: int) -> tuple[str, str]:
    """Return what the ledger says of an indicator, and why."""
    (one,) = found(operate, id_of(number))["ledger"]["indicators"]
    return one["is"], one["what"]


def give_up(world: World) -> HostProcess:
    """Let a message wait; let the host give it up; return the app without its consumer."""
    producer = world.cloud.start_host(disabled=CONSUMER)
    world.sync(producer)
    (text,) = world.messages()
    waits, why = state(at(producer, producer.function_keys["read"]), GIVEN_UP)
    assert waits == "on its way"
    assert world.runs()[-1].run_id in why
    producer.terminate()
    world.take_all()
    world.put(put_back_often(text), queue=POISON_QUEUE)
    host = world.cloud.start_host(disabled=("sentinel_upload",))
    until(world.kept, "the message is kept")
    until(lambda: world.fates()[-1].poisoned == 1, "the row says so")
    return host


def test_an_indicator_is_found_wherever_it_is(new_world: NewWorld) -> None:
    """Known, filtered, rejected, on its way, poisoned, never listed; by id and by domain."""
    world = new_world(
        feed_of([version(KNOWN), version(FILTERED, confidence=10), version(REJECTED)]),
        shows=True,
        proxied=True,
    )
    world.cloud.sentinel.behaviour.reject_record = lambda one: one["id"] == id_of(REJECTED)
    first = world.cloud.start_host()
    world.sync(first)
    world.deliver_all()
    world.fold_all(first)
    first.terminate()
    world.now_lists(feed_of([version(GIVEN_UP)]))
    host = give_up(world)
    operate = at(host, host.function_keys["read"])

    is_, what = state(operate, KNOWN)
    assert (is_, "version index" in what) == ("known", True)
    assert state(operate, FILTERED)[0] == "filtered or never listed"
    assert state(operate, NEVER)[0] == "filtered or never listed"
    is_, what = state(operate, REJECTED)
    assert is_ == "rejected"
    (rejection,) = world.ledger.rejections.entries()
    assert rejection.reason in what
    is_, what = state(operate, GIVEN_UP)
    (record,) = world.kept()
    assert is_ == "poisoned"
    assert record.name in what
    assert record.reason in what

    told = found(operate, "H1[.]example")
    (held,) = told["workspace"]["held"]
    assert (held["indicator"], held["value"], held["confidence"]) == (
        id_of(KNOWN),
        "h1.example",
        80,
    )
    assert [one["is"] for one in told["ledger"]["indicators"]] == ["known"]
    shown = operate("find", "h1.example")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "confidence 80" in shown.stdout
    assert "known" in shown.stdout
    refused = found(operate, f"h{REJECTED}.example")  # in no workspace, so by its rejection
    assert refused["workspace"]["held"] == []
    assert refused["ledger"]["indicators"][0]["is"] == "rejected"
    for value in NASTY:
        told = found(operate, value)
        assert told["workspace"] == {
            "was_asked": True,
            "why_not": "",
            "held": [],
            "has_more": False,
        }
        assert told["ledger"]["indicators"] == []
        assert operate("find", value).returncode == 1
    assert_conserved(world, poisoned=1, rejected=1)


def test_a_workspace_that_does_not_answer_leaves_the_ledgers_part(new_world: NewWorld) -> None:
    """No role, private networks only, or silence: the answer says so, and an id is still found."""
    world = new_world(feed_of([version(KNOWN)]), shows=True)
    host = world.cloud.start_host()
    world.sync(host)
    world.deliver_all()
    operate = at(host, host.function_keys["read"])
    workspace = world.cloud.workspace

    workspace.behaviour.role_granted = False
    told = found(operate, id_of(KNOWN))
    assert "Microsoft Sentinel Contributor" in told["workspace"]["why_not"]
    assert told["ledger"]["indicators"][0]["is"] == "known"
    by_domain = operate("find", "h1.example")
    assert by_domain.returncode == 1
    assert "give the id, not the domain" in " ".join(by_domain.stdout.split())

    workspace.behaviour.role_granted = True
    workspace.behaviour.private_only = True
    assert "private link" in found(operate, id_of(KNOWN))["workspace"]["why_not"]

    workspace.behaviour.private_only = False
    workspace.inject(Fault(effect=Delay(60.0), method="POST"))
    told = found(operate, id_of(KNOWN))
    assert not told["workspace"]["was_asked"]
    assert told["ledger"]["indicators"][0]["is"] == "known"
    assert found(operate, id_of(KNOWN))["workspace"]["held"]
    assert_conserved(world)
