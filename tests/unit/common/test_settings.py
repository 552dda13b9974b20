"""Settings: every fault at once, each with its remedy, and never a secret in any of it."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.backoff import Backoff
from common.errors import SettingsError
from common.settings import (
    DEFAULT_SCHEDULE,
    Secret,
    Settings,
    StorageSignIn,
    describe_settings,
    read_settings,
    read_storage_settings,
    schedule_for_trigger,
)

GUID = "01234567-89ab-cdef-0123-456789abcdef"
KEY, SECRET, ACCOUNT_KEY = "lumen-key-1", "client-secret-1", "bm90IGEga2V5"
CONNECTION = (
    f"DefaultEndpointsProtocol=https;AccountName=a;AccountKey={ACCOUNT_KEY};"
    "EndpointSuffix=core.windows.net"
)
REQUIRED = {
    "LUMEN_API_KEY": KEY,
    "WORKSPACE_ID": GUID,
    "TENANT_ID": GUID,
    "CLIENT_ID": GUID,
    "PipelineStorage": CONNECTION,
}
UNRESOLVED = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/s)"
QUEUES, TABLES = "https://a.queue.core.windows.net", "https://a.table.core.windows.net"
IDENTITY = {
    "PipelineStorage__queueServiceUri": QUEUES,
    "PipelineStorage__tableServiceUri": TABLES,
}


def environment(**changes: str | None) -> dict[str, str]:
    """A complete environment with changes; None removes a setting."""
    changed = {**REQUIRED, "CLIENT_SECRET": SECRET, **changes}
    return {name: value for name, value in changed.items() if value is not None}


def faults(environ: dict[str, str]) -> dict[str, str]:
    """Read settings that are wrong; return each fault by the setting's name."""
    with pytest.raises(SettingsError) as caught:
        read_settings(environ)
    named = dict(fault.split(": ", 1) for fault in caught.value.faults)
    assert len(named) == len(caught.value.faults)
    assert not shows_a_secret(str(caught.value) + repr(caught.value))
    return named


def shows_a_secret(text: str) -> bool:
    """Whether any of the secrets of the environment stands in a text."""
    return any(secret in text for secret in (KEY, SECRET, ACCOUNT_KEY))


def test_what_is_required_is_enough() -> None:
    """With the required settings alone, every other one has its default."""
    settings = read_settings(REQUIRED)
    assert settings.lumen_api_key.reveal() == KEY
    assert (settings.workspace_id, settings.tenant_id, settings.client_id) == (GUID, GUID, GUID)
    assert settings.client_secret is None
    assert settings.lumen_base_url == "https://microsoft-sentinel-api.us1.mss.lumen.com"
    assert settings.lumen_schedule == DEFAULT_SCHEDULE
    assert (settings.lumen_enable_ipv4, settings.lumen_enable_domain) == (True, True)
    assert settings.lumen_confidence_threshold == 65
    assert (settings.chunk_size, settings.max_pages) == (100, 1000)
    assert settings.backoff == Backoff(tries=5, base=1.0, cap=60.0)
    assert settings.sentinel_base_url == "https://api.ti.sentinel.azure.com"
    assert settings.sentinel_audience == "https://management.azure.com"
    assert settings.entra_authority_host == "https://login.microsoftonline.com"
    assert settings.arrival_check is True
    assert settings.sentinel_query_url == "https://api.loganalytics.azure.com"
    assert settings.sentinel_query_audience == "https://api.loganalytics.io"


def test_nothing_set_names_everything_required() -> None:
    """An empty environment is answered with every required setting, and only those."""
    named = faults({})
    assert set(named) == {*REQUIRED}
    assert all("is required and not set" in fault for fault in named.values())


def test_every_fault_is_in_one_message() -> None:
    """Faults of several settings, storage among them, come in one error that counts them."""
    environ = environment(
        LUMEN_API_KEY=None, TENANT_ID="x", CHUNK_SIZE="101", MAX_PAGES="many", PipelineStorage=""
    )
    assert set(faults(environ)) == {
        "LUMEN_API_KEY",
        "TENANT_ID",
        "CHUNK_SIZE",
        "MAX_PAGES",
        "PipelineStorage",
    }
    with pytest.raises(SettingsError, match=r"\A5 settings need attention:\n"):
        read_settings(environ)


