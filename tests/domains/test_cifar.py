"""CIFAR-10 and -100 in their original forms, and the unpickler that runs no code."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapshift.domains.open import open_dataset
from gapshift.domains.readers.unpickle import load_pickle
from gapshift.errors import DataError
from gapshift.schema import Item

TEN = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
HUNDRED = [f"fine{number}" for number in range(100)]
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]


def _planes(seed: int, count: int = 3) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def _dump(path: Path, content: Any, protocol: int = 2) -> None:
    path.write_bytes(pickle.dumps(content, protocol=protocol))


def _ten_python(folder: Path, protocol: int = 2) -> None:
    _dump(folder / "batches.meta", {"label_names": TEN, "num_vis": 3072}, protocol)
    for seed, name in enumerate(BATCHES):
        batch = {"data": _planes(seed), "labels": [seed, 9, 0], "filenames": ["a", "b", "c"], "batch_label": name}
        _dump(folder / name, batch, protocol)


def _ten_binary(folder: Path) -> None:
    (folder / "batches.meta.txt").write_text("\n".join(TEN) + "\n\n")
    for seed, name in enumerate(BATCHES):
        labels = np.array([[seed], [9], [0]], dtype=np.uint8)
        (folder / f"{name}.bin").write_bytes(np.hstack([labels, _planes(seed)]).tobytes())


def _hundred_python(folder: Path) -> None:
    _dump(folder / "meta", {b"fine_label_names": [name.encode() for name in HUNDRED], b"coarse_label_names": []})
    for seed, name in enumerate(("train", "test")):
        _dump(folder / name, {b"data": _planes(seed), b"fine_labels": [99, 1, 2], b"coarse_labels": [0, 0, 0]})


def _hundred_binary(folder: Path) -> None:
    (folder / "fine_label_names.txt").write_text("\n".join(HUNDRED))
    for seed, name in enumerate(("train.bin", "test.bin")):
        labels = np.array([[7, 99], [7, 1], [7, 2]], dtype=np.uint8)
        (folder / name).write_bytes(np.hstack([labels, _planes(seed)]).tobytes())


@pytest.mark.parametrize("write", [_ten_python, _ten_binary])
def test_cifar_10(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    data = open_dataset(tmp_path)
    assert data.classes == tuple(TEN)
    assert len(data) == 18
    assert data.items[3] == Item("train/00003", 1, "train")
    assert data.items[15] == Item("test/00000", 5, "test")
    raw = data.raw(15)
    assert isinstance(raw, np.ndarray)
    assert raw.shape == (32, 32, 3)
    np.testing.assert_array_equal(raw[..., 1].reshape(-1), _planes(5)[0, 1024:2048])
    assert not data.encoded


def test_both_forms_hold_the_same_items(tmp_path: Path) -> None:
    for name, write in (("cifar-10-batches-py", _ten_python), ("cifar-10-batches-bin", _ten_binary)):
        (tmp_path / name / name).mkdir(parents=True)
        write(tmp_path / name / name)  # as extracted: the archive's folder below the one that is named
    python, binary = (open_dataset(tmp_path / name) for name in ("cifar-10-batches-py", "cifar-10-batches-bin"))
    assert python.items == binary.items
    assert python.digest() == binary.digest()


@pytest.mark.parametrize("write", [_hundred_python, _hundred_binary])
def test_cifar_100_has_its_fine_labels(tmp_path: Path, write: Callable[[Path], None]) -> None:
    write(tmp_path)
    data = open_dataset(tmp_path, split="test")
    assert data.classes == tuple(HUNDRED)
    assert data.items == (Item("test/00000", 99, "test"), Item("test/00001", 1, "test"), Item("test/00002", 2, "test"))
    raw = np.asarray(data.raw(2))
    np.testing.assert_array_equal(raw.transpose(2, 0, 1).reshape(-1), _planes(1)[2])


def test_a_model_s_labels_reorder_the_classes(tmp_path: Path) -> None:
    _ten_python(tmp_path)
    data = open_dataset(tmp_path, labels=TEN[::-1])
    assert data.classes == tuple(TEN[::-1])
    assert data.items[15].label == 4
    with pytest.raises(DataError, match=r"Item 'train/00001' of CIFAR-10 \(python\): label 'truck' is none"):
        open_dataset(tmp_path, labels=TEN[:9])


def test_one_split_alone_is_enough_but_not_part_of_one(tmp_path: Path) -> None:
    _ten_binary(tmp_path)
    for name in BATCHES[:4]:
        (tmp_path / f"{name}.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_1\.bin is missing\. Extract the whole original archive"):
        open_dataset(tmp_path)
    (tmp_path / "data_batch_5.bin").unlink()
    assert [item.id for item in open_dataset(tmp_path).items] == ["test/00000", "test/00001", "test/00002"]
    (tmp_path / "batches.meta.txt").unlink()
    with pytest.raises(DataError, match=r"batches\.meta\.txt is missing"):
        open_dataset(tmp_path)


def test_cut_files_state_expected_and_found_bytes(tmp_path: Path) -> None:
    _ten_binary(tmp_path)
    path = tmp_path / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(DataError, match=r"test_batch\.bin is cut short: expected 9219 bytes .*, found 9209"):
        open_dataset(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"expected 3073 bytes .*, found 0"):
        open_dataset(tmp_path)


def test_a_cut_pickle_states_expected_and_found_bytes(tmp_path: Path) -> None:
    _ten_python(tmp_path, protocol=4)
    path = tmp_path / "test_batch"
    whole = path.read_bytes()
    path.write_bytes(whole[:5000])
    with pytest.raises(DataError, match=r"test_batch: .*expected \d+ bytes .* remain; the file has 5000 bytes"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("batch", "text"),
    [
        ({"data": _planes(0, 2), "labels": [1, 2, 3]}, "3 labels need 9216 bytes of pixels; found 6144"),
        ({"data": _planes(0), "labels": [1, 2, 10]}, r"holds label 10\. Valid: 0 to 9"),
        ({"data": _planes(0)}, "no entry 'labels'. It holds: data"),
        ({"data": [1, 2], "labels": [1]}, "'data' must be a uint8 array and 'labels' a list"),
        ([1, 2], "expected a pickled dict, found a list"),
    ],
)
def test_a_batch_of_another_shape_is_refused(tmp_path: Path, batch: Any, text: str) -> None:
    _ten_python(tmp_path)
    _dump(tmp_path / "test_batch", batch)
    with pytest.raises(DataError, match=f"test_batch.*{text}"):
        open_dataset(tmp_path)


# -------------------------------------------------------------------------- unpickler

PLAIN = {
    "pixels": np.arange(12, dtype=np.uint8).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3)),
    "names": np.array(["a", "bcd"]),
    "list": [1, -(2**70), b"bytes", "text", (True, None), 1.5],
    "empty": b"",
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_data_comes_through_every_protocol(tmp_path: Path, protocol: int) -> None:
    _dump(tmp_path / "p", PLAIN, protocol)
    loaded = load_pickle(tmp_path / "p")
    assert list(loaded) == list(PLAIN)
    for key in ("pixels", "columns", "names"):
        np.testing.assert_array_equal(loaded[key], PLAIN[key])
        assert loaded[key].dtype == PLAIN[key].dtype  # type: ignore[attr-defined]  # these three are arrays
    assert loaded["list"] == PLAIN["list"]
    assert loaded["empty"] == b""


@pytest.mark.parametrize("core", [b"numpy.core", b"numpy._core"])
def test_arrays_of_both_numpy_generations_are_read(tmp_path: Path, core: bytes) -> None:
    content = pickle.dumps(PLAIN["pixels"], protocol=2)
    here = b"numpy._core" if b"numpy._core" in content else b"numpy.core"
    (tmp_path / "p").write_bytes(content.replace(here, core))
    np.testing.assert_array_equal(load_pickle(tmp_path / "p"), np.arange(12).reshape(3, 4))


def test_text_of_python_2_comes_as_bytes(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"\x80\x02}q\x01U\x04datah\x01s.".replace(b"h\x01", b"U\x02\xff\x00"))
    assert load_pickle(tmp_path / "p") == {b"data": b"\xff\x00"}


def test_an_array_as_numpy_under_python_2_wrote_it(tmp_path: Path) -> None:
    """The opcodes of the original archives: byte strings throughout, the pixels as one of them."""
    pixels = bytes(range(250, 256))
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T\x06\x00\x00\x00" + pixels + b"tb"
    )
    (tmp_path / "p").write_bytes(b"\x80\x02}U\x04data" + array + b"s.")
    loaded = load_pickle(tmp_path / "p")[b"data"]
    np.testing.assert_array_equal(loaded, np.frombuffer(pixels, np.uint8).reshape(2, 3))
    assert loaded.dtype == np.uint8


class _Runs:
    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path: Path, protocol: int) -> None:
    mark = tmp_path / "mark"
    _dump(tmp_path / "p", {"data": _Runs(os.system, f"touch {mark}")}, protocol)
    with pytest.raises(DataError, match=r"p: the pickle asks for posix\.system, which is refused: only numpy arrays"):
        load_pickle(tmp_path / "p")
    assert not mark.exists()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (_Runs(eval, "1"), r"builtins.*eval, which is refused"),
        (_Runs(getattr, "", "join"), "getattr, which is refused"),
        (np.float64(1.0), r"multiarray\.scalar, which is refused"),
        (np.array([{}], dtype=object), "an array of dtype 'O8'; plain numbers and strings are admitted"),
        (np.zeros(2, dtype=[("a", "i4")]), "an array of dtype 'V4'"),
        ({1, 2}, "holds a set; only numpy arrays and plain data"),
        (bytearray(b"x"), "bytearray"),
        (complex(1, 2), "complex, which is refused"),
        (Path("x"), "Path, which is refused"),
    ],
)
def test_anything_but_plain_data_is_refused(tmp_path: Path, value: Any, text: str) -> None:
    _dump(tmp_path / "p", [value], 4)
    with pytest.raises(DataError, match=text):
        load_pickle(tmp_path / "p")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "not a readable pickle"),
        (b"\xffjunk", "not a readable pickle"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "_codecs.encode with b'rot13'; only text as latin1"),
        (b"cbuiltins\nbytes\n(I1000000000\ntR.", "not a readable pickle"),
        (b"cnumpy\nndarray\n(I9\ntR.", None),
        (b"(lp0\ng0\na.", "nests too deeply"),
        (b"Pname\n.", "not a readable pickle"),
    ],
)
def test_hand_made_pickles_do_no_harm(tmp_path: Path, content: bytes, text: str | None) -> None:
    (tmp_path / "p").write_bytes(content)
    if text is None:
        assert load_pickle(tmp_path / "p").size == 0  # an array that was never filled
        return
    with pytest.raises(DataError, match=text):
        load_pickle(tmp_path / "p")


def test_an_array_shorter_than_its_shape_is_refused(tmp_path: Path) -> None:
    content = pickle.dumps(np.zeros((3, 4), np.uint8), protocol=4)
    (tmp_path / "p").write_bytes(content.replace(b"K\x03K\x04\x86", b"K\x03K\x05\x86"))
    with pytest.raises(DataError, match="an array of 15 bytes holds 12 bytes"):
        load_pickle(tmp_path / "p")
