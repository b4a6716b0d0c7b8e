"""The line of progress: rewritten in place in a terminal and a notebook, now and then a new line elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from types import TracebackType
from typing import TextIO

LIVE_SECONDS = 0.1  # between two rewritings of the line
PLAIN_SECONDS = 2.0  # between two lines of a log


class Progress:
    """Shows how far training has come; used as a context manager, whose end leaves the cursor on a new line.

    Parameters
    ----------
    epochs : int
        Epochs to go.
    rows : int
        Rows of an epoch.
    stream : text file, optional
        Where to write, stderr unless given.  Of a stand-in for a file only `write` is asked: without `isatty` it is
        no terminal, without `closed` it is open, without `flush` it has none to do.
    """

    def __init__(self, epochs: int, rows: int, stream: TextIO | None = None) -> None:
        self._epochs, self._rows = epochs, rows
        self._stream: TextIO | None = sys.stderr if stream is None else stream
        if getattr(self._stream, "closed", False):
            self._stream = None
        terminal = getattr(self._stream, "isatty", lambda: False)()
        # ipykernel's OutStream obeys a carriage return, though it says that it is no terminal.
        self._live = terminal or type(self._stream).__module__.split(".")[0] == "ipykernel"
        self._width = shutil.get_terminal_size().columns - 1 if terminal else None
        self._begin = time.monotonic()
        self._written = float("-inf")
        self._on_screen = 0
        self._pending = ""
        self._facts = ""
        self._epochs_done = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pending:
            self._write(self._pending)
        if self._live and self._on_screen:
            self._put("\n")

    def tick(self, rows_done: int) -> None:
        """Show that `rows_done` rows of the epoch now running are done."""
        self._show(self._epochs_done + 1, f"{100 * rows_done / self._rows:.0f} %{self._facts}", rows_done)

    def epoch(self, facts: str) -> None:
        """Show that another epoch is done, with `facts` about it."""
        self._epochs_done += 1
        self._facts = f", {facts}"
        self._show(self._epochs_done, facts, 0)

    def _show(self, epoch: int, text: str, rows_done: int) -> None:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        done = self._epochs_done * self._rows + rows_done
        speed = done / seconds
        left = (self._epochs * self._rows - done) / speed if done else 0.0
        when = f"{_clock(seconds)} taken" if self._epochs_done == self._epochs else f"{_clock(left)} left"
        self._pending = f"epoch {epoch}/{self._epochs}, {text}, {speed:,.0f} samples/s, {when}"
        if time.monotonic() - self._written >= (LIVE_SECONDS if self._live else PLAIN_SECONDS):
            self._write(self._pending)

    def _write(self, line: str) -> None:
        self._pending, self._written = "", time.monotonic()
        if self._live:
            line = line[: self._width]
            self._put("\r" + line.ljust(self._on_screen))
            self._on_screen = len(line)
        else:
            self._put(line + "\n")

    def _put(self, text: str) -> None:
        if self._stream is None:
            return
        try:
            self._stream.write(text)
            if hasattr(self._stream, "flush"):
                self._stream.flush()
        except (OSError, ValueError):  # nobody reads it any more (broken pipe, closed file): train on in silence
            self._stream = None


def _clock(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes = int(seconds) // 60
    return f"{minutes // 60}:{minutes % 60:02}:{int(seconds) % 60:02}"
