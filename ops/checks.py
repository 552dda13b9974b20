"""The doctor's checks: settings, storage, Entra, Sentinel, its workspace, Lumen, clock, versions.

Each check is a function of the `Border`, which gives access to everything outside the process. It
returns lines, which never show a secret. Checks change two things only: they take one send slot,
and they write and remove one row, to test the permission to write.
"""

import base64
import binascii
import json
import os
import platform
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests

from common.clock import Clock, SystemClock
from common.errors import PipelineError, SettingsError, UnavailableError
from common.identity import SentinelTokens, SignIn, storage_credential
from common.kql import read_kql
from common.ledger.control import Control
from common.ledger.slots import Slots
from common.ledger.tables import AzureTables, Row, Tables
from common.queues import POISON_QUEUE, SYNC_QUEUE, UPLOAD_QUEUE, AzureQueue, WatchedQueue
from common.settings import (
    STORAGE_CONNECTION,
    StorageSettings,
    describe_settings,
    is_unresolved,
    read_setting,
    read_settings,
    read_storage_settings,
)
from common.transport import TRANSPORT_ERRORS, PlainSession, read_body, within
from common.uploads import upload_body, upload_url
from common.version import VERSION
from common.workspace import Workspace
from ops.doctor import ASK_WITHIN, Check, Line, State, examine, not_asked, ok, problem
from ops.workspace import open_workspace, read_sign_in_settings

LEDGER_TABLES: Final = ("chunks", "control", "poison", "pulses", "rejections", "versions", "acts")
"""The tables of the ledger; a test compares them with those of the code."""

QUEUES: Final = (UPLOAD_QUEUE, POISON_QUEUE, SYNC_QUEUE)

FUNCTIONS: Final = ("lumen_sync", "sync_now", "sentinel_upload", "keep_poison", "arrival_check")
"""The functions that the feed needs."""

MAX_SKEW: Final = timedelta(minutes=5)
"""How far the clock may be off: as far as Entra tolerates in a token's times
(learn.microsoft.com/entra/identity-platform/access-tokens, read 2026-11-22)."""

SLOT_WITHIN: Final = timedelta(seconds=2)
"""A slot further away than this is not taken, but left to waiting chunks."""

ASKING: Final = "asking the workspace"
REPUBLISHED: Final = "republished rows"

CYCLE: Final = timedelta(days=10)
"""Every 7 to 10 days Sentinel republishes the indicators that are still valid
(learn.microsoft.com/azure/sentinel/work-with-stix-objects-indicators, read 2026-11-29)."""

PASSES: Final = "nothing, if it passes"
"""What to do about an error that does not say what to do."""

NO_SUCH_QUERY: Final = "doctor-asks-for-a-query-that-does-not-exist"

