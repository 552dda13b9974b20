"""Where a command goes to and as whom: options, environment, profiles, keys."""

import io
import json
from collections.abc import Mapping
from pathlib import Path

import keyring
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.identity import AzureCliCredential, DeviceCodeCredential, InteractiveBrowserCredential
from keyring.backend import KeyringBackend
from keyring.errors import NoKeyringError, PasswordDeleteError

from ops.cli import connecting, keys
from ops.cli.connecting import Connection, Target, choose
from ops.cli.ending import GOOD, WRONG, Failure
from ops.cli.entra import EntraProof
from ops.cli.http import HttpTransport, checked_url
from ops.cli.profiles import Profile, Profiles, read_profiles
from ops.cli.program import run
from tests.unit.ops.cli.program import KEY, served
from tests.unit.ops.samples import Bench

APP = "https://app.example"
NONE = Profiles(default="", named={})
TWO = Profiles(
    default="one",
    named={"one": Profile(url=APP, by="ann"), "two": Profile(url=f"{APP}:8443", client_id="c")},
)
STORAGE = {"PipelineStorage__tableServiceUri": "https://tables.example"}
URL = {"LUMEN_SENTINEL_URL": APP}


@pytest.mark.parametrize(
    ("options", "environment", "known", "expected"),
    [
        ({"url": APP}, {}, NONE, Target(url=APP, by="me")),
        ({"url": f"{APP}/api/", "by": "bob"}, STORAGE, NONE, Target(url=APP, by="bob")),
        ({"url": APP}, {}, TWO, Target(url=APP, by="ann")),
        ({"profile": "two"}, URL, TWO, Target(url=f"{APP}:8443", by="me", client_id="c")),
        ({}, URL, TWO, Target(url=APP, by="me")),
        ({}, STORAGE, TWO, Target(url="", by="me")),
        ({}, {"PipelineStorage": ""}, TWO, Target(url=APP, by="ann")),
        ({"profile": "three"}, {}, TWO, "no profile 'three' (profiles: one, two)"),
        ({"url": APP, "profile": "one"}, {}, TWO, "not both"),
        ({}, URL | STORAGE, NONE, "both set"),
        ({}, {}, NONE, "say which app"),
        ({"entra": "c"}, STORAGE, NONE, "--entra needs an app"),
        ({"url": "http://app.example"}, {}, NONE, "https only"),
        ({"url": "app.example"}, {}, NONE, "not the address of an app"),
        ({"url": f"{APP}/?code=secret"}, {}, NONE, "without path and query"),
    ],
)
def test_one_way_is_chosen(
    options: Mapping[str, str],
    environment: Mapping[str, str],
    known: Profiles,
    expected: Target | str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Options first, then the environment, then the default profile; two of a rank are refused."""
    monkeypatch.setattr(connecting, "user", lambda: "me")
    connection = Connection(**options)
    if isinstance(expected, Target):
        assert choose(connection, environment=environment, profiles=known) == expected
        return
    with pytest.raises(Failure) as refused:
        choose(connection, environment=environment, profiles=known)
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "text", ["", "https://", "https://a:b@c", "https://app:x", "ftp://a", "https://[::1"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    """Before anything is sent anywhere."""
    with pytest.raises(Failure):
        checked_url(text)


class Ring(KeyringBackend):
    """A keyring in memory, or none at all."""

    priority = 1

    def __init__(self, *, is_there: bool = True) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.is_there = is_there
        self.kept: dict[tuple[str, str], str] = {}

    def _check(self) -> None:
        if not self.is_there:
            raise NoKeyringError

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        if self.kept.pop((service, username), None) is None:
            raise PasswordDeleteError


@pytest.fixture
def ring(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Ring:
    """Let the machine have an empty keyring, no profile and no environment."""
    made = Ring()
    monkeypatch.setattr(keyring.core, "_keyring_backend", made)
    monkeypatch.setattr("platformdirs.user_config_path", lambda *_a, **_k: tmp_path / "c")
    for name in ("LUMEN_SENTINEL_KEY", "LUMEN_SENTINEL_URL", "PipelineStorage"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return made


def test_a_key_comes_from_environment_keyring_or_prompt(
    ring: Ring, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In that order; without a terminal and any of them it is said how to give one."""
    with pytest.raises(Failure, match="LUMEN_SENTINEL_KEY"):
        keys.find_key(APP)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _question: " typed\n")
    assert keys.find_key(APP) == "typed"
    ring.kept["lumen-sentinel", APP] = "kept"
    assert keys.find_key(APP) == "kept"
    monkeypatch.setenv("LUMEN_SENTINEL_KEY", "given")
    assert keys.find_key(APP) == "given"
    monkeypatch.setenv("LUMEN_SENTINEL_KEY", "two words")
    with pytest.raises(Failure) as refused:
        keys.find_key(APP)
    assert "words" not in str(refused.value)


