"""The version of this code: the project's, the package's, the template's and the tag's.

A test keeps them equal. Every log line has it, so that a search shows which release logged it.
"""

from typing import Final

VERSION: Final = "0.1.0"
