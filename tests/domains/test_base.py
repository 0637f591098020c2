"""Data sets: lazy raw forms, stable digests, subsets, and errors that name things."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.domains.base import Dataset, Files, Pixels, splits_of, take
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Item


def _pixels(count: int = 12, classes: int = 3) -> Pixels:
    images = np.arange(count * 4, dtype=np.uint8).reshape(count, 2, 2)
    splits = ("train", "test")
    items = [Item(id=f"i{row}", label=row % classes, split=splits[row % 2]) for row in range(count)]
    return Pixels("toy", [f"c{label}" for label in range(classes)], items, images)


def _files(folder: Path, contents: dict[str, bytes]) -> Files:
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    items = [Item(id=name, label=0) for name in contents]
    return Files("files", ["only"], items, [folder / name for name in contents])


def test_raw_is_read_at_the_call(tmp_path: Path) -> None:
    data = _files(tmp_path, {"a": b"1", "b": b"2"})
    (tmp_path / "a").write_bytes(b"later")
    assert data.raw(0) == b"later"
    assert data.encoded
    assert len(data) == 2


def test_a_missing_file_is_an_unreadable_item_with_its_path(tmp_path: Path) -> None:
    data = _files(tmp_path, {"a": b"1", "b": b"2"})
    (tmp_path / "b").unlink()
    for holder, index in ((data, 1), (data.subset([1]), 0)):
        with pytest.raises(UnreadableItemError, match=r"Item 'b' of files: .*b: No such file"):
            holder.raw(index)


@pytest.mark.parametrize("index", [-1, 12])
def test_an_index_outside_is_refused(index: int) -> None:
    with pytest.raises(IndexError, match=f"toy has items 0 to 11, not {index}"):
        _pixels().raw(index)
    with pytest.raises(IndexError, match=f"toy has items 0 to 11, not {index}"):
        _pixels().subset([0, index])


def test_digest_changes_with_content_label_id_order_and_readability(tmp_path: Path) -> None:
    contents = {"a": b"1", "b": b"2"}
    base = _files(tmp_path, contents)
    digests = {base.digest(), base.subset([1, 0]).digest(), base.subset([0]).digest()}
    digests.add(Files("files", ["other"], base.items, [tmp_path / "a", tmp_path / "b"]).digest())
    (tmp_path / "b").write_bytes(b"3")
    digests.add(_files(tmp_path, {"a": b"1", "b": b"3"}).digest())
    (tmp_path / "b").unlink()
    digests.add(Files("files", ["only"], base.items, [tmp_path / "a", tmp_path / "b"]).digest())
    assert len(digests) == 6
    assert _files(tmp_path, contents).digest() == base.digest()


def test_digest_tells_pixels_of_other_shapes_apart() -> None:
    items = [Item(id="x", label=0)]
    flat = Pixels("p", ["c"], items, np.zeros((1, 2, 8), np.uint8))
    assert flat.digest() != Pixels("p", ["c"], items, np.zeros((1, 4, 4), np.uint8)).digest()


@given(st.lists(st.integers(0, 11), min_size=1, unique=True), st.data())
def test_a_subset_keeps_items_and_raw_forms(indices: list[int], data: st.DataObject) -> None:
    base = _pixels()
    part = base.subset(indices)
    assert part.items == tuple(base.items[index] for index in indices)
    assert part.classes == base.classes
    assert part.encoded is base.encoded
    position = data.draw(st.integers(0, len(indices) - 1))
    np.testing.assert_array_equal(part.raw(position), base.raw(indices[position]))
    assert part.subset([position]).items == (part.items[position],)


def test_bad_items_are_named() -> None:
    image = np.zeros((2, 2, 2), np.uint8)
    with pytest.raises(DataError, match=r"toy: ids occur more than once: 'x'\. Every item needs its own"):
        Pixels("toy", ["c"], [Item("x", 0), Item("x", 0)], image)
    with pytest.raises(DataError, match=r"Item 'y' of toy has label 2\. Valid: 'c', 'd' \(indexes 0 to 1\)"):
        Pixels("toy", ["c", "d"], [Item("x", 0), Item("y", 2)], image)
    with pytest.raises(DataError, match=r"Item 'x' of toy has level 0\. Valid: 1, 2, 3, 4, 5"):
        Pixels("toy", ["c"], [Item("x", 0, level=0)], image)
    with pytest.raises(DataError, match="names classes more than once: 'c'"):
        Pixels("toy", ["c", "c"], [Item("x", 0)], image)
    with pytest.raises(DataError, match="toy holds no items"):
        Pixels("toy", ["c"], [], image)


def _ids(data: Dataset) -> set[str]:
    return {item.id for item in data.items}


def test_raw_pixels_cannot_be_written_to() -> None:
    raw = _pixels().raw(0)
    assert isinstance(raw, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        raw[0, 0] = 1


def test_items_and_contents_must_match() -> None:
    with pytest.raises(DataError, match=r"toy has 1 items and 2 images"):
        Pixels("toy", ["c"], [Item("x", 0)], np.zeros((2, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"toy has 1 items and 0 files"):
        Files("toy", ["c"], [Item("x", 0)], [])


def test_take_is_seeded_nested_and_keeps_order() -> None:
    data = _pixels(60)
    small, large = take(data, "test", 2, seed=4), take(data, "test", 5, seed=4)
    assert _ids(small) < _ids(large)
    assert take(data, "test", 2, seed=4).items == small.items
    assert {item.split for item in large.items} == {"test"}
    assert sorted(item.label for item in small.items) == [0, 0, 1, 1, 2, 2]
    rows = [int(item.id[1:]) for item in large.items]
    assert rows == sorted(rows)
    assert any(_ids(take(data, "test", 2, seed=seed)) != _ids(small) for seed in range(5))
    assert take(data) is data


def test_take_names_the_valid_splits() -> None:
    with pytest.raises(DataError, match=r"toy has no split 'val'\. Valid: test, train\."):
        take(_pixels(), "val")
    with pytest.raises(DataError, match="limit_per_class is 0"):
        take(_pixels(), limit_per_class=0)
    assert splits_of(_pixels()) == ("test", "train")
