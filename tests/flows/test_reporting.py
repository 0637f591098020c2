"""Progress as a pipe and as a terminal see it, by a clock of our own."""

from __future__ import annotations

import io

import pytest

from gapshift.flows.reporting import ConsoleReporter


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _told(stream: io.StringIO, *steps: tuple[float, int, int], what: str = "trained m") -> str:
    clock = Clock()
    reporter = ConsoleReporter(stream, every=0.0, clock=clock)
    reporter.stage("train")
    for seconds, done, total in steps:
        clock.now = 1000.0 + seconds
        reporter.progress(what, done, total)
    reporter.close()
    return stream.getvalue()


def test_a_line_tells_the_stages_time_and_what_is_left() -> None:
    told = _told(io.StringIO(), (0, 0, 114), (5, 1, 114), (70, 12, 114), (700, 114, 114))
    assert told.splitlines() == [
        "[train]",
        "  0/114  trained m, 0 s",
        "  1/114  trained m, 5 s",
        "  12/114  trained m, 1 min 10 s, about 10 min left",
        "  114/114  trained m, 11 min 40 s",
    ]


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        (((0, 0, 100), (60, 4, 100)), "4/100  trained m, 1 min 0 s"),  # under 5%
        (((0, 0, 100), (19, 50, 100)), "50/100  trained m, 19 s"),  # under 20 s
        (((0, 50, 100), (60, 50, 100)), "50/100  trained m, 1 min 0 s"),  # all done beforehand
        (((0, 50, 100), (30, 75, 100)), "75/100  trained m, 30 s, about 30 s left"),  # half was done beforehand
        (((0, 0, 4), (40, 4, 4), (50, 1, 8), (80, 4, 8)), "4/8  trained m, 1 min 20 s, about 40 s left"),  # next count
        (((0, 0, 100), (3725, 50, 100)), "50/100  trained m, 1 h 2 min, about 1 h 2 min left"),
    ],
)
def test_an_estimate_waits_for_a_pace(steps: tuple[tuple[float, int, int], ...], last: str) -> None:
    assert _told(io.StringIO(), *steps).splitlines()[-1] == f"  {last}"


def test_a_terminals_line_is_cut_before_its_times() -> None:
    told = _told(Terminal(), (0, 0, 10), (40, 5, 10), what="x" * 200)
    line = told.rpartition("\x1b[2K")[2].rstrip("\n")
    assert len(line) == 100
    assert line.endswith("x, 40 s, about 40 s left")
