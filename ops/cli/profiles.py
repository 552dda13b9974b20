"""Profiles: the apps that a person operates, in one file of their configuration folder.

A profile has an address and a name, never a key: keys are in the system's keyring, under the
address that they belong to, or in the environment.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

import platformdirs

from ops.cli.ending import Failure

PROGRAM: Final = "lumen-sentinel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One app: its address, how to sign in there, and the name under which acts are recorded."""

    url: str
    by: str = ""
    client_id: str = ""
    """Of the app's registration, where Entra signs in; empty where a key is used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiles:
    """All profiles by name, and which one is used where none is named."""

    default: str
    named: Mapping[str, Profile]

    def choose(self, name: str) -> Profile | None:
        """Return the profile of a name, or the default one; None where there is none.

        Raises `Failure` for a name that is not there.
        """
        chosen = name or self.default
        if name and name not in self.named:
            known = ", ".join(sorted(self.named)) or "none yet; see `login`"
            raise Failure(f"there is no profile {name!r} (profiles: {known})")
        return self.named.get(chosen)


def path_of_profiles() -> Path:
    """Return where the file is; it need not be there."""
    return platformdirs.user_config_path(PROGRAM, appauthor=False) / "profiles.json"


def read_profiles() -> Profiles:
    """Return what the file says; nothing where there is none. Raises `Failure` if it is damaged."""
    path = path_of_profiles()
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Profiles(default="", named={})
    except OSError as error:
        raise Failure(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _profiles(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Failure(
            f"{path} is not a file of profiles: correct it, or remove it and use `login`"
        ) from error


def write_profiles(profiles: Profiles) -> None:
    """Write the file, for its owner alone, whole or not at all. Raises `Failure`."""
    path = path_of_profiles()
    named = {name: asdict(profile) for name, profile in profiles.named.items()}
    text = json.dumps({"default": profiles.default, "profiles": named}, indent=2)
    fresh = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.touch(mode=0o600)
        fresh.write_text(text + "\n", encoding="utf-8")
        fresh.replace(path)
    except OSError as error:
        raise Failure(f"{path} cannot be written: {error.strerror}") from error


def _profiles(found: Mapping[str, object]) -> Profiles:
    known = {field.name for field in fields(Profile)}
    named = found["profiles"]
    if not isinstance(named, dict):
        raise TypeError("profiles")
    return Profiles(
        default=str(found.get("default", "")),
        named={
            str(name): Profile(**{key: str(value) for key, value in one.items() if key in known})
            for name, one in named.items()
        },
    )
