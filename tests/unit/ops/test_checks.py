"""The doctor's checks: a border where all is well, and each fault with its line and remedy."""

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Never

import pytest
import requests

from common.errors import (
    ConflictError,
    CredentialError,
    PipelineError,
    StorageRefusedError,
    ThrottledError,
    UnavailableError,
)
from common.identity import SignIn
from common.kql import read_kql
from common.ledger.control import MAX_PAUSE, Control, Pause
from common.ledger.slots import Slots
from common.version import VERSION
from ops.checks import (
    ASKING,
    LEDGER_TABLES,
    MAX_SKEW,
    REPUBLISHED,
    Border,
    Reply,
    checks,
    republished,
)
from ops.doctor import Line, State, examine
from tests.bicep.test_settings import ledger_tables
from tests.fakes.clock import START, FakeClock
from tests.fakes.queue import FakeQueue
from tests.fakes.tables import FakeTables
from tests.unit.ops.samples import FakeWorkspace

ROOT = Path(__file__).parents[3]
GUID = "00000000-0000-4000-8000-000000000000"
SECRETS = ("lumen-secret", "entra-secret", "token-secret")
AUDIENCE = "https://management.azure.com"
ENVIRON = {
    "LUMEN_API_KEY": SECRETS[0],
    "CLIENT_SECRET": SECRETS[1],
    "WORKSPACE_ID": GUID,
    "TENANT_ID": GUID,
    "CLIENT_ID": GUID,
    "TEMPLATE_VERSION": VERSION,
    "PipelineStorage__queueServiceUri": "https://a.queue.core.windows.net",
    "PipelineStorage__tableServiceUri": "https://a.table.core.windows.net",
    "WEBSITE_SITE_NAME": "feed-app",
}


def jwt(audience: str) -> str:
    """Return a token for an audience."""
    claims = base64.urlsafe_b64encode(json.dumps({"aud": audience}).encode()).decode().rstrip("=")
    return f"header.{claims}.{SECRETS[2]}"


def well_asked(recent: int = 10, again: int = 4, older: int = 5) -> FakeWorkspace:
    """Return a workspace that answers how many rows there are."""
    workspace = FakeWorkspace()
    workspace.rows = [{"Recent": recent, "Republished": again, "Older": older}]
    return workspace


def unasked(error: PipelineError) -> Callable[["World"], None]:
    """Return the fault of a workspace that does not answer."""
    return lambda world: setattr(world.workspace, "failure", error)


def holding(*counts: int) -> Callable[["World"], None]:
    """Return the fault of a workspace with other counts."""
    return lambda world: setattr(world, "workspace", well_asked(*counts))


@dataclass
class World:
    """Everything behind the border; a fault changes one thing."""

    environ: dict[str, str] = field(default_factory=lambda: dict(ENVIRON))
    clock: FakeClock = field(default_factory=FakeClock)
    tables: FakeTables = field(default_factory=FakeTables)
    queue: FakeQueue = field(default_factory=FakeQueue)
    token: str | PipelineError = field(default_factory=lambda: jwt(AUDIENCE))
    replies: dict[str, Reply | Exception] = field(default_factory=dict)
    addresses: dict[str, list[str]] = field(default_factory=dict)
    host_json: Path = ROOT / "host.json"
    workspace: FakeWorkspace = field(default_factory=well_asked)
    asked: list[str] = field(default_factory=list)

    def ask(self, method: str, url: str, **_options: Any) -> Reply:
        """Answer a request."""
        self.asked.append(f"{method} {url}")
        for part, found in self.replies.items():
            if part in url:
                if isinstance(found, Exception):
                    raise found
                return found
        date = {"Date": format_datetime(self.clock.now())}
        status = 400 if method == "POST" else 404 if "query-status" in url else 200
        return Reply(status=status, headers=date)

    def resolve(self, name: str) -> list[str]:
        """Look a name up."""
        found = self.addresses.get(name, ["10.0.0.4"])
        if not found:
            raise OSError("no such name")
        return found

    def sign_in(self, _settings: SignIn, _audience: str) -> str:
        """Give a token."""
        if isinstance(self.token, PipelineError):
            raise self.token
        return self.token

    def lines(self) -> dict[str, Line]:
        """Examine; return the lines by name."""
        border = Border(
            environ=self.environ,
            clock=self.clock,
            ask=self.ask,
            resolve=self.resolve,
            token=self.sign_in,
            workspace=lambda: self.workspace,
            tables=lambda _storage: self.tables,
            queue=lambda _name, _storage: self.queue,
            host_json=self.host_json,
        )
        found = examine(checks(border))
        assert len({line.name for line in found}) == len(found)
        text = json.dumps([[line.text, line.remedy] for line in found])
        assert not any(secret in text for secret in SECRETS)
        return {line.name: line for line in found}


