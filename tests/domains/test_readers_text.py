"""GLUE's TSV files and SQuAD's JSON: items, splits, groups and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.domains.base import Text
from gapshift.domains.open import open_dataset
from gapshift.domains.readers import glue
from gapshift.errors import DataError
from gapshift.schema import OUTCOMES, Item

MNLI = "index\tpromptID\tpairID\tgenre\tsentence1\tsentence2\tlabel1\tgold_label"
FILES = {
    "sst-2": ("sentence\tlabel", "fine \t1", "poor \t0"),
    "mrpc": ("\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", '1\t7\t8\tone "a\ttwo', "0\t7\t9\tone\tthree"),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate", "1\t1\t2\tA ?\tB ?\t1", "2\t3\t4\tC ?\tD ?\t0"),
    "mnli": (
        MNLI,
        *(
            f"{n}\t1\t1\tfiction\tp\th {n}\t-\t{word}"
            for n, word in enumerate(("entailment", "neutral", "contradiction"))
        ),
    ),
    "qnli": ("index\tquestion\tsentence\tlabel", "0\tQ ?\tS .\tentailment", "1\tQ ?\tT .\tnot_entailment"),
    "rte": ("index\tsentence1\tsentence2\tlabel", "0\tP .\tH .\tentailment", "1\tP .\tG .\tnot_entailment"),
    "cola": ("gj04\t1\t\tThe sea rose .", "gj04\t0\t*\tThe rose sea .", "gj04\t1\t\tIt rained ."),
}


def _write(home: Path, name: str, *lines: str) -> Path:
    (home / name).write_bytes(("\n".join(lines) + "\n").encode())
    return home


@pytest.mark.parametrize("task", FILES)
def test_every_task_is_told_by_its_header(tmp_path: Path, task: str) -> None:
    dev = "dev_matched.tsv" if task == "mnli" else "dev.tsv"
    _write(_write(tmp_path, "train.tsv", *FILES[task]), dev, *FILES[task])
    data = open_dataset(tmp_path)
    assert (data.name, data.domain, data.kind) == (task, "text", "classes")
    assert data.classes == next(entry.names for entry in glue.TASKS if entry.name == task)
    assert {item.split for item in data.items} == {"train", "validation"}
    assert len(data) == 2 * (len(FILES[task]) - (task != "cola"))


def test_texts_labels_and_ids(tmp_path: Path) -> None:
    data = open_dataset(_write(tmp_path, "train.tsv", *FILES["mrpc"]))
    assert data.items == (Item("train/00000", 1, "train"), Item("train/00001", 0, "train"))
    assert data.raw(0) == Text('one "a', "two")
    (tmp_path / "rte").mkdir()
    rte = open_dataset(_write(tmp_path / "rte", "dev.tsv", *FILES["rte"]))
    assert rte.items[0].group == rte.items[1].group is not None  # one premise
    (tmp_path / "cola").mkdir()
    cola = open_dataset(_write(tmp_path / "cola", "train.tsv", *FILES["cola"]))
    assert [cola.raw(row) for row in range(2)] == [Text("The sea rose ."), Text("The rose sea .")]


def test_a_model_s_labels_by_name_word_or_index(tmp_path: Path) -> None:
    _write(tmp_path, "train.tsv", *FILES["sst-2"])
    for labels in (["positive", "negative"], ["1", "0"]):
        assert [item.label for item in open_dataset(tmp_path, labels=labels).items] == [0, 1]
    assert [item.label for item in open_dataset(tmp_path, labels=["NEG", "POS"]).items] == [1, 0]


def test_a_test_file_counts_where_it_has_labels(tmp_path: Path) -> None:
    _write(tmp_path, "train.tsv", *FILES["sst-2"])
    _write(tmp_path, "test.tsv", "index\tsentence", "0\tfine")
    assert {item.split for item in open_dataset(tmp_path).items} == {"train"}
    assert glue.left_out(tmp_path) == ["test.tsv has no labels and is left out"]
    _write(tmp_path, "test.tsv", *FILES["sst-2"])
    assert {item.split for item in open_dataset(tmp_path).items} == {"train", "test"}
    assert glue.left_out(tmp_path) == []


def test_qqp_s_known_short_lines_are_left_out_and_counted(tmp_path: Path) -> None:
    _write(tmp_path, "train.tsv", *FILES["qqp"], "3\t5\t6\tA question", "that goes on\tB ?\t1")
    assert len(open_dataset(tmp_path)) == 2
    assert glue.left_out(tmp_path) == [
        "2 lines of train.tsv are cut short, a known defect of the published file, and left out"
    ]
    _write(tmp_path, "train.tsv", *FILES["qqp"], *["3\t5"] * 11)
    with pytest.raises(DataError, match=r"line 14 has 2 columns"):
        open_dataset(tmp_path)


SST = FILES["sst-2"]
BAD: list[tuple[dict[str, tuple[str, ...]], str]] = [
    ({"train.tsv": (*SST, "cut sho")}, r"train\.tsv, line 4 has 1 columns; sst-2 has 2 \(sentence, label\).*cut short"),
    ({"train.tsv": (*SST, "a\tb\t1")}, r"train\.tsv, line 4 has 3 columns"),
    ({"train.tsv": (*SST, "fine\t2")}, r"train\.tsv, line 4, column label: label '2' is none.*Valid: '0', '1'"),
    ({"train.tsv": (*SST, "fine\t")}, r"line 4, column label: label '' is none"),
    ({"train.tsv": SST, "dev.tsv": SST[:2]}, r"dev\.tsv holds the labels '1', .*train\.tsv '0', '1'. Splits need"),
    ({"train.tsv": SST, "dev.tsv": FILES["rte"]}, r"dev\.tsv: the header is 'index', .*; sst-2 needs the columns"),
    (
        {"train.tsv": ("text\tlabel", "a\t1")},
        r"train\.tsv: the header 'text', 'label' is of no GLUE task. Valid: sst-2",
    ),
    ({"train.tsv": SST[:1]}, r"train\.tsv holds no rows below its header"),
    ({"train.tsv": ("",)}, r"train\.tsv is empty"),
    ({"test.tsv": ("index\tsentence", "0\tfine")}, r"test\.tsv: the header .* is of no GLUE task"),
]


@pytest.mark.parametrize(("files", "text"), BAD)
def test_damaged_files_are_named(tmp_path: Path, files: dict[str, tuple[str, ...]], text: str) -> None:
    for name, lines in files.items():
        _write(tmp_path, name, *lines)
    with pytest.raises(DataError, match=text):
        open_dataset(tmp_path)


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_bytes(b"sentence\tlabel\nfine\xff\t1\n")
    with pytest.raises(DataError, match=r"train\.tsv is no UTF-8 text: byte 19 is 0xff"):
        open_dataset(tmp_path)


@given(st.text(st.characters(exclude_characters="\t\n\r", exclude_categories=("Cs",))))
def test_any_text_without_tabs_and_line_feeds_comes_back(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    home = tmp_path_factory.mktemp("glue")
    _write(home, "train.tsv", "sentence\tlabel", f"{text}\t1", f"{text}\t0")
    assert open_dataset(home).raw(0) == Text(text)


# ------------------------------------------------------------------------------ SQuAD

CONTEXT = "In 1858 Saint Bernadette saw her at Lourdes, in Lourdes."


def _question(item_id: str = "q1", *answers: tuple[str, int]) -> dict[str, Any]:
    return {
        "id": item_id,
        "question": "Where?",
        "answers": [{"text": text, "answer_start": start} for text, start in answers or [("Lourdes", 36)]],
    }


def _squad(home: Path, name: str, *questions: dict[str, Any], version: str = "1.1") -> Path:
    paragraphs = [{"context": CONTEXT, "qas": list(questions)}]
    (home / name).write_text(json.dumps({"version": version, "data": [{"title": "Mary", "paragraphs": paragraphs}]}))
    return home / name


def test_squad_questions_with_their_paragraph(tmp_path: Path) -> None:
    _squad(tmp_path, "train-v1.1.json", _question("q1"))
    _squad(tmp_path, "dev-v1.1.json", _question("q2", ("Lourdes", 48), ("Lourdes", 36), ("at Lourdes", 33)))
    data = open_dataset(tmp_path)
    assert (data.classes, data.kind, data.domain) == (OUTCOMES, "spans", "text")
    assert [(item.id, item.label, item.split) for item in data.items] == [("q1", 1, "train"), ("q2", 1, "validation")]
    assert data.items[0].group == data.items[1].group is not None  # the same paragraph in another file
    assert data.raw(1) == Text("Where?", CONTEXT, ("Lourdes", "at Lourdes"), 48)
    assert open_dataset(tmp_path / "dev-v1.1.json").items == (data.items[1],)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        (_question("q7", ("Lourdes", 35)), r"question 'q7': the answer 'Lourdes' does not stand at answer_start 35"),
        (_question("q7", ("Lourdes", -7)), r"question 'q7': .*answer_start -7"),
        (_question("q7") | {"answers": []}, r"question 'q7' has no answer. SQuAD v1.1 answers every question"),
        ({"id": "q7", "question": "?"}, r"an entry \(id 'q7'\) has no 'answers' that is a list"),
    ],
)
def test_squad_questions_that_are_not_right(tmp_path: Path, question: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_dataset(_squad(tmp_path, "train-v1.1.json", question))


def test_squad_files_that_are_not_right(tmp_path: Path) -> None:
    path = _squad(tmp_path, "train-v1.1.json", _question())
    path.write_text(path.read_text()[:-20])
    with pytest.raises(DataError, match=r"train-v1\.1\.json is no whole JSON file .* cut short"):
        open_dataset(path)
    with pytest.raises(DataError, match=r"is SQuAD version 'v2.0'. Valid: 1.1"):
        open_dataset(_squad(tmp_path, "other.json", _question(), version="v2.0"))
    path.write_text("[]")
    with pytest.raises(DataError, match="holds a list, not SQuAD's object"):
        open_dataset(path)