_MAX_ANSWER: Final = 1 << 20
_PROBE: Final = ("doctor", "probe")
"""Keys of the row that is written and removed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Border:
    """Everything outside the process that a check may use.

    `ask` sends one request; it raises `requests.exceptions.SSLError` if TLS fails, and
    `UnavailableError` without an answer. `resolve` returns the addresses of a host's name; it
    raises `OSError` if there are none. `token` returns a token for an audience. `workspace` opens
    the workspace that `environ` names; it raises `SettingsError` if the settings are wrong.
    """

    environ: Mapping[str, str]
    clock: Clock
    ask: Callable[..., Reply]
    resolve: Callable[[str], Sequence[str]]
    token: Callable[[SignIn, str], str]
    workspace: Callable[[], Workspace]
    tables: Callable[[StorageSettings], Tables]
    queue: Callable[[str, StorageSettings], WatchedQueue]
    host_json: Path

    def setting(self, name: str) -> Any:
        """Return a setting; raises `SettingsError`."""
        return read_setting(name, self.environ)

    @property
    def storage(self) -> StorageSettings:
        """The storage settings; raises `SettingsError`."""
        return read_storage_settings(self.environ)


def checks(border: Border) -> list[Check]:
    """Return all checks, in the order in which their lines are shown."""
    named: dict[str, Callable[[Border], Sequence[Line]]] = {
        "seen from": seen_from,
        "settings": settings,
        "Key Vault references": vault_references,
        "storage settings": storage_settings,
        "storage names": storage_names,
        "queues": queues,
        "tables": tables,
        "Entra and Sentinel": entra_and_sentinel,
        ASKING: asking,
        "Lumen": lumen,
        "clock": clock,
        "host": host,
        "versions": versions,
    }

    def bound(ask: Callable[[Border], Sequence[Line]]) -> Callable[[], Sequence[Line]]:
        return lambda: ask(border)

    return [Check(name=name, ask=bound(ask)) for name, ask in named.items()]


def examine_all(environ: Mapping[str, str] | None = None) -> list[Line]:
    """Run all checks against the real services; ends within `doctor.CHECK_WITHIN` seconds."""
    return examine(checks(real_border(os.environ if environ is None else environ)))


def seen_from(border: Border) -> list[Line]:
    """Say whose settings and identity these are: the app's, or this machine's."""
    app = border.environ.get("WEBSITE_SITE_NAME", "")
    return [ok("seen from", f"the app {app}" if app else f"this machine ({platform.node()})")]


def settings(border: Border) -> list[Line]:
    """Say where each setting's value is from, or what is wrong with it."""
    found = []
    for info in describe_settings():
        name = f"setting {info.name}"
        try:
            border.setting(info.name)
        except SettingsError as error:
            text = error.faults[0].partition(": ")[2]
            found.append(problem(name, text, f"correct {info.name}, then restart the app"))
            continue
        is_set = bool(border.environ.get(info.name, "").strip())
        found.append(ok(name, "set" if is_set else "default" if info.default else "unset"))
    return [*found, *_together(border, found)]


def _together(border: Border, alone: Sequence[Line]) -> Iterator[Line]:
    """Yield faults of settings in combination, if each by itself (`alone`) is right."""
    if all(line.state is State.OK for line in alone):
        try:
            read_settings(border.environ)
        except SettingsError as error:
            for fault in error.faults:
                name = fault.partition(": ")[0]
                if not name.startswith(STORAGE_CONNECTION):  # it has a line of its own
                    yield problem(
                        "settings together", fault, f"correct {name}, then restart the app"
                    )


def vault_references(border: Border) -> list[Line]:
    """Say which settings Azure could not resolve."""
    name = "Key Vault references"
    broken = sorted(key for key, value in border.environ.items() if is_unresolved(value))
    if not broken:
        return [ok(name, "none is unresolved")]
    remedy = (
        "check the secret's name, the identity's role Key Vault Secrets User, "
        "keyVaultReferenceIdentity and the vault's private endpoint, then restart the app"
    )
    return [problem(name, f"unresolved: {', '.join(broken)}", remedy)]


def storage_settings(border: Border) -> list[Line]:
    """Say how the storage is reached, or what is wrong with its settings."""
    name = "storage settings"
    try:
        storage = border.storage
    except SettingsError as error:
        return [problem(name, "; ".join(error.faults), f"correct {STORAGE_CONNECTION}")]
    if storage.connection_string is not None:
        return [ok(name, "a connection string")]
    return [ok(name, f"by identity ({storage.sign_in.value})")]


def storage_names(border: Border) -> list[Line]:
    """Say to which addresses the storage's names resolve; private ones mean private endpoints."""
    storage = border.storage
    if storage.connection_string is not None:
        return [not_asked("storage names", "a connection string names no private endpoint")]
    endpoints = {"queue": storage.queue_endpoint, "table": storage.table_endpoint}
    return [_name(border, f"name of the {kind}s", url or "") for kind, url in endpoints.items()]