def raising(error: Exception) -> Callable[..., Never]:
    """Return what raises an error when it is called."""

    def call(*_: object, **__: object) -> Never:
        raise error

    return call


def test_all_is_well() -> None:
    """Every line is ok; one for each setting, queue and table; no query is started."""
    world = World()
    found = world.lines()
    assert {name for name, line in found.items() if line.state is not State.OK} == set()
    assert found["seen from"].text == "the app feed-app"
    assert found["setting LUMEN_API_KEY"].text == "set"
    assert found["setting MAX_PAGES"].text == "default"
    assert "private" in found["name of the queues"].text
    assert {f"table {name}" for name in ledger_tables()} <= set(found)
    assert sorted(LEDGER_TABLES) == sorted(set(ledger_tables()))
    (posted,) = [asked for asked in world.asked if asked.startswith("POST")]
    assert posted.startswith(f"POST https://api.ti.sentinel.azure.com/workspaces/{GUID}/threat")
    assert not list(world.tables.table("control").query("doctor"))
    assert Slots(world.tables, clock=world.clock, requests_per_minute=95).next_free()


def unset(name: str) -> Callable[[World], None]:
    """Return the fault of a setting that is missing."""
    return lambda world: world.environ.__delitem__(name)


def setting(name: str, value: str) -> Callable[[World], None]:
    """Return the fault of a setting that is wrong."""
    return lambda world: world.environ.__setitem__(name, value)


def reply(part: str, found: Reply | Exception | int) -> Callable[[World], None]:
    """Return the fault of a service that answers otherwise."""
    answer = Reply(status=found, headers={}) if isinstance(found, int) else found
    return lambda world: world.replies.__setitem__(part, answer)


def attribute(name: str, value: Any) -> Callable[[World], None]:
    """Return the fault of a world of which something is otherwise."""
    return lambda world: setattr(world, name, value)


def storage_refuses(error: PipelineError) -> Callable[[World], None]:
    """Return the fault of a storage account that refuses, or does not answer."""

    def spoil(world: World) -> None:
        world.tables.before = raising(error)
        world.queue.before_peek = raising(error)

    return spoil


LATE = {"Date": format_datetime(START - 2 * MAX_SKEW)}
DENIED = CredentialError("table control refused access (403); give the app's identity the role R")
AWAY = UnavailableError("table control cannot be reached")
NO_ROLE = CredentialError("the workspace denies queries (403): give the role")
P, N = State.PROBLEM, State.NOT_ASKED

