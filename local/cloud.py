"""The local cloud put together: simulators, storage, and hosts running the function app.

One `LocalCloud` is one world: its own storage account, its own Lumen, Sentinel and Entra, and as
many host processes as are started. The app under test gets everything through its settings, as on
Azure. Not obvious: a started host is only one *instance*; starting more is what scaling out is.
"""

import secrets
import uuid
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from local.functions_host.process import CLOCK_SKEW_VARIABLE, PROJECT_ROOT, HostProcess
from local.services.azurite import DEVELOPMENT_ACCOUNT, Azurite, Service
from local.services.entra import Entra
from local.services.feed import Feed
from local.services.held_messages import HeldMessages
from local.services.http_simulator import HttpSimulator
from local.services.log_analytics import AUDIENCE, LogAnalyticsApi
from local.services.lumen_api import LumenApi, LumenBehaviour
from local.services.sentinel_api import SentinelApi, SentinelBehaviour
from local.services.storage_proxy import StorageProxy
from local.services.tls import LocalCertificates

UPLOAD_QUEUE = "sentinel-upload"
"""Named here on its own account: that the app uses this name is for a test to find out."""

SERVICES: tuple[Service, ...] = ("queue", "table")

QUICK = {
    "LUMEN_POLL_INTERVAL": "0.05",
    "RETRY_BASE_DELAY": "0.05",
    "RETRY_MAX_DELAY": "1",
    "DEFERRAL_DELAY": "0.5",
    "SENTINEL_REQUESTS_PER_MINUTE": "60000",
}
"""Settings that make a local run quick: waiting spares no simulator."""


LONG_DELAY = 60.0
"""Seconds for which a message is put out of sight only so that older requests end first: far more
than any other wait of a local run, and less than the app's two minutes."""

PACE = 0.95
"""Share of Sentinel's limit that the app is configured to use: 95 of the real 100 a minute."""


