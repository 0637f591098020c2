"""Readers of digits, folders, tables and npz files: items, stable ids, errors."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from gapshift.domains.base import Text
from gapshift.domains.open import READERS, open_dataset
from gapshift.domains.vision import prepare
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import Item, Preprocessing, Resize


def _picture(path: Path, seed: int = 0, size: tuple[int, int] = (6, 5)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


# ---------------------------------------------------------------------------- digits


def test_digits_are_the_library_s_scans() -> None:
    data = open_dataset("digits")
    ink = load_digits().images
    assert len(data) == 1797
    assert data.classes == tuple("0123456789")
    assert data.items[42] == Item(id="digits/0042", label=int(load_digits().target[42]))
    raw = data.raw(42)
    assert isinstance(raw, np.ndarray)
    assert raw.dtype == np.uint8
    np.testing.assert_array_equal(raw, np.floor(ink[42] * 255 / 16 + 0.5))
    assert not data.encoded


def test_digits_take_the_model_s_labels() -> None:
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    assert open_dataset("digits", labels=names).classes == tuple(names)
    assert open_dataset("digits", labels=list("9876543210")).items[0].label == 9
    with pytest.raises(DataError, match=r"'digits/0002'.*label 2 is none of the classes. Valid: 'a', 'b'"):
        open_dataset("digits", labels=["a", "b"])


# ---------------------------------------------------------------------------- folders


def test_folder_with_splits(tmp_path: Path) -> None:
    for name in ("test/dog/2.png", "train/cat/1.JPG", "test/cat/1.webp", "test/dog/1.bmp", "train/dog/x.jpeg"):
        _picture(tmp_path / name)
    (tmp_path / "test/dog/notes.txt").write_text("no image")
    (tmp_path / ".cache").mkdir()
    data = open_dataset(tmp_path)
    assert data.classes == ("cat", "dog")
    assert data.items == (
        Item("test/cat/1.webp", 0, "test"),
        Item("test/dog/1.bmp", 1, "test"),
        Item("test/dog/2.png", 1, "test"),
        Item("train/cat/1.JPG", 0, "train"),
        Item("train/dog/x.jpeg", 1, "train"),
    )
    assert data.raw(2) == (tmp_path / "test/dog/2.png").read_bytes()
    assert [item.id for item in open_dataset(tmp_path, split="train").items] == ["train/cat/1.JPG", "train/dog/x.jpeg"]
    with pytest.raises(DataError, match=r"no split 'val'\. Valid: test, train\."):
        open_dataset(tmp_path, split="val")


def test_folder_without_splits_and_with_labels(tmp_path: Path) -> None:
    _picture(tmp_path / "dog/1.png")
    assert open_dataset(tmp_path).items == (Item("dog/1.png", 0, "all"),)
    assert open_dataset(tmp_path, labels=["bird", "cat", "dog"]).items == (Item("dog/1.png", 2, "all"),)
    with pytest.raises(DataError, match=r"Class folder .*dog is none of the labels. Valid: 'bird', 'cat'\."):
        open_dataset(tmp_path, labels=["bird", "cat"])


def test_folder_that_vanished_keeps_its_item(tmp_path: Path) -> None:
    path = _picture(tmp_path / "dog/1.png")
    data = open_dataset(tmp_path)
    path.unlink()
    with pytest.raises(UnreadableItemError, match=r"Item 'dog/1\.png' of .*1\.png: No such file"):
        data.raw(0)


@pytest.mark.parametrize(("suffix", "write"), [(".png", True), (".wav", False)])
def test_a_dangling_link_in_a_folder_is_an_unreadable_item(tmp_path: Path, suffix: str, write: bool) -> None:
    if write:
        _picture(tmp_path / "cat/1.png")
    else:
        (tmp_path / "cat").mkdir()
        (tmp_path / "cat/1.wav").write_bytes(b"RIFF")
    (tmp_path / f"cat/2{suffix}").symlink_to(tmp_path / "gone")
    data = open_dataset(tmp_path)
    assert [item.id for item in data.items] == [f"cat/1{suffix}", f"cat/2{suffix}"]
    with pytest.raises(UnreadableItemError, match="No such file"):
        data.raw(1)


@pytest.mark.parametrize(
    ("files", "folders", "text"),
    [
        (["cat/1.png", "test/dog/1.png"], [], "mixes layouts: cat holds images, test holds folders"),
        (["train/cat/1.png"], ["test"], "mixes layouts: test holds no class folders"),
        (["cat/1.png", "cat/more/1.png"], [], "cat holds both images and folders"),
        (["test/cat/1.png", "test/cat/more/2.png"], [], "Class folder .*cat holds folders: 'more'"),
        (["cat/1.png"], ["dog"], r"Class folder .*dog holds no images\. Valid: \.bmp, \.jpeg, \.jpg, \.png, \.webp"),
        (["test/cat/1.png"], ["test/dog"], "Class folder .*dog holds no images"),
        (["1.png", "cat/1.png"], [], r"images outside class folders: '1\.png'"),
        (["cat/1.png", "cat/2.gif"], [], r"cat holds images that cannot be read: '2\.gif'"),
        ([], [], "holds no class folders. Valid: split/class/file, or class/file"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, files: list[str], folders: list[str], text: str) -> None:
    for name in files:
        _picture(tmp_path / name)
    for name in folders:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DataError, match=text):
        open_dataset(tmp_path)


# ----------------------------------------------------------------------------- tables

Row = dict[str, Any]


def _csv(path: Path, rows: list[Row]) -> None:
    lines = [",".join(rows[0])] + [",".join("" if cell is None else str(cell) for cell in row.values()) for row in rows]
    path.write_text("\n".join(lines) + "\n")


def _parquet(path: Path, rows: list[Row]) -> None:
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)


def _jsonl(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


FORMS: dict[str, Callable[[Path, list[Row]], None]] = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}


def _table(tmp_path: Path, form: str, rows: list[Row]) -> Path:
    path = tmp_path / f"table.{form}"
    FORMS[form](path, rows)
    return path


@pytest.mark.parametrize("form", FORMS)
def test_table_of_paths_with_every_column(tmp_path: Path, form: str) -> None:
    _picture(tmp_path / "images/a.png")
    rows = [
        {"path": "images/a.png", "label": "dog", "id": "007", "level": 5, "group": "g", "split": "test"},
        {"path": "./images/gone.png", "label": "cat", "id": "x", "level": 1, "group": None, "split": "train"},
    ]
    data = open_dataset(_table(tmp_path, form, rows))
    assert data.classes == ("cat", "dog")
    assert data.items == (
        Item("007", 1, "test", group="g", level=5),
        Item("x", 0, "train", group=None, level=1),
    )
    assert data.raw(0) == (tmp_path / "images/a.png").read_bytes()
    with pytest.raises(UnreadableItemError, match=r"Item 'x' .*gone\.png: No such file"):
        data.raw(1)


@pytest.mark.parametrize("form", FORMS)
def test_table_of_numbered_pixels(tmp_path: Path, form: str) -> None:
    rows = [{"label": row, **{f"pixel{at}": at * 10 + row for at in range(12)}} for row in (0, 2)]
    shaped = [row | {"height": 2, "width": 2, "channels": 3} for row in rows]
    data = open_dataset(_table(tmp_path, form, shaped))
    assert data.classes == ("0", "1", "2")
    assert data.items == (Item("000000", 0), Item("000001", 2))
    np.testing.assert_array_equal(data.raw(1), np.arange(2, 122, 10).reshape(2, 2, 3))


@pytest.mark.parametrize("first", [0, 1])
def test_pixel_columns_are_ordered_by_number(tmp_path: Path, first: int) -> None:
    numbers = [*range(first, first + 16)]
    row = {str(number): number for number in reversed(numbers)} | {"label": 0}
    raw = open_dataset(_table(tmp_path, "csv", [row])).raw(0)
    np.testing.assert_array_equal(raw, np.array(numbers).reshape(4, 4))


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_table_of_listed_pixels_of_several_sizes(tmp_path: Path, form: str) -> None:
    rows = [{"label": "a", "pixels": [1, 2, 3, 4]}, {"label": "b", "pixels": list(range(9))}]
    data = open_dataset(_table(tmp_path, form, rows), labels=["b", "a"])
    assert [item.label for item in data.items] == [1, 0]
    np.testing.assert_array_equal(data.raw(0), [[1, 2], [3, 4]])
    assert np.shape(data.raw(1)) == (3, 3)


def test_a_path_may_leave_the_folder_and_an_absolute_one_needs_an_id(tmp_path: Path) -> None:
    outside = _picture(tmp_path / "a.png")
    home = tmp_path / "tables"
    home.mkdir()
    data = open_dataset(_table(home, "csv", [{"path": "../a.png", "label": "x"}]))
    assert data.items[0].id == "../a.png"
    assert data.raw(0) == outside.read_bytes()
    assert (
        open_dataset(_table(home, "csv", [{"path": outside, "label": "x", "id": "1"}])).raw(0) == outside.read_bytes()
    )
    with pytest.raises(DataError, match=r"row 1, column path: .* is absolute.*Add a column 'id'"):
        open_dataset(_table(home, "csv", [{"path": outside, "label": "x"}]))


def test_names_that_look_like_missing_values_stay_names(tmp_path: Path) -> None:
    rows = [{"path": "a.png", "label": "NA"}, {"path": "b.png", "label": "null"}]
    assert open_dataset(_table(tmp_path, "csv", rows)).classes == ("NA", "null")


def _tsv(path: Path, rows: list[Row]) -> None:
    path.write_text("".join("\t".join(map(str, row)) + "\n" for row in (rows[0], *(row.values() for row in rows))))


TEXT_FORMS = FORMS | {"tsv": _tsv}


@pytest.mark.parametrize("form", TEXT_FORMS)
def test_table_of_texts_with_every_column(tmp_path: Path, form: str) -> None:
    more = {"split": "test", "group": "g"}
    rows = [
        {"text": 'a "fine" film', "text_b": "007", "label": "good", "id": "x", "level": 5, **more},
        {"text": "null", "text_b": "it is bad", "label": "bad", "id": "y", "level": 1, **more},
    ]
    path = tmp_path / f"mine.{form}"
    TEXT_FORMS[form](path, rows)
    data = open_dataset(path)
    assert (data.domain, data.kind, data.classes) == ("text", "classes", ("bad", "good"))
    assert [data.raw(0), data.raw(1)] == [Text('a "fine" film', "007"), Text("null", "it is bad")]
    assert data.items[0] == Item(id="x", label=1, split="test", group="g", level=5)


def test_a_lone_file_with_the_header_of_sst_2_is_text(tmp_path: Path) -> None:
    path = tmp_path / "dev.tsv"
    path.write_text("sentence\tlabel\n\" quoted\t1\nn't\t0\n")
    data = open_dataset(path, labels=["negative", "positive"])
    assert data.raw(0) == Text('" quoted')
    assert [(item.id, item.label) for item in data.items] == [("000000", 1), ("000001", 0)]
    turned = open_dataset(path, labels=["positive", "negative"])
    assert [item.label for item in turned.items] == [0, 1]
    assert open_dataset(path).classes == ("0", "1")


def test_a_quoted_text_may_hold_line_feeds_and_commas(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('text,label\n"one, two\nthree",a\n"say ""hi""",b\n')
    data = open_dataset(path)
    assert [data.raw(0), data.raw(1)] == [Text("one, two\nthree"), Text('say "hi"')]


