"""How a flow tells its progress: the command line listens, tests may collect, silence is the default."""

from __future__ import annotations

import sys
import time
from typing import Protocol, TextIO


class Reporter(Protocol):
    """What a flow tells while it works."""

    def stage(self, name: str) -> None:
        """A new stage begins."""

    def progress(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` steps of the stage are done; ``what`` was the last."""

    def note(self, text: str) -> None:
        """Something that the user should read."""


class Silent:
    """Tells nobody."""

    def stage(self, name: str) -> None:
        """Nothing."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


class ConsoleReporter:
    """Progress on standard error: one line that rewrites itself on a terminal, else a line
    now and then, so that logs stay short and plain."""

    def __init__(self, stream: TextIO | None = None, every: float = 10.0) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = every
        self._last = 0.0
        self._open_line = False

    def stage(self, name: str) -> None:
        """Announce the stage on a line of its own."""
        self._end_line()
        self._last = 0.0
        self._write(f"[{name}]\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Rewrite the line on a terminal; elsewhere write one every few seconds and at the end."""
        line = f"  {done}/{total}  {what}"
        if self._terminal:
            self._write(f"\r\x1b[2K{line[:100]}")
            self._open_line = True
            return
        now = time.monotonic()
        if done == total or now - self._last >= self._every:
            self._last = now
            self._write(line + "\n")

    def note(self, text: str) -> None:
        """The note on a line of its own."""
        self._end_line()
        self._write(f"  note: {text}\n")

    def close(self) -> None:
        """Leave the cursor on a fresh line."""
        self._end_line()

    def _end_line(self) -> None:
        if self._open_line:
            self._write("\n")
            self._open_line = False

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
