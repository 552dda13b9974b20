"""The version of this code: the project's, the package's, the template's and the tag's.

A test holds them together. Every log line carries it, so that a search tells which release spoke.
"""

from typing import Final

VERSION: Final = "0.1.0"
