"""The program as a process: terminals, pipes, disks, and the packages that it may need."""

import os
import pty
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import packages_distributions
from pathlib import Path
from types import MappingProxyType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from common.errors import UnavailableError
from common.ledger.states import RunState
from ops.cli import direct
from ops.cli.direct import DirectTransport
from ops.cli.ending import BAD_NEWS, GOOD, WRONG
from tests.fakes.clock import FakeClock
from tests.patience import PATIENCE
from tests.unit.ops.cli.program import KEY, directly, operate, served
from tests.unit.ops.samples import Bench

ROOT = Path(__file__).parents[4]

ASCII = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C"}

WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

REFUSED = set(sys.argv.pop(1).split(","))
sys.meta_path.insert(0, Refuse())
from ops.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve a feed of which the last run failed, for a reason in letters beyond ASCII."""
    bench = Bench()
    bench.run(RunState.FAILED, reason="Lumen n\N{LATIN SMALL LETTER E WITH ACUTE}ant")
    with served(bench.toolbox) as address:
        yield address


def start(
    url: str,
    *arguments: str,
    program: tuple[str, ...] = ("-m", "ops"),
    more: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run the program against an app."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        cwd=ROOT,
        env={**environment_of(url), **more},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def environment_of(url: str) -> dict[str, str]:
    """Return the environment of a laptop that knows an app and its key."""
    return {"LUMEN_SENTINEL_URL": url, "LUMEN_SENTINEL_KEY": KEY, "PATH": os.environ["PATH"]}


def modules_of(extra: str) -> set[str]:
    """Return the top-level modules that an extra of the project adds to the program's packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    added = {
        canonicalize_name(Requirement(line).name)
        for line in project["optional-dependencies"][extra]
    } - names
    return {
        module
        for module, distributions in packages_distributions().items()
        if {canonicalize_name(name) for name in distributions} & added and module != "azure"
    }


def test_over_http_nothing_is_imported_that_runs_in_azure(url: str) -> None:
    """Neither `isal`, `msgspec`, numpy nor the storage's libraries need be installed."""
    refused = modules_of("azure")
    assert refused >= {"isal", "msgspec", "numpy", "orjson"}
    program = ("-c", WITHOUT, ",".join(sorted(refused | {"azure", "msal"})))
    for command in (["status"], ["runs", "--csv"], ["poison", "replay", "--all"], ["--help"]):
        done = start(url, *command, program=program)
        assert done.returncode in {GOOD, BAD_NEWS}, done.stderr
        assert done.stderr == ""


@pytest.mark.parametrize("package", ["cyclopts", "msgspec"])
def test_a_missing_package_is_named(package: str) -> None:
    """With the way to install it: those of the program, and those next to the storage."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, package, "status"],
        cwd=ROOT,
        env={"PipelineStorage": "UseDevelopmentStorage=true", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == WRONG
    assert f"the Python package {package} is not installed" in done.stderr
    assert "pipx install" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_ascii_terminal_is_enough(url: str) -> None:
    """What it cannot print is spelled out, tables and help included."""
    for command in (["runs"], ["status", "--json"], ["runs", "--csv"], ["--help"]):
        done = start(url, *command, more=ASCII)
        assert done.returncode in {GOOD, BAD_NEWS}
        assert done.stdout.isascii()
        assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_one_message(url: str) -> None:
    """The answer is lost, so the exit status is not good; there is no traceback."""
    for command in ("runs", "runs --json", "--version"):
        with Path("/dev/full").open("w", encoding="utf-8") as full:
            done = subprocess.run(
                [sys.executable, "-m", "ops", *command.split()],
                cwd=ROOT,
                env=environment_of(url),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
        assert done.returncode == BAD_NEWS, command
        assert done.stderr.strip() == (
            "lumen-sentinel: the output cannot be written: No space left on device"
        )


def test_a_closed_pipe_is_no_failure(url: str) -> None:
    """As with `| head -0`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "ops", "runs", "--json"],
            cwd=ROOT,
            env=environment_of(url),
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (GOOD, "")


@pytest.mark.parametrize(
    ("environment", "coloured"),
    [({"TERM": "xterm-256color"}, True), ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False)],
)
def test_colour_is_for_terminals(url: str, environment: dict[str, str], coloured: bool) -> None:
    """And not for those with NO_COLOR; a pipe gets none."""
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "ops", "status"],
        cwd=ROOT,
        env=environment_of(url) | environment,
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        stderr=subprocess.PIPE,
    )
    os.close(terminal)
    shown = b""
    try:
        while piece := os.read(controller, 4096):
            shown += piece
    except OSError:  # the other side is closed
        pass
    finally:
        os.close(controller)
    process.communicate(timeout=PATIENCE)
    assert b"the feed is DEGRADED" in shown
    assert (b"\x1b[1;33m" in shown) is coloured
    assert "\x1b" not in start(url, "status", more=environment).stdout