FAULTS: list[tuple[str, Callable[[World], None], str, State, str]] = [
    ("may not ask", unasked(NO_ROLE), ASKING, P, "denies queries"),
    ("may not ask, so", unasked(NO_ROLE), REPUBLISHED, N, "does not answer"),
    ("is told to wait", unasked(ThrottledError("slow down (429)")), ASKING, P, "slow down (429)"),
    ("check off", setting("ARRIVAL_CHECK", "false"), ASKING, N, "ARRIVAL_CHECK is false"),
    ("no repetition", holding(10, 0, 5), REPUBLISHED, P, "though 5 older rows are valid"),
    ("no key", unset("LUMEN_API_KEY"), "setting LUMEN_API_KEY", P, "required"),
    ("no key to ask with", unset("LUMEN_API_KEY"), "Lumen", N, "LUMEN_API_KEY"),
    ("wrong number", setting("MAX_PAGES", "many"), "setting MAX_PAGES", P, "whole number"),
    (
        "wrong together",
        setting("RETRY_BASE_DELAY", "61"),
        "setting RETRY_BASE_DELAY",
        P,
        "not a number from",
    ),
    (
        "wrong only together",
        setting("RETRY_MAX_DELAY", "0.5"),
        "settings together",
        P,
        "above RETRY_MAX_DELAY",
    ),
    (
        "vault",
        setting("CLIENT_SECRET", "@Microsoft.KeyVault(VaultName=v;SecretName=s)"),
        "Key Vault references",
        P,
        "unresolved: CLIENT_SECRET",
    ),
    (
        "no storage",
        unset("PipelineStorage__queueServiceUri"),
        "storage settings",
        P,
        "queueServiceUri",
    ),
    ("no storage to ask", unset("PipelineStorage__queueServiceUri"), "queues", N, "Pipeline"),
    (
        "connection string",
        setting("PipelineStorage", "UseDevelopmentStorage=true"),
        "storage names",
        N,
        "no private endpoint",
    ),
    (
        "no name",
        attribute("addresses", {"a.queue.core.windows.net": []}),
        "name of the queues",
        P,
        "link the private DNS zone",
    ),
    ("no writing", storage_refuses(DENIED), "writing to a table", P, "refused access"),
    ("storage away", storage_refuses(AWAY), "table chunks", P, "private endpoints"),
    ("no slot", storage_refuses(AWAY), "upload", N, "no send slot"),
    ("the rest of it", storage_refuses(AWAY), "table control", N, "does not answer"),
    (
        "secret expired",
        attribute("token", CredentialError("no token (AADSTS7000222): CLIENT_SECRET has expired")),
        "token",
        P,
        "CLIENT_SECRET has expired",
    ),
    ("no token", attribute("token", UnavailableError("no token: away")), "upload", N, "no token"),
    ("audience", attribute("token", jwt("https://graph.microsoft.com")), "token", P, "AUDIENCE"),
    ("audience by id", attribute("token", jwt(GUID)), "token", State.OK, GUID),
    ("token refused", reply("upload", 401), "upload", P, "another tenant"),
    ("no role", reply("upload", 403), "upload", P, "Sentinel Contributor"),
    ("no workspace", reply("upload", 404), "upload", P, "WORKSPACE_ID"),
    ("throttled", reply("upload", 429), "upload", P, "another program"),
    ("Sentinel fails", reply("upload", 503), "upload", P, "answered 503"),
    ("Sentinel away", reply("upload", AWAY), "upload", P, "SENTINEL_BASE_URL"),
    ("Sentinel's TLS", reply("upload", requests.exceptions.SSLError()), "upload", P, "CA bundle"),
    ("key refused", reply("query-status", 403), "key for Lumen", P, "LUMEN_API_KEY"),
    ("Lumen throttles", reply("query-status", 429), "key for Lumen", P, "slow down"),
    ("Lumen fails", reply("query-status", 500), "key for Lumen", P, "answered 500"),
    ("Lumen away", reply("query-status", AWAY), "key for Lumen", P, "LUMEN_BASE_URL"),
    (
        "Lumen's TLS",
        reply("query-status", requests.exceptions.SSLError()),
        "TLS to Lumen",
        P,
        "not trusted",
    ),
    ("clock", reply("openid", Reply(status=200, headers=LATE)), "clock", P, "600 s"),
    ("no clock", reply("openid", AWAY), "clock", N, "sent no time"),
    ("no host.json", attribute("host_json", ROOT / "no.json"), "host.json", N, "not here"),
    ("other host.json", attribute("host_json", ROOT / "package.json"), "host.json", P, "again"),
    (
        "overridden host.json",
        setting("AzureFunctionsJobHost__extensions__queues__batchSize", "1"),
        "host.json",
        P,
        "overridden by Azure",
    ),
    ("long runs", setting("RUN_TIME_BUDGET", "1800"), "host.json", P, "functionTimeout"),
    (
        "switched off",
        setting("AzureWebJobs.keep_poison.Disabled", "True"),
        "functions",
        P,
        "switched off: keep_poison",
    ),
    ("other template", setting("TEMPLATE_VERSION", "9.9.9"), "versions", P, "template 9.9.9"),
    ("no template", unset("TEMPLATE_VERSION"), "versions", N, "unset"),
    ("a laptop", unset("WEBSITE_SITE_NAME"), "seen from", State.OK, "this machine"),
    ("a bug", attribute("tables", None), "tables", P, "stopped by a bug"),
]


@pytest.mark.parametrize(
    ("fault", "name", "state", "told"),
    [row[1:] for row in FAULTS],
    ids=[row[0] for row in FAULTS],
)
def test_a_fault_has_its_line(
    fault: Callable[[World], None], name: str, state: State, told: str
) -> None:
    """The line of what is wrong says so, with what to do; no secret is in any line."""
    world = World()
    fault(world)
    line = world.lines()[name]
    assert line.state is state
    assert told in f"{line.text}; {line.remedy}"


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (DENIED, "table control refused access (403)", "give the app's identity the role R"),
        (
            CredentialError(
                "table control refused access (AuthorizationFailure); the network rules refuse "
                "this place, or the key is another account's: copy it again"
            ),
            "table control refused access (AuthorizationFailure)",
            "the network rules refuse this place, or the key is another account's: copy it again",
        ),
        (
            CredentialError("no token (400): check that the identity is assigned; outside, log in"),
            "no token (400)",
            "check that the identity is assigned; outside, log in",
        ),
        (
            StorageRefusedError("table control refused the request (404): check the endpoint"),
            "table control refused the request (404)",
            "check the endpoint",
        ),
        (ThrottledError("table control is throttled (503)"), None, "nothing, if it passes"),
        (ConflictError("a row was changed by another"), None, "nothing, if it passes"),
        (AWAY, None, "check the private endpoints and their DNS zones, and the account's firewall"),
        (
            UnavailableError("no token: the endpoint is unavailable (500); if that lasts, check X"),
            "no token: the endpoint is unavailable (500)",
            "if that lasts, check X",
        ),
    ],
)
@pytest.mark.parametrize("name", ["table chunks", "queue sentinel-upload"])
def test_the_remedy_for_the_storage_is_that_of_its_error(
    name: str, error: PipelineError, text: str | None, remedy: str
) -> None:
    """A role helps only where a role is missing; an error without a remedy passes by itself."""
    world = World()
    storage_refuses(error)(world)
    line = world.lines()[name]
    assert (line.text, line.remedy) == (text or str(error), remedy)