def _name(border: Border, name: str, url: str) -> Line:
    """Look up one host."""
    host = urlsplit(url).hostname or ""
    try:
        addresses = border.resolve(host)
    except OSError as error:
        remedy = "link the private DNS zone to the network of the app, or correct the name"
        return problem(name, f"{host} cannot be looked up ({type(error).__name__})", remedy)
    kinds = {"private" if ip_address(found).is_private else "public" for found in addresses}
    return ok(name, f"{host}: {' and '.join(sorted(kinds))} address {', '.join(addresses)}")


def queues(border: Border) -> list[Line]:
    """Ask each queue for its depth and its oldest message: tests name, network and role."""
    storage = border.storage

    def ask(queue_name: str) -> str:
        queue = border.queue(queue_name, storage)
        queue.peek()
        return f"{queue.depth()} messages"

    named = {f"queue {name}": partial(ask, name) for name in QUEUES}
    return list(_each(named))


def _each(asked: Mapping[str, Callable[[], str]]) -> Iterator[Line]:
    """Ask one after the other; yield a line each. After one without an answer, ask no more."""
    is_away = False
    for name, ask in asked.items():
        if is_away:
            yield not_asked(name, "the storage account does not answer")
            continue
        try:
            with within(ASK_WITHIN):
                yield ok(name, ask())
        except UnavailableError as error:
            is_away = True
            remedy = "check the private endpoints and their DNS zones, and the account's firewall"
            yield _failed(name, error, otherwise=remedy)
        except PipelineError as error:
            yield _failed(name, error)


_BEFORE_REMEDY: Final = re.compile(r"\)[^:;]*[:;] |; ")
"""What ends the first half of an error's text: a code in brackets and a colon, or a semicolon."""


def _failed(name: str, error: PipelineError, *, otherwise: str = PASSES) -> Line:
    """Return the line of an error whose text says what failed and, mostly, what to do. Pure."""
    text = str(error)
    found = _BEFORE_REMEDY.search(text)
    if found is None:
        return problem(name, text, otherwise)
    return problem(name, text[: found.end() - 2], text[found.end() :])


def tables(border: Border) -> list[Line]:
    """Read from each table; write and remove a row in one, to test the permission to write."""
    source = border.tables(border.storage)

    def read(table_name: str) -> str:
        list(source.table(table_name).query(limit=1, select=("at",)))
        return "can be read"

    def write() -> str:
        control = source.table("control")
        control.merge(Row(partition=_PROBE[0], key=_PROBE[1], data={"at": border.clock.now()}))
        control.delete(*_PROBE)
        return "a row was written and removed"

    named: dict[str, Callable[[], str]] = {
        f"table {name}": partial(read, name) for name in LEDGER_TABLES
    }
    named["writing to a table"] = write
    return list(_each(named))


def entra_and_sentinel(border: Border) -> list[Line]:
    """Ask for a token, then post an upload without indicators, which Sentinel refuses as empty."""
    audience = border.setting("SENTINEL_AUDIENCE")
    sign_in = read_sign_in_settings(border.environ)
    try:
        with within(ASK_WITHIN):
            token = border.token(sign_in, audience)
    except PipelineError as error:
        return [_failed("token", error), not_asked("upload", "there is no token")]
    return [_audience(token, audience), *_upload(border, token)]


def _audience(token: str, audience: str) -> Line:
    """Compare the audience in a token with the one that was asked for."""
    claims = _claims(token)
    if claims is None:
        return ok("token", "given, but its content cannot be read")
    given = str(claims.get("aud", "")).rstrip("/")
    # An address or, in newer tokens, an application id, which cannot be compared with `audience`.
    if urlsplit(given).scheme and given != audience:
        remedy = "set SENTINEL_AUDIENCE to the one of your cloud, or unset it"
        return problem("token", f"for the audience {given}, not {audience}", remedy)
    return ok("token", f"for the audience {given}")


def _claims(token: str) -> dict[str, Any] | None:
    """Return the claims of a JWT, unverified; None if it is not a JWT."""
    part = token.split(".")[1] if token.count(".") == 2 else ""  # noqa: PLR2004 - header.claims.signature
    try:
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError):
        return None
    return claims if isinstance(claims, dict) else None


