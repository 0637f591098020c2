"""Near-duplicates: what a signature catches and what it does not."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gapshift.domains.base import Episode, Files, InMemory, Text
from gapshift.domains.duplicates import LARGEST_THUMBNAIL, Signatures, repeated, signature
from gapshift.schema import Item

words = st.lists(st.from_regex(r"[a-z]{1,6}", fullmatch=True), min_size=1, max_size=8)


@given(words)
def test_order_case_and_punctuation_do_not_part_texts(tokens: list[str]) -> None:
    shuffled = tokens[::-1]
    other = Text(" , ".join(token.upper() for token in shuffled) + " 1999 !")
    assert signature(Text(" ".join(tokens)), "text") == signature(other, "text")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (Text("A fine film ."), Text("a fine film"), True),
        (Text("a fine film"), Text("not a fine film"), False),
        (Text("premise", "one"), Text("premise", "two"), False),
        (Text("a", "b"), Text("b", "a"), False),
        (Text("a b"), Text("a", "b"), False),
        (Text("8 1/2"), Text("9 1/2"), False),  # without a word: itself
        (Text("?"), Text("?"), True),
    ],
)
def test_texts(one: Text, other: Text, same: bool) -> None:
    assert (signature(one, "text") == signature(other, "text")) == same


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form)
    return buffer.getvalue()


def test_pictures() -> None:
    rng = np.random.default_rng(0)
    cells = rng.integers(0, 16, (8, 8)).astype(np.uint8) * 16 + 8
    picture = np.repeat(np.repeat(cells, 4, 0), 4, 1)
    png = signature(_encoded(picture, "PNG"), "vision")
    assert png == signature(picture, "vision") == signature(cells, "vision") == signature(picture + 3, "vision")
    assert png == signature(_encoded(np.stack([picture] * 3, -1), "BMP"), "vision")
    assert png != signature(np.ascontiguousarray(picture[:, ::-1]), "vision")
    other = picture.copy()
    other[:4, :4] ^= 0x80
    assert png != signature(other, "vision")


def test_pictures_that_cannot_be_decoded_or_are_large_are_compared_by_content(tmp_path: Path) -> None:
    assert signature(b"no image", "vision") == signature(b"no image", "vision") != signature(b"none", "vision")
    large = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    paths = [tmp_path / "a.png", tmp_path / "b.bmp"]
    for path in paths:
        Image.fromarray(large).save(path)
    assert min(path.stat().st_size for path in paths) > LARGEST_THUMBNAIL
    data = Files(
        "d", ["x"], [Item("a", 0), Item("b", 0), Item("c", 0), Item("d", 0)], [*paths, paths[0], tmp_path / "-"]
    )
    signatures = Signatures(data)
    first, second, third, fourth = signatures.all()
    assert first == third != second
    assert fourth == "unreadable/d"
    assert signatures.by_content == 3
    assert repeated(signatures.all()) == 2
    assert signatures.by_content == 3  # nothing is computed twice


def test_recordings_and_episodes() -> None:
    assert signature(b"RIFF", "audio") == signature(b"RIFF", "audio") != signature(b"RIFX", "audio")
    one = Episode("cartpole", (0.01, -0.0001), (("length", 0.5),), 1)
    other = Episode("cartpole", (0.0101, 0.0), (("length", 0.5004),), 2)
    assert signature(one, "control") == signature(other, "control")
    assert signature(one, "control") != signature(Episode("cartpole", (0.02, 0.0), (("length", 0.5),), 1), "control")
    data = InMemory("c", ["wrong", "right"], [Item("0", 1), Item("1", 1)], [one, other], "control", "episodes")
    assert repeated(Signatures(data).all()) == 2
