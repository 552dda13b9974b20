"""What can go wrong between us and an HTTP service before there is an answer.

`requests` wraps most of it, but lets urllib3's own errors pass where a URL cannot be parsed, and
raises a bare `OSError` where a CA bundle is missing. All of it means: no answer, try later.
"""

from typing import Final

import urllib3

TRANSPORT_ERRORS: Final = (OSError, urllib3.exceptions.HTTPError)
"""`requests.RequestException` is an `OSError`."""
