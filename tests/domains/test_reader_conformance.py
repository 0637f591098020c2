"""What every reader on the list has to keep; a new reader adds one sample here."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gapshift.domains.base import Episode, Text
from gapshift.domains.open import BUILT_IN, READERS, open_dataset
from gapshift.domains.readers.reader import Reader
from gapshift.domains.vision import prepare_batch
from gapshift.errors import DataError
from gapshift.schema import OUTCOMES, Preprocessing, Resize


def _folder(home: Path) -> Path:
    for name in ("test/dog/b.png", "test/cat/a.png", "train/dog/a.jpg"):
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((9, 7, 3), len(name), np.uint8)).save(path)
    return home


def _cifar(home: Path) -> Path:
    (home / "batches.meta.txt").write_text("cat\ndog\n")
    (home / "test_batch.bin").write_bytes((b"\x01" + bytes(3072)) * 2)
    return home


def _npz(home: Path) -> Path:
    np.savez(home / "d.npz", x_test=np.ones((3, 8, 8), np.uint8), y_test=np.array(["dog", "cat", "dog"]))
    return home / "d.npz"


def _table(home: Path) -> Path:
    rows = [{"label": name, "pixels": list(range(16)), "split": "test"} for name in ("dog", "cat")]
    (home / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return home / "t.jsonl"


def _glue(home: Path) -> Path:
    rows = [f"{row}\tfirst {row}\tsecond\t{word}" for row, word in enumerate(("entailment", "not_entailment"))]
    (home / "test.tsv").write_text("\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n")
    return home


def _squad(home: Path) -> Path:
    questions = [{"id": "q1", "question": "Which?", "answers": [{"text": "sea", "answer_start": 4}]}]
    article = {"title": "Sea", "paragraphs": [{"context": "The sea.", "qas": questions}]}
    (home / "dev-v1.1.json").write_text(json.dumps({"version": "1.1", "data": [article]}))
    return home


def _wavs(home: Path, *names: str) -> Path:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(f"RIFF {name}".encode())
    return home


def _speech(home: Path) -> Path:
    (home / "validation_list.txt").write_text("")
    (home / "testing_list.txt").write_text("yes/b_nohash_0.wav\n")
    return _wavs(home, "yes/a_nohash_0.wav", "yes/b_nohash_0.wav", "no/a_nohash_0.wav")


SAMPLES: dict[str, Callable[[Path], Path | str]] = {
    "image folder": _folder,
    "CIFAR": _cifar,
    "npz": _npz,
    "table": _table,
    "GLUE": _glue,
    "SQuAD": _squad,
    "Speech Commands": _speech,
    "audio folder": lambda home: _wavs(home, "test/yes/a.wav", "test/no/b.wav"),
} | {reader.name: lambda _, name=reader.name: name for reader in BUILT_IN}
everyone = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


def _sample(reader: Reader, home: Path) -> Path | str:
    home.mkdir()
    return SAMPLES[reader.name](home)


@everyone
def test_ids_and_digest_do_not_depend_on_the_place(reader: Reader, tmp_path: Path) -> None:
    source = _sample(reader, tmp_path / "here")
    one = open_dataset(source)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    other = open_dataset(str(source).replace(str(tmp_path / "here"), str(tmp_path / "there")))
    assert one.items == other.items
    assert one.subset(range(min(len(one), 20))).digest() == other.subset(range(min(len(one), 20))).digest()


@everyone
def test_it_reads_its_own_sample_and_no_other(reader: Reader, tmp_path: Path) -> None:
    for other in READERS:
        source = str(_sample(other, tmp_path / other.name.replace(" ", "-")))
        first = next(candidate for candidate in READERS if candidate.accepts(source))
        assert (first is reader) == (other is reader)
    assert not reader.accepts(str(tmp_path / "nowhere"))


@everyone
def test_raw_forms_are_what_the_data_set_says_and_prepare(reader: Reader, tmp_path: Path) -> None:
    data = open_dataset(_sample(reader, tmp_path / "here"))
    raws = [data.raw(index) for index in range(min(len(data), 20))]
    assert {isinstance(raw, bytes) for raw in raws} == {data.encoded}
    if data.domain != "vision":
        form = {"text": Text, "audio": bytes, "control": Episode}[data.domain]
        assert all(isinstance(raw, form) for raw in raws)
        return
    batch = prepare_batch(raws, Preprocessing(resize=Resize(size=(6, 5))))
    assert batch.shape == (len(raws), 3, 6, 5)
    assert np.isfinite(batch).all()


@everyone
def test_given_labels_become_the_classes(reader: Reader, tmp_path: Path) -> None:
    source = _sample(reader, tmp_path / "here")
    data = open_dataset(source)
    if data.kind != "classes":
        assert open_dataset(source, labels=OUTCOMES).classes == data.classes == OUTCOMES
        return
    labels = [*reversed(data.classes), "another"]
    renamed = open_dataset(source, labels=labels)
    assert renamed.classes == tuple(labels)
    names = [data.classes[item.label] for item in data.items]
    assert [renamed.classes[item.label] for item in renamed.items] == names
    with pytest.raises(DataError, match=r"Valid: 'neither', 'nor'"):
        open_dataset(source, labels=["neither", "nor"])


@everyone
def test_an_unknown_split_names_the_valid_ones(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no split 'unknown'\. Valid: [a-z, ]+\."):
        open_dataset(_sample(reader, tmp_path / "here"), split="unknown")
