"""Function keys: from the environment, the system's keyring or a prompt; never from an option.

Process lists and shell histories show options. A keyring that is missing or locked is no reason to
end: the prompt comes next.
"""

import getpass
import os
import sys
from typing import Final

import keyring
from keyring.errors import KeyringError

from ops.cli.ending import Failure
from ops.cli.profiles import PROGRAM

VARIABLE: Final = "LUMEN_SENTINEL_KEY"
LONGEST_KEY: Final = 500
"""Characters; those of Azure have 56."""


def find_key(url: str) -> str:
    """Return the key for an app; raises `Failure` if there is none and no terminal to ask on."""
    given = os.environ.get(VARIABLE, "")
    if given:
        return checked_key(given, source=VARIABLE)
    kept = kept_key(url)
    if kept:
        return kept
    return ask_for_key(url)


def ask_for_key(url: str) -> str:
    """Ask for a key, unseen; raises `Failure` without a terminal."""
    if not sys.stdin.isatty():
        raise Failure(
            f"there is no key for {url}: set {VARIABLE}, or keep one with `lumen-sentinel login`"
        )
    try:
        typed = getpass.getpass(f"function key for {url} (it is not shown): ")
    except EOFError:
        typed = ""
    return checked_key(typed, source="the prompt")


def checked_key(text: str, *, source: str) -> str:
    """Return a key as a header may have it; raises `Failure`, which does not show it."""
    key = text.strip()
    if not key or len(key) > LONGEST_KEY or not all("!" <= c <= "~" for c in key):
        raise Failure(f"what {source} has is not a function key: copy it again")
    return key


def kept_key(url: str) -> str:
    """Return the key that the keyring has for an app; empty where it has none or is none."""
    try:
        return keyring.get_password(PROGRAM, url) or ""
    except KeyringError:
        return ""


def keep_key(url: str, key: str) -> bool:
    """Keep a key in the keyring; return False where there is none that can."""
    try:
        keyring.set_password(PROGRAM, url, key)
    except KeyringError:
        return False
    return True


def forget_key(url: str) -> bool:
    """Remove the key of an app from the keyring; return False where there was none."""
    try:
        keyring.delete_password(PROGRAM, url)
    except KeyringError:
        return False
    return True
