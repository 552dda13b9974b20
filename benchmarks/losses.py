"""Row 10: how many indicators are lost under faults, by us and by the sequential uploader.

Both read the same feed and meet the same faults, each in a local cloud of its own. Lost is an
indicator that passed the filters and that Sentinel does not hold in the end, bad records aside.
Ours may excuse a bad record only by a rejection in the ledger with its id, content and reason; a
good record that was rejected or poisoned counts as lost.

Not obvious: the reference waits in time of its own, which passes at once; the throttling that it
meets lives in that time too. Nothing here measures how long anything takes.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import requests

from benchmarks.feeds import open_feed
from benchmarks.pipeline import open_cloud, runs, sync
from benchmarks.sequential_uploader import SequentialUploader
from benchmarks.table import Figure, Scale
from common.ledger import open_ledger
from common.ledger.tables import AzureTables
from common.settings import Secret, StorageSettings
from local.cloud import LocalCloud
from local.demo.faults import is_bad
from local.functions_host.process import HostProcess
from local.services.azurite import Azurite
from local.services.faults import Answer, Call, Fault
from local.services.feed import SyntheticFeed, expected_ids
from local.services.lumen_api import PAGE_PATH

INDICATORS: Final = {Scale.QUICK: 6_000, Scale.FULL: 20_000}
THRESHOLD: Final = 65
AT_ONCE: Final = 2
"""Faults that are played side by side: the throttled one mostly waits."""

OTHERS: Final = 20
"""Objects of each later query; about half of them are sent."""

MOST_LATER: Final = 150
"""Later queries after which a benchmark gives up."""

SPARED: Final = 3
"""Requests that pass before a fault begins."""

SERVER_ERRORS: Final = 12
BUDGET_TAKEN_FOR: Final = 35.0
"""Seconds in which Sentinel takes nothing, as when another sender has used up the budget of the
identity: just longer than the 31 s that six tries without a `Retry-After` header last. A shorter
burst would cost the sequential uploader nothing."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """One fault: how it is put up in a cloud whose client lives by the clock that is given.

    `met` counts the answers by which a client meets it; `bad` says which records Sentinel refuses
    for good.
    """

    row: str
    what: str
    arm: Callable[[LocalCloud, Clock], None]
    met: Callable[[LocalCloud], int]
    bad: Callable[[str], bool] = lambda _id: False
    syncs: int = 1
    """Sync runs of the reference: as many as the fault leaves to the pipeline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """What came of the wanted indicators: lost, bad ones kept in the ledger; and at what price.

    `met` is how often the fault was met: never would prove nothing.
    """

    wanted: int
    bad: int
    lost: int
    kept: int
    met: int
    requests: int


def measure(scale: Scale, feed: Path | None) -> list[Figure]:
    """Play every fault, for us and for the reference; return one figure each."""
    source = open_feed(feed, INDICATORS[scale])
    wanted = expected_ids(source, threshold=THRESHOLD)
    with Azurite() as azurite, ThreadPoolExecutor(AT_ONCE) as pool:

        def play(number: int, trouble: Trouble) -> Figure:
            account = f"world{number:03d}"
            with open_cloud(source, azurite=azurite, account=account) as cloud:
                ours = _lose_with_pipeline(cloud, trouble, wanted)
            with open_cloud(source, azurite=azurite, account=account) as cloud:
                reference = _lose_with_uploader(cloud, trouble, wanted)
            return judge(trouble, ours, reference)

        slowest_first = sorted(enumerate(TROUBLES), key=lambda item: item[1].arm is not _throttle)
        figures = [pool.submit(play, number, trouble) for number, trouble in slowest_first]
        return sorted((done.result() for done in figures), key=lambda figure: figure.row)


def judge(trouble: Trouble, ours: Loss, reference: Loss) -> Figure:
    """Return the figure of one fault. Pure."""
    assert min(ours.met, reference.met) > 0, f"{trouble.row}: the fault was not met"
    note = (
        f"answers like that: {ours.met:,} of {ours.requests:,} requests; of the reference "
        f"{reference.met:,} of {reference.requests:,}."
    )
    if ours.bad:
        note += (
            f" {ours.kept:,} of {ours.bad:,} bad records are kept with id, content and reason; the "
            "reference keeps none, and they are not in its figure."
        )
    return Figure(
        row=trouble.row,
        what=f"indicators lost: {trouble.what}",
        value=f"{ours.lost:,} of {ours.wanted:,}",
        reference=f"{reference.lost:,} of {reference.wanted:,}",
        ratio=None,
        goal="0",
        met=ours.lost == 0,
        note=note,
    )


def throttling(clock: Clock) -> Callable[[object], bool]:
    """Return whether a request counts for the fault: `BUDGET_TAKEN_FOR` s long from its first on.

    The requests before that one are spared by the fault itself, so they count.
    """
    asked: list[float] = []

    def lasts(_request: object) -> bool:
        asked.append(clock())
        return asked[-1] < asked[min(len(asked) - 1, SPARED)] + BUDGET_TAKEN_FOR

    return lasts


def _lose_with_pipeline(cloud: LocalCloud, trouble: Trouble, wanted: set[str]) -> Loss:
    trouble.arm(cloud, time.monotonic)
    host = cloud.start_host()
    sync(host)
    _deliver_among_others(cloud, host)
    return _count(cloud, trouble, wanted, kept=_kept(cloud))


