"""Every command over both transports: the same output, the same exit status."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from common.errors import CredentialError
from common.ledger.problems import ProblemKind
from common.ledger.pulses import Books, Pulse
from common.ledger.rejections import RejectedBy, Rejection
from common.ledger.states import RunState
from ops.cli.direct import DirectTransport
from ops.cli.ending import BAD_NEWS, GOOD, WRONG
from ops.cli.http import HttpTransport
from ops.cli.program import app
from ops.lost import LOST_AFTER
from tests.unit.ops.cli.program import Ended, directly, over_http
from tests.unit.ops.samples import RUN, Bench

INDICATOR = "indicator--00000000-0000-4000-8000-000000000001"

type Scene = Callable[[Bench], None]
type Run = Callable[..., Ended]


def nothing(bench: Bench) -> None:
    """Leave an account as it is before the first run."""


def healthy(bench: Bench) -> None:
    """Let one run be complete."""
    bench.run()


def troubled(bench: Bench) -> None:
    """Let there be a gap, a failed run, a problem, and a message that was given up."""
    bench.run(RunState.GAP, reason="token unknown")
    bench.clock.advance(60)
    bench.run(RunState.FAILED, reason="\x1b[2J Lumen answers 500")
    bench.toolbox.problems.raise_problem(ProblemKind.ACCESS, "give the role")
    bench.poison(reason="Sentinel is unavailable (503)")
    bench.rubbish()


def rejected(bench: Bench) -> None:
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


def beating(bench: Bench) -> None:
    """Keep a pulse that knows its numbers, and one that does not."""
    now = bench.clock.now()
    full = Pulse(at=now, verdict="healthy", backlog=1200, pending=365, rate_per_minute=24.33)
    for pulse in (full, Pulse(at=now - timedelta(minutes=15), verdict="down")):
        bench.toolbox.ledger.pulses.write(pulse, Books())


def held(bench: Bench, **columns: object) -> None:
    """Let Sentinel hold an indicator of which the ledger has no row any more."""
    now = bench.clock.now()
    bench.workspace.rows = [
        {
            "StixId": INDICATOR,
            "ObservableValue": "192.0.2.1",
            "Confidence": 80,
            "IsActive": True,
            "Revoked": False,
            "ValidFrom": now,
            "ValidUntil": now + timedelta(days=30),
            "Modified": now,
            "TimeGenerated": now,
            "IsRepublished": True,
            **columns,
        }
    ]


def deleted(bench: Bench) -> None:
    """Let Sentinel hold an indicator that was deleted there."""
    held(bench, IsDeleted=True)


def stateless(bench: Bench) -> None:
    """Let the workspace have dropped the column that says whether an indicator is active."""
    held(bench, IsActive=None)


def unasked(bench: Bench) -> None:
    """Let the workspace deny queries, and a row hold the indicator."""
    bench.workspace.failure = CredentialError("the workspace denies queries: give the role")
    bench.hold(INDICATOR)


def waiting(bench: Bench) -> None:
    """Let a chunk wait for longer than a message may be invisible."""
    bench.write_row(0)
    bench.clock.advance(LOST_AFTER.total_seconds() + 1)


def elsewhere(bench: Bench) -> None:
    """Let a chunk wait for another workspace."""
    bench.write_row(0, destination="sentinel.example/before")


CASES: tuple[tuple[str, Scene, int, str], ...] = (
    ("status", nothing, BAD_NEWS, "the feed is DOWN"),
    ("status", healthy, GOOD, "the feed is HEALTHY"),
    ("status --json", troubled, BAD_NEWS, '"health"'),
    ("status --history 24", healthy, GOOD, "no pulse"),
    ("status --history 24 --csv", healthy, GOOD, ""),
    ("status --history 24", beating, GOOD, "healthy 1,200 24.3 365 2025-12-31 23:45 down"),
    ("status --history 24 --csv", beating, GOOD, "at,verdict"),
    ("status --csv", healthy, WRONG, "--history"),
    ("status --watch --json", healthy, WRONG, "--watch"),
    ("status --runs 0", healthy, WRONG, "--runs"),
    ("runs", healthy, GOOD, "20260101T000000"),
    ("runs", troubled, BAD_NEWS, "token unknown"),
    ("runs --json --csv", healthy, WRONG, "not both"),
    ("runs --csv", healthy, GOOD, "run,state,"),
    ("runs 2026 --json", healthy, GOOD, '"chunks"'),
    ("runs 2026", healthy, GOOD, "fetched"),
    ("runs 20", troubled, WRONG, "give more of the name"),
    ("runs 1999", healthy, WRONG, "no run called 1999; see `runs`"),
    ("problems", troubled, BAD_NEWS, "give the role"),
    ("problems", healthy, GOOD, "no problem"),
    ("problems --ended", healthy, GOOD, "no problem has ended"),
    ("poison list", troubled, GOOD, "1 with 2 indicators: Sentinel is unavailable (503)"),
    ("poison list --reason 503 --csv", troubled, GOOD, "poison,state"),
    ("poison list --limit 1", troubled, GOOD, "1 more"),
    ("poison list", healthy, GOOD, "no poison"),
    ("poison list --limit 0", troubled, WRONG, "--limit"),
    ("poison show 20260101", troubled, GOOD, '"records"'),
    ("poison show nope", troubled, WRONG, "no poison called nope; see `poison list`"),
    ("poison replay --all", troubled, BAD_NEWS, "cannot be decoded"),
    ("poison replay --reason 503 --json", troubled, GOOD, '"result": "replayed"'),
    ("poison replay --reason 503 --dry-run", troubled, GOOD, "would be replayed"),
    ("poison replay", troubled, WRONG, "say which"),
    ("poison replay --all --reason x", troubled, WRONG, "one way"),
    ("poison replay nope", troubled, WRONG, "no poison called nope"),
    ("poison discard --all", troubled, WRONG, "--yes"),
    ("poison discard --all --yes", troubled, GOOD, "discarded"),
    ("poison discard --all --dry-run", troubled, GOOD, "would be discarded"),
    ("poison rescue", healthy, GOOD, "0 messages brought back"),
    ("rejections", rejected, GOOD, "no pattern_type"),
    ("rejections --run invalid --csv", rejected, GOOD, "rejection,"),
    ("rejections --reason other --json", rejected, GOOD, "[]"),
    ("rejections --limit 0", rejected, WRONG, "--limit"),
    ("rejections retry --all", rejected, GOOD, "goes with the next run"),
    ("rejections retry --reason type --dry-run", rejected, GOOD, "would go with the next run"),
    ("rejections retry invalid/1", rejected, BAD_NEWS, "was never sent"),
    ("rejections retry invalid --dry-run", rejected, BAD_NEWS, "invalid/1"),
    ("rejections retry nope", rejected, WRONG, "no rejection called nope; see `rejections`"),
    ("rejections retry ../status", rejected, WRONG, "'../status' is no name"),
    ("rejections show 2026 --json", rejected, GOOD, '"content": "{}"'),
    ("rejections show i", rejected, GOOD, '"rejection": "invalid/1"'),
    ("rejections show nope", rejected, WRONG, "no rejection called nope; see `rejections`"),
    ("rejections retry", rejected, WRONG, "say which"),
    ("rejections --reason other retry --all", rejected, WRONG, "--all"),
    ("find 192.0.2.1", held, GOOD, "192.0.2.1, active, confidence 80, valid until 2026-01-31"),
    ("find 192.0.2.1", deleted, GOOD, "192.0.2.1, deleted, confidence 80"),
    ("find 192.0.2.1", stateless, GOOD, "192.0.2.1, state unknown, confidence 80"),
    ("find 192.0.2.1", held, GOOD, f"{INDICATOR}: filtered or never listed"),
    ("find 192.0.2.1 --json", held, GOOD, '"kind": "address"'),
    ("find 192.0.2.1 --csv", held, GOOD, "indicator,is,what,traces"),
    ("find 192.0.2.1", healthy, BAD_NEWS, "nothing from Lumen in the last 30 days"),
    ("find example.com", unasked, BAD_NEWS, "give the id, not the domain"),
    (f"find {INDICATOR}", unasked, GOOD, "not asked: the workspace denies queries: give the role"),
    (f"find {INDICATOR}", unasked, GOOD, "on its way in chunk 000000-1"),
    (f"find {INDICATOR} --json --csv", unasked, WRONG, "not both"),
    ("find", healthy, WRONG, "VALUE"),
    ("chunks lost --all", waiting, WRONG, "--yes"),
    ("chunks lost --all --dry-run", waiting, GOOD, "would be declared lost"),
    (f"chunks lost {RUN[:6]} --yes --json", waiting, GOOD, '"declared lost"'),
    ("chunks lost nope/1 --yes", waiting, BAD_NEWS, "there is no such chunk"),
    ("ack --all", troubled, GOOD, "acknowledged"),
    ("ack --all --csv", troubled, GOOD, "run,result"),
    ("ack --all", healthy, GOOD, "no gap counts"),
    ("ack 20260101T0000 --note seen", healthy, BAD_NEWS, "has no gap"),
    ("ack", troubled, WRONG, "say which"),
    ("purge --older-than 90d --yes", healthy, GOOD, "removed"),
    ("purge --older-than 90d --dry-run --json", healthy, GOOD, '"runs": 0'),
    ("purge --older-than 90", healthy, WRONG, "such as 90d"),
    ("destination adopt", elsewhere, GOOD, "1 chunks (2 indicators) go to"),
    ("destination adopt --dry-run --json", elsewhere, GOOD, '"chunks": 1'),
    ("sync", healthy, GOOD, "a sync run was asked for"),
    ("poison replay --all --csv", troubled, BAD_NEWS, "poison,indicators,result"),
    ("poison discard --reason 503 --yes --csv", troubled, GOOD, "poison,indicators,result"),
    ("poison rescue --json", healthy, GOOD, '"left": 0'),
    ("rejections retry --all --csv", rejected, GOOD, "rejection,indicator,result"),
    ("chunks lost --all --yes --csv", waiting, GOOD, "chunk,indicators,result"),
    ("sync --json", healthy, GOOD, '"full": false'),
    ("resume --json", healthy, BAD_NEWS, '"was_paused": false'),
    ("acts --csv", healthy, GOOD, ""),
    ("problems --csv", troubled, BAD_NEWS, "kind,subject"),
    ("sync --full --yes --json", healthy, GOOD, '"full": true'),
    ("sync --full --yes", nothing, WRONG, "right account"),
    ("sync --full", healthy, WRONG, "up to 0 requests"),
    ("sync --take-back", healthy, BAD_NEWS, "there is no open request to take back"),
    ("sync --full --take-back", healthy, WRONG, "not both"),
    ("pause --for 4h --note repair", healthy, GOOD, "paused until 2026-01-01 04:00 UTC by ann"),
    ("pause --until 2026-01-02T00:00Z --json", healthy, GOOD, "2026-01-02T00:00:00+00:00"),
    ("pause --for 8d", healthy, WRONG, "within 7 days"),
    ("pause --for 4", healthy, WRONG, "--for: '4'"),
    ("pause --until tomorrow", healthy, WRONG, "--until: 'tomorrow'"),
    ("pause", healthy, WRONG, "say for how long"),
    ("resume", healthy, BAD_NEWS, "was not paused"),
    ("doctor", healthy, BAD_NEWS, "problem setting LUMEN_API_KEY"),
    ("doctor --json", healthy, BAD_NEWS, '"is_well": false'),
    ("doctor --csv", healthy, BAD_NEWS, "name,state,text,remedy"),
    ("acts", healthy, GOOD, "no act is on record"),
    ("nothing", healthy, WRONG, "nothing"),
    ("runs --nothing", healthy, WRONG, "--nothing"),
)


@pytest.mark.parametrize("run", [directly, over_http])
def test_an_act_is_recorded_under_the_name_that_was_given(run: Run) -> None:
    """With letters beyond ASCII, and signs that mean something in a percent-encoding."""
    bench = Bench()
    name = "J\N{LATIN SMALL LETTER U WITH DIAERESIS}rgen 100%41"
    run(bench.toolbox, "resume", by=name)
    (act,) = bench.toolbox.ledger.acts.latest()
    assert act.by == name


@pytest.mark.parametrize("run", [directly, over_http])
@pytest.mark.parametrize("command", ["find", "rejections --reason", "poison list --reason"])
def test_bytes_that_are_no_text_are_refused(run: Run, command: str) -> None:
    """In words, before anything is asked."""
    ended = run(Bench().toolbox, *command.split(), "\udcff")
    assert (ended.status, ended.out) == (WRONG, "")
    assert r"'\udcff' is not text that UTF-8 can encode" in ended.err


@pytest.mark.parametrize(
    ("command", "scene", "status", "said"),
    CASES,
    ids=[f"{command} ({scene.__name__})" for command, scene, _, _ in CASES],
)
def test_a_command_says_the_same_over_both(
    command: str, scene: Scene, status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it prints, on both streams, and its exit status."""
    benches = Bench(), Bench()
    for bench in benches:
        scene(bench)
    if command.startswith("doctor"):  # nothing is set, so nothing is asked
        monkeypatch.setattr("os.environ", {"PATH": ""})
    here = directly(benches[0].toolbox, *command.split())
    there = over_http(benches[1].toolbox, *command.split())
    assert (here.status, here.err) == (there.status, there.err)
    assert here.out == there.out.replace(HttpTransport.seen_from, DirectTransport.seen_from)
    assert here.status == status, here
    assert said in " ".join((here.out + here.err).split()), here
    shown = here.out if "--json" not in command else ""
    assert all(len(line) <= 80 for line in shown.splitlines() if "," not in line), shown
    assert all(c == "\n" or " " <= c <= "~" for c in here.out + here.err)


def test_every_command_is_among_the_cases() -> None:
    """A new command comes with a case."""
    named = {f"{command} " for command, *_ in CASES}
    missing = []
    for name in app.resolved_commands():
        if name.startswith("-") or name in {"login", "logout", "profiles"}:
            continue
        actions = [a for a in app[name].resolved_commands() if not a.startswith("-")]
        for path in [f"{name} {action} " for action in actions] or [f"{name} "]:
            missing += [path] * (not any(case.startswith(path) for case in named))
    assert missing == []
