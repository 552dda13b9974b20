"""Where a run on this machine keeps its logs and certificates: `.demo/<process id>`.

Several runs at once do not disturb each other. What a run left behind can be looked at until the
next one starts, which removes it.
"""

import os
import shutil
from pathlib import Path

from local.functions_host.process import PROJECT_ROOT

DIRECTORY = PROJECT_ROOT / ".demo"


def fresh_directory() -> Path:
    """Return a directory of this process's own; those of processes that are over are removed."""
    for old in DIRECTORY.glob("*"):
        if not is_running(old.name):
            shutil.rmtree(old, ignore_errors=True)
    return DIRECTORY / str(os.getpid())


def is_running(name: str) -> bool:
    """Whether the process is alive that a folder of this name belongs to."""
    try:
        os.kill(int(name), 0)
    except PermissionError:  # another user's
        return True
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    return True
