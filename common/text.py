"""Foreign text, before it is kept, logged or sent on: one line, limited length, harmless letters.

Services and messages may contain anything: line breaks that would fake a log line, letters that a
store refuses, a page instead of a word. Each function says which letters it accepts.
"""

from typing import Final

MAX_TEXT: Final = 300
"""Characters of any one text in a log line, and of a reason or name in a row."""


def cut(text: str) -> str:
    """Return `text` on one line, at most `MAX_TEXT` characters, with a mark if it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_TEXT else line[: MAX_TEXT - 1] + "…"


def printable_line(text: str, *, limit: int) -> str:
    """Return `text` on one line, cut, in printable letters, which every store accepts."""
    line = " ".join(text.split())[:limit]
    return "".join(c if c.isprintable() else "?" for c in line)


def ascii_line(text: str, *, limit: int) -> str:
    """Return `text` on one line, cut, in printable ASCII: one character, one byte, no escapes."""
    line = " ".join(text.split())
    shown = "".join(c if " " <= c <= "~" and c not in '"\\' else "?" for c in line[:limit])
    return shown.rstrip()


def ascii_only(text: str, *, limit: int) -> str:
    """Return `text` cut, with a question mark for each letter beyond ASCII."""
    return text.encode("ascii", "replace").decode()[:limit]
