"""Which files a run's data came from: their SHA-256, for the lock of a run."""

from __future__ import annotations

from pathlib import Path

from gapshift.domains.open import is_built_in
from gapshift.domains.published import file_digest, is_published, located
from gapshift.errors import DataError
from gapshift.schema import DataSource, digest

MOST_FILES = 1_000
"""A folder of more files gets one digest over their names and sizes instead of their contents."""


def checksums(source: DataSource | str | Path) -> dict[str, str]:
    """SHA-256 by file name relative to the source's folder, sorted.

    Empty for built-in data: the package's version settles it. A folder of more than MOST_FILES
    files has one entry, whose name says that it covers names and sizes alone (``Dataset.digest``
    covers the contents of the items that a run uses). Raises DataError for a source that is not
    there.
    """
    wanted = source if isinstance(source, DataSource) else DataSource(source=str(source))
    if is_built_in(wanted.source):
        return {}
    place = located(wanted.source, wanted.root) if is_published(wanted.source) else Path(wanted.source)
    if place.is_file():
        return {place.name: file_digest(place)}
    if not place.is_dir():
        raise DataError(f"Data set {str(place)!r} does not exist, so its files have no checksums.")
    files = {path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()}
    if len(files) <= MOST_FILES:
        return {name: file_digest(files[name]) for name in sorted(files)}
    sizes = [[name, files[name].stat().st_size] for name in sorted(files)]
    return {f"names and sizes of {len(files)} files": digest(sizes)}