def _upload(border: Border, token: str) -> list[Line]:
    name = "upload"
    address = upload_url(border.setting("SENTINEL_BASE_URL"), border.setting("WORKSPACE_ID"))
    try:
        waits = _slot(border)
    except PipelineError as error:
        waits = f"no send slot can be taken: {error}"
    if waits:
        return [not_asked(name, waits)]
    try:
        reply = border.ask(
            "POST",
            address,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            data=upload_body(b"[]"),
        )
    except requests.exceptions.SSLError:
        return [problem(name, "TLS fails", "check the CA bundle (REQUESTS_CA_BUNDLE) and proxies")]
    except UnavailableError as error:
        return [problem(name, str(error), "check SENTINEL_BASE_URL, the firewall and DNS")]
    return [_upload_line(name, reply.status)]


def _upload_line(name: str, status: int) -> Line:
    """Return what an answer to an upload without indicators means. Pure."""
    match status:
        case _ if status in {400, 422} or 200 <= status <= 299:  # noqa: PLR2004 - HTTP statuses
            return ok(name, f"permitted ({status} to an upload without indicators)")
        case 401:
            remedy = "check TENANT_ID and SENTINEL_AUDIENCE: is the workspace in another tenant?"
            return problem(name, "Sentinel does not accept the token (401)", remedy)
        case 403:
            remedy = "give the application the role Microsoft Sentinel Contributor on the workspace"
            return problem(name, "Sentinel denies access (403)", remedy)
        case 404:
            remedy = "correct WORKSPACE_ID, or SENTINEL_BASE_URL for another cloud"
            return problem(name, "Sentinel does not know the workspace (404)", remedy)
        case 429:
            remedy = "nothing if it passes; else look for another program with this identity"
            return problem(name, "Sentinel asks to slow down (429)", remedy)
        case _:
            return problem(name, f"Sentinel answered {status}", "check Azure's service health")


def asking(border: Border) -> list[Line]:
    """Ask the workspace how many of its rows Sentinel has republished by itself."""
    if not border.setting("ARRIVAL_CHECK"):
        why = "ARRIVAL_CHECK is false"
        return [not_asked(ASKING, why), not_asked(REPUBLISHED, why)]
    try:
        with within(2 * ASK_WITHIN):
            rows = border.workspace().query(read_kql("republished"), span=2 * CYCLE)
    except SettingsError:
        raise
    except PipelineError as error:
        why = "the workspace does not answer"
        return [_failed(ASKING, error), not_asked(REPUBLISHED, why)]
    row = rows[0] if rows else {}
    line = republished(
        recent=int(row.get("Recent") or 0),
        again=int(row.get("Republished") or 0),
        older=int(row.get("Older") or 0),
        reupload_after=border.setting("REUPLOAD_AFTER_DAYS"),
    )
    return [ok(ASKING, "permitted"), line]


def republished(*, recent: int, again: int, older: int, reupload_after: int) -> Line:
    """Say what the share of republished rows means for `REUPLOAD_AFTER_DAYS`. Pure.

    `recent` is the number of rows of the last 10 days; Sentinel republished `again` of them.
    `older` is the number of rows of the 10 days before whose indicators are still valid: Sentinel
    must have republished these. Indicators that are valid for less than a cycle have no such rows.
    """
    name = REPUBLISHED
    if again:
        share = f"{again:,} of {recent:,} rows of ten days ({again / recent:.0%})"
        may = "may stay 0" if reupload_after == 0 else "may be 0, which saves requests"
        return ok(name, f"{share} were republished by Sentinel: REUPLOAD_AFTER_DAYS {may}")
    if reupload_after:
        return ok(name, f"none in ten days; indicators are sent again after {reupload_after} days")
    if not older:
        return ok(name, "none in ten days, but no older row is still valid: this shows nothing")
    remedy = (
        "set REUPLOAD_AFTER_DAYS to 7, so that rules with a look-back of 14 days find them; a "
        "transformation of the table that drops LastUpdateMethod looks the same"
    )
    text = f"none in ten days, though {older:,} older rows are valid: Sentinel republishes nothing"
    return problem(name, text, remedy)


