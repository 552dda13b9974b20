"""Sets the clock of a host process wrong by `LOCAL_CLOCK_SKEW` seconds. On the path only then.

Python imports a module of this name before anything else, so every later import sees the shifted
`time.time` and `datetime.now`. Not obvious: the shifted `datetime` makes plain datetimes and equals
the plain type, because libraries look types up in dictionaries; a library's own subclass of it is
as it ever was. Monotonic time is left alone.
"""

import datetime as dt
import os
import time
from typing import Any

SKEW = float(os.environ.get("LOCAL_CLOCK_SKEW", "0"))

_Plain = dt.datetime
_plain_time = time.time


class _LikePlain(type):
    """Makes the shifted type stand for the plain one wherever types are compared."""

    def __instancecheck__(cls, instance: object) -> bool:
        return (
            isinstance(instance, _Plain) if cls is _Shifted else super().__instancecheck__(instance)
        )

    def __eq__(cls, other: object) -> bool:
        return other is cls or (cls is _Shifted and other is _Plain)

    def __hash__(cls) -> int:
        return hash(_Plain) if cls is _Shifted else super().__hash__()


class _Shifted(_Plain, metaclass=_LikePlain):
    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return _Plain(*args, **kwargs) if cls is _Shifted else super().__new__(cls, *args, **kwargs)

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> Any:
        return _Plain.now(tz) + dt.timedelta(seconds=SKEW)

    @classmethod
    def utcnow(cls) -> Any:
        return cls.now(dt.UTC).replace(tzinfo=None)


if SKEW:
    time.time = lambda: _plain_time() + SKEW
    dt.datetime = _Shifted  # type: ignore[misc]