def _deliver_among_others(cloud: LocalCloud, host: HostProcess) -> None:
    """Deliver everything while Lumen lists a few others with each query.

    A record that Sentinel refused alone is rejected only after others were accepted.
    """
    for later in range(1, MOST_LATER + 1):
        if not any(run["pending"] for run in runs(host)):
            return
        cloud.lumen.replace_feed(SyntheticFeed(OTHERS, seed=-later))  # no id of the feed's
        sync(host)
    raise TimeoutError(f"not everything is delivered after {MOST_LATER} more queries")


def _lose_with_uploader(cloud: LocalCloud, trouble: Trouble, wanted: set[str]) -> Loss:
    clock = _SkippedTime()
    trouble.arm(cloud, clock.now)
    with SequentialUploader(cloud.app_settings(), sleep=clock.sleep) as uploader:
        for _ in range(trouble.syncs - 1):
            with suppress(requests.HTTPError):  # such a run ends early; the next timer comes
                uploader.run()
        uploader.run()
    return _count(cloud, trouble, wanted, kept=None)


def _count(cloud: LocalCloud, trouble: Trouble, wanted: set[str], *, kept: set[str] | None) -> Loss:
    """Count what is missing and not excused: a bad record is, if it is kept where that is done."""
    bad = set(filter(trouble.bad, wanted))
    excused = bad if kept is None else bad & kept
    return Loss(
        wanted=len(wanted),
        bad=len(bad),
        lost=len(cloud.sentinel.missing(wanted) - excused),
        kept=0 if kept is None else len(excused),
        met=trouble.met(cloud),
        requests=cloud.sentinel.count(method="POST"),
    )


def _kept(cloud: LocalCloud) -> set[str]:
    """Return the ids of the records that the ledger keeps whole, with a reason."""
    storage = StorageSettings(connection_string=Secret(cloud.connection_string))
    ledger = open_ledger(AzureTables(storage))
    return {
        rejection.indicator_id
        for run in ledger.runs.latest(100)
        for rejection in ledger.rejections.of_run(run.run_id)
        if rejection.content and rejection.reason
    }


class _SkippedTime:
    """Time for one client: sleeping takes none, and moves it."""

    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        self._now += seconds


def _is_bad_record(record: dict[str, Any]) -> bool:
    return is_bad(str(record.get("id")))


def _refuse_whole(cloud: LocalCloud, _clock: Clock) -> None:
    cloud.sentinel.behaviour.reject_record = _is_bad_record
    cloud.sentinel.behaviour.refuse_whole_on_bad_record = True
    cloud.sentinel.behaviour.refusal_lists_errors = False


def _reject_records(cloud: LocalCloud, _clock: Clock) -> None:
    cloud.sentinel.behaviour.reject_record = _is_bad_record


def _fail(cloud: LocalCloud, _clock: Clock) -> None:
    cloud.sentinel.inject(
        Fault(effect=Answer(500), method="POST", after=SPARED, times=SERVER_ERRORS)
    )


def _throttle(cloud: LocalCloud, clock: Clock) -> None:
    message = f"Rate limit is exceeded. Try again in {BUDGET_TAKEN_FOR:.0f} seconds."
    body = f'{{"statusCode": 429, "message": "{message}"}}'
    cloud.sentinel.inject(
        Fault(
            effect=Answer(429, body=body),
            method="POST",
            when=throttling(clock),
            after=SPARED,
            times=None,
        )
    )


def _expire_token(cloud: LocalCloud, _clock: Clock) -> None:
    expire = Call(lambda _request: cloud.lumen.expire_tokens())
    cloud.lumen.inject(Fault(effect=expire, method="GET", path=PAGE_PATH, after=SPARED))


def _answered(status: HTTPStatus) -> Callable[[LocalCloud], int]:
    return lambda cloud: cloud.sentinel.count(status=status)


def _answered_with_errors(cloud: LocalCloud) -> int:
    """A 200 of the simulator has a body only where it names rejected records."""
    return sum(one.status == HTTPStatus.OK and one.sent > 0 for one in cloud.sentinel.exchanges)


def _token_refused(cloud: LocalCloud) -> int:
    return cloud.lumen.count(path=PAGE_PATH, status=HTTPStatus.NOT_FOUND)


TROUBLES: Final = (
    Trouble(
        row="10a",
        what="1 % bad records, each request with one answered 400",
        arm=_refuse_whole,
        met=_answered(HTTPStatus.BAD_REQUEST),
        bad=is_bad,
    ),
    Trouble(
        row="10b",
        what="1 % bad records, answered 200 + errors",
        arm=_reject_records,
        met=_answered_with_errors,
        bad=is_bad,
    ),
    Trouble(
        row="10c",
        what=f"{SERVER_ERRORS} times 500 in a row",
        arm=_fail,
        met=_answered(HTTPStatus.INTERNAL_SERVER_ERROR),
    ),
    Trouble(
        row="10d",
        what=f"429 for {BUDGET_TAKEN_FOR:.0f} s, told only in the body",
        arm=_throttle,
        met=_answered(HTTPStatus.TOO_MANY_REQUESTS),
    ),
    Trouble(
        row="10e",
        what="a page token expires, a later query follows",
        arm=_expire_token,
        met=_token_refused,
        syncs=2,
    ),
)
