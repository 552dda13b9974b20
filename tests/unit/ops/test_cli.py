"""The command line: what it prints, what it asks, and its exit status."""

import json
from dataclasses import replace

import pytest

from common.ledger.poison import PoisonState
from common.ledger.problems import ProblemKind
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.states import RunState
from ops.cli import INTERRUPTED, main
from ops.commands import BAD_NEWS, GOOD, NEWER_VERSIONS, WRONG
from ops.lost import LOST_AFTER
from ops.toolbox import open_toolbox
from tests.unit.ops.samples import HERE, RUN, Bench, chunk


def _run(bench: Bench, *arguments: str) -> int:
    return main(arguments, toolbox=bench.toolbox)


def test_status_says_how_the_feed_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Healthy is exit status 0, anything else 1, each with the reasons."""
    bench = Bench()
    assert _run(bench, "status") == BAD_NEWS
    assert "the feed is DOWN" in capsys.readouterr().out
    bench.run()
    assert _run(bench, "status") == GOOD
    assert "the feed is HEALTHY" in capsys.readouterr().out


def test_runs_are_a_table_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The same runs for people and for scripts."""
    bench = Bench()
    run = bench.run()
    assert _run(bench, "runs") == GOOD
    assert run.run_id in capsys.readouterr().out
    assert _run(bench, "runs", "--json") == GOOD
    assert json.loads(capsys.readouterr().out)[0]["run"] == run.run_id


def test_poison_is_listed_shown_and_replayed(capsys: pytest.CaptureFixture[str]) -> None:
    """An operator finds a message, reads everything about it, and puts it back."""
    bench = Bench()
    record = bench.poison(reason="Sentinel is unavailable (503)")
    assert _run(bench, "poison", "list") == GOOD
    assert record.name in capsys.readouterr().out
    assert _run(bench, "poison", "show", record.name) == GOOD
    assert json.loads(capsys.readouterr().out)["message"] == record.message
    assert _run(bench, "poison", "replay", "--reason", "503", "--json") == GOOD
    assert json.loads(capsys.readouterr().out) == [
        {"poison": record.name, "indicators": 2, "result": "replayed"}
    ]
    assert len(bench.queue.sent) == 1


def test_discarding_wants_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal to ask on, and without `--yes`, nothing is discarded."""
    bench = Bench()
    bench.poison()
    assert _run(bench, "poison", "discard", "--all") == WRONG
    assert "--yes" in capsys.readouterr().err
    (record,) = bench.toolbox.ledger.poison.all()
    assert record.state is PoisonState.KEPT
    assert _run(bench, "poison", "discard", "--all", "--yes") == GOOD
    (record,) = bench.toolbox.ledger.poison.all()
    assert record.state is PoisonState.DISCARDED


def test_a_name_that_does_not_exist_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped name is an error with the remedy, not an empty success."""
    assert _run(Bench(), "poison", "replay", "nope") == WRONG
    assert "there is no poison called nope" in capsys.readouterr().err


def test_runs_that_ended_badly_are_bad_news(capsys: pytest.CaptureFixture[str]) -> None:
    """The table is printed all the same; the exit status is for scripts."""
    for state in (RunState.FAILED, RunState.GAP):
        bench = Bench()
        bench.run(state, reason="why")
        assert _run(bench, "runs") == BAD_NEWS
        assert "why" in capsys.readouterr().out


def test_settled_poison_is_listed_by_reason_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Both options together narrow the list, and neither is ignored."""
    bench = Bench()
    record = bench.poison(reason="Sentinel is unavailable (503)")
    assert _run(bench, "poison", "discard", "--all", "--yes") == GOOD
    capsys.readouterr()
    for options, listed in (
        (["--settled"], True),
        (["--settled", "--reason", "503"], True),
        (["--settled", "--reason", "other"], False),
        (["--reason", "503"], False),
    ):
        assert _run(bench, "poison", "list", *options) == GOOD
        assert (record.name in capsys.readouterr().out) == listed, options


def test_what_could_not_be_replayed_is_bad_news(capsys: pytest.CaptureFixture[str]) -> None:
    """A message that nothing can be made of stays kept, and the exit status says so."""
    bench = Bench()
    bench.rubbish()
    assert _run(bench, "poison", "replay", "--all") == BAD_NEWS
    assert "cannot be decoded" in capsys.readouterr().out
    assert _run(bench, "poison", "discard", "--all", "--yes") == GOOD


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [(EOFError, WRONG, "nothing was discarded"), (KeyboardInterrupt, INTERRUPTED, "interrupted")],
)
def test_no_answer_is_no_yes(
    answer: type[BaseException],
    status: int,
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The end of input and Ctrl-C leave everything as it was, without a traceback."""

    def ask(_question: str) -> str:
        raise answer

    bench = Bench()
    bench.poison()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", ask)
    assert _run(bench, "poison", "discard", "--all") == status
    shown = capsys.readouterr()
    assert said in shown.out + shown.err
    (record,) = bench.toolbox.ledger.poison.all()
    assert record.state is PoisonState.KEPT


