"""What each operation answers: the fields of a successful answer, for the OpenAPI document.

The answers themselves are plain JSON values; tests compare each of them with its type here, field
by field. A client ignores fields that it does not know: a later release may add some.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct, field

from common.health import Verdict
from common.ledger.poison import PoisonedBy, PoisonState
from common.ledger.problems import ProblemKind
from common.ledger.pulses import Pulse
from common.ledger.rejections import RejectedBy
from common.ledger.states import RunState
from ops.doctor import State
from ops.find import HeldState, Kind
from ops.lost import Result as ChunkResult
from ops.poison import Result as PoisonResult
from ops.problems import GapResult
from ops.rejections import Result as RejectionResult
from ops.traces import Place

type Time = Annotated[datetime, Meta(tz=True)]


class Given(Struct, kw_only=True, forbid_unknown_fields=True):
    """Base of all answers: no field is optional."""


class Error(Given):
    """Why there is no answer."""

    error: str


class Acts(Given):
    """The name under which the caller's acts are recorded, and the acts that they may do."""

    name: str
    acts: list[str]


class Health(Given):
    """The verdict of the last pulse."""

    health: Verdict


class Problem(Given):
    """What stops or slows the whole feed, or a gap; it ends at `until`, unless it recurs."""

    kind: ProblemKind
    subject: str
    what: str
    since: Time
    last_seen: Time
    until: Time


class Problems(Given):
    """Problems."""

    problems: list[Problem]


class Arrived(Given):
    """How much of a run's sample was found in the workspace; null if this was not checked."""

    sampled: int | None
    arrived: int | None
    not_arrived: int | None
    arrived_after_seconds: float | None


class Arrival(Arrived):
    """The last check of the workspace, and how much of a run's sample has arrived.

    `run` is the newest run whose sample has begun to arrive, or should have.
    """

    checked_at: Time | None
    off: bool
    trouble: str
    run: str | None
    older: int | None
    different: int | None
    longest_seconds: float | None


class Run(Arrived):
    """A sync run and the outcomes of its indicators."""

    run: str
    state: RunState
    reason: str
    started_at: Time
    updated_at: Time
    pages: int
    resumed: int
    full: bool
    fetched: int
    filtered: int
    invalid: int
    unchanged: int
    older: int
    enqueued: int
    corrections: int
    accepted: int
    rejected: int
    struck: int
    poisoned: int
    pending: int
    balanced: bool
    accepted_after_seconds: float | None


class Status(Given):
    """The verdict, what is wrong, the backlog, problems and the latest runs."""

    health: Verdict
    findings: list[str]
    now: Time
    paused_until: Time | None
    paused_by: str | None
    sync_requested_at: Time | None
    sync_requested_by: str | None
    full_requested_at: Time | None
    queue_depth: int
    oldest_due: Time | None
    drain_minutes: float | None
    last_success: Time | None
    poison_kept: int
    poison_queue_depth: int
    arrival: Arrival
    problems: list[Problem]
    runs: list[Run]


class Runs(Given):
    """Runs, the newest first."""

    runs: list[Run]


class Pulses(Given):
    """Pulses, the newest first."""

    pulses: list[Pulse]


class PoisonEntry(Given):
    """A message that was given up, without the message itself."""

    poison: str
    state: PoisonState
    indicators: int
    attempts: int
    by: PoisonedBy
    first_at: Time
    last_at: Time
    settled_at: Time | None
    settled_by: str
    note: str
    reason: str


class OneRun(Given):
    """A run, its chunks by state, its kept poison, and how many rejections it has."""

    run: Run
    chunks: dict[str, int]
    poison: list[PoisonEntry]
    rejections: int


class PoisonGroup(Given):
    """All poison of one reason."""

    reason: str
    messages: int
    indicators: int
    first_at: Time
    last_at: Time
    sample: str


class PoisonPage(Given):
    """A page of poison, the oldest run first.

    `total`, `indicators` and `groups` count all pages, and are only on the first page.
    """

    total: int | None
    indicators: int | None
    groups: list[PoisonGroup]
    poison: list[PoisonEntry]
    next: str | None


class PoisonAttempt(Given):
    """A delivery that failed."""

    at: str
    reason: str


class PoisonIndicator(Given):
    """An indicator of a message, its outcome (`is`), and Sentinel's reason (`words`)."""

    index: int
    indicator: str
    pattern: str
    is_: str = field(name="is")
    named_at: Time | None
    words: str


class OnePoison(PoisonEntry):
    """Everything about a message; `records` is empty if it cannot be read."""

    history: list[PoisonAttempt]
    records: list[PoisonIndicator]
    message: str


class Rejection(Given):
    """A record that is not in Sentinel; `wished_at` is when an operator asked for it once more."""

    rejection: str
    at: Time
    by: RejectedBy
    indicator: str
    pattern: str
    reason: str
    wished_at: Time | None
    wished_by: str


