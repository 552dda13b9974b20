"""Bicep's compiler as one process that answers question after question.

`bicep jsonrpc` takes requests on its input, each with a header that says how long it is, and gives
answers the same way: a second a question instead of three for a process each. It is found on the
path. It sees nothing of the caller's environment but what it needs to run, so that no key of the
person who compiles gets into a snapshot.
"""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

BICEP_VERSION: Final = "0.49.2"
"""The one version whose outputs are committed: another one writes them differently."""

PLACE: Final = {
    "tenantId": "00000000-0000-0000-0000-000000000002",
    "subscriptionId": "00000000-0000-0000-0000-000000000001",
    "resourceGroup": "lumen-feed",
    "location": "eastus2",
    "deploymentName": "main",
}
"""Where a snapshot pretends to be deployed to."""

VARIABLES: Final = {
    "AZURE_LOCATION": "eastus2",
    "SENTINEL_WORKSPACE_RESOURCE_ID": "workspace",
}
"""What bicep/main.bicepparam has no default for."""

PASSED_ON: Final = ("HOME", "PATH", "SYSTEMROOT", "TEMP", "TMPDIR")


class CompilerMissingError(Exception):
    """There is no compiler, or not the one whose outputs are committed; says what to do."""


class RefusedError(Exception):
    """The template refuses its input: what it says."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """An output, and every diagnostic as `file:line: level code: text`."""

    contents: str
    diagnostics: list[str]


class Compiler:
    """The running compiler; a context manager that ends it."""

    def __init__(self) -> None:
        """Start it. Raises `CompilerMissingError` where it is not there, or of another version."""
        program = shutil.which("bicep")
        if program is None:
            raise CompilerMissingError(
                f"no bicep on the path; install version {BICEP_VERSION} and put it there"
            )
        environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        self._process = subprocess.Popen(  # noqa: S603 - the compiler, by its whole path
            [program, "jsonrpc", "--stdio"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment | VARIABLES | {"DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
        )
        self._asked = 0
        found = self._ask("version")["version"]
        if found != BICEP_VERSION:
            self.close()
            raise CompilerMissingError(
                f"bicep on the path is version {found}; the outputs are of {BICEP_VERSION}: "
                f"install that one"
            )

    def __enter__(self) -> Self:
        """Give the compiler itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self.close()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.terminate()
        self._process.wait(timeout=30)

    def compile(self, path: Path) -> Compiled:
        """Return the ARM template of a file, or nothing but the diagnostics of a parameter file."""
        if path.suffix == ".bicep":
            answer = self._ask("compile", path=str(path))
        else:
            answer = self._ask("compileParams", path=str(path), parameterOverrides={})
        found = [
            f"{Path(item['source']).name}:{item['range']['start']['line'] + 1}: "
            f"{item['level']} {item['code']}: {item['message']}"
            for item in answer["diagnostics"]
        ]
        return Compiled(contents=answer.get("contents") or "", diagnostics=found)

    def format(self, path: Path) -> str:
        """Return a file as the formatter writes it."""
        return str(self._ask("format", path=str(path))["contents"])

    def snapshot(self, path: Path) -> dict[str, Any]:
        """Return what a deployment of a parameter file would make.

        Raises `RefusedError` where the template refuses the parameters.
        """
        try:
            answer = self._ask("getSnapshot", path=str(path), metadata=PLACE)
        except RefusedError:
            errors = [item for item in self.compile(path).diagnostics if " Error " in item]
            if not errors:
                raise
            raise RefusedError("; ".join(errors)) from None  # "Compilation failed" says less
        found: dict[str, Any] = json.loads(answer["snapshot"])
        return found

    def _ask(self, method: str, **parameters: object) -> Any:
        assert self._process.stdin is not None  # noqa: S101 - both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._asked += 1
        request = {
            "jsonrpc": "2.0",
            "id": self._asked,
            "method": f"bicep/{method}",
            "params": parameters,
        }
        body = json.dumps(request).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
        self._process.stdin.flush()
        length = 0
        while line := self._process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        if not length:
            raise CompilerMissingError(f"bicep ended at {method}; try it by hand: bicep --version")
        answer = json.loads(self._process.stdout.read(length))
        if "error" in answer:
            raise RefusedError(answer["error"]["message"])
        return answer["result"]