def test_the_help_has_the_exit_statuses_and_the_version() -> None:
    """And completion can be installed."""
    help_text = " ".join(start("", "--help").stdout.split())
    assert "Exit status: 0 all is well" in help_text
    assert "--install-completion" in help_text
    assert start("", "--version").stdout.strip().count(".") == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_is_installed(shell: str, tmp_path: Path) -> None:
    """In the home folder: commands, their commands and their options."""
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    done = start("", "--install-completion", "--shell", shell, more=home)
    assert (done.returncode, done.stderr) == (GOOD, "")
    texts = [path.read_text("utf-8") for path in tmp_path.rglob("*") if path.is_file()]
    (script,) = [text for text in texts if "rejections" in text]
    assert all(word in script for word in ("lumen-sentinel", "replay", "dry-run", "watch"))


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """In one message."""
    (tmp_path / "file").write_text("")
    home = {"HOME": str(tmp_path / "file"), "XDG_CONFIG_HOME": str(tmp_path / "file")}
    done = start("", "--install-completion", "--shell", "bash", more=home)
    assert (done.returncode, done.stderr.count("\n")) == (BAD_NEWS, 1)
    assert f"{tmp_path / 'file'}" in done.stderr


class Interrupted(FakeClock):
    """A clock: `waits` happen in its first waits, and in the one after them comes a Ctrl-C."""

    def __init__(self, *waits: Callable[[], object]) -> None:
        super().__init__()
        self._waits = iter(waits)

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        wait = next(self._waits, None)
        if wait is None:
            raise KeyboardInterrupt
        wait()


def test_watching_goes_on_until_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look shows how the feed is then; one that fails is said; the last one's status stays."""
    bench = Bench()

    def fail(_table: str, _operation: str) -> None:
        raise UnavailableError("table runs is away")

    def storage_goes() -> None:
        bench.tables.before = fail

    def storage_comes() -> None:
        bench.tables.before = lambda _table, _operation: None

    clock = Interrupted(bench.run, storage_goes, storage_comes)
    monkeypatch.setattr("ops.cli.looking.SystemClock", lambda: clock)
    ended = directly(bench.toolbox, "status", "--watch")
    looks = [line for line in ended.out.splitlines() if line.startswith("the feed is")]
    assert looks == ["the feed is DOWN", *["the feed is HEALTHY"] * 2]
    assert ended.err.count("every 15 s; Ctrl-C ends it") == 4
    assert ended.err.count("table runs is away") == 1
    assert ended.status == GOOD


def test_watching_history_shows_the_pulses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, too; the first look fails at once if it cannot be had."""
    bench = Bench()
    monkeypatch.setattr("ops.cli.looking.SystemClock", Interrupted)
    ended = directly(bench.toolbox, "status", "--history", "1", "--watch")
    assert (ended.status, ended.out) == (GOOD, "no pulse was written in that time\n")

    def fail(_table: str, _operation: str) -> None:
        raise UnavailableError("table pulses is away")

    bench.tables.before = fail
    ended = directly(bench.toolbox, "status", "--history", "1", "--watch")
    assert (ended.status, ended.out) == (WRONG, "")
    assert "every 15 s" not in ended.err


def test_storage_that_never_answers_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """In time, with its host and where to look."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/a"
        monkeypatch.setenv(
            "PipelineStorage",
            f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey=a2V5;"
            f"QueueEndpoint={address};TableEndpoint={address}",
        )
        monkeypatch.setattr("ops.cli.direct.READ_WITHIN", 0.5)
        ended = operate(DirectTransport(by="ann"), "status")
    assert (ended.status, ended.out) == (WRONG, "")
    assert f"the storage is {address.removeprefix('http://')[:-2]}" in ended.err
    assert "private DNS" in ended.err


@pytest.mark.parametrize(
    ("environment", "host"),
    [
        ({"PipelineStorage__tableServiceUri": "https://t.example"}, "t.example"),
        ({"PipelineStorage": "AccountName=a;EndpointSuffix=s.example"}, "a.table.s.example"),
        ({"PipelineStorage": "UseDevelopmentStorage=true"}, "the one of PipelineStorage"),
    ],
)
def test_the_hint_names_the_host(environment: dict[str, str], host: str) -> None:
    """Whatever form the settings have; no key is in it."""
    assert direct.hint(environment).startswith(f"the storage is {host}:")


def test_settings_that_are_wrong_are_named() -> None:
    """Next to the storage, too."""
    done = subprocess.run(
        [sys.executable, "-m", "ops", "status"],
        cwd=ROOT,
        env={"PipelineStorage": "nonsense", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == WRONG
    assert "PipelineStorage" in done.stderr
    assert "Traceback" not in done.stderr