class LocalCloud:
    """One world. `with LocalCloud(feed, azurite=…, directory=…) as cloud: cloud.start_host()`."""

    def __init__(
        self,
        feed: Feed,
        *,
        azurite: Azurite,
        directory: Path,
        account: str = DEVELOPMENT_ACCOUNT,
        certificates: LocalCertificates | None = None,
        page_size: int = 1000,
        lumen: LumenBehaviour | None = None,
        sentinel: SentinelBehaviour | None = None,
        requests_per_minute: int | None = None,
        window_seconds: float = 60.0,
        latency: float | tuple[float, float] = 0.0,
        seed: int = 0,
        proxied: bool = False,
        shows: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`settings` are added to, or replace, those of the local cloud.

        `proxied` puts a `StorageProxy` between the hosts and Azurite. `shows`: the workspace keeps
        what Sentinel accepts, whole, for those who query it. Times are in seconds.
        Sentinel counts its limit over any `window_seconds`; a shorter window than its minute
        shows the same rate in less time.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._certificates = certificates or LocalCertificates(directory)
        self._workspace_id, self._tenant_id, self._client_id = (str(uuid.uuid4()) for _ in "wtc")
        self._client_secret = secrets.token_urlsafe(32)
        self._azurite = azurite
        self._account = account
        paced = requests_per_minute and {
            "SENTINEL_REQUESTS_PER_MINUTE": f"{requests_per_minute * PACE:g}"
        }
        self._settings = {**QUICK, **(paced or {}), **(settings or {})}
        ports = {service: azurite.port(service) for service in SERVICES}
        self.proxy = StorageProxy(ports) if proxied else None
        self.held = (
            HeldMessages(self.proxy, self.connection_string, at_least=LONG_DELAY)
            if self.proxy is not None
            else None
        )
        """Messages that wait for long; None without a proxy to see them."""
        self.lumen = LumenApi(
            feed,
            api_key=secrets.token_urlsafe(32),
            certificates=self._certificates,
            page_size=page_size,
            behaviour=lumen,
        )
        self.entra = Entra(
            tenant_id=self._tenant_id,
            client_id=self._client_id,
            client_secret=self._client_secret,
            certificates=self._certificates,
        )
        self.sentinel = SentinelApi(
            workspace_id=self._workspace_id,
            token_is_valid=self.entra.token_is_valid,
            certificates=self._certificates,
            requests_per_minute=requests_per_minute
            and max(1, round(requests_per_minute * window_seconds / 60)),
            window_seconds=window_seconds,
            latency=latency,
            seed=seed,
            behaviour=sentinel,
        )
        self.workspace = LogAnalyticsApi(
            workspace_id=self._workspace_id,
            token_is_valid=partial(self.entra.token_is_valid, audience=AUDIENCE),
            certificates=self._certificates,
        )
        if shows:
            self.sentinel.shown_in = self.workspace.ingest
        self.hosts: list[HostProcess] = []

    @property
    def _services(self) -> tuple[HttpSimulator, ...]:
        return (self.lumen, self.entra, self.sentinel, self.workspace)

    @property
    def connection_string(self) -> str:
        """Of the world's storage account, straight to Azurite."""
        return self._azurite.connection_string(self._account)

    @property
    def log_paths(self) -> list[Path]:
        """The log of every host that was started."""
        return [host.log_path for host in self.hosts]

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be seen in a log."""
        return (self._client_secret, self.lumen.api_key)

    def app_settings(self) -> dict[str, str]:
        """The environment of a host: the app's settings, and trust in the local CA."""
        via = None if self.proxy is None else self.proxy.urls
        return {
            "LUMEN_API_KEY": self.lumen.api_key,
            "LUMEN_BASE_URL": self.lumen.url,
            "WORKSPACE_ID": self._workspace_id,
            "TENANT_ID": self._tenant_id,
            "CLIENT_ID": self._client_id,
            "CLIENT_SECRET": self._client_secret,
            "ENTRA_AUTHORITY_HOST": self.entra.url,
            "SENTINEL_BASE_URL": self.sentinel.url,
            "SENTINEL_QUERY_URL": self.workspace.url,
            "PipelineStorage": self._azurite.connection_string(self._account, via=via),
            "PYTHON_THREADPOOL_THREAD_COUNT": "24",
            **self._certificates.environment(),
            **self._settings,
        }

    def change_workspace(self, workspace_id: str = "") -> None:
        """Let there be another workspace from now on, by default a new one, for new hosts.

        Sentinel knows only that one: what is sent to another is refused.
        """
        self._workspace_id = workspace_id or str(uuid.uuid4())
        self.sentinel.move_to(self._workspace_id)
        self.workspace.move_to(self._workspace_id)

    def override_settings(self, settings: Mapping[str, str]) -> None:
        """Give hosts that are started from now on other settings."""
        self._settings.update(settings)

    def start_host(
        self,
        *,
        timers: bool = False,
        queue_lease: float | None = None,
        disabled: Iterable[str] = (),
        clock_skew: float = 0.0,
        timer_status: Path | None = None,
        storage_patience: float | None = None,
        drain: float | None = None,
    ) -> HostProcess:
        """Start one more instance of the function app, without the `disabled` functions.

        On Azure every function that is not HTTP scales, and dies, on its own. The instance's clock
        is ahead by `clock_skew` seconds. With `storage_patience` it ends itself when storage is
        away for so many seconds, and waits `drain` seconds for what runs; see `HostProcess.start`.
        """
        skew = {CLOCK_SKEW_VARIABLE: str(clock_skew)} if clock_skew else {}
        log_path = self._directory / f"host-{len(self.hosts) + 1}.log"
        host = HostProcess.start(
            PROJECT_ROOT,
            self.app_settings()
            | skew
            | {f"AzureWebJobs.{name}.Disabled": "true" for name in disabled},
            log_path=log_path,
            timers=timers,
            queue_lease=queue_lease,
            drain=drain,
            timer_status=timer_status,
            storage_patience=storage_patience,
        )
        self.hosts.append(host)
        return host

    def kill_hosts(self) -> None:
        """SIGKILL every instance, so that the clean-up waits for none; for signal handlers, too."""
        for host in self.hosts:
            host.process.kill()

    def __enter__(self) -> Self:
        for part in self._services:
            part.start()
        if self.proxy is not None:
            self.proxy.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for host in self.hosts:
            host.__exit__(kind, error, trace)
        if self.proxy is not None:
            self.proxy.stop()
        for part in self._services:
            part.stop()
