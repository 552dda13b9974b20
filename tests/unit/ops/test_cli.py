"""The command line: what it prints, what it asks, and its exit status."""

import json
from dataclasses import replace

import pytest

from common.ledger.poison import PoisonState
from common.ledger.problems import Kind
from common.ledger.states import RunState
from ops.cli import BAD_NEWS, GOOD, INTERRUPTED, NEWER_VERSIONS, WRONG, main
from ops.toolbox import open_toolbox
from tests.unit.ops.samples import HERE, Bench


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
    bench.toolbox.problems.raise_problem(Kind.ACCESS, "\x1b[2J " + "x" * 400)
    bench.poison(reason=run_reason)
    for arguments in (["status"], ["runs"], ["poison", "list"]):
        _run(bench, *arguments)
        shown = capsys.readouterr().out
        assert all(c == "\n" or " " <= c <= "~" for c in shown), arguments
        assert "\\x1b]0;owned\\x07 \\u202ekcab" in shown
