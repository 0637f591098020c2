"""What a reader is: one file with one ``READER``, and one line in ``domains/open.py``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gapshift.domains.base import Dataset


@dataclass(frozen=True, slots=True)
class Reader:
    """One way in which data sets are stored.

    ``layout`` says in words what it takes. ``accepts(source)`` looks without reading
    the data. ``read(source, labels)`` makes the data set, whose classes are ``labels``
    where given, and raises DataError.
    """

    name: str
    layout: str
    accepts: Callable[[str], bool]
    read: Callable[[str, Sequence[str] | None], Dataset]
