"""The whole pipeline on this machine, with a plain verdict: `make demo`.

Starts the local cloud, fires the timer as Azure would, shows what happens while it happens, and
ends with the reconciliation of the run. The exit status is 0 only after a PASS: the books balance,
the Sentinel simulator holds exactly the indicators that should be there, and a fault that was asked
for was met. The function app that runs is the deployed one, unchanged.

Not obvious: the rest is imported only when Ctrl-C and the other ways to be ended are in hand,
because importing takes a while.
"""

import os
import sys
from collections.abc import Sequence

from local.demo.stopping import STOPPED, handle_signals

PIPE_CLOSED = 141
"""The exit status once nobody reads the output, as in `| head`: 128 and SIGPIPE's number."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    handle_signals()
    try:
        from local.demo.run import run  # noqa: PLC0415 - see above

        return run(arguments)
    except KeyboardInterrupt:
        return STOPPED
    except BrokenPipeError:
        # What is flushed at exit would fail again, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


if __name__ == "__main__":
    sys.exit(main())
