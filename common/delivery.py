"""How long a delivery may take to reach Sentinel: the three times that belong together.

A request leaves only on a look at its chunk's row that is fresh, and is over within a limit. So a
version that was struck is out of the way, one way or the other, `LONGEST_DELIVERY` later.
"""

from typing import Final

LOOK_IS_GOOD_FOR: Final = 15.0
"""Seconds between the look at a chunk's row, from before it was sent, and the request."""

REQUEST_WITHIN: Final = 90.0
"""Seconds for a request to Sentinel as a whole. Users report 6 to 8 s for 100 objects."""

LONGEST_DELIVERY: Final = 120.0
"""Seconds for which a newer version of an indicator waits on the queue, invisible, while a request
with an older one may be about to leave: longer than a look and a request together."""
