"""Prepared inputs: the same as one by one, made once, and gone afterwards."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gapshift.domains.base import Dataset, Pixels, RawImage
from gapshift.domains.corruptions.apply import corrupted
from gapshift.domains.vision import prepare
from gapshift.envs.prepare import Prepared, Preparer
from gapshift.errors import WorkspaceError
from gapshift.schema import Item, Preprocessing, Resize, Shift

CONTRACT = Preprocessing(resize=Resize(size=(6, 5)), mean=(0.5,))
BGR = CONTRACT.model_copy(update={"color": "BGR"})
SHRUNK = CONTRACT.model_copy(update={"resize": Resize(size=(3, 3))})


class _Counted(Dataset):
    """Random images that count how often each is read; some cannot be."""

    def __init__(self, n: int, broken: Mapping[int, str] | None = None) -> None:
        super().__init__("d", ["a"], [Item(f"i{row}", 0) for row in range(n)])
        self.reads: Counter[int] = Counter()
        self._broken = broken or {}

    @property
    def encoded(self) -> bool:
        return False

    def _raw(self, index: int) -> RawImage:
        self.reads[index] += 1
        if index in self._broken:
            raise OSError(self._broken[index])
        return np.random.default_rng(index).integers(0, 256, (7, 9, 3), dtype=np.uint8)


def test_rows_are_what_prepare_gives_one_by_one(tmp_path: Path) -> None:
    data = _Counted(5)
    with Preparer(data, tmp_path / "p", CONTRACT) as preparer:
        prepared = preparer.prepared(BGR)
        assert prepared.tensor.shape == (5, 3, 6, 5)
        assert prepared.tensor.dtype == np.float32
        for row in range(5):
            np.testing.assert_array_equal(prepared.tensor[[row]][0], prepare(data.raw(row), BGR))
        assert prepared.readable.all()
        assert prepared.problems == {}


def test_rows_by_mask_are_rows_by_index(tmp_path: Path) -> None:
    with Preparer(_Counted(5), tmp_path / "p", CONTRACT) as preparer:
        tensor = preparer.prepared(CONTRACT).tensor
        mask = np.array([True, False, False, True, True])
        np.testing.assert_array_equal(tensor[mask], tensor[[0, 3, 4]])
        assert tensor[np.zeros(5, dtype=bool)].shape == (0, 3, 6, 5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_shape_and_dtype_follow_the_preprocessing(tmp_path: Path, dtype: str, layout: str) -> None:
    how = CONTRACT.model_copy(update={"dtype": dtype, "layout": layout})
    with Preparer(_Counted(2), tmp_path / "p", CONTRACT) as preparer:
        tensor = preparer.prepared(how).tensor
    assert tensor.dtype == dtype
    assert tensor.shape == ((2, 3, 6, 5) if layout == "NCHW" else (2, 6, 5, 3))


def test_items_that_cannot_be_read_are_zero_and_named(tmp_path: Path) -> None:
    with Preparer(_Counted(4, {0: "gone", 2: "torn"}), tmp_path / "p", CONTRACT) as preparer:
        prepared = preparer.prepared(CONTRACT)
    assert prepared.readable.tolist() == [False, True, False, True]
    assert prepared.problems == {0: "Item 'i0' of d: gone", 2: "Item 'i2' of d: torn"}


def test_no_item_that_can_be_read_is_no_crash(tmp_path: Path) -> None:
    """They are recorded as unreadable, one by one, like any others."""
    with Preparer(_Counted(2, {0: "gone", 1: "gone"}), tmp_path / "p", CONTRACT) as preparer:
        prepared = preparer.prepared(CONTRACT)
    assert len(prepared.tensor) == 2
    assert not prepared.readable.any()
    assert sorted(prepared.problems) == [0, 1]


def test_the_reference_and_the_latest_other_are_kept(tmp_path: Path) -> None:
    data = _Counted(3)
    with Preparer(data, tmp_path / "p", CONTRACT) as preparer:
        for how in (CONTRACT, BGR, CONTRACT, BGR, BGR):
            preparer.prepared(how)
        assert set(data.reads.values()) == {2}
        assert len(list((tmp_path / "p").iterdir())) == 2
        preparer.prepared(SHRUNK)
        preparer.prepared(CONTRACT)
        assert set(data.reads.values()) == {3}
        assert len(list((tmp_path / "p").iterdir())) == 2
        preparer.prepared(BGR)
        assert set(data.reads.values()) == {4}


def test_the_reference_does_not_displace_the_latest_other(tmp_path: Path) -> None:
    """A resumed run may need the reference's tensors after an environment's."""
    data = _Counted(3)
    with Preparer(data, tmp_path / "p", CONTRACT) as preparer:
        for how in (BGR, CONTRACT, BGR):
            preparer.prepared(how)
    assert set(data.reads.values()) == {2}


def test_equal_tensors_are_the_same(tmp_path: Path) -> None:
    grey = np.repeat(np.random.default_rng(0).integers(0, 256, (300, 4, 4, 1), dtype=np.uint8), 3, axis=3)

    def prepared(images: NDArray[np.uint8], how: Preprocessing, name: str) -> Prepared:
        data = Pixels("d", ["a"], [Item(f"i{row}", 0) for row in range(len(images))], images)
        return Preparer(data, tmp_path / name, how).prepared(how)

    one, other = prepared(grey, CONTRACT, "1"), prepared(grey, BGR, "2")
    assert one.same_as(other)
    coloured = grey.copy()
    coloured[299, 0, 0, 0] ^= 255  # the very last item, beyond the first chunk
    assert not prepared(coloured, CONTRACT, "3").same_as(prepared(coloured, BGR, "4"))
    assert not one.same_as(prepared(grey, SHRUNK, "5"))
    assert not one.same_as(prepared(grey, CONTRACT.model_copy(update={"dtype": "float16"}), "6"))


def test_an_item_that_only_one_way_reads_is_a_difference(tmp_path: Path) -> None:
    whole = Preparer(_Counted(2), tmp_path / "1", CONTRACT).prepared(CONTRACT)
    torn = Preparer(_Counted(2, {1: "torn"}), tmp_path / "2", CONTRACT).prepared(CONTRACT)
    assert not whole.same_as(torn)


def test_a_corruption_is_prepared_apart_and_once(tmp_path: Path) -> None:
    data, snow = _Counted(4, {1: "torn"}), Shift(corruption="snow", severity=5)
    with Preparer(data, tmp_path / "p", CONTRACT) as preparer:
        clean, snowy = preparer.prepared(CONTRACT), preparer.prepared(CONTRACT, snow)
        assert preparer.prepared(CONTRACT, snow) is snowy
        assert preparer.prepared(CONTRACT) is clean
        assert data.reads == dict.fromkeys(range(4), 2)
        assert not snowy.same_as(clean)
        assert not preparer.prepared(CONTRACT, snow.model_copy(update={"seed": 1})).same_as(snowy)
        expected = corrupted(data, snow, CONTRACT).raw(2)
        assert isinstance(expected, np.ndarray)
        np.testing.assert_array_equal(snowy.tensor[[2]][0], prepare(expected, CONTRACT))
        assert (list(snowy.problems), snowy.readable.tolist()) == ([1], [True, False, True, True])


def test_files_are_gone_afterwards_and_those_of_a_killed_run_before(tmp_path: Path) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    (folder / "left-behind.npy").write_bytes(b"x")
    with Preparer(_Counted(2), folder, CONTRACT) as preparer:
        assert not (folder / "left-behind.npy").exists()
        preparer.prepared(CONTRACT)
        assert list(folder.iterdir())
    assert not folder.exists()


def _killed(folder: Path) -> None:
    with Preparer(_Counted(2), folder, CONTRACT) as preparer:
        preparer.prepared(CONTRACT)
        raise KeyboardInterrupt


def test_files_are_gone_after_an_exception_too(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _killed(tmp_path / "p")
    assert not (tmp_path / "p").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no file that is always full")
def test_a_full_disk_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Path.open

    def full(path: Path, mode: str = "r", *arguments: Any) -> Any:
        return whole(Path("/dev/full") if mode == "wb" else path, mode, *arguments)

    monkeypatch.setattr(Path, "open", full)
    with (
        Preparer(_Counted(2), tmp_path / "p", CONTRACT) as preparer,
        pytest.raises(WorkspaceError, match=r"Cannot hold prepared inputs in .*No space left.*Free disk space"),
    ):
        preparer.prepared(CONTRACT)
    assert not (tmp_path / "p").exists()
