"""scikit-learn's embedded digits: 1,797 real scans, 8x8 grey (Alpaydin & Kaynak, 1998)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gapshift.domains.base import Dataset, Pixels
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.schema import Item

NAME = "digits"


def read_digits(labels: Sequence[str] | None = None) -> Dataset:
    """The digits as uint8 pixels (8, 8).

    The 17 ink values 0-16 become round(value * 255 / 16), halves up, in integers: the
    same bytes on every machine.
    """
    from sklearn.datasets import load_digits  # here: it takes a second that other data sets need not wait

    ink, target = load_digits(return_X_y=True)
    images = ((ink.astype(np.int64) * 255 + 8) // 16).astype(np.uint8).reshape(-1, 8, 8)
    classes, indexes = resolve_labels(target.tolist(), labels, lambda row: f"Item '{NAME}/{row:04d}'")
    items = [Item(id=f"{NAME}/{row:04d}", label=int(label)) for row, label in enumerate(indexes)]
    return Pixels(NAME, classes, items, images)


READER = Reader(
    name=NAME,
    layout="the word 'digits': scikit-learn's embedded handwritten digits",
    accepts=lambda source: source == NAME,
    read=lambda _, labels: read_digits(labels),
)
