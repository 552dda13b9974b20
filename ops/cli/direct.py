"""The way next to the storage: the API's own function is called in this process.

It needs the storage settings in the environment, and the packages that run in Azure.
"""

import math
import os
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from common.transport import within
from ops.cli.ending import Failure
from ops.cli.transport import Answer, accept

if TYPE_CHECKING:
    from ops.toolbox import Toolbox

READ_WITHIN: Final = 19.0
"""Seconds for an answer that only reads. One call to the storage lasts 20 at most."""


class DirectTransport:
    """Answers from the storage that the environment names, under this machine's identity."""

    seen_from = "this machine's settings and identity"

    def __init__(self, *, by: str, toolbox: "Callable[[], Toolbox] | None" = None) -> None:
        self._by = by
        self._toolbox = toolbox

    def call(self, method: str, path: str, params: Mapping[str, Any]) -> Answer:
        """Return the answer to one request; raises `Failure`."""
        try:
            from ops.api.answering import answer  # noqa: PLC0415
            from ops.callers import Caller  # noqa: PLC0415 - over HTTP none of it is installed
            from ops.toolbox import open_toolbox  # noqa: PLC0415
        except ModuleNotFoundError as error:
            raise Failure(
                f"the Python package {error.name} is not installed: next to the storage the "
                "program needs those that run in Azure, `pipx install '.[azure]'`; over HTTP "
                "(--url) it does not"
            ) from error
        if self._toolbox is None:
            opened: list[Toolbox] = []

            def toolbox() -> "Toolbox":
                if not opened:
                    opened.append(open_toolbox())
                return opened[0]

            self._toolbox = toolbox
        with within(READ_WITHIN if method == "GET" else math.inf):
            response = answer(
                self._toolbox,
                method=method,
                path=path,
                given=params,
                caller=Caller(name=self._by),
            )
        try:
            return accept(response.status, response.body)
        except Failure as failure:
            if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise
            raise Failure(f"{failure}; {hint(os.environ)}", status=failure.status) from failure


def hint(environment: Mapping[str, str]) -> str:
    """Return what to look at where the storage gives no answer, with its host. Pure."""
    text = environment.get("PipelineStorage", "")
    parts = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    url = environment.get("PipelineStorage__tableServiceUri") or parts.get("TableEndpoint", "")
    host = urlsplit(url).netloc
    if not host and (name := parts.get("AccountName")):
        host = f"{name}.table.{parts.get('EndpointSuffix', 'core.windows.net')}"
    return (
        f"the storage is {host or 'the one of PipelineStorage'}: behind a private endpoint its "
        "name must lead to a private address here, see VPN and private DNS"
    )
