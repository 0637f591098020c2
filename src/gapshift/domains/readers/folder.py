"""Image folders: ``split/class/file.jpg`` or ``class/file.jpg``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gapshift.domains.base import Dataset, Files, listed
from gapshift.domains.chosen_classes import check_known
from gapshift.domains.readers.nearest import nearest_in
from gapshift.domains.readers.reader import Reader
from gapshift.errors import DataError
from gapshift.schema import Item

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
UNSUPPORTED = (".avif", ".gif", ".heic", ".jp2", ".pgm", ".ppm", ".tif", ".tiff")
"""Images too, but not for every decoder: refused rather than left out in silence."""


@dataclass(frozen=True, slots=True)
class _ClassFolder:
    split: str
    name: str
    path: Path


def read_folder(root: Path, labels: Sequence[str] | None = None, only: Sequence[str] | None = None) -> Dataset:
    """One item per image file; its id is the path below ``root`` with forward slashes.

    Items are sorted by id, classes by name. Files that are no images are passed over, and
    so are names that start with a dot or two underscores. ``only`` are class folders to read,
    without a look into the others. Raises DataError for a mixture of the two layouts, a class
    folder without images or outside ``labels``, one of ``only`` that is not there, and an image
    outside class folders.
    """
    folders = _class_folders(root)
    if not folders:
        raise DataError(f"{root} holds no class folders. Valid: split/class/file, or class/file.{nearest_in(root)}")
    if only is not None:
        check_known(str(root), sorted({folder.name for folder in folders}), only)
        folders = [folder for folder in folders if folder.name in only]
    classes = tuple(labels) if labels is not None else tuple(sorted({folder.name for folder in folders}))
    found: list[tuple[str, int, str, Path]] = []
    for folder in folders:
        if folder.name not in classes:
            raise DataError(f"Class folder {folder.path} is none of the labels. Valid: {listed(classes)}.")
        label = classes.index(folder.name)
        found += [(path.relative_to(root).as_posix(), label, folder.split, path) for path in _images(folder.path)]
    found.sort(key=lambda entry: entry[0])
    items = [Item(id=item_id, label=label, split=split) for item_id, label, split, _ in found]
    return Files(root.resolve().name, classes, items, [path for *_, path in found])


def _class_folders(root: Path) -> list[_ClassFolder]:
    loose = [path.name for path in _visible(root) if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    if loose:
        raise DataError(f"{root} holds images outside class folders: {listed(sorted(loose), 5)}. Put them into one.")
    top = _folders(root)
    nested = [folder for folder in top if _folders(folder)]
    if not nested:
        return [_ClassFolder("all", folder.name, folder) for folder in top]
    for folder in top:
        if folder not in nested:
            what = "no class folders" if _is_bare(folder) else "images"
            raise DataError(
                f"{root} mixes layouts: {folder.name} holds {what}, {nested[0].name} holds folders. "
                "Use split/class/file throughout, or class/file throughout."
            )
        if not _is_bare(folder):
            raise DataError(
                f"{folder} holds both images and folders. Use split/class/file throughout, or class/file throughout."
            )
    return [_ClassFolder(split.name, folder.name, folder) for split in top for folder in _folders(split)]


def _images(folder: Path) -> list[Path]:
    entries = list(_visible(folder))
    deeper = [path.name for path in entries if path.is_dir()]
    if deeper:
        raise DataError(
            f"Class folder {folder} holds folders: {listed(sorted(deeper), 5)}. Put its images directly into it."
        )
    files = [path for path in entries if path.is_file() or path.is_symlink()]  # a dangling link is an item, unreadable
    refused = [path.name for path in files if path.suffix.lower() in UNSUPPORTED]
    if refused:
        raise DataError(
            f"{folder} holds images that cannot be read: {listed(refused, 5)}. Valid: {', '.join(SUFFIXES)}."
        )
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(
            f"Class folder {folder} holds no images. Valid: {', '.join(SUFFIXES)}. Add images or take the folder away."
        )
    return images


def _is_bare(folder: Path) -> bool:
    return not any(path.suffix.lower() in SUFFIXES for path in _visible(folder))


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in _visible(folder) if path.is_dir())


def _visible(folder: Path) -> Iterable[Path]:
    return (path for path in folder.iterdir() if not path.name.startswith((".", "__")))


READER = Reader(
    name="image folder",
    layout=f"a folder of split/class/file or class/file, the files {', '.join(SUFFIXES)}",
    accepts=lambda source: Path(source).is_dir(),
    read=lambda source, labels: read_folder(Path(source), labels),
)
