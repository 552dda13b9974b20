"""Every setting of the pipeline: name, meaning, default, check.

One error reports all faults, each with the setting's name, what is wrong and the remedy. A secret
is never shown, not even in a `repr`. It may have been pasted into another setting, so an error
shows a value only if it is short and looks like a value of that setting. Nothing is read at import:
call `read_settings` on the first invocation.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from common.backoff import Backoff
from common.errors import SettingsError

STORAGE_CONNECTION: Final = "PipelineStorage"
"""Connection name of the queue triggers and prefix of the identity-based storage settings."""

DEFAULT_SCHEDULE: Final = "0 */15 * * * *"
"""NCRONTAB with seconds: every 15 minutes."""

MAX_OBJECTS_PER_REQUEST: Final = 100
"""Sentinel takes at most 100 objects a request
(learn.microsoft.com/azure/sentinel/stix-objects-api, read 2026-11-22)."""

_MAX_LABEL: Final = 63
"""Longest part of a host name between two dots (RFC 1035 section 2.3.4)."""

_UNRESOLVED_REFERENCE = "@Microsoft.KeyVault("


@dataclass(frozen=True, slots=True)
class Secret:
    """A value that must never be shown. Call `reveal()` only where the value is used."""

    _value: str = field(repr=False)

    def reveal(self) -> str:
        """Return the value itself."""
        return self._value

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "Secret(***)"


class StorageSignIn(StrEnum):
    """Who signs in to the storage's endpoints: the app's identity, or the user of `az login`."""

    MANAGED_IDENTITY = "managedidentity"
    AZURE_CLI = "azurecli"


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """Where the pipeline's own queue and tables are: a connection string, or two endpoints."""

    connection_string: Secret | None = None
    queue_endpoint: str | None = None
    table_endpoint: str | None = None
    sign_in: StorageSignIn = StorageSignIn.MANAGED_IDENTITY
    client_id: str | None = None


class _Fault(ValueError):
    """A fault of one value, with the remedy; the text never shows a secret."""


def _secret(value: str) -> Secret:
    if not re.fullmatch(r"[!-~]+", value):
        raise _Fault(  # an HTTP header cannot carry it, and the HTTP client's error would show it
            "holds a blank, a line break or a letter outside ASCII; copy the bare value again"
        )
    return Secret(value)


_GUID: Final = re.compile(r"\{?([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})\}?")
"""The dashes are required: 32 digits without them may be a key."""


def _guid(value: str) -> str:
    found = _GUID.fullmatch(value)
    if found is None:
        raise _Fault(  # the value is not shown: a secret pasted here must not be logged
            f"is not a GUID but {len(value)} other characters; copy the id from the Azure portal"
        )
    return found[1].lower()


def _is_address(value: str, *, schemes: frozenset[str]) -> bool:
    try:
        url = urlsplit(value)
        host = (url.hostname or "").removesuffix(".")
        port = url.port
    except ValueError:  # no valid host or port: brackets, look-alike letters
        return False
    checks = (
        url.scheme in schemes,
        value.isascii() and value.isprintable() and not set(value) & {" ", "\\"},
        all(0 < len(label) <= _MAX_LABEL for label in host.split(".")) and port != 0,
        not set(value) & {"?", "#"} and "@" not in url.netloc,
    )
    return all(checks)


_ADDRESS: Final = re.compile(r"https?://[A-Za-z0-9-]{1,40}(\.[A-Za-z0-9-]{1,40}){1,4}(:\d{1,5})?/?")
_WORD: Final = re.compile(r"[A-Za-z]{1,16}")
_NUMBER: Final = re.compile(r"[-+]?\d{1,9}(\.\d{0,6})?")
_EXPRESSION: Final = re.compile(
    r"(?=\S+(\s+\S+){3,6}\Z)([*/,\s-]|(?<!\w)(\d{1,2}|[A-Za-z]{3})(?!\w))+"
)
"""The four forms of values that an error may show; a value of another form may be a secret."""


def _redacted(value: str, alphabet: re.Pattern[str]) -> str:
    """Return a value for an error; only its length if it may be a secret in the wrong setting."""
    return repr(value) if alphabet.fullmatch(value) else f"a text of {len(value)} characters"


