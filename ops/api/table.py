"""Every operation of the operators' API: method, path, parameters, function.

A path may have names in braces: that part of the path is a parameter of that name; the last one may
contain slashes. Over HTTP `/api/` goes before a path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ops.api import acting, answers, parameters, reading
from ops.api.answers import Given
from ops.api.parameters import Act, Parameters
from ops.api.reading import Answer
from ops.callers import Caller
from ops.toolbox import Toolbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An operation that only reads: `GET read/…`."""

    path: str
    takes: type[Parameters]
    do: Callable[[Any, Any], Answer]
    """Takes the toolbox, or None where `needs_toolbox` is not set, and the parameters."""
    answers: type[Given]
    """The fields of its answer."""
    needs_toolbox: bool = True
    """False for operations that must answer even while the storage settings are wrong."""
    csv: str = ""
    """The list of the answer that is returned as CSV where the caller wants that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """An operation that changes something: `POST act/…`. Each is recorded as an act."""

    path: str
    takes: type[Act]
    do: Callable[[Toolbox, Any, Caller], Answer]
    answers: type[Given]
    """The fields of its answer."""


READS: Final = (
    Read(
        path="read/status",
        takes=parameters.Status,
        do=reading.status,
        answers=answers.Status,
    ),
    Read(path="read/runs", takes=parameters.RunList, do=reading.runs, answers=answers.Runs),
    Read(path="read/runs/{id}", takes=parameters.OneRun, do=reading.run, answers=answers.OneRun),
    Read(
        path="read/pulses",
        takes=parameters.PulseList,
        do=reading.pulses,
        answers=answers.Pulses,
    ),
    Read(
        path="read/problems",
        takes=parameters.ProblemList,
        do=reading.problems,
        answers=answers.Problems,
    ),
    Read(
        path="read/poison",
        takes=parameters.PoisonList,
        do=reading.poison_list,
        answers=answers.PoisonPage,
    ),
    Read(
        path="read/poison/{id}",
        takes=parameters.OnePoison,
        do=reading.poison_one,
        answers=answers.OnePoison,
    ),
    Read(
        path="read/rejections",
        takes=parameters.RejectionList,
        do=reading.rejection_list,
        answers=answers.RejectionPage,
        csv="rejections",
    ),
    Read(
        path="read/rejections/{id}",
        takes=parameters.OneRejection,
        do=reading.rejection_one,
        answers=answers.OneRejection,
    ),
    Read(
        path="read/find",
        takes=parameters.Search,
        do=reading.find_one,
        answers=answers.Found,
    ),
    Read(
        path="read/acts",
        takes=parameters.ActList,
        do=reading.act_list,
        answers=answers.RecordedActs,
    ),
    Read(
        path="read/doctor",
        takes=parameters.Nothing,
        do=reading.doctor,
        answers=answers.Doctor,
        needs_toolbox=False,
    ),
)

WRITES: Final = (
    Write(
        path="act/poison/replay",
        takes=parameters.PoisonAct,
        do=acting.replay,
        answers=answers.PoisonSlice,
    ),
    Write(
        path="act/poison/discard",
        takes=parameters.PoisonAct,
        do=acting.discard,
        answers=answers.PoisonSlice,
    ),
    Write(
        path="act/poison/rescue",
        takes=parameters.Act,
        do=acting.bring_back,
        answers=answers.Rescued,
    ),
    Write(
        path="act/rejections/retry",
        takes=parameters.RejectionAct,
        do=acting.retry,
        answers=answers.RejectionSlice,
    ),
    Write(
        path="act/chunks/lost",
        takes=parameters.ChunkAct,
        do=acting.lose,
        answers=answers.ChunkSlice,
    ),
    Write(path="act/sync", takes=parameters.SyncAct, do=acting.sync_now, answers=answers.SyncAsked),
    Write(
        path="act/pause", takes=parameters.PauseAct, do=acting.pause_feed, answers=answers.Paused
    ),
    Write(path="act/resume", takes=parameters.Act, do=acting.resume_feed, answers=answers.Resumed),
    Write(
        path="act/ack",
        takes=parameters.GapAct,
        do=acting.acknowledge_gaps,
        answers=answers.GapSlice,
    ),
    Write(
        path="act/purge", takes=parameters.PurgeAct, do=acting.remove_old, answers=answers.Purged
    ),
    Write(
        path="act/destination/adopt",
        takes=parameters.DryAct,
        do=acting.adopt_chunks,
        answers=answers.Adopted,
    ),
)
