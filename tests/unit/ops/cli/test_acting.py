"""What the commands do to the ledger, and what they ask before."""

import io
from collections.abc import Sequence
from dataclasses import replace

import pytest

from common.errors import UnavailableError
from common.ledger.poison import PoisonState
from common.ledger.runs import Counts
from common.ledger.states import RunState
from ops import lost, poison, rejections
from ops.api import parameters
from ops.cli import poison as poison_commands
from ops.cli import records as record_commands
from ops.cli.ending import BAD_NEWS, GOOD, INTERRUPTED, WRONG
from ops.cli.looking import print_runs
from ops.cli.poison import NEWER_VERSIONS
from ops.lost import LOST_AFTER
from tests.unit.ops.cli.program import directly
from tests.unit.ops.cli.test_both_ways import rejected
from tests.unit.ops.samples import HERE, RUN, Bench, chunk


class Terminal(io.StringIO):
    """A terminal at which somebody has typed something."""

    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    """Let somebody type lines at the terminal, and then end the input."""
    monkeypatch.setattr("sys.stdin", Terminal("".join(f"{line}\n" for line in lines)))


def states(bench: Bench) -> list[PoisonState]:
    """Return the state of each poison record."""
    return sorted(record.state for record in bench.toolbox.ledger.poison.all())


def test_the_words_of_results_are_those_of_the_code() -> None:
    """The program over HTTP cannot import them; each is known, and good or bad as it was."""
    ends = {str(result) for result in poison.Result}
    assert ends > poison_commands.NOT_REPLAYED | poison_commands.NOT_DISCARDED
    assert {str(result) for result in rejections.Result} > record_commands.NOT_WISHED
    assert {str(lost.Result.LOST), str(lost.Result.WOULD_BE_LOST)} == record_commands.LOST
    assert str(poison.Result.REPLAYED) == "replayed"
    assert poison_commands.MAX_NAMES == parameters.MAX_NAMES


