"""Every operation of the operators' API: method, path, parameters, function.

A path may have names in braces: that part of the path is a parameter of that name; the last one may
contain slashes. Over HTTP `/api/` goes before a path.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ops.api import acting, parameters, reading
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


READS: Final = (
    Read(path="read/status", takes=parameters.Status, do=reading.status),
    Read(path="read/runs", takes=parameters.RunList, do=reading.runs),
    Read(path="read/runs/{id}", takes=parameters.OneRun, do=reading.run),
    Read(path="read/pulses", takes=parameters.PulseList, do=reading.pulses),
    Read(path="read/problems", takes=parameters.ProblemList, do=reading.problems),
    Read(path="read/poison", takes=parameters.PoisonList, do=reading.poison_list),
    Read(path="read/poison/{id}", takes=parameters.OnePoison, do=reading.poison_one),
    Read(
        path="read/rejections",
        takes=parameters.RejectionList,
        do=reading.rejection_list,
        csv="rejections",
    ),
    Read(path="read/find", takes=parameters.Search, do=reading.find_one),
    Read(path="read/acts", takes=parameters.ActList, do=reading.act_list),
    Read(path="read/doctor", takes=Parameters, do=reading.doctor, needs_toolbox=False),
)

WRITES: Final = (
    Write(path="act/poison/replay", takes=parameters.PoisonAct, do=acting.replay),
    Write(path="act/poison/discard", takes=parameters.PoisonAct, do=acting.discard),
    Write(path="act/poison/rescue", takes=parameters.Act, do=acting.bring_back),
    Write(path="act/rejections/retry", takes=parameters.RejectionAct, do=acting.retry),
    Write(path="act/chunks/lost", takes=parameters.ChunkAct, do=acting.lose),
    Write(path="act/sync", takes=parameters.SyncAct, do=acting.sync_now),
    Write(path="act/pause", takes=parameters.PauseAct, do=acting.pause_feed),
    Write(path="act/resume", takes=parameters.Act, do=acting.resume_feed),
    Write(path="act/ack", takes=parameters.GapAct, do=acting.acknowledge_gaps),
    Write(path="act/purge", takes=parameters.PurgeAct, do=acting.remove_old),
    Write(path="act/destination/adopt", takes=parameters.DryAct, do=acting.adopt_chunks),
)
