"""Which app or storage a command speaks to, from options, environment and profiles.

Options count first, then the environment, then the default profile. Two of the same rank are
refused: a command that changes something never guesses between them.
"""

import getpass
import os
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Annotated, Final

from cyclopts import Parameter

from ops.cli.direct import DirectTransport
from ops.cli.ending import Failure
from ops.cli.entra import EntraProof
from ops.cli.http import HttpTransport, checked_url
from ops.cli.keys import find_key
from ops.cli.profiles import Profiles, read_profiles
from ops.cli.transport import Transport

URL_VARIABLE: Final = "LUMEN_SENTINEL_URL"
STORAGE_VARIABLE: Final = "PipelineStorage"

HOW: Final = (
    "say which app: --url https://NAME.azurewebsites.net, or a profile (`lumen-sentinel login`); "
    "or, next to the storage, set PipelineStorage"
)

GIVEN: Final[ContextVar[Transport | None]] = ContextVar("given", default=None)
"""A transport that the caller of the program brings along: tests do."""


@Parameter(name="*", group="Connection")
@dataclass(frozen=True, kw_only=True)
class Connection:
    """The options that say where to and as whom."""

    url: str = ""
    """Address of the app; else LUMEN_SENTINEL_URL. Its key: LUMEN_SENTINEL_KEY, keyring, prompt."""
    profile: str = ""
    """A profile that `login` has made."""
    entra: Annotated[str, Parameter(name="--entra")] = ""
    """Sign in with Entra instead of a key; takes the client id of the app's registration."""
    by: str = ""
    """Who acts, for the record: else the profile's name, else yours on this machine."""

    def open(self) -> Transport:
        """Return the way to the API; raises `Failure`. Nothing is called yet."""
        given = GIVEN.get()
        if given is not None:
            return given
        return open_transport(choose(self, environment=os.environ, profiles=read_profiles()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The app at `url`, or the storage of the environment where that is empty."""

    url: str
    by: str
    client_id: str = ""


def choose(connection: Connection, *, environment: Mapping[str, str], profiles: Profiles) -> Target:
    """Return what a command speaks to; raises `Failure` where that is not clear. Pure."""
    if connection.url and connection.profile:
        raise Failure("give --url or --profile, not both")
    if connection.url:
        return _at_url(connection, profiles)
    found = None if connection.profile else _by_environment(connection, environment)
    return found or _by_profile(connection, profiles)


def _at_url(connection: Connection, profiles: Profiles) -> Target:
    """Return the app that an option names; a profile of the same app says who acts."""
    url = checked_url(connection.url)
    of_url = next((one.by for one in profiles.named.values() if one.url == url), "")
    return Target(url=url, by=connection.by or of_url or user(), client_id=connection.entra)


def _by_environment(connection: Connection, environment: Mapping[str, str]) -> Target | None:
    """Return the app or the storage that the environment names; None where it names neither."""
    url = environment.get(URL_VARIABLE, "")
    by = connection.by or user()
    if not _names_storage(environment):
        return Target(url=checked_url(url), by=by, client_id=connection.entra) if url else None
    if url:
        raise Failure(
            f"{URL_VARIABLE} and {STORAGE_VARIABLE} are both set: unset one, or give --url"
        )
    if connection.entra:
        raise Failure("--entra needs an app to sign in to: give --url or --profile as well")
    return Target(url="", by=by)


def _names_storage(environment: Mapping[str, str]) -> bool:
    return any(
        name == STORAGE_VARIABLE or name.startswith(f"{STORAGE_VARIABLE}__")
        for name, value in environment.items()
        if value
    )


def _by_profile(connection: Connection, profiles: Profiles) -> Target:
    profile = profiles.choose(connection.profile)
    if profile is None:
        raise Failure(HOW)
    return Target(
        url=checked_url(profile.url),
        by=connection.by or profile.by or user(),
        client_id=connection.entra or profile.client_id,
    )


def open_transport(target: Target) -> Transport:
    """Return the way to a target; nothing is called yet. Raises `Failure` without a key."""
    if not target.url:
        return DirectTransport(by=target.by)
    if target.client_id:
        return HttpTransport(target.url, by=target.by, proof=EntraProof(target.client_id))
    key = find_key(target.url)
    return HttpTransport(target.url, by=target.by, proof=lambda: {"x-functions-key": key})


def user() -> str:
    """Return the name of the person at the keyboard, as far as the system knows it."""
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return "operator"
