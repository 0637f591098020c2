"""Published names below a data root, their checksums, classes, and what a missing file says."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapshift.domains import checksums as checksum_module
from gapshift.domains.checksums import checksums
from gapshift.domains.open import is_built_in, open_dataset
from gapshift.domains.published import PUBLISHED, ROOT_VARIABLE, is_published, located, published_notes
from gapshift.errors import DataError, UnknownNameError
from gapshift.schema import DataSource, Item

SST = "sentence\tlabel\nfine\t1\npoor\t0\n"
NAMES = [
    "cifar-10",
    "cifar-100",
    "imagenet",
    "sst-2",
    "mrpc",
    "qqp",
    "mnli",
    "qnli",
    "rte",
    "cola",
    "squad-v1.1",
    "speech-commands-v0.01",
    "speech-commands-v0.02",
]


def _sst(root: Path, folder: str = "SST-2") -> Path:
    (root / folder).mkdir(parents=True)
    (root / folder / "train.tsv").write_text(SST)
    return root


def _cifar(home: Path, names: tuple[str, ...] = ("airplane", "automobile", "bird")) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    (home / "batches.meta.txt").write_text("\n".join(names))
    labels = bytes([0, 1, 2, 1])
    (home / "test_batch.bin").write_bytes(b"".join(bytes([label]) + bytes([label]) * 3072 for label in labels))
    return home


def test_the_list() -> None:
    assert tuple(PUBLISHED) == tuple(NAMES)
    assert all(is_published(name) and not is_built_in(name) for name in NAMES)
    for entry in PUBLISHED.values():
        for digest in [*entry.sums.values(), *entry.archives.values()]:
            assert len(digest) in (32, 64)
            assert set(digest) <= set("0123456789abcdef")


@pytest.mark.parametrize("folder", ["SST-2", "sst-2", "glue_data/SST-2", "."])
def test_a_name_is_found_below_its_root(tmp_path: Path, folder: str) -> None:
    (tmp_path / "root").mkdir()
    root = _sst(tmp_path / "root", folder) if folder != "." else tmp_path
    (root / folder / "train.tsv").write_text(SST)
    assert open_dataset("sst-2", root=root).classes == ("negative", "positive")


def test_the_root_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ROOT_VARIABLE, str(_sst(tmp_path)))
    assert len(open_dataset("sst-2")) == 2
    with pytest.raises(DataError, match=r"sst-2 is not below .*other: .*other is no folder"):
        open_dataset("sst-2", root=tmp_path / "other")


def test_without_a_root_the_ways_to_give_one_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ROOT_VARIABLE, raising=False)
    text = r"no data root is set.*data\.root.*--data-root, or GAPSHIFT_DATA_ROOT.*A path, such as \./cifar-10, works"
    with pytest.raises(DataError, match=text):
        open_dataset("cifar-10")
    with pytest.raises(UnknownNameError, match=r"Unknown published data set 'cifar10'. Did you mean 'cifar-10'"):
        located("cifar10")


@pytest.mark.parametrize("name", NAMES)
def test_missing_files_say_what_to_get_from_where(tmp_path: Path, name: str) -> None:
    entry = PUBLISHED[name]
    with pytest.raises(DataError) as caught:
        open_dataset(name, root=tmp_path)
    text = str(caught.value)
    for part in (str(tmp_path / entry.folders[0]), entry.expected, entry.page, entry.size, "downloads nothing"):
        assert part in text


def test_an_archive_that_is_still_packed_or_cut_short_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "cifar-10-python.tar.gz"
    archive.write_bytes(b"cut")
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is not the published one, or cut short: get it ag"):
        open_dataset("cifar-10", root=tmp_path)
    md5 = hashlib.md5(b"cut", usedforsecurity=False).hexdigest()
    monkeypatch.setitem(PUBLISHED["cifar-10"].archives, archive.name, md5)  # type: ignore[arg-type]  # a dict in fact
    with pytest.raises(DataError, match=r"cifar-10-python\.tar\.gz is there and whole: unpack it"):
        open_dataset("cifar-10", root=tmp_path)


def test_files_of_another_task_are_refused(tmp_path: Path) -> None:
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE/train.tsv").write_text(SST)
    with pytest.raises(DataError, match="RTE holds the files of sst-2, not of rte"):
        open_dataset("rte", root=tmp_path)


def test_files_that_differ_from_the_published_ones_are_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = DataSource(source="sst-2", root=str(_sst(tmp_path)))
    (tmp_path / "SST-2/test.tsv").write_text("index\tsentence\n0\tfine\n")
    found = {
        name: hashlib.md5((tmp_path / "SST-2" / name).read_bytes(), usedforsecurity=False).hexdigest()
        for name in ("train.tsv", "test.tsv")
    }
    expected = PUBLISHED["sst-2"].sums
    unlabelled = "sst-2: test.tsv has no labels and is left out"
    assert published_notes(source) == [
        f"{name} is not the published file: MD5 {found[name]}, expected {expected[name]}" for name in found
    ] + [unlabelled]
    for name, md5 in found.items():
        monkeypatch.setitem(expected, name, md5)  # type: ignore[arg-type]  # a dict in fact
    assert published_notes(source) == [unlabelled]
    assert published_notes(DataSource(source="digits")) == []


def test_checksums_of_files_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _sst(tmp_path)
    sha256 = hashlib.sha256(SST.encode()).hexdigest()
    assert checksums("digits") == {}
    assert checksums(tmp_path / "SST-2/train.tsv") == {"train.tsv": sha256}
    assert checksums(DataSource(source="sst-2", root=str(tmp_path))) == {"train.tsv": sha256}
    assert checksums(tmp_path) == {"SST-2/train.tsv": sha256}
    with pytest.raises(DataError, match=r"'.*nowhere' does not exist"):
        checksums(tmp_path / "nowhere")
    monkeypatch.setattr(checksum_module, "MOST_FILES", 1)
    (tmp_path / "more").write_text("1")
    (one,) = checksums(tmp_path).items()
    assert one[0] == "names and sizes of 2 files"
    (tmp_path / "more").write_text("12")
    assert checksums(tmp_path)[one[0]] != one[1]


# --------------------------------------------------------------------------- classes


def test_a_class_subset_keeps_these_classes_in_this_order(tmp_path: Path) -> None:
    _cifar(tmp_path / "cifar-10-batches-bin")
    data = open_dataset("cifar-10", root=tmp_path, classes=["bird", "automobile"])
    assert data.classes == ("bird", "automobile")
    assert data.items == (
        Item("test/00001", 1, "test"),
        Item("test/00002", 0, "test"),
        Item("test/00003", 1, "test"),
    )
    np.testing.assert_array_equal(data.raw(1), np.full((32, 32, 3), 2))


def test_a_class_subset_keeps_a_model_s_labels(tmp_path: Path) -> None:
    labels = ["bird", "automobile", "airplane"]
    data = open_dataset(_cifar(tmp_path), classes=["airplane"], labels=labels)
    assert (data.classes, [item.label for item in data.items]) == (tuple(labels), [2])


def test_unknown_classes_name_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no class 'automobil'. Did you mean 'automobile'\? Valid: 'airplane'"):
        open_dataset(_cifar(tmp_path), classes=["automobil", "bird"])
    with pytest.raises(DataError, match="classes names 'bird' more than once"):
        open_dataset(_cifar(tmp_path), classes=["bird", "bird"])


def test_imagenet_reads_the_chosen_class_folders_alone(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (tmp_path / "imagenet" / split / name).mkdir(parents=True)
            Image.new("RGB", (4, 4)).save(tmp_path / "imagenet" / split / name / f"{name}_1.JPEG")
    (tmp_path / "imagenet/train/n09999999").mkdir()  # empty, and not asked for
    data = open_dataset("imagenet", root=tmp_path, classes=["n01443537", "n01440764"])
    assert data.classes == ("n01443537", "n01440764")
    assert [(item.split, item.label) for item in data.items] == [("train", 1), ("train", 0), ("val", 1), ("val", 0)]
    assert open_dataset(tmp_path / "imagenet", classes=["n01440764"]).classes == ("n01440764",)
    with pytest.raises(DataError, match=r"has no class 'n01440765'. Did you mean 'n01440764'"):
        open_dataset("imagenet", root=tmp_path, classes=["n01440765"])


def test_span_data_has_no_classes_to_choose(tmp_path: Path) -> None:
    (tmp_path / "dev-v1.1.json").write_text(
        '{"data": [{"paragraphs": [{"context": "a b", "qas": [{"id": "1", "question": "?", '
        '"answers": [{"text": "a", "answer_start": 0}]}]}]}]}'
    )
    with pytest.raises(DataError, match=r"squad-v1.1 is answered by spans, so it has no classes to choose from"):
        open_dataset("squad-v1.1", root=tmp_path, classes=["right"])