@pytest.mark.parametrize("blank", ["", "  ", "\t\n"])
def test_empty_is_unset(blank: str) -> None:
    """An empty or blank value counts as none: the default, or a fault where one is required."""
    settings = read_settings(environment(CLIENT_SECRET=blank, CHUNK_SIZE=blank))
    assert (settings.client_secret, settings.chunk_size) == (None, 100)
    assert set(faults(environment(LUMEN_API_KEY=blank))) == {"LUMEN_API_KEY"}


def test_blanks_around_a_value_are_dropped() -> None:
    """A line break pasted along with a secret does not become part of it."""
    settings = read_settings(environment(LUMEN_API_KEY=f" {KEY}\n", CHUNK_SIZE=" 7 "))
    assert (settings.lumen_api_key.reveal(), settings.chunk_size) == (KEY, 7)


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("TENANT_ID", GUID.upper(), "tenant_id", GUID),
        ("TENANT_ID", f"{{{GUID}}}", "tenant_id", GUID),
        ("LUMEN_BASE_URL", "https://127.0.0.1:8443", "lumen_base_url", "https://127.0.0.1:8443"),
        ("LUMEN_BASE_URL", "https://[::1]:8443", "lumen_base_url", "https://[::1]:8443"),
        ("LUMEN_BASE_URL", "https://h.example.", "lumen_base_url", "https://h.example."),
        ("LUMEN_BASE_URL", "https://h.example:8443/api/", "lumen_base_url",
         "https://h.example:8443/api"),
        ("LUMEN_SCHEDULE", "0 0 * * * *", "lumen_schedule", "0 0 * * * *"),
        *(("LUMEN_ENABLE_IPV4", yes, "lumen_enable_ipv4", True)
          for yes in ("true", "True", "1", "yes", "ON")),
        *(("LUMEN_ENABLE_DOMAIN", no, "lumen_enable_domain", False)
          for no in ("false", "FALSE", "0", "no", "off")),
        ("LUMEN_CONFIDENCE_THRESHOLD", "0", "lumen_confidence_threshold", 0),
        ("LUMEN_CONFIDENCE_THRESHOLD", "100", "lumen_confidence_threshold", 100),
        ("CHUNK_SIZE", "1", "chunk_size", 1),
        ("MAX_PAGES", "+5", "max_pages", 5),
        ("LUMEN_POLL_INTERVAL", "0.01", "lumen_poll_interval", 0.01),
        ("RETRY_BASE_DELAY", "0", "retry_base_delay", 0.0),
        ("RETRY_MAX_DELAY", "600", "retry_max_delay", 600.0),
    ],
)  # fmt: skip
def test_a_value_is_read(name: str, value: str, field: str, expected: object) -> None:
    """Good values, at their limits too, are read as what they mean."""
    assert getattr(read_settings(environment(**{name: value})), field) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WORKSPACE_ID", "my-workspace"),
        ("TENANT_ID", "contoso.onmicrosoft.com"),
        ("TENANT_ID", GUID.replace("-", "")),
        ("TENANT_ID", f"urn:uuid:{GUID}"),
        ("CLIENT_ID", GUID[:-1]),
        ("LUMEN_BASE_URL", "http://h.example"),
        ("LUMEN_BASE_URL", "h.example"),
        ("LUMEN_BASE_URL", "https://"),
        ("LUMEN_BASE_URL", "https://h.example/?x=1"),
        ("LUMEN_BASE_URL", "https://h.example/#x"),
        ("LUMEN_BASE_URL", "https://[h.example"),
        ("SENTINEL_BASE_URL", "https://ex℀mple"),
        ("SENTINEL_BASE_URL", "https://a..b"),
        ("SENTINEL_BASE_URL", "https://.x"),
        ("SENTINEL_BASE_URL", "https://" + "a" * 64 + ".example"),
        ("LUMEN_BASE_URL", "https://h.example\\@other.example"),
        ("LUMEN_BASE_URL", "https://h.example:0x50"),
        ("LUMEN_BASE_URL", "https://h.example:99999"),
        ("LUMEN_BASE_URL", "https://h .example"),
        ("LUMEN_BASE_URL", "https://h.example/a b"),
        ("LUMEN_BASE_URL", "https://h\u00e9.example"),
        ("LUMEN_SCHEDULE", "*/15 * * * *"),
        ("LUMEN_SCHEDULE", "0 */15 * * * * *"),
        ("LUMEN_SCHEDULE", "0 every 15 * * *"),
        ("LUMEN_SCHEDULE", "0 */15 * * MON ?"),
        ("LUMEN_ENABLE_IPV4", "maybe"),
        ("LUMEN_CONFIDENCE_THRESHOLD", "-1"),
        ("LUMEN_CONFIDENCE_THRESHOLD", "101"),
        ("LUMEN_CONFIDENCE_THRESHOLD", "65.5"),
        ("CHUNK_SIZE", "0"),
        ("CHUNK_SIZE", "101"),
        ("MAX_PAGES", "1e3"),
        ("MAX_PAGES", "9" * 5000),
        ("MAX_RETRIES", "0"),
        ("RETRY_BASE_DELAY", "-1"),
        ("RETRY_BASE_DELAY", "inf"),
        ("RETRY_MAX_DELAY", "601"),
        ("RUN_LEASE", "nan"),
        ("RUN_TIME_BUDGET", "0"),
    ],
)
def test_a_wrong_value_is_refused(name: str, value: str) -> None:
    """A value that is no such thing, or out of range, is one fault under the setting's name."""
    assert set(faults(environment(**{name: value}))) == {name}