def test_a_text_that_is_no_utf_8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"text\tlabel\nfine\t0\ncaf\xe9\t1\n")
    with pytest.raises(DataError, match=r"t\.tsv, row 2, column text is no UTF-8 text\. Save the table as UTF-8"):
        open_dataset(path)


P2 = {"pixel0": 0, "pixel1": 1, "pixel2": 2}
BAD_TABLES: list[tuple[list[Row], str]] = [
    ([{"path": "a", "label": "x", "level": 3}, {"path": "b", "label": "x", "level": 6}], r"row 2, column level is .?6"),
    ([{"path": "a", "label": "x"}, {"path": "b", "label": None}], r"row 2, column label \(item 'b'\): no label"),
    ([{"path": "a", "label": "x"}, {"path": "a", "label": "x"}], "table: ids occur more than once: 'a'"),
    ([{"path": None, "label": "x"}, {"path": "b", "label": "x"}], "row 1, column path is empty"),
    ([{"path": "a", "label": "x", "id": "1"}, {"path": "b", "label": "x", "id": None}], "row 2, column id is empty"),
    ([{"path": "a", "kind": "x"}], r"no column 'label'\. It has: path, kind"),
    (
        [{"label": "x", "other": 1}],
        r"nor pixels nor 'text'\. It has: label, other\..*'path' .*pixel0 .*'text' \(",
    ),
    ([{"label": 0, **P2}], "row 1 has 3 pixels, no square grey image. Add columns height, width and channels"),
    ([{"label": 0, **P2, "height": 1, "width": 2, "channels": 3}], "row 1 has 3 pixels, not 1 x 2 x 3"),
    ([{"label": 0, **P2, "height": 1, "width": 1, "channels": 2}], r"row 1, column channels is 2\. Valid: 1"),
    ([{"label": 0, **P2, "pixel3": 3}, {"label": 0, **P2, "pixel3": 256}], r"row 2, column pixel3 is 256.*0 to 255"),
    ([{"label": 0, **P2, "pixel3": 3}, {"label": 0, **P2, "pixel3": -1}], "row 2, column pixel3 is -1"),
    ([{"label": 0, **P2, "pixel3": 3}, {"label": 0, **P2, "pixel3": None}], "row 2, column pixel3 is nan"),
    ([{"label": 0, **P2, "pixel3": 0.5}], "row 1, column pixel3 is 0.5"),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("rows", "text"), BAD_TABLES)
