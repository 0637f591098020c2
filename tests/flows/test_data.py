"""Which items train and which are judged: no speaker, paragraph or near-duplicate is in both parts."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gapshift.domains.base import Dataset, InMemory, Text
from gapshift.domains.duplicates import Signatures
from gapshift.errors import DataError
from gapshift.flows.data import TEST, TRAIN, absolute, open_calibration, study_splits
from gapshift.flows.splitting import Limits, divided, separated
from gapshift.flows.study_data import read_tasks
from gapshift.flows.study_settings import StudySettings
from gapshift.schema import DataSource, Item
from gapshift.settings import validate


def _dataset(rows: list[tuple[str, int, str | None, str]], split: str = "all") -> Dataset:
    """Rows of id, label, group, text."""
    items = [Item(item_id, label, split, group) for item_id, label, group, _ in rows]
    return InMemory("made", ["no", "yes"], items, [Text(text) for *_, text in rows], "text")


def _word(number: int) -> str:
    return "".join(chr(ord("a") + int(digit)) for digit in str(number))


def _wavs(home: Path, *names: str) -> DataSource:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(f"RIFF {name}".encode())
    return DataSource(source=str(home))


def _sst(home: Path, **files: list[tuple[str, int]]) -> DataSource:
    home.mkdir(exist_ok=True)
    for name, rows in files.items():
        lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in rows)]
        (home / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    return DataSource(source=str(home))


rows_of_groups = st.lists(
    st.tuples(st.integers(0, 1), st.one_of(st.none(), st.integers(0, 6)), st.integers(0, 40)), min_size=12, max_size=60
)


@settings(max_examples=60, deadline=None)
@given(rows_of_groups, st.floats(0.2, 0.8), st.integers(0, 3))
def test_no_group_and_no_signature_is_in_both_parts(
    drawn: list[tuple[int, int | None, int]], fraction: float, seed: int
) -> None:
    rows = [
        (f"i{place}", label, None if group is None else f"g{group}", _word(text))
        for place, (label, group, text) in enumerate(drawn)
    ]
    data = _dataset(rows)
    try:
        roles, _ = divided(data, Signatures(data), fraction, seed)
    except DataError:  # all of them hang together, which has a test of its own
        return
    assert roles.keys() == {item.id for item in data.items}
    for key in (1, 2):
        sides = defaultdict(set)
        for item_id, _, group, text in rows:
            if (name := (group, text)[key - 1]) is not None:
                sides[name].add(roles[item_id])
        assert all(len(side) == 1 for side in sides.values())


@pytest.mark.parametrize("seed", [0, 1])
def test_single_items_are_divided_class_by_class(seed: int) -> None:
    data = _dataset([(f"i{n}", n % 4 == 0, None, _word(n)) for n in range(80)])
    roles, notes = divided(data, Signatures(data), 0.7, seed)
    counts = Counter((item.label, roles[item.id]) for item in data.items)
    assert counts == {(0, TRAIN): 42, (0, TEST): 18, (1, TRAIN): 14, (1, TEST): 6}
    assert notes == []


@pytest.mark.parametrize("fraction", [0.5, 0.7])
def test_many_groups_come_near_the_fraction_in_every_class(fraction: float) -> None:
    rows = [(f"i{n}", n % 2, f"g{n * n % 61}", _word(n)) for n in range(600)]
    data = _dataset(rows)
    roles, notes = divided(data, Signatures(data), fraction, 0)
    for label in (0, 1):
        members = [roles[item.id] for item in data.items if item.label == label]
        assert abs(members.count(TRAIN) / len(members) - fraction) < 0.03
    assert "divided by 31 whole groups" in notes[0]
    assert divided(data, Signatures(data), fraction, 0)[0] == roles
    assert divided(data, Signatures(data), fraction, 1)[0] != roles


def test_the_order_of_the_items_changes_nothing() -> None:
    rows = [(f"i{n}", n % 2, f"g{n % 7}" if n % 3 else None, _word(n % 80)) for n in range(90)]
    one, other = _dataset(rows), _dataset(rows[::-1])
    assert divided(one, Signatures(one), 0.5, 3)[0] == divided(other, Signatures(other), 0.5, 3)[0]


def test_items_that_cannot_be_read_are_counted(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for index in range(6):
            pixels = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{index}.png")
    (tmp_path / "a" / "3.png").write_bytes(b"no picture")
    task = {"data": {"source": str(tmp_path)}, "preprocessing": {"resize": {"size": [8, 8]}}}
    (read,), notes = read_tasks(validate(StudySettings, {"name": "s", "tasks": {"t": task}}, "s.toml"))
    assert len(read.task) == 11
    assert "t: 1 of 12 items cannot be read; no network learns from them" in notes


def test_speakers_stay_whole(tmp_path: Path) -> None:
    speakers = {"ann": 4, "bob": 4, "eve": 4}
    names = [f"{n % 2}_{who}_{n}.wav" for who, count in speakers.items() for n in range(count)]
    data, roles, notes = study_splits(_wavs(tmp_path, *names), 0)
    sides = {item.group: roles[item.id] for item in data.items}
    assert all(roles[item.id] == sides[item.group] for item in data.items)
    assert sorted(Counter(roles.values()).values()) == [4, 8]
    share = f"{sum(role == TRAIN for role in roles.values()) / 12:.1%}"
    assert notes == [f"{tmp_path.name}: divided by 3 whole groups; {share} of the items train (50.0% were asked for)"]


def test_two_uneven_groups_leave_neither_part_empty(tmp_path: Path) -> None:
    names = [f"x_ann_{n}.wav" for n in range(30)] + ["x_bob_0.wav", "x_bob_1.wav"]
    source = _wavs(tmp_path, *names).model_copy(update={"train_fraction": 0.99})
    _, roles, _ = study_splits(source, 0)
    assert Counter(roles.values()) == {TRAIN: 30, TEST: 2}


def test_one_group_cannot_be_divided(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 2 items belong together \(groups 'ann'\), and no split may divide them"):
        study_splits(_wavs(tmp_path, "x_ann_0.wav", "y_ann_0.wav"), 0)
    data = _dataset([("a", 0, None, "Same."), ("b", 1, None, "same")])
    with pytest.raises(DataError, match="all 2 items are near-duplicates of one another"):
        divided(data, Signatures(data), 0.5, 0)


def test_near_duplicates_stay_together_and_are_said(tmp_path: Path) -> None:
    rows = [(f"{_word(n)} film", n % 2) for n in range(20)] + [("Film a .", 0), ("film , a", 0)]
    _, roles, notes = study_splits(_sst(tmp_path, train=rows), 0)
    assert notes == ["sst-2: 3 items have near-duplicates, which stay in one part together"]
    assert len({roles[f"train/{row:05d}"] for row in (0, 20, 21)}) == 1


def test_given_splits_lose_test_items_whose_words_train(tmp_path: Path) -> None:
    train = [(f"{_word(n)} film", n % 2) for n in range(6)]
    test = [("Film , A !", 0), ("b film", 1), ("new words", 0), ("other words", 1)]
    data, roles, notes = study_splits(_sst(tmp_path, train=train, test=test), 0)
    assert {item_id for item_id, role in roles.items() if role == TEST} == {"test/00002", "test/00003"}
    assert Counter(roles.values()) == {TRAIN: 6, TEST: 2}
    assert len(data) == 8
    assert notes == ["sst-2: 2 test items were left out: near-duplicates of training items"]


def test_given_splits_lose_test_items_whose_speaker_trains(tmp_path: Path) -> None:
    source = _wavs(
        tmp_path,
        *("train/yes/a_nohash_0.wav", "train/no/b_nohash_0.wav"),
        *("test/yes/a_nohash_1.wav", "test/yes/c_nohash_0.wav", "test/no/c_nohash_0.wav"),
    )
    _, roles, notes = study_splits(source, 0)
    assert {item_id for item_id, role in roles.items() if role == TEST} == {
        "test/yes/c_nohash_0.wav",
        "test/no/c_nohash_0.wav",
    }
    assert notes == [f"{tmp_path.name}: 1 test items were left out: their group (speaker, paragraph) also trains"]


def test_limits_hold_and_the_next_item_stands_in() -> None:
    rows = [(f"t{n}", n % 2, None, _word(n)) for n in range(10)]
    items = [Item(f"t{n}", n % 2, "train") for n in range(10)] + [Item(f"v{n}", n % 2, "test") for n in range(10)]
    texts = [Text(text) for *_, text in rows] + [Text(_word(n)) for n in range(4, 14)]
    data = InMemory("made", ["no", "yes"], items, texts, "text")
    given_roles = {item.id: item.split for item in items}
    roles, notes = separated(data, given_roles, Signatures(data), Limits(test=2), 0)
    counts = Counter((item.label, roles[item.id]) for item in items if item.id in roles)
    assert counts == {(0, TRAIN): 5, (1, TRAIN): 5, (0, TEST): 2, (1, TEST): 2}
    assert {item_id for item_id, role in roles.items() if role == TEST} == {"v6", "v7", "v8", "v9"}
    assert "near-duplicates of training items" in "".join(notes)


def test_limits_hold_for_data_that_is_divided(tmp_path: Path) -> None:
    names = [f"{label}_s{who}_{n}.wav" for label in "01" for who in range(8) for n in range(3)]
    source = _wavs(tmp_path, *names).model_copy(update={"train_per_class": 5, "test_per_class": 2})
    data, roles, _ = study_splits(source, 0)
    counts = Counter((item.label, roles[item.id]) for item in data.items)
    assert counts == {(0, TRAIN): 5, (1, TRAIN): 5, (0, TEST): 2, (1, TEST): 2}


def test_label_sets_that_differ_between_splits_are_named(tmp_path: Path) -> None:
    source = _wavs(tmp_path, "train/no/a.wav", "train/yes/a.wav", "test/no/b.wav")
    with pytest.raises(
        DataError, match=r"the label sets of its splits differ: 'yes' only in the train part.*data\.cla"
    ):
        study_splits(source, 0)
    _wavs(tmp_path, "train/up/a.wav")
    _, roles, _ = study_splits(source.model_copy(update={"classes": ("no",)}), 0)
    assert len(roles) == 2


def test_splits_of_other_names_and_parts_that_run_empty(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the splits one, two; a study needs train and one of test, val"):
        study_splits(_wavs(tmp_path / "a", "one/no/a.wav", "two/no/b.wav"), 0)
    same = [("fine", 1), ("poor", 0)]
    with pytest.raises(DataError, match="no test items; the splits found are test, train"):
        study_splits(_sst(tmp_path / "b", train=same, test=same), 0)


def test_the_digits_of_a_study_are_all_there() -> None:
    data, roles, notes = study_splits(DataSource(source="digits"), 0)
    assert len(data) == len(roles) == 1797
    assert Counter(roles.values()) == {TRAIN: 898, TEST: 899}
    assert notes == []


def test_sources_become_good_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GAPSHIFT_DATA_ROOT", raising=False)
    (tmp_path / "data").mkdir()
    assert absolute(DataSource(source="data")).source == str(tmp_path / "data")
    assert absolute(DataSource(source="digits")) == DataSource(source="digits")
    assert absolute(DataSource(source="sst-2", root="data")).root == str(tmp_path / "data")
    assert absolute(DataSource(source="sst-2")) == DataSource(source="sst-2")
    monkeypatch.setenv("GAPSHIFT_DATA_ROOT", "data")
    assert absolute(DataSource(source="sst-2")).root == str(tmp_path / "data")


def test_texts_for_the_quantiser_are_compared_too(tmp_path: Path) -> None:
    source = _sst(tmp_path, train=[("fine", 1), ("poor", 0), ("good", 1), ("bad", 0)])
    judged = study_splits(source, 0)[0]
    with pytest.raises(DataError, match="4 items of --calibration-data are evaluation items too"):
        open_calibration(source, ["negative", "positive"], judged)