def test_a_full_sync_of_nothing_is_questioned(capsys: pytest.CaptureFixture[str]) -> None:
    """An account without a run is likely the wrong one: nothing is written there."""
    bench = Bench()
    assert _run(bench, "sync", "--full") == WRONG
    assert "right account" in capsys.readouterr().err
    assert bench.toolbox.ledger.control.full_request() is None


@pytest.mark.parametrize("action", ["replay", "discard"])
def test_which_messages_must_be_said(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Without names, reason or `--all` nothing is chosen, and the usage is shown."""
    with pytest.raises(SystemExit) as exit_info:
        _run(Bench(), "poison", action)
    assert exit_info.value.code == WRONG
    assert "usage" in capsys.readouterr().err


def test_a_full_sync_is_asked_for_once(capsys: pytest.CaptureFixture[str]) -> None:
    """`sync --full` leaves a request for the next run; `sync` alone explains itself."""
    bench = Bench()
    assert _run(bench, "sync") == WRONG
    assert bench.toolbox.ledger.control.full_request() is None
    bench.run()
    assert _run(bench, "sync", "--full") == GOOD
    assert bench.toolbox.ledger.control.full_request() is not None
    assert "next new sync run" in capsys.readouterr().out


def test_adopting_says_what_goes_where(capsys: pytest.CaptureFixture[str]) -> None:
    """A dry run first, then the rows are turned over; a second time there is nothing to do."""
    bench = Bench()
    before = "sentinel.example/before"
    bench.write_row(0, destination=before)
    for options, said in (
        (["--dry-run"], f"1 chunks (2 indicators) would go to {HERE}: 1 from {before}"),
        ([], f"1 chunks (2 indicators) go to {HERE}: 1 from {before}"),
        ([], f"0 chunks (0 indicators) go to {HERE}"),
    ):
        assert _run(bench, "destination", "adopt", *options) == GOOD
        assert capsys.readouterr().out.strip() == said
    assert bench.row(0).destination == HERE


def test_adopting_too_soon_is_bad_news(capsys: pytest.CaptureFixture[str]) -> None:
    """Why and when to try again, for people and for scripts."""
    bench = Bench()
    bench.write_row(0, destination="sentinel.example/before")
    bench.toolbox.sends.note("sentinel.example/before")
    assert _run(bench, "destination", "adopt") == BAD_NEWS
    assert "try again in 150 s" in capsys.readouterr().err
    assert _run(bench, "destination", "adopt", "--json") == BAD_NEWS
    told = json.loads(capsys.readouterr().out)
    assert (told["chunks"], told["indicators"]) == (0, 0)
    assert "try again" in told["waits"]


def test_adopting_needs_to_know_the_present_workspace(capsys: pytest.CaptureFixture[str]) -> None:
    """Without it in the environment the answer is what to set."""
    bench = Bench()
    bench.toolbox = replace(bench.toolbox, destination="")
    assert _run(bench, "destination", "adopt") == WRONG
    assert "WORKSPACE_ID" in capsys.readouterr().err


@pytest.mark.parametrize("workspace", ["", "0a0b0c0d-0000-4000-8000-000000000000"])
def test_the_present_workspace_is_read_from_the_settings(
    workspace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the consumer names it; a laptop without the settings can do all the rest."""
    account = "AccountName=a;AccountKey=a2V5;EndpointSuffix=storage.example"
    monkeypatch.setenv("PipelineStorage", f"DefaultEndpointsProtocol=https;{account}")
    monkeypatch.delenv("SENTINEL_BASE_URL", raising=False)
    monkeypatch.setenv("WORKSPACE_ID", workspace)
    destination = open_toolbox().destination
    assert destination.endswith(workspace)
    assert bool(destination) is bool(workspace)


def test_missing_storage_settings_are_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a way to the storage the answer is what to set."""
    monkeypatch.delenv("PipelineStorage", raising=False)
    assert main(["status"]) == WRONG
    assert "PipelineStorage" in capsys.readouterr().err


def test_a_replay_says_what_becomes_of_newer_versions(capsys: pytest.CaptureFixture[str]) -> None:
    """What was superseded since is left out; that is said, once, where something was replayed."""
    bench = Bench()
    bench.poison()
    assert _run(bench, "poison", "replay", "--all") == GOOD
    assert NEWER_VERSIONS in capsys.readouterr().out
    assert _run(bench, "poison", "replay", "--all") == GOOD
    assert NEWER_VERSIONS not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        _run(bench, "poison", "replay", "--help")
    assert NEWER_VERSIONS in " ".join(capsys.readouterr().out.split())


def test_nothing_in_a_reason_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Escape sequences, controls and letters that look like others are spelled out."""
    bench = Bench()
    run_reason = "\x1b]0;owned\x07 \u202ekcab\x9b31m"
    bench.run(RunState.FAILED, reason=run_reason)
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "\x1b[2J " + "x" * 400)
    bench.poison(reason=run_reason)
    for arguments in (["status"], ["runs"], ["poison", "list"]):
        _run(bench, *arguments)
        shown = capsys.readouterr().out
        assert all(c == "\n" or " " <= c <= "~" for c in shown), arguments
        assert "\\x1b]0;owned\\x07 \\u202ekcab" in shown


