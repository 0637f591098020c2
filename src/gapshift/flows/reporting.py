"""How a flow tells its progress: the command line listens, tests may collect, silence is the default."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol, TextIO

_WIDTH = 100
"""Columns of a terminal's progress line."""
_LEAST_SHARE, _LEAST_SECONDS = 0.05, 20.0
"""So much must be done, and so long must it have taken, before what is left is told."""


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


class _Pace:
    """How long a stage has taken, and what it still needs at the pace of its present count."""

    def __init__(self, start: float) -> None:
        self._start = start
        self._counted: tuple[float, int, int] | None = None  # when the present count was first seen, and where
        self._done = 0

    def times(self, now: float, done: int, total: int) -> str:
        """ ", 1 min 10 s, about 9 min left"; steps that were done beforehand set no pace."""
        if self._counted is None or done < self._done or total != self._counted[2]:
            self._counted = (now, done, total)
        self._done = done
        since, first, _ = self._counted
        text = f", {duration(now - self._start)}"
        if done >= total or done - first < _LEAST_SHARE * total or now - since < _LEAST_SECONDS or done == first:
            return text
        left = (now - since) / (done - first) * (total - done)
        return f"{text}, about {_rounded(left)} left"


def duration(seconds: float) -> str:
    """Words for a time.

    >>> duration(70.4), duration(5), duration(3725)
    ('1 min 10 s', '5 s', '1 h 2 min')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    hours, rest = divmod(whole, 3600)
    minutes = rest // 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest % 60} s"


def _rounded(seconds: float) -> str:
    """An estimate says no more than it knows: to ten seconds, from two minutes on to minutes."""
    if seconds < 120:
        return duration(10 * max(1, round(seconds / 10)))
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else duration(60 * minutes)


class ConsoleReporter:
    """Progress on standard error: one line that rewrites itself on a terminal, else a line
    now and then, so that logs stay short and plain. Every line ends with the stage's time so far,
    and with what is left once that can be told. ``clock`` gives seconds."""

    def __init__(
        self, stream: TextIO | None = None, every: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._every = every
        self._clock = clock
        self._last: float | None = None
        self._pace = _Pace(clock())
        self._open_line = False

    def stage(self, name: str) -> None:
        """Announce the stage on a line of its own."""
        self._end_line()
        self._last = None
        self._pace = _Pace(self._clock())
        self._write(f"[{name}]\n")

    def progress(self, what: str, done: int, total: int) -> None:
        """Rewrite the line on a terminal; elsewhere write one every few seconds and at the end."""
        now = self._clock()
        line, times = f"  {done}/{total}  {what}", self._pace.times(now, done, total)
        if self._terminal:
            self._write(f"\r\x1b[2K{line[: _WIDTH - len(times)]}{times}")
            self._open_line = True
            return
        line += times
        if done == total or self._last is None or now - self._last >= self._every:
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
