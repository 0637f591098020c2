"""Which items are nearly the same, so that no split parts them.

Two items are near-duplicates where their signatures are equal. What that catches: texts of the
same words in any order, case, punctuation and number; pictures whose 8x8 grey thumbnails agree
in every cell to four bits; identical recordings; episodes of the same start and physics to three
digits. What it does not: paraphrases, a text that contains another one, crops and mirror images,
pictures saved anew with loss where a cell crosses a step (of 600 CIFAR pictures at JPEG quality 95
40% did, at 30 nearly all), a recording saved anew.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from PIL import Image

from gapshift.domains.base import Dataset, Episode, Raw, RawImage, Text
from gapshift.domains.decode import decode
from gapshift.errors import UnreadableItemError
from gapshift.schema import Domain, Preprocessing, Resize

LARGEST_THUMBNAIL = 65_536
"""Encoded images of more bytes are not decoded for it (it would take longer than training on
them): they are near-duplicates only where their bytes are equal."""
_SIDE = 8
_GREY = Preprocessing(color="L", resize=Resize(size=(_SIDE, _SIDE)))
_WORD = re.compile(r"[^\W\d_]+")


def signature(raw: Raw, domain: Domain) -> str:
    """What near-duplicates have in common, as 32 hex digits.

    text: the sorted set of words, case-folded, without punctuation and digits, of each text
    (a text without a word: itself). vision: the grey 8x8 thumbnail (means over areas) with
    four bits a cell; the content where an encoded image is larger than LARGEST_THUMBNAIL or
    cannot be decoded. audio: the content. control: task, initial state and physics, rounded to
    three decimal places.
    """
    if isinstance(raw, Text):
        content = "\0".join(_words(text) for text in (raw.first, raw.second) if text is not None).encode()
    elif isinstance(raw, Episode):
        content = repr((raw.task, _rounded(raw.state), [(name, _rounded([v])) for name, v in raw.physics])).encode()
    elif domain == "vision":
        content = _thumbnail(raw)
    else:
        content = raw if isinstance(raw, bytes) else raw.tobytes()
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@lru_cache(maxsize=256)  # questions of one paragraph come one after the other
def _words(text: str) -> str:
    return " ".join(sorted(set(_WORD.findall(text.casefold())))) or text


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(value, 3) + 0.0 for value in values]  # + 0.0: -0.0 is 0.0


def _thumbnail(raw: RawImage) -> bytes:
    """The thumbnail, two cells a byte; the content of what is too large or cannot be decoded."""
    if isinstance(raw, bytes) and len(raw) > LARGEST_THUMBNAIL:
        return b"content\0" + raw
    try:
        grey = decode(raw, _GREY)
    except UnreadableItemError:
        return b"content\0" + bytes(raw)
    small = Image.fromarray(np.ascontiguousarray(grey)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    cells = np.asarray(small, dtype=np.uint8).reshape(-1) >> 4
    return bytes(cells[::2] << 4 | cells[1::2])


@dataclass
class Signatures:
    """A data set's signatures, each computed when it is first asked for.

    ``by_content`` counts the images so far that were too large for a thumbnail. ``distinct``:
    the items are known to differ, so that none is read.
    """

    dataset: Dataset
    distinct: bool = False
    by_content: int = 0
    _known: dict[int, str] = field(default_factory=dict)

    def of(self, index: int) -> str:
        """The signature of item ``index``; an unreadable item's is its own."""
        if index not in self._known:
            self._known[index] = self._computed(index)
        return self._known[index]

    def _computed(self, index: int) -> str:
        if self.distinct:
            return f"distinct/{self.dataset.items[index].id}"
        try:
            raw = self.dataset.raw(index)
        except UnreadableItemError:
            return f"unreadable/{self.dataset.items[index].id}"
        if self.dataset.domain == "vision" and isinstance(raw, bytes) and len(raw) > LARGEST_THUMBNAIL:
            self.by_content += 1
        return signature(raw, self.dataset.domain)

    def all(self) -> list[str]:
        """Every item's signature, in order."""
        return [self.of(index) for index in range(len(self.dataset))]


def repeated(signatures: Sequence[str]) -> int:
    """How many items have a signature that another one has too.

    >>> repeated(["a", "b", "a", "c"])
    2
    """
    return sum(count for count in Counter(signatures).values() if count > 1)