def test_a_bad_cell_is_named(tmp_path: Path, form: str, rows: list[Row], text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_dataset(_table(tmp_path, form, rows))


def test_a_label_outside_the_model_s_classes_is_named(tmp_path: Path) -> None:
    path = _table(tmp_path, "csv", [{"path": "a", "label": "cat"}, {"path": "b", "label": "cow"}])
    text = (
        r"row 2, column label \(item 'b'\): label 'cow' is none of the classes. Valid: 'cat', 'dog' \(indexes 0 to 1\)"
    )
    with pytest.raises(DataError, match=text):
        open_dataset(path, labels=["cat", "dog"])
    numbers = _table(tmp_path, "csv", [{"path": "a", "label": 1}, {"path": "b", "label": 2}])
    with pytest.raises(DataError, match="item 'b'"):
        open_dataset(numbers, labels=["cat", "dog"])


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("t.csv", "label,pixel0\n0,1\n0,dark\n", r"t\.csv, row 2, column pixel0 is 'dark'\. Valid: whole numbers"),
        ("t.csv", "", r"t\.csv cannot be read as a table"),
        ("t.csv", "label,path\n", r"t\.csv holds no rows below its header\. Give every item a row"),
        ("t.tsv", "text\tlabel\n", r"t\.tsv holds no rows below its header"),
        ("t.csv", "label,path\nx\n", r"row 1 has 1 columns, the header 2\. A comma parts columns: put cells"),
        (
            "t.tsv",
            "text\tlabel\na\t0\nb\tc\t0\n",
            r"t\.tsv, row 2 has 3 columns, the header 2\. A tab .*out of the texts",
        ),
        (
            "t.tsv",
            "good\t1\nbad\t0\n",
            r"t\.tsv has no column 'label'\. It has: good, 1\. .*such a header; GLUE's own",
        ),
        ("t.tsv", "question\tsentence\tlabel\na\tb\t0\n", "neither a column 'path' nor pixels nor 'text'"),
        ("t.tsv", "text\tpath\tlabel\na\tb\t0\n", r"the columns 'text' and 'path', .*Take one column out"),
        ("t.tsv", "text\ttext_b\tlabel\na\tb\t0\nc\t\t1\n", r"t\.tsv, row 2, column text_b is empty\. Give every"),
        ("t.csv", "text,label\n ,0\n", r"t\.csv, row 1, column text is empty"),
        ("t.jsonl", '{"text": 5, "label": 0}', r"row 1, column text is 5, not a text\. Put it into quotation marks"),
        ("t.jsonl", '{"label": 1', r"t\.jsonl cannot be read as a table"),
        ("t.jsonl", '{"label": 1, "pixels": "12"}', "column pixels holds string, not a list"),
        ("t.jsonl", '{"label": 1, "pixels": [1, 2, 3, 300]}', "row 1, column pixels, value 4 is 300"),
        ("t.parquet", "PAR", r"t\.parquet cannot be read as a table"),
    ],
)
def test_a_damaged_table_is_named(tmp_path: Path, name: str, content: str, text: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=text):
        open_dataset(tmp_path / name)