def _https_url(value: str) -> str:
    if not _is_address(value, schemes=frozenset({"https"})):
        raise _Fault(
            f"{_redacted(value, _ADDRESS)} is not an https:// address without user, password and "
            "query; correct it"
        )
    return value.rstrip("/")


def _switch(value: str) -> bool:
    match value.lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
        case _:
            raise _Fault(f"{_redacted(value, _WORD)} is neither true nor false; set one of the two")


def _integer(low: int, high: int) -> Callable[[str], int]:
    def parse(value: str) -> int:
        if not re.fullmatch(r"[+-]?\d{1,9}", value) or not low <= int(value) <= high:
            shown = _redacted(value, _NUMBER)
            raise _Fault(f"{shown} is not a whole number from {low} to {high}; set one")
        return int(value)

    return parse


def _number(low: float, high: float) -> Callable[[str], float]:
    def parse(value: str) -> float:
        if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", value) or not low <= float(value) <= high:
            shown = _redacted(value, _NUMBER)
            raise _Fault(f"{shown} is not a number from {low:g} to {high:g}; set one")
        return float(value)

    return parse


_PART: Final = r"(?:\*|{0}(?:-{0})?)(?:/\d{{1,2}})?"
_TIMES, _NAMES = (
    rf"{part}(?:,{part})*"
    for part in (_PART.format(r"\d{1,2}"), _PART.format(r"(?:\d{1,2}|[A-Za-z]{3,9})"))
)
_SCHEDULE: Final = re.compile(rf"(?:{_TIMES}\s+){{4}}{_NAMES}\s+{_NAMES}")
"""NCRONTAB with seconds: six fields, of which months and weekdays may have names."""


def _schedule(value: str) -> str:
    if not _SCHEDULE.fullmatch(value):
        raise _Fault(
            f"{_redacted(value, _EXPRESSION)} does not have the six fields of NCRONTAB "
            f"(second minute hour day month weekday); for every 15 minutes: {DEFAULT_SCHEDULE!r}"
        )
    return value


def _version(value: str) -> str:
    if not re.fullmatch(r"\d{1,4}(\.\d{1,4}){2}", value):
        raise _Fault(
            f"is not a version such as 1.2.3 but {len(value)} other characters; correct it"
        )
    return value


_REQUIRED: Final = object()