def test_problems_are_listed_and_leave_traces(capsys: pytest.CaptureFixture[str]) -> None:
    """Those that count are bad news; those that ended have a beginning and an end."""
    bench = Bench()
    assert _run(bench, "problems") == GOOD
    assert capsys.readouterr().out.strip() == "no problem"
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "give the role")
    bench.toolbox.problems.raise_problem(ProblemKind.LUMEN_ACCESS, "the key")
    bench.run(RunState.GAP, reason="token unknown")
    bench.clock.advance(60)
    assert _run(bench, "problems") == BAD_NEWS
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("give the role", "the key", "token unknown"))
    bench.toolbox.problems.note_success(bench.clock.now())
    assert _run(bench, "problems", "--ended", "--json") == GOOD
    (trace,) = json.loads(capsys.readouterr().out)
    assert (trace["kind"], trace["what"]) == ("access", "give the role")
    assert (trace["since"], trace["until"]) == (
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:01:00+00:00",
    )


@pytest.mark.parametrize("options", [["--all"], ["RUN"]])
def test_a_gap_is_acknowledged_with_name_and_note(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Then the feed is healthy, and the gap is among what ended."""
    bench = Bench()
    gap = bench.run(RunState.GAP, reason="token unknown")
    bench.run_at(1)
    assert _run(bench, "status") == BAD_NEWS
    assert f"ack {gap.run_id}" in capsys.readouterr().out
    chosen = [gap.run_id if option == "RUN" else option for option in options]
    assert _run(bench, "ack", *chosen, "--by", "ann", "--note", "Lumen sent it again") == GOOD
    assert _run(bench, "status") == GOOD
    capsys.readouterr()
    assert _run(bench, "problems", "--ended") == GOOD
    assert "acknowledged by ann: Lumen sent it again" in capsys.readouterr().out


def test_what_has_no_gap_cannot_be_acknowledged(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistyped run is said, and nothing is chosen without a name or `--all`."""
    bench = Bench()
    run = bench.run()
    assert _run(bench, "ack", run.run_id) == WRONG
    assert f"{run.run_id} has no gap" in capsys.readouterr().err
    assert _run(bench, "ack", "--all") == GOOD
    with pytest.raises(SystemExit):
        _run(bench, "ack")


def _rejected(bench: Bench) -> Rejection:
    """Keep a record that Sentinel refused, and one that is invalid as Lumen listed it."""
    made = Rejection(
        run_id=RUN,
        position="chunk-000000-1-1",
        rejected_by=RejectedBy.SENTINEL,
        indicator_id="indicator--1",
        pattern="[x = '1']",
        reason="no pattern_type",
        content=b"{}",
        at=bench.clock.now(),
    )
    invalid = replace(made, run_id="invalid", position="1", rejected_by=RejectedBy.VALIDATION)
    bench.toolbox.ledger.rejections.record([made, invalid])
    return made


def test_rejections_are_listed_and_retried(capsys: pytest.CaptureFixture[str]) -> None:
    """By run, as CSV, then asked for once more; what Lumen lists in this form is left out."""
    bench = Bench()
    made = _rejected(bench)
    assert _run(bench, "rejections") == GOOD
    assert "no pattern_type" in capsys.readouterr().out
    assert _run(bench, "rejections", "--run", RUN, "--csv") == GOOD
    header, row = capsys.readouterr().out.splitlines()
    assert (header.split(",")[0], row.split(",")[0]) == ("rejection", made.name)
    assert _run(bench, "rejections", "--reason", "other", "--json") == GOOD
    assert json.loads(capsys.readouterr().out) == []
    assert _run(bench, "rejections", "retry", "--reason", "pattern_type", "--dry-run") == GOOD
    assert "would go with the next run" in capsys.readouterr().out
    assert bench.toolbox.ledger.wishes.first(9) == ()
    assert _run(bench, "rejections", "retry", "--all", "--by", "ann", "--json") == GOOD
    (done,) = json.loads(capsys.readouterr().out)
    assert (done["rejection"], done["result"]) == (made.name, "goes with the next run")
    assert _run(bench, "rejections", "--run", RUN, "--json") == GOOD
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["wished_by"] == "ann"


def test_a_choice_before_the_word_retry_narrows_it_too() -> None:
    """Else `--all` would ask for every record that Sentinel refused."""
    bench = Bench()
    _rejected(bench)
    assert _run(bench, "rejections", "--reason", "other", "retry", "--all") == GOOD
    assert bench.toolbox.ledger.wishes.first(9) == ()
    assert _run(bench, "rejections", "--reason", "pattern_type", "retry") == GOOD
    assert len(bench.toolbox.ledger.wishes.first(9)) == 1


def test_a_retry_says_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing chosen, a name that is not there, a record that was never sent."""
    bench = Bench()
    _rejected(bench)
    assert _run(bench, "rejections", "retry") == WRONG
    assert "--all" in capsys.readouterr().err
    assert _run(bench, "rejections", "retry", "nope") == WRONG
    assert "no rejection called nope" in capsys.readouterr().err
    assert _run(bench, "rejections", "retry", "invalid/1") == BAD_NEWS
    assert "was never sent" in capsys.readouterr().out


def test_lost_chunks_are_declared(capsys: pytest.CaptureFixture[str]) -> None:
    """Too soon is bad news for one that is named; later it is done."""
    bench = Bench()
    bench.write_row(0)
    name = chunk().name
    assert _run(bench, "chunks", "lost", name) == BAD_NEWS
    assert "within the last seven days" in capsys.readouterr().out
    bench.clock.advance(LOST_AFTER.total_seconds() + 1)
    assert _run(bench, "chunks", "lost", "--all", "--dry-run") == GOOD
    assert "would be declared lost" in capsys.readouterr().out
    assert _run(bench, "chunks", "lost", name, "--json") == GOOD
    assert json.loads(capsys.readouterr().out) == [
        {"chunk": name, "indicators": 2, "result": "declared lost"}
    ]
    assert _run(bench, "chunks", "lost", "--all") == GOOD
    assert "no chunk waits" in capsys.readouterr().out


def test_a_decision_about_poison_is_signed(capsys: pytest.CaptureFixture[str]) -> None:
    """`poison show` prints who, when and the note."""
    bench = Bench()
    record = bench.poison()
    assert _run(bench, "poison", "replay", "--all", "--by", "ann", "--note", "role given") == GOOD
    capsys.readouterr()
    assert _run(bench, "poison", "show", record.name) == GOOD
    told = json.loads(capsys.readouterr().out)
    assert (told["settled_by"], told["note"]) == ("ann", "role given")
    assert [one["indicator"] for one in told["records"]] == ["a", "b"]


def test_without_a_name_for_the_person_the_word_is_operator(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that does not know who is at its keyboard refuses nothing."""

    def unknown() -> str:
        raise OSError("no user")

    monkeypatch.setattr("getpass.getuser", unknown)
    bench = Bench()
    record = bench.poison()
    assert _run(bench, "poison", "discard", "--all", "--yes") == GOOD
    (settled,) = bench.toolbox.ledger.poison.all()
    assert (settled.name, settled.settled_by) == (record.name, "operator")
    assert "discarded" in capsys.readouterr().out