@given(value=st.text(), name=st.sampled_from([info.name for info in describe_settings()]))
def test_no_value_is_too_strange(value: str, name: str) -> None:
    """Whatever stands in a setting, it is read, or it is a fault under the setting's name."""
    found: tuple[str, ...] = ()
    try:
        read_settings(environment(**{name: value}))
    except SettingsError as error:
        found = error.faults
    assert all(fault.startswith(f"{name}: ") for fault in found)


def test_the_first_wait_is_no_longer_than_the_longest() -> None:
    """The two retry delays must agree; the fault names both."""
    named = faults(environment(RETRY_BASE_DELAY="20", RETRY_MAX_DELAY="10"))
    assert "RETRY_MAX_DELAY" in named["RETRY_BASE_DELAY"]


@pytest.mark.parametrize("name", ["LUMEN_API_KEY", "CLIENT_SECRET"])
@pytest.mark.parametrize("odd", [" ", "\n", "\t", "\x00", "\x7f", "\u2013", "\u00e9", "\u200b"])
def test_a_secret_that_no_header_can_carry_is_a_fault(name: str, odd: str) -> None:
    """It is named with the remedy and never shown, instead of failing where it is used."""
    named = faults(environment(**{name: f"{KEY}{odd}{SECRET}"}))
    assert set(named) == {name}
    assert "copy the bare value" in named[name]


def test_secrets_are_never_shown() -> None:
    """Neither text nor representation of the settings, or of a secret, holds one."""
    settings = read_settings(environment())
    shown = f"{settings!r} {settings} {settings.storage!r} {settings.lumen_api_key!s}"
    assert not shows_a_secret(shown)
    assert f"{Secret('x')} {Secret('x')!r}" == "*** Secret(***)"


def test_a_secret_in_the_wrong_place_is_not_shown() -> None:
    """A secret, connection string or signed address pasted into a plain setting stays unseen."""
    named = faults(
        environment(
            CLIENT_ID=SECRET,
            TENANT_ID=CONNECTION,
            LUMEN_BASE_URL=f"https://h.example/?key={KEY}",
            PipelineStorage=None,
            PipelineStorage__queueServiceUri=CONNECTION,
            PipelineStorage__tableServiceUri=f"{TABLES}/?sig={ACCOUNT_KEY}",
        )
    )
    assert len(named) == 5


