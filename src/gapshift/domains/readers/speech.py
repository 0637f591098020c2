"""Speech Commands (Warden, 2018), v0.01 and v0.02, as their archives unpack.

``label/<speaker>_nohash_<n>.wav``; ``validation_list.txt`` and ``testing_list.txt`` name the
files of their splits, and every other file trains. ``_background_noise_`` is no label: its long
recordings are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gapshift.domains.base import Dataset, listed
from gapshift.domains.readers.audio_folder import SUFFIX, Recording, dataset_of, label_folders, recordings_of
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError

LISTS = {"validation_list.txt": "validation", "testing_list.txt": "test"}
NOISE = "_background_noise_"


def read_speech(root: Path, labels: Sequence[str] | None = None) -> Dataset:
    """One item per file; its id is ``label/file.wav``, its group the speaker.

    Raises DataError for a missing list, one that names files which are not there (an archive
    that was unpacked in part), a file in both lists, and a name without a speaker.
    """
    split_of = _listed_splits(root)
    recordings = [_placed(recording, split_of) for recording in _recordings(root)]
    there = {f"{recording.label}/{recording.path.name}" for recording in recordings}
    missing = sorted(split_of.keys() - there)
    if missing:
        raise DataError(
            f"{root}: the lists name {len(missing)} files that are not there: {listed(missing, 3)}. "
            "Unpack the whole archive."
        )
    return dataset_of(root, recordings, labels)


def left_out(root: Path) -> list[str]:
    """What of the folder is no item, in words."""
    noise = root / NOISE
    count = sum(1 for path in noise.glob(f"*{SUFFIX}")) if noise.is_dir() else 0
    return [f"{NOISE} ({count} recordings) is no label and is left out"] if count else []


def _recordings(root: Path) -> list[Recording]:
    folders = label_folders(root)
    if not folders:
        raise DataError(f"{root} holds lists of files and no label folders. Unpack the whole archive.")
    return [recording for folder in folders for recording in recordings_of(folder, "train")]


def _placed(recording: Recording, split_of: dict[str, str]) -> Recording:
    if recording.speaker is None:
        raise DataError(f"{recording.path}: the name tells no speaker. Valid: <speaker>_nohash_<number>.wav.")
    return replace(recording, split=split_of.get(f"{recording.label}/{recording.path.name}", "train"))


def _listed_splits(root: Path) -> dict[str, str]:
    split_of: dict[str, str] = {}
    for name, split in LISTS.items():
        if not (root / name).is_file():
            raise DataError(f"{root / name} is missing; it tells the split {split}. Unpack the whole archive.")
        for line in (root / name).read_text("utf-8").splitlines():
            if line.strip() and split_of.setdefault(line.strip(), split) != split:
                raise DataError(f"{line.strip()} stands in both {' and '.join(LISTS)} of {root}. Get the lists again.")
    return split_of


READER = Reader(
    name="Speech Commands",
    layout="a folder with label/<speaker>_nohash_<n>.wav, validation_list.txt and testing_list.txt",
    accepts=lambda source: any((Path(source) / name).is_file() for name in LISTS),
    read=lambda source, labels: read_speech(Path(source), labels),
)
