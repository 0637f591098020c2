"""Folders of WAV files: ``split/label/file.wav``, ``label/file.wav``, or flat ``<label>_<speaker>_<n>.wav``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gapshift.domains.base import Dataset, Files, listed
from gapshift.domains.readers.folder import SUFFIXES as IMAGES
from gapshift.domains.readers.labels import resolve_labels
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError
from gapshift.schema import Item

SUFFIX = ".wav"
_UNSUPPORTED = (".aac", ".aiff", ".flac", ".m4a", ".mp3", ".ogg", ".opus", ".wma")
_FLAT = re.compile(r"(?P<label>[^_]+)_(?P<speaker>.+)_(?P<number>\d+)")
_NOHASH = re.compile(r"(?P<speaker>.+)_nohash_\d+")


@dataclass(frozen=True, slots=True)
class Recording:
    """One WAV file: its place, its label's name, its split, and its speaker where the name tells."""

    path: Path
    label: str
    split: str
    speaker: str | None


def read_audio_folder(root: Path, labels: Sequence[str] | None = None) -> Dataset:
    """One item per WAV file; its id is the path below ``root``, its group the speaker.

    A speaker is read from ``<speaker>_nohash_<n>.wav`` and from flat names. Names that start
    with a dot or an underscore (``_background_noise_``) are passed over. Raises DataError for
    a mixture of layouts, a label folder without WAV files or outside ``labels``, and other
    kinds of audio file.
    """
    flat = wav_files(root)
    folders = label_folders(root)
    if flat and folders:
        raise DataError(
            f"{root} mixes layouts: WAV files such as {flat[0].name} lie beside the folders "
            f"{listed([folder.name for folder in folders], 5)}. Use label/file.wav or <label>_<speaker>_<n>.wav."
        )
    recordings = [_named(path) for path in flat] if flat else _in_folders(root, folders)
    return dataset_of(root, recordings, labels)


def dataset_of(root: Path, recordings: Sequence[Recording], labels: Sequence[str] | None) -> Dataset:
    """The recordings as items, sorted by their path below ``root``."""
    ordered = sorted((recording.path.relative_to(root).as_posix(), recording) for recording in recordings)
    classes, indexes = resolve_labels(
        [recording.label for _, recording in ordered],
        labels if labels is not None else sorted({recording.label for recording in recordings}),
        lambda row: str(root / ordered[row][0]),
    )
    items = [
        Item(id=item_id, label=int(index), split=recording.split, group=recording.speaker)
        for (item_id, recording), index in zip(ordered, indexes, strict=True)
    ]
    return Files(root.resolve().name, classes, items, [recording.path for _, recording in ordered], "audio")


def label_folders(root: Path) -> list[Path]:
    """Folders whose name starts with neither dot nor underscore, sorted."""
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith((".", "_")))


def wav_files(folder: Path) -> list[Path]:
    """The folder's WAV files, sorted. Raises DataError for audio files of another kind."""
    files = [path for path in folder.iterdir() if not path.name.startswith(".")]
    refused = sorted(path.name for path in files if path.suffix.lower() in _UNSUPPORTED)
    if refused:
        raise DataError(f"{folder} holds audio that is not read: {listed(refused, 5)}. Convert it to {SUFFIX}.")
    found = [path for path in files if path.suffix.lower() == SUFFIX]
    return sorted(path for path in found if path.is_file() or path.is_symlink())  # a dangling link is unreadable


def recordings_of(folder: Path, split: str) -> list[Recording]:
    """A label folder's recordings. Raises DataError where there are none."""
    paths = wav_files(folder)
    if not paths:
        raise DataError(f"Label folder {folder} holds no {SUFFIX} files. Add some or take the folder away.")
    return [Recording(path, folder.name, split, _speaker(path)) for path in paths]


def _speaker(path: Path) -> str | None:
    match = _NOHASH.fullmatch(path.stem)
    return match["speaker"] if match else None


def _named(path: Path) -> Recording:
    match = _FLAT.fullmatch(path.stem)
    if match is None:
        raise DataError(
            f"{path}: the name does not tell a label. Valid: <label>_<speaker>_<number>.wav, such as 7_lucas_12.wav; "
            "or put the files into folders, label/file.wav."
        )
    return Recording(path, match["label"], "all", match["speaker"])


def _in_folders(root: Path, folders: Sequence[Path]) -> list[Recording]:
    nested = [folder for folder in folders if label_folders(folder)]
    if not nested:
        return [recording for folder in folders for recording in recordings_of(folder, "all")]
    if len(nested) < len(folders) or any(wav_files(folder) for folder in nested):
        raise DataError(
            f"{root} mixes layouts: {nested[0].name} holds folders, and there are WAV files outside the deepest ones. "
            "Use split/label/file.wav throughout, or label/file.wav throughout."
        )
    return [
        recording
        for split in nested
        for folder in label_folders(split)
        for recording in recordings_of(folder, split.name)
    ]


def _holds_audio(folder: Path, depth: int = 2) -> bool:
    """Whether the first image or WAV file that is met, at most two folders down, is a WAV file."""
    if not folder.is_dir():
        return False
    deeper = []
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in (SUFFIX, *IMAGES):
            return path.suffix.lower() == SUFFIX
        if path.is_dir() and not path.name.startswith((".", "_")):
            deeper.append(path)
    return depth > 0 and any(_holds_audio(path, depth - 1) for path in deeper)


READER = Reader(
    name="audio folder",
    layout="a folder of split/label/file.wav, label/file.wav or <label>_<speaker>_<n>.wav",
    accepts=lambda source: _holds_audio(Path(source)),
    read=lambda source, labels: read_audio_folder(Path(source), labels),
)