def test_a_machine_without_a_keyring_asks(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is no failure."""
    ring.is_there = False
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _question: "typed")
    assert keys.find_key(APP) == "typed"
    assert not keys.keep_key(APP, "typed")
    assert not keys.forget_key(APP)


def test_login_keeps_what_works_and_logout_forgets_it(
    ring: Ring,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The key goes to the keyring, never to the file; the profile is used from then on."""
    bench = Bench()
    bench.run()
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _question: KEY)
    with served(bench.toolbox) as url:
        assert run(["login", "production", "--url", url, "--by", "ann"]) == GOOD
        assert "may read and act" in capsys.readouterr().out
        assert ring.kept == {("lumen-sentinel", url): KEY}
        text = (tmp_path / "c" / "profiles.json").read_text(encoding="utf-8")
        assert KEY not in text
        assert run(["status"]) == GOOD
        assert run(["ack", "--all"]) == GOOD
        assert run(["profiles", "--csv"]) == GOOD
        assert f"production,*,{url},ann," in capsys.readouterr().out
        (act,) = bench.toolbox.ledger.acts.latest()
        assert act.by == "ann"
    assert run(["logout"]) == GOOD
    assert (ring.kept, read_profiles().named) == ({}, {})
    assert run(["status"]) == WRONG
    assert "say which app" in capsys.readouterr().err


def test_a_wrong_key_is_not_kept(
    ring: Ring, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor is the profile; what is said does not show the key."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _question: "wrong-key")
    with served(Bench().toolbox) as url:
        assert run(["login", "--url", url]) == WRONG
    assert (ring.kept, read_profiles().named) == ({}, {})
    said = capsys.readouterr().err
    assert "does not take the key" in said
    assert "wrong-key" not in said


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ([(401, b""), (200, b'{"health": "healthy"}')], "may read;"),
        ([(200, b'{"acts": []}'), (403, b'{"error": "this needs the role reader"}')], "the role"),
        ([(200, b'{"acts": ["act/ack"]}'), (401, b"")], "does not take the key"),
    ],
    ids=["the key of read", "signed in without a role", "a key of act alone"],
)
@pytest.mark.usefixtures("ring")
def test_login_says_what_was_tried(
    replies: list[tuple[int, bytes]],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A caller who may not read is refused, whatever `act` answers, and nothing is kept."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _question: KEY)
    with served(Bench().toolbox, replies=replies) as url:
        status = run(["login", "--url", url])
    printed = capsys.readouterr()
    may_read = said.startswith("may read")
    assert (status, bool(read_profiles().named)) == (GOOD if may_read else WRONG, may_read)
    assert said in printed.out + printed.err


@pytest.mark.parametrize("text", ["{", "[]", '{"profiles": []}', '{"profiles": {"a": {}}}'])
@pytest.mark.usefixtures("ring")
def test_a_damaged_file_of_profiles_is_named(text: str, tmp_path: Path) -> None:
    """It says where it is and what to do."""
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "profiles.json").write_text(text, encoding="utf-8")
    with pytest.raises(Failure, match=r"profiles\.json is not a file of profiles"):
        read_profiles()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (400, {"error": "parameter runs: too large"}, "parameter runs: too large"),
        (401, None, "does not take the key"),
        (403, {"error": "this needs the acting key"}, "this needs the acting key"),
        (404, None, "has no such function"),
        (301, None, "redirects (301)"),
        (200, None, "did not answer as the pipeline does"),
        (500, {"error": "1 setting needs attention"}, "1 setting needs attention"),
        (502, None, "answered 502 without a reason"),
        (503, {"error": "storage gives no answer"}, "storage gives no answer"),
    ],
)
def test_each_bad_answer_is_one_message(status: int, body: object, said: str) -> None:
    """The API's own words where there are any, else the host and what to look at."""
    raw = b"<html>" if body is None else json.dumps(body).encode()
    with served(Bench().toolbox, replies=[(status, raw)]) as url:
        transport = HttpTransport(url, by="ann", proof=dict)
        with pytest.raises(Failure) as failed:
            transport.call("GET", "read/status", {})
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:9", "127.0.0.1:9 cannot be reached (connection refused)"),
        ("https://no-such-app.invalid", "no-such-app.invalid cannot be reached"),
    ],
)
def test_an_app_out_of_reach_is_named(url: str, said: str) -> None:
    """With a hint at private DNS."""
    transport = HttpTransport(url, by="ann", proof=dict)
    with pytest.raises(Failure) as failed:
        transport.call("GET", "read/status", {})
    assert said in str(failed.value)
    assert "private DNS" in str(failed.value)


@pytest.mark.parametrize("has_screen", [True, False])
def test_entra_signs_in_with_the_cli_or_a_person(
    has_screen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token is for the app's registration; a refusal names it, and holds no second line."""
    asked: list[str] = []
    answers: list[str | Exception] = ["token", ClientAuthenticationError("no\nsecond line")]

    class Chain:
        def __init__(self, *credentials: object) -> None:
            kinds = InteractiveBrowserCredential if has_screen else DeviceCodeCredential
            assert [type(one) for one in credentials] == [AzureCliCredential, kinds]

        def get_token(self, scope: str) -> AccessToken:
            asked.append(scope)
            answer = answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return AccessToken(answer, 0)

    monkeypatch.setattr("azure.identity.ChainedTokenCredential", Chain)
    monkeypatch.setattr("ops.cli.entra._has_screen", lambda: has_screen)
    proof = EntraProof("client-id")
    assert proof() == {"Authorization": "Bearer token"}
    with pytest.raises(Failure, match=r"api://client-id/\.default: no$"):
        proof()
    assert asked == ["api://client-id/.default"] * 2