@pytest.mark.parametrize(
    ("error", "text", "remedy"),
    [
        (
            UnavailableError(
                "no token: Entra is unavailable (503); if that lasts, check TENANT_ID"
            ),
            "no token: Entra is unavailable (503)",
            "if that lasts, check TENANT_ID",
        ),
        (
            CredentialError("no token (AADSTS7000222): CLIENT_SECRET has expired: make a new one"),
            "no token (AADSTS7000222)",
            "CLIENT_SECRET has expired: make a new one",
        ),
        (
            UnavailableError(
                "answered with a redirect (302), which is not followed: check the URL"
            ),
            "answered with a redirect (302), which is not followed",
            "check the URL",
        ),
        (UnavailableError("unavailable (500)"), "unavailable (500)", "nothing, if it passes"),
    ],
)
def test_an_error_is_divided_into_what_failed_and_what_to_do(
    error: PipelineError, text: str, remedy: str
) -> None:
    """As for the storage, so for the token and for the workspace."""
    world = World(token=error)
    world.workspace.failure = error
    found = world.lines()
    for name in ("token", ASKING):
        assert (found[name].text, found[name].remedy) == (text, remedy)


@pytest.mark.parametrize(
    ("recent", "again", "older", "reupload_after", "state", "said"),
    [
        (10, 4, 5, 0, State.OK, "4 of 10 rows of ten days (40%)"),
        (10, 4, 5, 0, State.OK, "REUPLOAD_AFTER_DAYS may stay 0"),
        (10, 4, 5, 7, State.OK, "may be 0, which saves requests"),
        (10, 0, 5, 7, State.OK, "sent again after 7 days"),
        (10, 0, 0, 0, State.OK, "this shows nothing"),
        (0, 0, 0, 0, State.OK, "this shows nothing"),
        (0, 0, 1000, 0, State.PROBLEM, "though 1,000 older rows are valid"),
    ],
)
def test_the_share_of_republished_rows_says_whether_to_send_again(  # noqa: PLR0917
    recent: int, again: int, older: int, reupload_after: int, state: State, said: str
) -> None:
    """Only where older rows should have been repeated, and were not, is it a problem."""
    line = republished(recent=recent, again=again, older=older, reupload_after=reupload_after)
    assert line.state is state
    assert said in line.text
    assert bool(line.remedy) == (state is State.PROBLEM)


def test_only_what_is_still_valid_counts_as_older() -> None:
    """Indicators that are valid for a week end before Sentinel would write them again."""
    assert "IsActive and coalesce(ValidUntil, now() + 1d) > now())" in read_kql("republished")


def test_a_workspace_that_answers_nothing_is_no_problem() -> None:
    """Counts that are missing are 0."""
    world = World()
    world.workspace.rows = []
    assert "shows nothing" in world.lines()[REPUBLISHED].text


def test_what_waits_comes_before_the_doctor() -> None:
    """Behind a backlog, and during a pause, no upload is tried: no slot is taken from chunks."""
    world = World()
    Slots(world.tables, clock=world.clock, requests_per_minute=95).reserve(1000)
    line = world.lines()["upload"]
    assert (line.state, "chunks hold" in line.text) == (State.NOT_ASKED, True)
    assert not [asked for asked in world.asked if asked.startswith("POST")]

    world = World()
    Control(world.tables).pause(Pause(since=START, until=START + MAX_PAUSE, by="ann"))
    line = world.lines()["upload"]
    assert (line.state, "paused until" in line.text) == (State.NOT_ASKED, True)
    assert not [asked for asked in world.asked if asked.startswith("POST")]


def test_a_public_address_is_told() -> None:
    """It is no problem by itself: not every network has private endpoints."""
    world = World(addresses={"a.table.core.windows.net": ["20.60.1.1"]})
    line = world.lines()["name of the tables"]
    assert (line.state, line.text) == (
        State.OK,
        "a.table.core.windows.net: public address 20.60.1.1",
    )
