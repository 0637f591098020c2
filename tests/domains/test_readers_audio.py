"""Speech Commands and other folders of WAV files: items, splits, speakers and errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from gapshift.domains.open import open_dataset
from gapshift.domains.readers import speech
from gapshift.errors import DataError
from gapshift.schema import Item


def _wavs(home: Path, *names: str) -> Path:
    for name in names:
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(f"RIFF {name}".encode())
    return home


def _speech(home: Path, validation: str = "yes/b_nohash_0.wav", testing: str = "no/c_nohash_1.wav") -> Path:
    (home / "validation_list.txt").write_text(validation + "\n")
    (home / "testing_list.txt").write_text(testing + "\n")
    noise = "_background_noise_/pink_noise.wav"
    return _wavs(home, "yes/a_nohash_0.wav", "yes/b_nohash_0.wav", "no/a_nohash_0.wav", "no/c_nohash_1.wav", noise)


def test_speech_commands_by_its_lists(tmp_path: Path) -> None:
    data = open_dataset(_speech(tmp_path))
    assert (data.classes, data.domain, data.encoded) == (("no", "yes"), "audio", True)
    assert data.items == (
        Item("no/a_nohash_0.wav", 0, "train", "a"),
        Item("no/c_nohash_1.wav", 0, "test", "c"),
        Item("yes/a_nohash_0.wav", 1, "train", "a"),
        Item("yes/b_nohash_0.wav", 1, "validation", "b"),
    )
    assert data.raw(0) == b"RIFF no/a_nohash_0.wav"
    assert speech.left_out(tmp_path) == ["_background_noise_ (1 recordings) is no label and is left out"]
    assert open_dataset(tmp_path, classes=["yes"]).classes == ("yes",)


def test_speech_commands_that_are_not_whole(tmp_path: Path) -> None:
    _speech(tmp_path, testing="no/c_nohash_1.wav\nno/gone_nohash_0.wav")
    with pytest.raises(DataError, match=r"the lists name 1 files that are not there: 'no/gone_nohash_0\.wav'. Unpack"):
        open_dataset(tmp_path)
    _speech(tmp_path, testing="yes/b_nohash_0.wav")
    with pytest.raises(DataError, match=r"yes/b_nohash_0\.wav stands in both validation_list\.txt and testing_list"):
        open_dataset(tmp_path)
    _wavs(_speech(tmp_path), "yes/odd.wav")
    with pytest.raises(DataError, match=r"odd\.wav: the name tells no speaker. Valid: <speaker>_nohash_<number>"):
        open_dataset(tmp_path)
    (tmp_path / "testing_list.txt").unlink()
    with pytest.raises(DataError, match=r"testing_list\.txt is missing; it tells the split test"):
        open_dataset(tmp_path)


def test_flat_names_tell_label_and_speaker(tmp_path: Path) -> None:
    data = open_dataset(_wavs(tmp_path, "7_lucas_12.wav", "0_anna_maria_3.wav"))
    assert data.items == (
        Item("0_anna_maria_3.wav", 0, "all", "anna_maria"),
        Item("7_lucas_12.wav", 1, "all", "lucas"),
    )
    assert data.classes == ("0", "7")
    assert open_dataset(tmp_path, labels=list("0123456789")).items[1].label == 7


@pytest.mark.parametrize(
    ("names", "items"),
    [
        (
            ("no/x.wav", "yes/b_nohash_0.wav", "_noise/n.wav"),
            (Item("no/x.wav", 0), Item("yes/b_nohash_0.wav", 1, "all", "b")),
        ),
        (
            ("train/no/x.wav", "test/yes/x.WAV"),
            (Item("test/yes/x.WAV", 1, "test"), Item("train/no/x.wav", 0, "train")),
        ),
    ],
)
def test_label_folders(tmp_path: Path, names: tuple[str, ...], items: tuple[Item, ...]) -> None:
    assert open_dataset(_wavs(tmp_path, *names)).items == items


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (("yes/a.wav", "1_a_2.wav"), r"mixes layouts: WAV files such as 1_a_2\.wav lie beside the folders 'yes'"),
        (("odd.wav",), r"odd\.wav: the name does not tell a label. Valid: <label>_<speaker>_<number>\.wav"),
        (("train/yes/a.wav", "train/b.wav"), "mixes layouts: train holds folders"),
        (("train/yes/a.wav", "yes/b.wav"), "mixes layouts: train holds folders"),
        (("no/a.wav", "yes/b.mp3"), r"yes holds audio that is not read: 'b\.mp3'. Convert it to \.wav"),
        (("no/a.wav", "yes/read.me"), r"Label folder .*yes holds no \.wav files"),
    ],
)
def test_folders_that_are_no_data_set(tmp_path: Path, names: tuple[str, ...], text: str) -> None:
    with pytest.raises(DataError, match=text):
        open_dataset(_wavs(tmp_path, *names))


def test_a_label_outside_the_model_s_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no/a\.wav: label 'no' is none of the classes. Valid: 'up', 'down'"):
        open_dataset(_wavs(tmp_path, "no/a.wav"), labels=["up", "down"])
