"""Reads `host.json` and app settings the way the Functions host does.

Every value that `host.json` leaves out has Azure's default, so a test that passes here does not
depend on a number only this host would use. All faults of a file come in one message. App
settings are the environment; `local.settings.json` fills in what the environment lacks.

Sources: learn.microsoft.com/azure/azure-functions/functions-host-json, its section "Override
host.json values", and functions-bindings-storage-queue#host-json (read 2026-11-22).
"""

import copy
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

# Flex Consumption: 30 minutes unless set, no upper bound (-1 = unbounded).
DEFAULT_FUNCTION_TIMEOUT = timedelta(minutes=30)
MAX_BATCH_SIZE = 32
MIN_POLLING_INTERVAL = timedelta(milliseconds=100)
OVERRIDE_PREFIX = "AzureFunctionsJobHost__"

_TIME_SPAN = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2}(?:\.\d{1,7})?)")
_PLACEHOLDER = re.compile(r"%([^%]+)%")


class SettingsError(Exception):
    """A setting that the host cannot start with, or a function cannot be listened to with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSettings:
    batch_size: int = 16
    new_batch_threshold: int = 8
    visibility_timeout: timedelta = timedelta(0)
    max_dequeue_count: int = 5
    max_polling_interval: timedelta = timedelta(minutes=1)
    message_encoding: str = "base64"

    @property
    def max_in_flight(self) -> int:
        """A batch is fetched when at most the threshold is still running."""
        return self.batch_size + self.new_batch_threshold


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSettings:
    queues: QueueSettings = QueueSettings()
    function_timeout: timedelta | None = DEFAULT_FUNCTION_TIMEOUT
    route_prefix: str = "api"


def read_host_settings(app_dir: Path, settings: Mapping[str, str] = os.environ) -> HostSettings:
    """The settings in `app_dir/host.json`, and the app settings that override some of them.

    Raises SettingsError naming every fault.
    """
    path = app_dir / "host.json"
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path} is missing") from None
    except ValueError as error:
        raise SettingsError(f"{path} is not valid JSON: {error}") from error
    return parse_host_settings(apply_overrides(document, settings))


def apply_overrides(document: Mapping[str, Any], settings: Mapping[str, str]) -> dict[str, Any]:
    """`document` with the values of settings like `AzureFunctionsJobHost__extensions__…`."""
    merged: dict[str, Any] = copy.deepcopy(dict(document))
    for name, value in settings.items():
        if name.startswith(OVERRIDE_PREFIX):
            *sections, last = name.removeprefix(OVERRIDE_PREFIX).split("__")
            section = merged
            for one in sections:
                section = section.setdefault(one, {})
            section[last] = int(value) if value.isdecimal() else value
    return merged


def parse_host_settings(document: Mapping[str, Any]) -> HostSettings:
    """The settings in a parsed host.json. Raises SettingsError naming every fault."""
    extensions = document.get("extensions", {})
    faults: list[str] = []
    settings = HostSettings(
        queues=_parse_queues(extensions.get("queues", {}), faults),
        function_timeout=_parse_function_timeout(document, faults),
        route_prefix=str(extensions.get("http", {}).get("routePrefix", "api")).strip("/"),
    )
    if faults:
        raise SettingsError("host.json: " + "; ".join(faults))
    return settings


def parse_time_span(text: str) -> timedelta:
    """A .NET time span, `[d.]hh:mm:ss[.fff]`. Raises ValueError."""
    match = _TIME_SPAN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time span like 00:00:30")
    days, hours, minutes, seconds = match.groups()
    return timedelta(
        days=int(days or 0), hours=int(hours), minutes=int(minutes), seconds=float(seconds)
    )


def read_local_settings(app_dir: Path) -> dict[str, str]:
    """The `Values` of `local.settings.json`, or nothing when the file is absent."""
    path = app_dir / "local.settings.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8")).get("Values", {})
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingsError(f"{path} is not valid JSON: {error}") from error
    return {str(name): str(value) for name, value in values.items()}


def resolve_placeholders(text: str, settings: Mapping[str, str] = os.environ) -> str:
    """`text` with each `%NAME%` replaced by that app setting. Raises SettingsError."""

    def value_of(match: re.Match[str]) -> str:
        value = settings.get(match[1])
        if not value:
            raise SettingsError(f"{match[0]} does not resolve: app setting {match[1]} is not set")
        return value

    return _PLACEHOLDER.sub(value_of, text)


def resolve_connection(name: str, settings: Mapping[str, str] = os.environ) -> str:
    """The connection string that a binding's `connection` names. Raises SettingsError."""
    name = name or "AzureWebJobsStorage"
    value = settings.get(f"AzureWebJobs{name}") or settings.get(name)
    if value:
        return value
    if any(key.startswith((f"{name}__", f"{name}:")) for key in settings):
        raise SettingsError(
            f"connection {name} uses an identity, which exists only on Azure: "
            f"set {name} to a connection string"
        )
    raise SettingsError(f"connection {name} does not resolve: app setting {name} is not set")


def _parse_queues(section: Mapping[str, Any], faults: list[str]) -> QueueSettings:
    default = QueueSettings()

    def whole(name: str, fallback: int, lowest: int, highest: int) -> int:
        value = section.get(name, fallback)
        if not isinstance(value, int) or not lowest <= value <= highest:
            faults.append(f"queues.{name} is {value!r}, not a number from {lowest} to {highest}")
            return fallback
        return value

    def span(name: str, fallback: timedelta) -> timedelta:
        try:
            return parse_time_span(section[name]) if name in section else fallback
        except ValueError as error:
            faults.append(f"queues.{name}: {error}")
            return fallback

    batch_size = whole("batchSize", default.batch_size, 1, MAX_BATCH_SIZE)
    encoding = str(section.get("messageEncoding", default.message_encoding)).lower()
    if encoding not in ("none", "base64"):
        faults.append(f"queues.messageEncoding is {encoding!r}, neither none nor base64")
    polling = span("maxPollingInterval", default.max_polling_interval)
    if polling < MIN_POLLING_INTERVAL:
        faults.append("queues.maxPollingInterval is less than 00:00:00.100")
    return QueueSettings(
        batch_size=batch_size,
        new_batch_threshold=whole("newBatchThreshold", batch_size // 2, 0, 1000),
        visibility_timeout=span("visibilityTimeout", default.visibility_timeout),
        max_dequeue_count=whole("maxDequeueCount", default.max_dequeue_count, 1, 1000),
        max_polling_interval=polling,
        message_encoding=encoding,
    )


def _parse_function_timeout(document: Mapping[str, Any], faults: list[str]) -> timedelta | None:
    text = str(document.get("functionTimeout", ""))
    if text == "-1":
        return None
    try:
        return parse_time_span(text) if text else DEFAULT_FUNCTION_TIMEOUT
    except ValueError as error:
        faults.append(f"functionTimeout: {error}")
        return None