# -------------------------------------------------------------------------------- npz


def _npz(tmp_path: Path, **arrays: Any) -> Path:
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


def test_npz_with_every_array(tmp_path: Path) -> None:
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4, 1)
    path = _npz(
        tmp_path,
        images=images,
        labels=np.array([[1], [0]]),
        ids=np.array(["b", "a"]),
        level=np.array([5, 2]),
        group=np.array(["g", "h"]),
        split=np.array(["test", "train"]),
        classes=np.array(["cat", "dog"]),
    )
    data = open_dataset(path)
    assert data.classes == ("cat", "dog")
    assert data.items == (Item("b", 1, "test", "g", 5), Item("a", 0, "train", "h", 2))
    np.testing.assert_array_equal(data.raw(1), images[1, ..., 0])
    assert open_dataset(path, labels=["dog", "cat"]).items[0].label == 0


@pytest.mark.parametrize("names", [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("images_{}", "labels_{}")])
def test_npz_with_a_pair_per_split(tmp_path: Path, names: tuple[str, str]) -> None:
    image, label = names
    arrays = {
        image.format("train"): np.zeros((2, 4, 4, 3), np.uint8),
        label.format("train"): np.array([0, 1]),
        image.format("test"): np.ones((1, 4, 4, 3), np.uint8),
        label.format("test"): np.array([1]),
    }
    data = open_dataset(_npz(tmp_path, **arrays))
    assert [item.id for item in data.items] == ["train/00000", "train/00001", "test/00000"]
    test = open_dataset(tmp_path / "data.npz", split="test")
    np.testing.assert_array_equal(test.raw(0), np.ones((4, 4, 3)))


