"""Watches every log line of the suite for what must never be in one.

Lines of this process pass a logging handler; those of host processes are in files, which the
worlds hand over in the end. Values that must not appear are registered while they exist; the
marks of an indicator's body are known beforehand.
"""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

BODY_MARKS = re.compile(r"stixobjects|spec_version|(ipv4-addr|domain-name):value *=")
CREDENTIAL_MARKS = re.compile(
    r"Bearer [A-Za-z0-9]|AccountKey=|x-functions-key\W+\w{8}", re.IGNORECASE
)


class LogGuard(logging.Handler):
    """Collects offences: lines with a secret, a credential or an indicator's body."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self._secrets: set[str] = set()
        self.offences: list[str] = []

    def forbid(self, secrets: Iterable[str]) -> None:
        """Make `secrets` offences from now on."""
        self._secrets.update(secrets)

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("asyncio", "faker", "hypothesis")):
            self.check(self.format(record), f"logger {record.name}")  # with the trace, if any

    def check_file(self, path: Path) -> None:
        """Check every line of a host's log."""
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            self.check(line, path.name)

    def check(self, line: str, source: str) -> None:
        """Check one line; what it holds is not repeated in the offence."""
        if BODY_MARKS.search(line):
            self.offences.append(f"{source}: an indicator's body")
        if CREDENTIAL_MARKS.search(line) or any(secret in line for secret in self._secrets):
            self.offences.append(f"{source}: a secret")