def _setting(
    name: str, parse: Callable[[str], Any], meaning: str, *, default: str | object = _REQUIRED
) -> Any:
    return field(
        metadata={"name": name, "parse": parse, "meaning": meaning, "default": default},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The validated settings; docs/settings.md lists them, too."""

    lumen_api_key: Secret = _setting(
        "LUMEN_API_KEY", _secret, "Lumen Defender Threat Feed API key, bare"
    )
    workspace_id: str = _setting(
        "WORKSPACE_ID", _guid, "Log Analytics workspace that Sentinel runs on"
    )
    tenant_id: str = _setting("TENANT_ID", _guid, "Entra tenant of the workspace")
    client_id: str = _setting(
        "CLIENT_ID", _guid, "Application id, or the managed identity's client id"
    )
    client_secret: Secret | None = _setting(
        "CLIENT_SECRET",
        _secret,
        "Secret of the application; leave unset to use a managed identity",
        default="",
    )
    lumen_base_url: str = _setting(
        "LUMEN_BASE_URL",
        _https_url,
        "Lumen API",
        default="https://microsoft-sentinel-api.us1.mss.lumen.com",
    )
    lumen_schedule: str = _setting(
        "LUMEN_SCHEDULE",
        _schedule,
        "When a sync run starts (NCRONTAB, six fields)",
        default=DEFAULT_SCHEDULE,
    )
    lumen_enable_ipv4: bool = _setting(
        "LUMEN_ENABLE_IPV4", _switch, "Send IPv4 address indicators", default="true"
    )
    lumen_enable_domain: bool = _setting(
        "LUMEN_ENABLE_DOMAIN", _switch, "Send domain indicators", default="true"
    )
    lumen_confidence_threshold: int = _setting(
        "LUMEN_CONFIDENCE_THRESHOLD",
        _integer(0, 100),
        "Lowest confidence that is sent (0-100)",
        default="65",
    )
    lumen_poll_interval: float = _setting(
        "LUMEN_POLL_INTERVAL",
        _number(0.01, 300),
        "Seconds between two polls of a running query",
        default="5",
    )
    lumen_poll_timeout: float = _setting(
        "LUMEN_POLL_TIMEOUT",
        _number(1, 1200),
        "Seconds to wait for a query in one tick",
        default="300",
    )
    max_pages: int = _setting(
        "MAX_PAGES",
        _integer(1, 1_000_000),
        "Most pages fetched in one tick; the next tick continues",
        default="1000",
    )
    chunk_size: int = _setting(
        "CHUNK_SIZE",
        _integer(1, MAX_OBJECTS_PER_REQUEST),
        "Indicators per chunk, and so per request to Sentinel (1-100)",
        default=str(MAX_OBJECTS_PER_REQUEST),
    )
    max_retries: int = _setting(
        "MAX_RETRIES", _integer(1, 20), "Most tries of one request in a row", default="5"
    )
    retry_base_delay: float = _setting(
        "RETRY_BASE_DELAY",
        _number(0, 60),
        "Seconds before the first retry; doubles with each",
        default="1",
    )
    retry_max_delay: float = _setting(
        "RETRY_MAX_DELAY", _number(0, 600), "Longest wait between two tries", default="60"
    )
    run_time_budget: float = _setting(
        "RUN_TIME_BUDGET",
        _number(1, 86_400),
        "Seconds after which a sync run stops and leaves the rest to the next tick; "
        "keep it below functionTimeout",
        default="1500",
    )
    run_lease: float = _setting(
        "RUN_LEASE",
        _number(1, 3600),
        "Seconds after which the run of a dead instance may be taken over",
        default="600",
    )
    sentinel_requests_per_minute: float = _setting(
        "SENTINEL_REQUESTS_PER_MINUTE",
        _number(0.1, 100_000),
        "Requests a minute that all senders together make; the service's limit is 100",
        default="95",
    )
    reupload_after_days: int = _setting(
        "REUPLOAD_AFTER_DAYS",
        _integer(0, 3650),
        "Days after which an unchanged indicator is sent again; 0: never, because Sentinel "
        "itself republishes what it holds",
        default="0",
    )
    known_for_days: int = _setting(
        "KNOWN_FOR_DAYS",
        _integer(1, 3650),
        "Days for which a version of an indicator stays known, at least, after it was settled",
        default="90",
    )
    known_max: int = _setting(
        "KNOWN_MAX",
        _integer(1000, 100_000_000),
        "Most versions that are known; beyond this, those whose time ends first are forgotten",
        default="10000000",
    )
    send_unknown_revoked: bool = _setting(
        "SEND_UNKNOWN_REVOKED",
        _switch,
        "Send revoked indicators of which nothing is known: the workspace may hold them from "
        "another connector",
        default="false",
    )
    deferral_delay: float = _setting(
        "DEFERRAL_DELAY",
        _number(0.1, 3600),
        "Seconds before a deferred chunk is tried again; doubles each time, to at most 15 times "
        "this value while an operator is needed, else 60 times",
        default="60",
    )
    template_version: str | None = _setting(
        "TEMPLATE_VERSION",
        _version,
        "Version of the template that the app was deployed with; set by the template",
        default="",
    )
    operator_client_id: str | None = _setting(
        "OPERATOR_CLIENT_ID",
        _guid,
        "Client id of the Entra registration by which operators sign in; leave unset for function "
        "keys",
        default="",
    )
    entra_authority_host: str = _setting(
        "ENTRA_AUTHORITY_HOST",
        _https_url,
        "Entra sign-in host; US Government: https://login.microsoftonline.us",
        default="https://login.microsoftonline.com",
    )
    sentinel_base_url: str = _setting(
        "SENTINEL_BASE_URL",
        _https_url,
        "Sentinel upload API; US Government: https://api.ti.sentinel.azure.us",
        default="https://api.ti.sentinel.azure.com",
    )
    sentinel_audience: str = _setting(
        "SENTINEL_AUDIENCE",
        _https_url,
        "Token audience; US Government: https://management.usgovcloudapi.net",
        default="https://management.azure.com",
    )
    arrival_check: bool = _setting(
        "ARRIVAL_CHECK",
        _switch,
        "Ask the workspace whether what Sentinel accepted has arrived",
        default="true",
    )
    sentinel_query_url: str = _setting(
        "SENTINEL_QUERY_URL",
        _https_url,
        "Log Analytics query API; US Government: https://api.loganalytics.us",
        default="https://api.loganalytics.azure.com",
    )
    sentinel_query_audience: str = _setting(
        "SENTINEL_QUERY_AUDIENCE",
        _https_url,
        "Token audience of the query API; US Government: https://api.loganalytics.us",
        default="https://api.loganalytics.io",
    )
    storage: StorageSettings = field(metadata={})

    @property
    def destination(self) -> str:
        """The workspace that indicators are meant for."""
        return destination_of(self.sentinel_base_url, self.workspace_id)

    @property
    def backoff(self) -> Backoff:
        """The retry schedule that the three retry settings describe."""
        return Backoff(tries=self.max_retries, base=self.retry_base_delay, cap=self.retry_max_delay)


def destination_of(sentinel_base_url: str, workspace_id: str) -> str:
    """Return the name of a workspace and the API in front of it, as the ledger keeps it."""
    return f"{urlsplit(sentinel_base_url).netloc}/{workspace_id}".lower()


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingInfo:
    """A setting as documents and templates see it; `default` None means required."""

    name: str
    meaning: str
    default: str | None


def describe_settings() -> list[SettingInfo]:
    """Return every setting but storage, in the order of docs/settings.md."""
    return [
        SettingInfo(
            name=spec["name"],
            meaning=spec["meaning"],
            default=None if spec["default"] is _REQUIRED else spec["default"],
        )
        for spec in (item.metadata for item in fields(Settings))
        if spec
    ]


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings in `environ` (the process's when None).

    An empty value counts as unset. Raises `SettingsError` naming every fault at once.
    """
    environ = os.environ if environ is None else environ
    values: dict[str, Any] = {}
    faults: list[str] = []
    for item in fields(Settings):
        if not item.metadata:
            continue
        try:
            values[item.name] = _read_one(environ, item.metadata)
        except _Fault as fault:
            faults.append(f"{item.metadata['name']}: {fault}")
    try:
        values["storage"] = read_storage_settings(environ)
    except SettingsError as error:
        faults.extend(error.faults)
    if not faults and values["retry_base_delay"] > values["retry_max_delay"]:
        faults.append("RETRY_BASE_DELAY: is above RETRY_MAX_DELAY; lower it")
    if faults:
        raise SettingsError(faults)
    return Settings(**values)


def read_setting(name: str, environ: Mapping[str, str] | None = None) -> Any:
    """Return one setting, for tools that need no other; raises `SettingsError`."""
    environ = os.environ if environ is None else environ
    spec = next(item.metadata for item in fields(Settings) if item.metadata.get("name") == name)
    try:
        return _read_one(environ, spec)
    except _Fault as fault:
        raise SettingsError([f"{name}: {fault}"]) from None


def is_unresolved(value: str) -> bool:
    """Whether a value is a Key Vault reference that Azure did not resolve."""
    return value.strip().startswith(_UNRESOLVED_REFERENCE)


def read_destination(environ: Mapping[str, str] | None = None) -> str:
    """Return the destination that the settings name; empty if they are missing or wrong."""
    try:
        return destination_of(
            read_setting("SENTINEL_BASE_URL", environ), read_setting("WORKSPACE_ID", environ)
        )
    except SettingsError:
        return ""


def schedule_for_trigger(environ: Mapping[str, str] | None = None) -> str:
    """Return the schedule for the timer trigger, at import; the default if the setting is wrong.

    The run that starts by the default reports the fault. With the wrong value the host would start
    no timer, and would show the value, which may be a secret in the wrong setting.
    """
    try:
        return str(read_setting("LUMEN_SCHEDULE", environ))
    except SettingsError:
        return DEFAULT_SCHEDULE


def read_storage_settings(
    environ: Mapping[str, str] | None = None, *, queues_only: bool = False
) -> StorageSettings:
    """Return where the pipeline's own storage is; raises `SettingsError`.

    With `queues_only` a fault of the tables' endpoint is ignored: a message can still be kept safe
    on the queue.

    Either `PipelineStorage` holds a connection string, or `PipelineStorage__queueServiceUri`,
    `__tableServiceUri`, `__credential` (`managedidentity`) and `__clientId` describe an
    identity-based connection. The Functions host reads the same names. The credential `azurecli` is
    for operators; the host does not know it. Empty values count as unset.
    """
    environ = os.environ if environ is None else environ
    prefix = STORAGE_CONNECTION + "__"
    connection = environ.get(STORAGE_CONNECTION, "").strip()
    queue = environ.get(prefix + "queueServiceUri", "").strip()
    table = environ.get(prefix + "tableServiceUri", "").strip()
    if connection:
        return StorageSettings(connection_string=_connection_string(connection))
    if not (queue or table):
        remedy = f"set a connection string, or {prefix}queueServiceUri and {prefix}tableServiceUri"
        raise SettingsError([f"{STORAGE_CONNECTION}: is required and not set; {remedy}"])
    return _identity_based(environ, queue=queue, table=table, queues_only=queues_only)


def _identity_based(
    environ: Mapping[str, str], *, queue: str, table: str, queues_only: bool
) -> StorageSettings:
    """Return storage settings of two addresses and a sign-in; raises `SettingsError`."""
    prefix = STORAGE_CONNECTION + "__"
    endpoints = {"queueServiceUri": queue} | ({} if queues_only else {"tableServiceUri": table})
    faults = [  # the value is not shown: it may be a connection string, or have a SAS
        f"{prefix}{name}: is not set to an address without user, password and query; "
        f"set https://<account>.{name[:5]}.core.windows.net"
        for name, value in endpoints.items()
        if not _is_address(value, schemes=frozenset({"https", "http"}))
    ]
    sign_in = environ.get(prefix + "credential", "").strip().lower()
    if sign_in not in {"", *StorageSignIn}:
        faults.append(  # the value is not shown: it may be a secret
            f"{prefix}credential: is none of the ways to sign in; set 'managedidentity', or "
            "'azurecli' where you have signed in with `az login`"
        )
    client_id = environ.get(prefix + "clientId", "").strip() or None
    try:
        client_id = client_id and _guid(client_id)
    except _Fault as fault:
        faults.append(f"{prefix}clientId: {fault}")
    if faults:
        raise SettingsError(faults)
    return StorageSettings(
        queue_endpoint=queue.rstrip("/"),
        table_endpoint=table.rstrip("/"),
        sign_in=StorageSignIn(sign_in or StorageSignIn.MANAGED_IDENTITY),
        client_id=client_id,
    )


def _connection_string(value: str) -> Secret:
    fault = ""
    if value.startswith(_UNRESOLVED_REFERENCE):
        fault = _unresolved()
    elif "=" not in value and not value.startswith("UseDevelopmentStorage"):
        fault = "is not a connection string; copy it again"
    elif _ENDPOINT_WITH_LOGIN.search(value):
        fault = "an endpoint in it holds a user or a password; copy it again"
    if fault:
        raise SettingsError([f"{STORAGE_CONNECTION}: {fault}"])
    return Secret(value)


_ENDPOINT_WITH_LOGIN: Final = re.compile(r"(?i)endpoint\s*=\s*[^;]*?//[^;/]*@")


def _read_one(environ: Mapping[str, str], spec: Mapping[str, Any]) -> Any:
    value = environ.get(spec["name"], "").strip()
    if value.startswith(_UNRESOLVED_REFERENCE):
        raise _Fault(_unresolved())
    if not value:
        if spec["default"] is _REQUIRED:
            raise _Fault(f"is required and not set ({spec['meaning']}); set it")
        if not spec["default"]:
            return None
        value = spec["default"]
    return spec["parse"](value)


def _unresolved() -> str:
    return (
        "is an unresolved Key Vault reference; check the secret's name, the identity's role "
        "Key Vault Secrets User, keyVaultReferenceIdentity and the vault's private endpoint"
    )
