"""Who decided something, and why: what an operator's commands write beside what they do."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Who decided, and why."""

    by: str = ""
    note: str = ""

    @property
    def signed(self) -> str:
        """Both in one line."""
        return f"{self.by}: {self.note}" if self.note else self.by


UNSIGNED: Final = Decision()
