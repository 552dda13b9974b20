"""`python -m ops`: the program `lumen-sentinel`, see `cli`."""

import sys

from ops.cli import main

if __name__ == "__main__":
    sys.exit(main())
