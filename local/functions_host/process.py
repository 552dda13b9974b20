"""Starts a Functions host as a process of its own, for tests and the demo.

The child's environment is built from nothing: the few variables a Python process needs, the app
settings it is given, and `PYTHONPATH`. A secret of the caller cannot leak into it. `kill` is a
SIGKILL, as when an instance dies; `terminate` drains.
"""

import json
import os
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import requests

PROJECT_ROOT = Path(__file__).resolve().parents[2]
CLOCK_SKEW_FOLDER = Path(__file__).parent / "clock_skew"
CLOCK_SKEW_VARIABLE = "LOCAL_CLOCK_SKEW"
"""Seconds by which the clock of a host is wrong; only a process that has it gets the folder."""

READY_WITHIN = 180.0
"""Seconds; one that ends before it listens is not waited for."""
# What a Python process needs from its parent; all else is given explicitly.
INHERITED = (
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "TZ",
    "SYSTEMROOT",
    "COVERAGE_PROCESS_START",
)


class HostFailedError(Exception):
    """The host did not become ready; the message holds the end of its log."""


class HostProcess:
    """One running host. `with HostProcess.start(app, env, log_path=...) as host: ...`"""

    def __init__(
        self, process: subprocess.Popen[str], *, log_path: Path, host_key: str, master_key: str
    ) -> None:
        self.process = process
        self.log_path = log_path
        self.host_key = host_key
        self.master_key = master_key
        self.url = ""
        self.functions: list[str] = []
        self.function_keys: dict[str, str] = {}
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    @classmethod
    def start(
        cls,
        app_dir: Path,
        env: Mapping[str, str],
        *,
        log_path: Path,
        timers: bool = False,
        queue_lease: float | None = None,
        drain: float | None = None,
        timer_status: Path | None = None,
        storage_patience: float | None = None,
        ready_within: float = READY_WITHIN,
    ) -> Self:
        """Start a host and wait until it listens. Raises HostFailedError.

        With `storage_patience` it ends itself when storage refuses a call, or is away for so many
        seconds. `timer_status` is the folder in which its timers remember when they ran.
        """
        host_key, master_key = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        command = [sys.executable, "-m", "local.functions_host", "--app", str(app_dir.resolve())]
        command += [f"--host-key={host_key}", f"--master-key={master_key}"]
        command += [] if timers else ["--no-timers"]
        command += [] if queue_lease is None else [f"--queue-lease={queue_lease}"]
        command += [] if drain is None else [f"--drain={drain}"]
        command += [] if timer_status is None else [f"--timer-status={timer_status}"]
        if storage_patience is not None:
            command += ["--stop-on-storage-error", f"--storage-patience={storage_patience}"]
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=app_dir,
                env=child_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        host = cls(process, log_path=log_path, host_key=host_key, master_key=master_key)
        try:
            host._wait_until_ready(ready_within)
        except BaseException:  # an interruption, too, must not leave it behind
            host.kill()
            raise
        return host

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call the app with the host key, which opens every function."""
        headers = {"x-functions-key": self.host_key, **options.pop("headers", {})}
        options.setdefault("timeout", 60)
        return requests.request(method, self.url + path, headers=headers, **options)  # noqa: S113

    def get(self, path: str, **options: Any) -> requests.Response:
        return self.request("GET", path, **options)

    def admin(self, method: str, path: str, **options: Any) -> requests.Response:
        """Call an admin endpoint with the master key."""
        return self.request(method, path, headers={"x-functions-key": self.master_key}, **options)

    def invoke_admin(self, name: str, text: str = "") -> None:
        """Run a function that is not an HTTP one, in the background."""
        answer = self.admin("POST", f"/admin/functions/{name}", json={"input": text})
        answer.raise_for_status()

    def log_text(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def kill(self) -> None:
        """SIGKILL: nothing is cleaned up, leases stay until they expire."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout: float = 60.0) -> int:
        """SIGTERM, and the exit status when the host has drained."""
        self.process.terminate()
        return self.process.wait(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.alive:
            try:
                self.terminate(timeout=10)
            except subprocess.TimeoutExpired:
                self.kill()

    def _read_output(self) -> None:
        """Take the ready line from standard output; anything else goes to the log."""
        if self.process.stdout is None:
            return
        with self.process.stdout as output, self.log_path.open("a", encoding="utf-8") as log:
            for line in output:
                if not self._ready.is_set() and line.startswith('{"ready"'):
                    ready = json.loads(line)
                    self.url = f"http://127.0.0.1:{ready['port']}"
                    self.functions = ready["functions"]
                    self.function_keys = ready["keys"]
                    self._ready.set()
                else:
                    log.write(line)
                    log.flush()

    def _wait_until_ready(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not self._ready.wait(0.05):
            if self.alive and time.monotonic() < deadline:
                continue
            self._reader.join(0 if self.alive else seconds)
            if self._ready.is_set():  # it was, and has ended itself since
                return
            status = self.process.poll()
            story = "is not ready" if status is None else f"ended with status {status}"
            self.kill()
            tail = "\n".join(self.log_text().splitlines()[-20:])
            raise HostFailedError(f"the functions host {story}:\n{tail}")


def child_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a host process with these app settings."""
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    folders = [str(CLOCK_SKEW_FOLDER)] if CLOCK_SKEW_VARIABLE in settings else []
    path = os.pathsep.join([*folders, str(PROJECT_ROOT)])
    return {**inherited, "PYTHONUNBUFFERED": "1", **settings, "PYTHONPATH": path}