PASTED = {
    "hexadecimal": "0123456789abcdef0123456789abcdef",
    "letters": "abcdefghijklmnopqrstuvwxyz",
    "digits": "12345678901234567890",
    "entra": "abC8Q~dEfGhIjKlMnOpQrStUvWxYz0123456789.",
    "token": "lmn_live-9f8e7d6c5b4a",
    "base64": "bm90IGEga2V5IGF0IGFsbA==",
    "connection": CONNECTION,
    "address": "https://user:pass-word-1@h.example/",
    "user": "https://key-in-user-1@h.example/",
    "signed": "https://h.example/?sig=signature-1",
    "path": "https://h.example/key-in-path-1/ x",
    "fragment": "https://h.example/#key-in-fragment-1",
    "scheme": "ftp://key-in-host-1/",
    "schedule": "0 */15 * * * key-in-schedule-1",
    "five fields": "a1b2c3d4 e5f6 * * *",
    "words": "horse battery staple rug six ten",
    "blanks": "seven of nine",
    "lines": "key\nin\nlines-1",
    "other": "schl\u00fcssel-1",
}
"""Secrets that may stand in the wrong setting."""

EVERY_SETTING = (
    *(info.name for info in describe_settings()),
    "PipelineStorage",
    *(f"PipelineStorage__{part}" for part in
      ("queueServiceUri", "tableServiceUri", "credential", "clientId")),
)  # fmt: skip


@pytest.mark.parametrize("name", EVERY_SETTING)
@pytest.mark.parametrize("kind", PASTED)
def test_a_secret_in_any_setting_is_not_shown(name: str, kind: str) -> None:
    """Not a part of six characters of it that the remedy itself does not have."""
    secret = PASTED[kind]
    environ = environment(**{name: secret})
    if "__" in name:
        environ = {**environment(PipelineStorage=None), **IDENTITY, name: secret}
    try:
        settings = read_settings(environ)
    except SettingsError as error:
        said = f"{error} {error!r} {error.__cause__} {error.faults}"
        harmless = " ".join(info.meaning for info in describe_settings()) + DEFAULT_SCHEDULE
        parts = {secret[at : at + 6] for at in range(len(secret) - 5)}
        allowed = ("https://", "<account>", ".core.windows.net", "://h.ex", "h.example/", harmless)
        assert [
            part for part in parts if part in said and not any(part in a for a in allowed)
        ] == []
    else:
        assert name in {"LUMEN_API_KEY", "CLIENT_SECRET", "PipelineStorage"}
        assert secret not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LUMEN_CONFIDENCE_THRESHOLD", "101"),
        ("LUMEN_CONFIDENCE_THRESHOLD", "65.5"),
        ("RETRY_BASE_DELAY", "-1"),
        ("LUMEN_ENABLE_IPV4", "maybe"),
        ("LUMEN_SCHEDULE", "*/15 * * * *"),
        ("LUMEN_SCHEDULE", "0 0 3 * * Mon 7"),
        ("LUMEN_BASE_URL", "http://h.example"),
        ("SENTINEL_BASE_URL", "http://api.h.example:8443/"),
    ],
)
def test_a_slip_is_shown(name: str, value: str) -> None:
    """What is short and looks like a value of the setting helps to find the mistake."""
    assert repr(value) in faults(environment(**{name: value}))[name]


@pytest.mark.parametrize("name", ["LUMEN_BASE_URL", "SENTINEL_BASE_URL", "ENTRA_AUTHORITY_HOST",
                                  "SENTINEL_AUDIENCE", "SENTINEL_QUERY_URL",
                                  "SENTINEL_QUERY_AUDIENCE"])  # fmt: skip
@pytest.mark.parametrize("login", ["user:password@", "user@", ":password@", "@"])
def test_an_address_with_a_login_is_refused(name: str, login: str) -> None:
    """A login in an address would be shown wherever the address is."""
    fault = faults(environment(**{name: f"https://{login}h.example"}))[name]
    assert "without user, password" in fault


