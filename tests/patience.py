"""How long a test waits for what must happen, before it says that it did not."""

from typing import Final

PATIENCE: Final = 240.0
"""Seconds. A wait ends with its event, so only a failure takes this long: it is many times what a
busy machine needs. pytest's own limit (pyproject.toml) leaves room for several such waits."""
