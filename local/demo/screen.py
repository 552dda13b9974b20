"""What the demo prints while it runs: lines, rows of numbers, and signs of life in between.

On a terminal a region at the bottom shows time, bar and plot all the while (`rich`). Elsewhere, as
in a pipe or a log, a line comes at the latest after `QUIET` seconds: nobody should wonder whether
it hangs. Safe to use from several threads.
"""

import sys
import threading
import time
from types import TracebackType
from typing import Self, TextIO

from rich.console import Console
from rich.live import Live
from rich.text import Text

from local.demo.rows import HEAD, Row, bar, percent, rate_of, render_plots, render_row

QUIET = 1.6
"""Seconds without a line after which a sign of life is printed; two are too many."""

_LOOK_EVERY = 0.2
_HEAD_EVERY = 30
"""Rows below one head."""

_BAR = 40


class Screen:
    """`with Screen() as screen: screen.begin("starting"); screen.say("…")`."""

    def __init__(self, out: TextIO | None = None) -> None:
        """`out` is standard output by default."""
        self._out = out or sys.stdout
        self._console = Console(file=self._out, highlight=False, soft_wrap=True, markup=False)
        self._is_terminal = self._console.is_terminal and not self._console.is_dumb_terminal
        self.plain = not (getattr(self._out, "encoding", "") or "").lower().startswith("utf")
        self.rows: list[Row] = []
        """What was shown, in order; the plots are drawn from them."""
        self._lock = threading.RLock()
        self._began = self._said = time.monotonic()
        self._doing = ""
        self._since_head = _HEAD_EVERY
        self._ended = threading.Event()
        self._pipe_closed: BrokenPipeError | None = None
        self._live: Live | None = None
        self._thread = threading.Thread(target=self._stay_alive, daemon=True)

    def __enter__(self) -> Self:
        if self._is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self._region,
                transient=True,
                auto_refresh=True,
            )
            self._live.start()
        else:
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._live is not None:
            self._live.stop()
            self._live = None

    @property
    def elapsed(self) -> float:
        """Seconds since the work of this screen began."""
        return time.monotonic() - self._began

    def begin(self, doing: str) -> None:
        """Say what the demo is at from now on; signs of life repeat it. Empty: at rest."""
        with self._lock:
            self._doing = doing

    def restart_clock(self) -> None:
        """Count the seconds from here: what was before was only set-up."""
        with self._lock:
            self._began = time.monotonic()

    def say(self, text: str) -> None:
        """Print a line or several. Raises BrokenPipeError once nobody reads any more."""
        with self._lock:
            if self._pipe_closed is not None:
                raise self._pipe_closed
            if self._live is not None:
                self._console.print(Text(text))
            else:
                print(text, file=self._out, flush=True)
            self._said = time.monotonic()

    def show(self, row: Row) -> None:
        """Print a row, below a head where the last one is far above."""
        with self._lock:
            self.rows.append(row)
            if self._since_head >= _HEAD_EVERY:
                self.say(HEAD)
                self._since_head = 0
            self._since_head += 1
            self.say(render_row(row, plain=self.plain))

    def row(
        self, *, pages: int, enqueued: int, accepted: int, queue: int, throttled: int, expected: int
    ) -> Row:
        """Return a row of these numbers as of now, with the rate since two seconds before."""
        elapsed = self.elapsed
        return Row(
            elapsed=elapsed,
            pages=pages,
            enqueued=enqueued,
            accepted=accepted,
            rate=rate_of(self.rows, elapsed=elapsed, accepted=accepted),
            queue=queue,
            throttled=throttled,
            expected=expected,
        )

    def _region(self) -> Text:
        """Return what stands at the bottom of a terminal."""
        with self._lock:
            last = self.rows[-1] if self.rows else Row(elapsed=0.0)
            first = f"  {self.elapsed:6.1f} s  {bar(last.share, width=_BAR, plain=self.plain)}"
            line = f"{first} {percent(last.share)}  {last.rate:,.0f} indicators/s  {self._doing}"
            plots = render_plots(self.rows, plain=self.plain)
        return Text("\n".join(filter(None, [line, plots])), no_wrap=True, overflow="crop")

    def _stay_alive(self) -> None:
        while not self._ended.wait(_LOOK_EVERY):
            with self._lock:
                if not self._doing or time.monotonic() - self._said < QUIET:
                    continue
                try:
                    self.say(f"{self.elapsed:>9.1f}  ... {self._doing}")
                except BrokenPipeError as error:
                    self._pipe_closed = error
                    return