@pytest.mark.parametrize(
    ("answers", "status", "state"),
    [
        (["y"], GOOD, PoisonState.DISCARDED),
        (["n"], BAD_NEWS, PoisonState.KEPT),
        ([""], BAD_NEWS, PoisonState.KEPT),
        ([], BAD_NEWS, PoisonState.KEPT),
    ],
    ids=["yes", "no", "enter", "end of input"],
)
def test_discarding_asks(
    answers: Sequence[str], status: int, state: PoisonState, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how much goes, and that this is final; anything but a yes leaves all as it was."""
    bench = Bench()
    bench.poison()
    typed(monkeypatch, *answers)
    ended = directly(bench.toolbox, "poison", "discard", "--all")
    assert ended.status == status
    assert "discard 1 messages with 2 indicators?" in ended.err
    assert "final" in ended.err
    assert states(bench) == [state]


@pytest.mark.parametrize(
    ("first", "then", "status"),
    [
        (["discard", "--yes"], ["replay"], BAD_NEWS),
        (["replay"], ["discard", "--yes"], BAD_NEWS),
        (["discard", "--yes"], ["discard", "--yes"], GOOD),
        (["replay"], ["replay"], GOOD),
    ],
)
def test_what_somebody_else_settled_otherwise_was_not_done(
    first: list[str], then: list[str], status: int
) -> None:
    """The exit status says so; the same thing twice is done."""
    bench = Bench()
    name = bench.poison().name
    assert directly(bench.toolbox, "poison", *first, name).status == GOOD
    assert directly(bench.toolbox, "poison", *then, name).status == status


def test_what_is_agreed_to_is_discarded_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that is given up while the question is open stays kept."""
    bench = Bench()
    bench.poison(0)

    def answer(*_anything: object) -> str:
        bench.poison(1)
        return "y"

    typed(monkeypatch)
    monkeypatch.setattr("builtins.input", answer)
    assert directly(bench.toolbox, "poison", "discard", "--all").status == GOOD
    assert states(bench) == [PoisonState.DISCARDED, PoisonState.KEPT]


def test_what_was_discarded_is_listed_where_a_later_call_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the failure, and that the same command does the rest."""
    monkeypatch.setattr(poison_commands, "MAX_NAMES", 1)
    bench = Bench()
    first, second = bench.poison(0), bench.poison(1)

    def answer(*_anything: object) -> str:
        bench.tables.before = fail
        return "y"

    def fail(table: str, operation: str) -> None:
        if (table, operation) == ("acts", "merge") and PoisonState.DISCARDED in states(bench):
            raise UnavailableError("table acts is away")

    typed(monkeypatch)
    monkeypatch.setattr("builtins.input", answer)
    ended = directly(bench.toolbox, "poison", "discard", "--all")
    assert (ended.status, "table acts is away" in ended.err) == (BAD_NEWS, True)
    assert (first.name in ended.out, second.name in ended.out) == (True, False)
    assert states(bench) == [PoisonState.DISCARDED, PoisonState.KEPT]


def test_ctrl_c_leaves_everything_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is a shell's, and there is no traceback."""

    def interrupt(*_anything: object) -> str:
        raise KeyboardInterrupt

    bench = Bench()
    bench.poison()
    typed(monkeypatch)
    monkeypatch.setattr("builtins.input", interrupt)
    ended = directly(bench.toolbox, "poison", "discard", "--all")
    assert ended.status == INTERRUPTED
    assert "interrupted" in ended.err
    assert states(bench) == [PoisonState.KEPT]


def test_a_decision_is_signed_and_recorded() -> None:
    """`poison show` prints who, when and the note; `acts` lists it."""
    bench = Bench()
    record = bench.poison()
    replayed = directly(bench.toolbox, "poison", "replay", record.name, "--note", "role given")
    assert replayed.status == GOOD
    assert len(bench.queue.sent) == 1
    shown = directly(bench.toolbox, "poison", "show", record.name[:20], "--json").json
    assert isinstance(shown, dict)
    assert (shown["settled_by"], shown["note"]) == ("ann", "role given")
    assert shown["message"] == record.message
    listed = directly(bench.toolbox, "acts").out
    assert "ann: poison replay" in listed
    assert "role given" in listed


def test_a_replay_says_that_newer_versions_stay() -> None:
    """Once, where something was replayed; and in its help."""
    bench = Bench()
    bench.poison()
    for said in (True, False):
        shown = directly(bench.toolbox, "poison", "replay", "--all").out
        assert (NEWER_VERSIONS in " ".join(shown.split())) is said
    assert NEWER_VERSIONS in " ".join(
        directly(bench.toolbox, "poison", "replay", "--help").out.split()
    )


@pytest.mark.parametrize(
    ("options", "listed"),
    [
        (["--settled"], True),
        (["--settled", "--reason", "503"], True),
        (["--settled", "--reason", "other"], False),
        (["--reason", "503"], False),
    ],
)
def test_settled_poison_is_listed_by_reason_too(options: Sequence[str], listed: bool) -> None:
    """Both options together narrow the list, and neither is ignored."""
    bench = Bench()
    record = bench.poison(reason="Sentinel is unavailable (503)")
    assert directly(bench.toolbox, "poison", "discard", "--all", "--yes").status == GOOD
    assert (record.name in directly(bench.toolbox, "poison", "list", *options).out) is listed


@pytest.mark.parametrize("options", [["--all"], ["RUN"], ["BEGINNING"]])
def test_a_gap_is_acknowledged_with_name_and_note(options: Sequence[str]) -> None:
    """Then the feed is healthy, and the gap is among what ended."""
    bench = Bench()
    gap = bench.run(RunState.GAP, reason="token unknown")
    bench.run_at(1)
    status = directly(bench.toolbox, "status")
    assert (status.status, f"ack {gap.run_id}" in " ".join(status.out.split())) == (BAD_NEWS, True)
    names = {"RUN": gap.run_id, "BEGINNING": gap.run_id[:15]}
    chosen = [names.get(option, option) for option in options]
    assert directly(bench.toolbox, "ack", *chosen, "--note", "Lumen sent it again").status == GOOD
    assert directly(bench.toolbox, "status").status == GOOD
    again = directly(bench.toolbox, "ack", gap.run_id)
    assert (again.status, "already acknowledged" in again.out) == (GOOD, True)
    ended = directly(bench.toolbox, "problems", "--ended", "--csv").out
    assert "acknowledged by ann: Lumen sent it again" in ended


def test_a_retry_leaves_a_wish() -> None:
    """A dry run leaves none; what Lumen lists in this form is left out."""
    bench = Bench()
    rejected(bench)
    assert directly(bench.toolbox, "rejections", "retry", "--all", "--dry-run").status == GOOD
    assert bench.toolbox.ledger.wishes.first(9) == ()
    assert directly(bench.toolbox, "rejections", "retry", "--all").status == GOOD
    assert len(bench.toolbox.ledger.wishes.first(9)) == 1
    shown = directly(bench.toolbox, "rejections", "--run", RUN, "--json").json
    assert isinstance(shown, list)
    assert [one["wished_by"] for one in shown] == ["ann"]


def test_lost_chunks_are_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too soon is bad news; later it asks, and is done."""
    bench = Bench()
    bench.write_row(0)
    name = chunk().name
    early = directly(bench.toolbox, "chunks", "lost", name)
    assert early.status == BAD_NEWS
    assert "seven days" in " ".join(early.out.split())
    bench.clock.advance(LOST_AFTER.total_seconds() + 1)
    typed(monkeypatch, "n")
    assert directly(bench.toolbox, "chunks", "lost", name).status == BAD_NEWS
    typed(monkeypatch, "y")
    done = directly(bench.toolbox, "chunks", "lost", name)
    assert done.status == GOOD
    assert "declare 1 chunks with 2 indicators lost?" in done.err
    assert "declared lost" in done.out
    assert "no chunk waits" in directly(bench.toolbox, "chunks", "lost", "--all").out


def test_a_full_sync_asks_with_an_estimate(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the longest list of Lumen; a no asks for nothing, and what was asked can be taken back."""
    bench = Bench()
    bench.run(counts=Counts(fetched=95_000, filtered=95_000))
    typed(monkeypatch, "n")
    declined = directly(bench.toolbox, "sync", "--full")
    assert declined.status == BAD_NEWS
    assert "up to 950 requests, about 10 min" in declined.err
    assert bench.toolbox.ledger.control.full_request() is None
    typed(monkeypatch, "y")
    assert directly(bench.toolbox, "sync", "--full").status == GOOD
    assert bench.toolbox.ledger.control.full_request() is not None
    assert "a full run was asked for" in directly(bench.toolbox, "status").out
    assert directly(bench.toolbox, "sync", "--take-back").out == "taken back\n"
    assert bench.toolbox.ledger.control.full_request() is None


def test_a_pause_shows_and_ends() -> None:
    """In the status, until somebody resumes."""
    bench = Bench()
    bench.run()
    assert directly(bench.toolbox, "pause", "--for", "90m", "--note", "a repair").status == GOOD
    shown = directly(bench.toolbox, "status")
    assert shown.status == BAD_NEWS
    assert "the feed is PAUSED" in shown.out
    assert "01:30 UTC by ann: a repair" in " ".join(shown.out.split())
    assert directly(bench.toolbox, "resume").status == GOOD
    assert "HEALTHY" in directly(bench.toolbox, "status").out


def test_adopting_turns_rows_over() -> None:
    """A dry run first; a second time there is nothing to do."""
    bench = Bench()
    before = "sentinel.example/before"
    bench.write_row(0, destination=before)
    for options, said in (
        (["--dry-run"], f"1 chunks (2 indicators) would go to {HERE}: 1 from {before}"),
        ([], f"1 chunks (2 indicators) go to {HERE}: 1 from {before}"),
        ([], f"0 chunks (0 indicators) go to {HERE}"),
    ):
        ended = directly(bench.toolbox, "destination", "adopt", *options)
        assert (ended.status, " ".join(ended.out.split())) == (GOOD, said)
    assert bench.row(0).destination == HERE


def test_adopting_too_soon_is_bad_news() -> None:
    """Why and when to try again, for people and for scripts."""
    bench = Bench()
    bench.write_row(0, destination="sentinel.example/before")
    bench.toolbox.sends.note("sentinel.example/before")
    ended = directly(bench.toolbox, "destination", "adopt")
    assert (ended.status, "try again in 150 s" in ended.err) == (BAD_NEWS, True)
    ended = directly(bench.toolbox, "destination", "adopt", "--json")
    assert (ended.status, '"chunks": 0' in ended.out) == (BAD_NEWS, True)


def test_adopting_needs_to_know_the_present_workspace() -> None:
    """Without it the answer is what to set."""
    toolbox = replace(Bench().toolbox, destination="")
    ended = directly(toolbox, "destination", "adopt")
    assert (ended.status, "WORKSPACE_ID" in ended.err) == (WRONG, True)


def test_a_table_of_runs_fits_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    """A first load of millions, with everything that can go wrong in it, in 80 columns."""
    row = {
        "run": "20260101T000000-0badcafe",
        "state": "interrupted",
        "fetched": 10_000_000,
        "enqueued": 9_000_000,
        "accepted": 8_000_000,
        "pending": 100_000,
        "rejected": 10_000,
        "poisoned": 10_000,
        "balanced": False,
        "reason": "",
    }
    print_runs([row])
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    assert all(len(line) <= 80 for line in shown)
    assert "10,000,000 " in shown[1]
    assert shown[1].endswith("NO")