def _slot(border: Border) -> str:
    """Take a send slot; return why none was taken, or an empty text."""
    source = border.tables(border.storage)
    now = border.clock.now()
    pause = Control(source).last_pause()
    if pause is not None and pause.is_on(now):
        return f"the feed is {pause.text}"
    rate = float(border.setting("SENTINEL_REQUESTS_PER_MINUTE"))
    slots = Slots(source, clock=border.clock, requests_per_minute=rate)
    free = slots.next_free()
    if free is not None and free - now > SLOT_WITHIN:
        wait = (free - now).total_seconds()
        return f"chunks hold the send slots of the next {wait:.0f} s: see their log lines instead"
    taken = slots.reserve(1).slot(0)
    border.clock.sleep(max(0.0, (taken - border.clock.now()).total_seconds()))
    return ""


def lumen(border: Border) -> list[Line]:
    """Ask Lumen for the state of a query that does not exist: tests name, TLS and key."""
    base, key = border.setting("LUMEN_BASE_URL"), border.setting("LUMEN_API_KEY")
    named = _name(border, "name of Lumen", base)
    url = f"{base}/v3/reputation-query/query-status/{NO_SUCH_QUERY}"
    try:
        reply = border.ask("GET", url, headers={"Authorization": key.reveal()})
    except requests.exceptions.SSLError:
        remedy = "check the CA bundle (REQUESTS_CA_BUNDLE) and proxies; no device may inspect TLS"
        return [
            named,
            problem("TLS to Lumen", "Lumen's certificate is not trusted", remedy),
            not_asked("key for Lumen", "it is not sent where TLS fails"),
        ]
    except UnavailableError as error:
        remedy = "check LUMEN_BASE_URL, the firewall, proxies and DNS"
        return [named, problem("key for Lumen", str(error), remedy)]
    return [named, ok("TLS to Lumen", "trusted"), _key_line(reply.status)]


def _key_line(status: int) -> Line:
    """Return what Lumen's answer says about the key. Pure."""
    name = "key for Lumen"
    match status:
        case 401 | 403:
            return problem(name, f"Lumen refuses it ({status})", "set the right LUMEN_API_KEY")
        case 429:
            return problem(name, "Lumen asks to slow down (429)", PASSES)
        case 200 | 400 | 404 | 410:
            return ok(name, f"accepted ({status} for a query that does not exist)")
        case _:
            return problem(name, f"Lumen answered {status}", "nothing if it passes; else ask Lumen")


def clock(border: Border) -> list[Line]:
    """Compare the clock with that of Entra's host."""
    name = "clock"
    host = border.setting("ENTRA_AUTHORITY_HOST")
    tenant = border.setting("TENANT_ID")
    try:
        reply = border.ask("GET", f"{host}/{tenant}/v2.0/.well-known/openid-configuration")
        there = parsedate_to_datetime(reply.headers["Date"])
    except (KeyError, ValueError, requests.exceptions.SSLError, UnavailableError) as error:
        return [not_asked(name, f"Entra's host sent no time ({type(error).__name__})")]
    skew = abs(border.clock.now() - there)
    if skew > MAX_SKEW:
        remedy = "set the clock: tokens and send slots depend on it"
        return [problem(name, f"{skew.total_seconds():.0f} s from that of Entra", remedy)]
    return [ok(name, f"{skew.total_seconds():.0f} s from that of Entra")]


_SPAN: Final = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})")


def host(border: Border) -> list[Line]:
    """Read host.json and its overrides, and check whether a function is disabled."""
    return [*_host_json(border), _switched_off(border)]