def test_npz_labels_may_be_names(tmp_path: Path) -> None:
    data = open_dataset(_npz(tmp_path, x=np.zeros((2, 4, 4), np.uint8), y=np.array(["dog", "cat"])))
    assert (data.classes, [item.label for item in data.items]) == (("cat", "dog"), [1, 0])


G = np.zeros((2, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({"images": G.astype(np.float32), "labels": [0, 1]}, "images has dtype float32 and shape .* Valid: uint8"),
        ({"x": np.zeros((2, 3, 4, 5), np.uint8), "y": [0, 1]}, r"x has dtype uint8 and shape \(2, 3, 4, 5\)"),
        ({"images": G, "labels": [0]}, "images holds 2 images, its labels 1"),
        ({"images": G, "labels": [0, 1], "level": [1, 2, 3]}, "images holds 2 images, its level 3"),
        ({"images": G, "labels": [0, 1], "level": [1, 9]}, "row 2, array level is 9"),
        ({"images": G, "labels": [0, 2], "classes": ["a", "b"]}, r"row 2 has label 2\. Valid: 0 to 1"),
        ({"images": G, "labels": [0, -1]}, r"row 1|row 2"),
        ({"pictures": G}, r"holds pictures\. Valid: images and labels"),
        ({"images": G, "labels": np.array([{}, 1], dtype=object)}, "no readable .npz of plain arrays"),
    ],
)
def test_bad_npz_files_are_named(tmp_path: Path, arrays: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_dataset(_npz(tmp_path, **arrays), labels=["a", "b"])


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04junk"])
def test_a_file_that_is_no_npz(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "data.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"data\.npz is no readable \.npz"):
        open_dataset(tmp_path / "data.npz")
    buffer = io.BytesIO()
    np.save(buffer, G)
    (tmp_path / "data.npz").write_bytes(buffer.getvalue())
    with pytest.raises(DataError, match=r"data\.npz is no readable \.npz"):
        open_dataset(tmp_path / "data.npz")


# ------------------------------------------------------------------------------- open


def test_a_source_that_does_not_exist_names_layouts_and_names(tmp_path: Path) -> None:
    text = r"Data set '.*nowhere' does not exist\. Valid: a path \(npz, table, .*CIFAR.*a name: digits, .*cifar-10"
    with pytest.raises(DataError, match=text):
        open_dataset(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", r"\.txt: name it \.tsv or \.csv if it is a table: a table needs a header with label and text"),
        ("a.XLSX", r"\.xlsx: save it as \.csv or \.parquet"),
        ("a.tar.gz", r"\.gz: unpack the archive"),
        ("a.wav", r"\.wav: a single recording; give the folder"),
        ("a.png", r"\.png: a single picture; give the folder"),
        ("a.onnx", r"\.onnx: a model; --data takes"),
        ("a.unheard", r"\.unheard: data is a folder, or a table"),
        ("bare", r"no suffix: data is a folder, or a table"),
    ],
)
def test_a_file_of_no_known_layout_is_told_what_comes_nearest(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(
        DataError, match=rf"' is of no known layout\. {text}.* Layouts: npz, table, .*docs/data\.md"
    ) as e:
        open_dataset(str(tmp_path / name))
    assert len(str(e.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("eval.tsv", r"It holds 'eval\.tsv': give that file\."),
        ("eval.zip", r"It holds 'eval\.zip'\. \.zip: unpack the archive"),
        ("README", r"Valid: split/class/file, or class/file\.$"),
    ],
)
def test_a_folder_without_class_folders_is_told_what_it_holds(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text("x")
    with pytest.raises(DataError, match=rf"holds no class folders\. .*{text}"):
        open_dataset(tmp_path)


def test_readers_have_names_of_their_own() -> None:
    assert len({reader.name for reader in READERS}) == len(READERS)


def test_every_raw_form_can_be_prepared(tmp_path: Path) -> None:
    _picture(tmp_path / "folder/cat/1.png")
    npz = _npz(tmp_path, images=np.zeros((1, 5, 4, 4), np.uint8), labels=[0])
    how = Preprocessing(resize=Resize(size=(8, 8)))
    for source in ("digits", tmp_path / "folder", npz):
        tensor = prepare(open_dataset(source).raw(0), how)
        assert tensor.shape == (3, 8, 8)
        assert tensor.dtype == np.float32
