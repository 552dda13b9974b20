"""The whole pipeline on this machine, with a plain verdict: `make demo`.

Starts the local cloud, fires the timer as Azure would, shows what happens while it happens, and
ends with the reconciliation of the run. The exit status is 0 only after a PASS: the books balance,
the Sentinel simulator holds exactly the indicators that should be there, and a fault that was asked
for was met. The function app that runs is the deployed one, unchanged.

Not obvious: the rest is imported only when Ctrl-C and the other ways to be ended are in hand,
because importing takes a while.
"""

import signal
import sys
from collections.abc import Sequence
from types import FrameType

STOPPED = 130
"""The exit status after Ctrl-C, as shells have it: 128 and the signal's number."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup ignores the hang-up
            signal.signal(number, _leave)
    try:
        from local.demo.run import run  # noqa: PLC0415 - see above

        return run(arguments)
    except KeyboardInterrupt:
        print("\nstopped", flush=True)
        return STOPPED


def _leave(number: int, _frame: FrameType | None) -> None:
    """End by way of every `with`, so that children and scratch folders go too; only once."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