@pytest.mark.parametrize("login", ["user:password@", "user@"])
def test_a_storage_endpoint_with_a_login_is_refused(login: str) -> None:
    """As an endpoint of its own, and within a connection string."""
    address = f"https://{login}a.queue.core.windows.net"
    environ = {**IDENTITY, "PipelineStorage__queueServiceUri": address}
    with pytest.raises(SettingsError, match=r"queueServiceUri: .*without user, password"):
        read_storage_settings(environ)
    with pytest.raises(SettingsError, match="a user or a password"):
        read_storage_settings({"PipelineStorage": f"{CONNECTION};QueueEndpoint={address}"})


@pytest.mark.parametrize("blank", ["", "  "])
def test_an_empty_credential_is_unset(blank: str) -> None:
    """It means the managed identity, as when it is not there."""
    environ = {**IDENTITY, "PipelineStorage__credential": blank, "PipelineStorage__clientId": blank}
    assert read_storage_settings(environ) == read_storage_settings(IDENTITY)


def test_a_client_id_of_the_storage_must_be_one() -> None:
    """It is checked like the other ids."""
    with pytest.raises(SettingsError, match="PipelineStorage__clientId: is not a GUID"):
        read_storage_settings({**IDENTITY, "PipelineStorage__clientId": "my-identity"})


@pytest.mark.parametrize(
    "schedule",
    ["0 */15 * * * *", "0 0 3 * * Mon-Fri", "0 0 3 1 jan,JUL *", "0 5-55/10 8-18/2 * * 1,3,Sunday"],
)
def test_a_schedule_reaches_the_trigger(schedule: str) -> None:
    """As it is in the settings."""
    assert read_settings(environment(LUMEN_SCHEDULE=schedule)).lumen_schedule == schedule
    assert schedule_for_trigger({"LUMEN_SCHEDULE": schedule}) == schedule


@pytest.mark.parametrize("wrong", [*PASTED.values(), "", "* * * * *", "0 0 0 0 0 x", UNRESOLVED])
def test_a_wrong_schedule_does_not_reach_the_host(wrong: str) -> None:
    """The host would log it; the timer has the default, and its first run says what is wrong."""
    assert schedule_for_trigger({"LUMEN_SCHEDULE": wrong}) == DEFAULT_SCHEDULE


@pytest.mark.parametrize("name", ["LUMEN_API_KEY", "CLIENT_SECRET", "CLIENT_ID", "MAX_PAGES",
                                  "PipelineStorage"])  # fmt: skip
def test_an_unresolved_reference_is_named_as_such(name: str) -> None:
    """A Key Vault reference that Azure could not resolve is told from a wrong value."""
    named = faults(environment(**{name: UNRESOLVED}))
    assert set(named) == {name}
    assert "unresolved Key Vault reference" in named[name]


def test_a_sovereign_cloud_is_five_settings() -> None:
    """The values documented for the US Government cloud are accepted."""
    meanings = {info.name: info.meaning for info in describe_settings()}
    names = ("ENTRA_AUTHORITY_HOST", "SENTINEL_BASE_URL", "SENTINEL_AUDIENCE",
             "SENTINEL_QUERY_URL", "SENTINEL_QUERY_AUDIENCE")  # fmt: skip
    urls = {name: meanings[name].rpartition(" ")[2] for name in names}
    settings = read_settings(environment(**urls))
    assert settings.entra_authority_host == "https://login.microsoftonline.us"
    assert settings.sentinel_base_url == "https://api.ti.sentinel.azure.us"
    assert settings.sentinel_audience == "https://management.usgovcloudapi.net"
    assert settings.sentinel_query_url == "https://api.loganalytics.us"
    assert settings.sentinel_query_audience == "https://api.loganalytics.us"


def test_storage_by_connection_string() -> None:
    """A connection string is kept as a secret and stands before identity settings."""
    storage = read_storage_settings({"PipelineStorage": CONNECTION, **IDENTITY})
    assert storage.connection_string is not None
    assert storage.connection_string.reveal() == CONNECTION
    assert (storage.queue_endpoint, storage.table_endpoint) == (None, None)


