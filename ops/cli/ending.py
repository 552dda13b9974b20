"""How a command ends: its exit status, and the failures that end it early."""

from typing import Final

GOOD: Final = 0
BAD_NEWS: Final = 1
WRONG: Final = 2
INTERRUPTED: Final = 130
"""What a shell reports of a command that SIGINT ended."""

STATUSES: Final = (
    "Exit status: 0 all is well and done; 1 bad news (the feed is not healthy, a problem is open, "
    "a run failed) or something asked for was not done; 2 the command is wrong or cannot be "
    "answered; 130 interrupted."
)


class Failure(Exception):
    """The command ends here; the text says why and what to do, in one message."""

    def __init__(self, text: str, *, status: int = WRONG) -> None:
        super().__init__(text)
        self.status = status


class MissingError(Failure):
    """There is no such thing."""
