"""Faults: what a simulator does instead of, or besides, answering well.

Promise: a fault is a value; which requests it meets is decided in one pure place,
:meth:`FaultRule.meets`, and what it means for an answer is carried out by the simulator's server.
Not obvious: rules are asked in the order they were injected. :class:`Delay` and :class:`Call` let
the request go on to the later rules; every other effect ends the walk, so that two rules
``Answer(500)`` and ``Answer(503)`` meet the first and the second request, not both the first.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from local.http_server import Request


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer this, without asking the simulated service (nothing is accepted)."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | str = b""


@dataclass(frozen=True, slots=True)
class Delay:
    """Wait this many seconds, then carry on."""

    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Send the normal answer's header and true Content-Length, then close after so many bytes."""

    after_bytes: int


@dataclass(frozen=True, slots=True)
class Trickle:
    """Send the normal answer's header, then its body a byte at a time, so many seconds apart.

    ``with_head``: the header comes a byte at a time, too.
    """

    seconds: float
    with_head: bool = False


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection; the service never sees the request."""


@dataclass(frozen=True, slots=True)
class DoThenReset:
    """Let the service do its work, then reset the connection: accepted, but without an answer."""


@dataclass(frozen=True, slots=True)
class DoThenStall:
    """Let the service do its work, then answer so late that the caller has given up."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Call:
    """Call a function with the request, before the service sees it or after, then carry on.

    ``after`` means: the work is done, the answer is not yet sent. A test kills a process here.
    """

    hook: Callable[[Request], object]
    when: Literal["before", "after"] = "before"


PassingEffect = Delay | Call
FinalEffect = Answer | Cut | Trickle | Reset | DoThenReset | DoThenStall
Effect = PassingEffect | FinalEffect


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Which requests, which of them in order of arrival, and what happens to them.

    All given conditions must hold. ``path`` is a substring, or a compiled pattern to search for.
    The first ``after`` matching requests are spared, the next ``times`` are met; ``None`` means
    every one from then on.
    """

    effect: Effect
    method: str | None = None
    path: str | re.Pattern[str] | None = None
    when: Callable[[Request], bool] | None = None
    after: int = 0
    times: int | None = 1

    def matches(self, request: Request) -> bool:
        """Whether the request is one that this fault counts."""
        if self.method is not None and request.method != self.method:
            return False
        match self.path:
            case None:
                pass
            case str(part) if part not in request.path:
                return False
            case re.Pattern() as pattern if not pattern.search(request.path):
                return False
        return self.when is None or self.when(request)


class FaultRule:
    """An injected fault and its count. Only the owner of its lock may ask :meth:`meets`."""

    def __init__(self, fault: Fault, *, remove: Callable[["FaultRule"], None]) -> None:
        self.fault = fault
        self.hits = 0
        """How many requests have met this fault."""
        self._seen = 0
        self._remove = remove

    def remove(self) -> None:
        """Take the fault away; twice is allowed."""
        self._remove(self)

    def meets(self, request: Request) -> bool:
        """Count the request if it matches, and say whether the fault happens to it."""
        fault = self.fault
        if not fault.matches(request):
            return False
        self._seen += 1
        if self._seen <= fault.after:
            return False
        if fault.times is not None and self.hits >= fault.times:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What one request is going to meet."""

    passing: tuple[PassingEffect, ...] = ()
    final: FinalEffect | None = None


def plan_faults(rules: list[FaultRule], request: Request) -> FaultPlan:
    """Ask the rules in order; the first final effect hides the request from the later rules."""
    passing: list[PassingEffect] = []
    for rule in rules:
        if not rule.meets(request):
            continue
        effect = rule.fault.effect
        if isinstance(effect, Delay | Call):
            passing.append(effect)
        else:
            return FaultPlan(tuple(passing), effect)
    return FaultPlan(tuple(passing))