def test_storage_by_identity() -> None:
    """Two addresses and a managed identity, as the Functions host reads them, are enough."""
    storage = read_storage_settings({name: uri + "/" for name, uri in IDENTITY.items()})
    assert (storage.queue_endpoint, storage.table_endpoint) == (QUEUES, TABLES)
    assert (storage.connection_string, storage.client_id) == (None, None)
    extra = {
        "PipelineStorage__credential": "ManagedIdentity",
        "PipelineStorage__clientId": f" {GUID} ",
    }
    assert read_storage_settings({**IDENTITY, **extra}).client_id == GUID


@pytest.mark.parametrize(
    ("value", "sign_in"),
    [
        (None, StorageSignIn.MANAGED_IDENTITY),
        ("", StorageSignIn.MANAGED_IDENTITY),
        ("  ", StorageSignIn.MANAGED_IDENTITY),
        ("managedidentity", StorageSignIn.MANAGED_IDENTITY),
        ("azurecli", StorageSignIn.AZURE_CLI),
        (" AzureCli ", StorageSignIn.AZURE_CLI),
    ],
)
def test_the_way_to_sign_in(value: str | None, sign_in: StorageSignIn) -> None:
    """Nothing, or nothing but blanks, is the managed identity."""
    credential = {} if value is None else {"PipelineStorage__credential": value}
    assert read_storage_settings({**IDENTITY, **credential}).sign_in is sign_in


def test_a_secret_for_the_way_to_sign_in_is_not_shown() -> None:
    """Whatever was pasted there."""
    with pytest.raises(SettingsError, match="set 'managedidentity', or 'azurecli'") as caught:
        read_storage_settings({**IDENTITY, "PipelineStorage__credential": ACCOUNT_KEY})
    assert not shows_a_secret(str(caught.value).lower())
    assert ACCOUNT_KEY.lower() not in str(caught.value).lower()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"queueServiceUri": ""}, ["queueServiceUri"]),
        ({"tableServiceUri": ""}, ["tableServiceUri"]),
        ({"queueServiceUri": "a.queue.core.windows.net"}, ["queueServiceUri"]),
        ({"queueServiceUri": "https://[bad"}, ["queueServiceUri"]),
        ({"queueServiceUri": "https://"}, ["queueServiceUri"]),
        ({"tableServiceUri": UNRESOLVED}, ["tableServiceUri"]),
        ({"queueServiceUri": "x", "tableServiceUri": "y", "credential": "key"},
         ["queueServiceUri", "tableServiceUri", "credential"]),
        ({"credential": "workloadidentity"}, ["credential"]),
    ],
)  # fmt: skip
def test_wrong_identity_settings_are_named(changes: dict[str, str], expected: list[str]) -> None:
    """Each wrong part of an identity-based connection is a fault of its own, with its remedy."""
    prefixed = {f"PipelineStorage__{name}": value for name, value in changes.items()}
    environ = {**environment(PipelineStorage=None), **IDENTITY, **prefixed}
    named = faults(environ)
    assert list(named) == [f"PipelineStorage__{name}" for name in expected]
    assert all("set " in fault for fault in named.values())


def test_no_connection_string_is_a_fault() -> None:
    """Text that cannot be a connection string is refused, without showing it."""
    with pytest.raises(SettingsError, match="not a connection string") as caught:
        read_storage_settings({"PipelineStorage": ACCOUNT_KEY})
    assert not shows_a_secret(str(caught.value))


def test_the_process_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an argument, the settings come from the process's environment."""
    for name, value in environment(CHUNK_SIZE="9").items():
        monkeypatch.setenv(name, value)
    assert read_settings().chunk_size == 9
    assert read_storage_settings() == read_settings().storage


def test_every_setting_is_described() -> None:
    """Documents see each setting once, by an upper-case name; required ones have no default."""
    described = describe_settings()
    assert [info.name.lower() for info in described] == [
        item.name for item in fields(Settings) if item.name != "storage"
    ]
    required = {info.name for info in described if info.default is None}
    assert required == {*REQUIRED} - {"PipelineStorage"}
