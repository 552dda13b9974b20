"""The commands about who and where: login, logout, profiles."""

from dataclasses import asdict, replace
from typing import Annotated, Final

from cyclopts import Parameter

from ops.cli.connecting import Target, open_transport, user
from ops.cli.ending import GOOD, Failure
from ops.cli.http import HttpTransport, checked_url
from ops.cli.keys import VARIABLE, ask_for_key, forget_key, keep_key
from ops.cli.profiles import Profile, path_of_profiles, read_profiles, write_profiles
from ops.cli.screen import Output, note, print_rows, say
from ops.cli.transport import Transport

HERE: Final = "default"
"""The name of a profile for which none is given."""


def login(
    name: str = HERE,
    /,
    *,
    url: str,
    by: str = "",
    entra: Annotated[str, Parameter(name="--entra")] = "",
) -> int:
    """Keep an app's address, and its key in the system's keyring, under a name.

    The key is asked for, and tried, before anything is kept. The first profile is the default one.

    Parameters
    ----------
    name
        A name for the app, such as production.
    url
        Address of the app, https://NAME.azurewebsites.net.
    by
        The name under which your acts are recorded; else yours on this machine.
    entra
        Sign in with Entra instead of a key; takes the client id of the app's registration.
    """
    address = checked_url(url)
    profiles = read_profiles()
    profile = Profile(url=address, by=by or user(), client_id=entra)
    key = ""
    if entra:
        transport = open_transport(Target(url=address, by=profile.by, client_id=entra))
    else:
        key = ask_for_key(address)
        transport = HttpTransport(address, by=profile.by, proof=lambda: {"x-functions-key": key})
    rights = _rights(transport)
    named = {**profiles.named, name: profile}
    write_profiles(replace(profiles, default=profiles.default or name, named=named))
    say(f"{name}: {rights}; kept in {path_of_profiles()}")
    if key and not keep_key(address, key):
        note(f"this machine has no keyring: set {VARIABLE}, or type the key each time")
    return GOOD


def _rights(transport: Transport) -> str:
    """Return in words what a caller may do; raises `Failure` for one who may not read.

    A key of `read` is refused by `act`. Anyone who has signed in may list the acts, and one without
    a role may do none: so only an answer of `read` says that the caller may read.
    """
    try:
        acts = transport.call("GET", "act", {}).get("acts", [])
    except Failure:
        acts = []
    transport.call("GET", "read/status", {"runs": 1})
    return "may read and act" if acts else "may read"


def logout(name: str = "", /) -> int:
    """Forget a profile, and its key in the keyring.

    Parameters
    ----------
    name
        The profile; else the default one.
    """
    profiles = read_profiles()
    profile = profiles.choose(name)
    if profile is None:
        raise Failure("there is no profile to forget")
    gone = name or profiles.default
    named = {key: value for key, value in profiles.named.items() if key != gone}
    default = next(iter(named), "") if profiles.default == gone else profiles.default
    write_profiles(replace(profiles, default=default, named=named))
    if all(one.url != profile.url for one in named.values()):
        forget_key(profile.url)
    say(f"{gone} is forgotten")
    return GOOD


def profiles(*, output: Output = Output()) -> int:
    """List the profiles; the default one is marked."""
    found = read_profiles()
    rows = [
        {"profile": name, "default": "*" if name == found.default else "", **asdict(one)}
        for name, one in found.named.items()
    ]
    print_rows(rows, output=output, empty="no profile yet; see `login`")
    return GOOD