class OneRejection(Rejection):
    """A record that is not in Sentinel; `content` is its JSON, as far as it was kept."""

    content: str


class RejectionPage(Given):
    """A page of rejections, the newest first; `total` is of all pages.

    An invalid record that Lumen lists again between two pages becomes the newest: these pages may
    miss it.
    """

    total: int
    rejections: list[Rejection]
    next: str | None


class HeldIndicator(Given):
    """What Sentinel holds of an indicator, by its newest row there; null: the row lacks it."""

    state: HeldState
    indicator: str
    value: str
    confidence: int | None
    is_active: bool | None
    is_revoked: bool | None
    is_deleted: bool | None
    valid_from: Time | None
    valid_until: Time | None
    modified: Time | None
    seen_at: Time | None
    is_republished: bool


class FoundInWorkspace(Given):
    """What the workspace holds; if it was not asked, `why_not` says why."""

    was_asked: bool
    why_not: str
    held: list[HeldIndicator]
    has_more: bool


class FoundTrace(Given):
    """A version of an indicator: where it is, in one word and in a sentence."""

    is_: Place = field(name="is")
    where: str
    what: str
    modified: Time | None


class FoundIndicator(Given):
    """What the ledger knows of an indicator."""

    indicator: str
    is_: Place = field(name="is")
    what: str
    traces: list[FoundTrace]


class FoundInLedger(Given):
    """What the ledger knows; `is_whole`: there was time to read all of it.

    `has_more`: more ids are known for the value than were looked up.
    """

    is_whole: bool
    has_more: bool
    indicators: list[FoundIndicator]


class Found(Given):
    """Everything that is known of an address, a domain or an indicator."""

    asked: str
    kind: Kind
    workspace: FoundInWorkspace
    ledger: FoundInLedger


class RecordedAct(Given):
    """What an operator did; while `result` is empty, it is under way, or was cut short."""

    at: Time
    by: str
    act: str
    on: str
    note: str
    result: str


class RecordedActs(Given):
    """What operators did, the newest first."""

    acts: list[RecordedAct]


class DoctorLine(Given):
    """One thing that was checked, what was found, and what to do about a problem."""

    name: str
    state: State
    text: str
    remedy: str


class Doctor(Given):
    """Checks of everything that the feed needs; `is_well`: no line is a problem."""

    is_well: bool
    lines: list[DoctorLine]


class Slice(Given):
    """What was done in this call, and how many are left: call again with `next` as `after`.

    For poison, `remaining` is exact in the first slice. In later slices it is a lower bound.
    """

    totals: dict[str, int]
    remaining: int
    next: str | None


class PoisonDone(Given):
    """A message and what was done with it."""

    poison: str
    indicators: int
    result: PoisonResult


class PoisonSlice(Slice):
    """Messages that were dealt with in this call."""

    handled: list[PoisonDone]


class RejectionDone(Given):
    """A rejection and what was done with it."""

    rejection: str
    indicator: str
    result: RejectionResult


class RejectionSlice(Slice):
    """Rejections that were dealt with in this call."""

    handled: list[RejectionDone]


class ChunkDone(Given):
    """A chunk, how many of its indicators wait, and what was done with it."""

    chunk: str
    indicators: int
    result: ChunkResult


class ChunkSlice(Slice):
    """Chunks that were dealt with in this call."""

    handled: list[ChunkDone]


class GapDone(Given):
    """A run and what was done with its gap."""

    run: str
    result: GapResult


class GapSlice(Slice):
    """Gaps that were dealt with in this call."""

    handled: list[GapDone]


class Rescued(Given):
    """How many messages were brought back to the upload queue, and about how many are left.

    If `remaining` is above 0, call again.
    """

    count: int
    remaining: int


class Purged(Given):
    """How many records of each kind were removed.

    If `remaining` is above 0, at least that many are left: call again.
    """

    runs: int
    rejections: int
    poison: int
    pulses: int
    acts: int
    remaining: int


class Adopted(Given):
    """What was turned over to `destination`; if nothing was, `waits` may say why.

    `left` has the number of chunks of each earlier destination. `changed` is the number of chunks
    that were skipped, because their rows changed at that moment. At least `remaining` chunks were
    not reached. Call again for both.
    """

    destination: str
    chunks: int
    indicators: int
    left: dict[str, int]
    changed: int
    waits: str
    remaining: int


class SyncAsked(Given):
    """When a run was asked for; or whether the request was withdrawn."""

    requested_at: Time | None
    full: bool
    taken_back: bool


class Paused(Given):
    """Until when the feed is paused, and by whom."""

    paused_until: Time
    by: str


class Resumed(Given):
    """Whether a pause was on."""

    was_paused: bool