def _host_json(border: Border) -> Iterator[Line]:
    name = "host.json"
    try:
        found = json.loads(border.host_json.read_text(encoding="utf-8"))
        queue = found["extensions"]["queues"]
        wrong = [
            text
            for is_wrong, text in (
                (queue["messageEncoding"] != "none", "messageEncoding must be none"),
                (queue["maxDequeueCount"] < 5, "maxDequeueCount must be 5"),  # noqa: PLR2004 - as in host.json
                (_seconds(queue["visibilityTimeout"]) < 30, "visibilityTimeout is too short"),  # noqa: PLR2004 - test_function_app
                (
                    _seconds(found["functionTimeout"]) <= border.setting("RUN_TIME_BUDGET"),
                    "functionTimeout must be longer than RUN_TIME_BUDGET",
                ),
            )
            if is_wrong
        ]
    except FileNotFoundError:
        yield not_asked(name, "it is not here: only the app has it")
        return
    except (OSError, ValueError, LookupError, TypeError) as error:
        yield problem(name, f"cannot be read ({type(error).__name__})", "deploy the package again")
        return
    overridden = sorted(key for key in border.environ if key.startswith("AzureFunctionsJobHost__"))
    if wrong:
        yield problem(name, "; ".join(wrong), "deploy the package of a release, unchanged")
    elif overridden:
        yield problem(name, f"overridden by {', '.join(overridden)}", "remove these app settings")
    else:
        yield ok(name, "as the code needs it")


def _seconds(span: str) -> float:
    found = _SPAN.fullmatch(span)
    if found is None:
        raise ValueError(span)
    hours, minutes, seconds = map(int, found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def _switched_off(border: Border) -> Line:
    off = [
        function
        for function in FUNCTIONS
        if border.environ.get(f"AzureWebJobs.{function}.Disabled", "").lower() in {"true", "1"}
    ]
    if off:
        remedy = "remove the app setting AzureWebJobs.<function>.Disabled"
        return problem("functions", f"switched off: {', '.join(off)}", remedy)
    return ok("functions", "none is switched off by a setting")


def versions(border: Border) -> list[Line]:
    """Compare the version of the app with that of the template that made it."""
    template = border.setting("TEMPLATE_VERSION")
    if template is None:
        return [not_asked("versions", f"app {VERSION}; TEMPLATE_VERSION is unset")]
    if template != VERSION:
        return [
            problem(
                "versions",
                f"app {VERSION}, template {template}",
                "deploy template and package of one release",
            )
        ]
    return [ok("versions", f"app and template {VERSION}")]


def real_border(environ: Mapping[str, str]) -> Border:
    """Return the border to the real services, as `environ` names them."""
    system = SystemClock()
    return Border(
        environ=environ,
        clock=system,
        ask=_ask,
        resolve=_resolve,
        token=lambda sign_in, audience: SentinelTokens(
            sign_in, audience=audience, clock=system
        ).token(),
        workspace=lambda: open_workspace(system, environ),
        tables=lambda storage: AzureTables(storage, credential=storage_credential(storage)),
        queue=lambda name, storage: AzureQueue(
            name, storage, credential=storage_credential(storage)
        ),
        host_json=Path(__file__).parents[1] / "host.json",
    )


def _ask(
    method: str, url: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
) -> Reply:
    """Send one request. See `Border.ask`."""
    try:
        with (
            within(ASK_WITHIN),
            PlainSession(connections=1) as session,
            session.request(
                method, url, headers=headers, data=data, timeout=ASK_WITHIN, stream=True
            ) as response,
        ):
            body = read_body(response, limit=_MAX_ANSWER) or b""
            return Reply(status=response.status_code, headers=response.headers, body=body)
    except requests.exceptions.SSLError:
        raise
    except TRANSPORT_ERRORS as error:
        host_name = urlsplit(url).hostname
        raise UnavailableError(f"{host_name} gave no answer ({type(error).__name__})") from None


def _resolve(name: str) -> list[str]:
    """Return the addresses of a host's name, each once."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))
