"""The Python locks as pip reads them: requirements, and the hashes that each must have."""

import re
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
_HASH = re.compile(r"\s--hash=(\S+)")


@dataclass(frozen=True, slots=True)
class Locked:
    """A requirement of a lock and the hashes of its files."""

    requirement: Requirement
    hashes: tuple[str, ...]


def read_lock(lock: str) -> list[Locked]:
    """Return what a lock holds, in order; any other kind of line is a parse error."""
    text = (ROOT / lock).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    return [Locked(Requirement(_HASH.sub("", line)), tuple(_HASH.findall(line))) for line in lines]


def requirements_of(lock: str) -> list[Requirement]:
    """Return the requirements of a lock."""
    return [locked.requirement for locked in read_lock(lock)]
