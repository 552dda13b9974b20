"""The doctor runs its checks side by side, each in its own time."""

import threading

from common.errors import SettingsError
from ops.doctor import Check, State, describe_line, examine, is_well, ok, problem
from tests.patience import PATIENCE


def test_a_check_that_hangs_costs_its_own_line_only() -> None:
    """The others are told in their order; nobody waits for the one that hangs."""
    release = threading.Event()

    def hang() -> list[object]:
        release.wait(PATIENCE)
        return []

    def fail() -> list[object]:
        raise SettingsError(["A: is wrong", "B: is missing"])

    found = examine(
        [
            Check(name="hangs", ask=hang),  # type: ignore[arg-type]
            Check(name="settings", ask=fail),  # type: ignore[arg-type]
            Check(name="well", ask=lambda: [ok("well", "it is")]),
        ],
        limit=0.5,
    )
    release.set()
    assert [(line.name, line.state) for line in found] == [
        ("hangs", State.PROBLEM),
        ("settings", State.NOT_ASKED),
        ("well", State.OK),
    ]
    assert found[1].text == "settings it needs are wrong: A, B"


def test_the_lines_as_json() -> None:
    """Plain values; a problem is not well, what was not asked is no problem."""
    lines = [ok("a", "b"), problem("c", "d", "e")]
    assert describe_line(lines[1]) == {"name": "c", "state": "problem", "text": "d", "remedy": "e"}
    assert (is_well(lines), is_well(lines[:1])) == (False, True)
