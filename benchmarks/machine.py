"""What the figures were measured on, in one line. Only ratios compare between machines."""

import os
import platform
from pathlib import Path


def describe_machine() -> str:
    """Return cores, memory, system and Python of this machine; what is unknown is left out."""
    parts = [
        f"{os.cpu_count()} cores{_said_by_linux('/proc/cpuinfo', 'model name', ' of {}')}",
        _said_by_linux("/proc/meminfo", "MemTotal", "{} memory"),
        f"{platform.system()} {platform.machine()}",
        f"{platform.python_implementation()} {platform.python_version()}",
    ]
    return ", ".join(filter(None, parts))


def _said_by_linux(path: str, name: str, form: str) -> str:
    """Return the value of a line like `name : value`, in a sentence; empty where there is none."""
    if not Path(path).exists():
        return ""
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return form.format(_rounded(value.strip()))
    return ""


def _rounded(value: str) -> str:
    number, _, unit = value.partition(" ")
    return f"{int(number) / 2**20:.0f} GiB" if unit == "kB" else value
