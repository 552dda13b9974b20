"""How long a delivery may take to reach Sentinel: the three times that belong together.

A request leaves only after a fresh look at its chunk's row, and ends within a limit. So
`LONGEST_DELIVERY` after a version was struck, no request can still carry it.
"""

from typing import Final

LOOK_IS_GOOD_FOR: Final = 15.0
"""Most seconds from the start of the look at a chunk's row to the request."""

REQUEST_WITHIN: Final = 90.0
"""Seconds for a request to Sentinel as a whole. Users report 6 to 8 s for 100 objects."""

LONGEST_DELIVERY: Final = 120.0
"""Seconds for which a newer version of an indicator waits on the queue, invisible, while a request
with an older one may be about to leave: longer than a look and a request together."""
