"""Which items train, which are judged, and which the quantiser may see.

Every choice depends on item ids and a seed alone, so that it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gapshift.domains.base import Dataset, rank, splits_of, take
from gapshift.domains.open import is_built_in, open_dataset
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import DataSource, Item

TRAIN, TEST, CALIBRATION = "train", "test", "calibration"
_HELD_OUT = (TEST, "val", "valid", "validation")
QUANTISER_ITEMS = 128
"""How many items a static quantiser calibrates on when none are given."""


def open_source(source: DataSource, labels: Sequence[str] | None = None, default: str = TEST) -> Dataset:
    """The data set of one source; where it has several splits, the asked one, else ``default``."""
    dataset = open_dataset(source.source, labels=labels, split=source.split)
    splits = splits_of(dataset)
    if len(splits) == 1:
        return dataset
    if default not in splits:
        option = "--split" if default == TEST else "--calibration-split"
        raise DataError(
            f"{source.source} has the splits {', '.join(splits)} and no {default!r}; name one with {option}."
        )
    return take(dataset, split=default)


def open_calibration(source: DataSource, labels: Sequence[str], judged: Dataset) -> Dataset:
    """A static quantiser's items: of several splits the asked one, else ``train``.

    Raises DataError where some of them are judged too. Compared by content, since the
    same picture may have another name there.
    """
    given = open_source(source, labels, default=TRAIN)
    shared = len(content_hashes(judged) & content_hashes(given))
    if shared:
        raise DataError(
            f"{shared} items of --calibration-data are evaluation items too; what a quantiser saw is never judged. "
            "Give other items, or leave --calibration-data out to withhold some of the evaluation set."
        )
    return given


def study_splits(source: DataSource, seed: int) -> tuple[Dataset, dict[str, str]]:
    """The data of a study and each item's role: ``train`` or ``test``.

    Splits that the data has are kept: ``train``, and ``test`` or else a validation split.
    Data without splits is divided class by class by ``train_fraction`` in a seeded order.
    Raises DataError when either part is empty, or the splits have other names.
    """
    dataset = open_dataset(source.source, split=source.split)
    has = splits_of(dataset)
    if len(has) == 1:
        roles = _drawn_roles(dataset.items, source.train_fraction, seed)
    else:
        held_out = next((name for name in _HELD_OUT if name in has), None)
        if TRAIN not in has or held_out is None:
            raise DataError(
                f"{source.source} has the splits {', '.join(has)}; a study needs train and one of "
                f"{', '.join(_HELD_OUT)}. Rename them, or name the only one to divide with data.split."
            )
        roles = _given_roles(dataset.items, {TRAIN: TRAIN, held_out: TEST})
    limits = {TRAIN: source.train_per_class, TEST: source.test_per_class}
    chosen = _limited(dataset.items, roles, limits, seed)
    for role in (TRAIN, TEST):
        if role not in chosen.values():
            raise DataError(f"{source.source}: no {role} items; the splits found are {', '.join(has)}.")
    kept = dataset.subset([i for i, item in enumerate(dataset.items) if item.id in chosen])
    return kept, chosen


def with_role(dataset: Dataset, roles: dict[str, str], *wanted: str) -> Dataset:
    """The items of ``dataset`` whose role is one of ``wanted``."""
    return dataset.subset([i for i, item in enumerate(dataset.items) if roles.get(item.id) in wanted])


def quantiser_set(dataset: Dataset, roles: dict[str, str], seed: int) -> Dataset | None:
    """What a static quantiser calibrates on: the items withheld for it, else a draw of the training items, if any."""
    chosen = {item_id for item_id, role in roles.items() if role == CALIBRATION} or _balanced_draw(
        [item for item in dataset.items if roles.get(item.id) == TRAIN], seed, QUANTISER_ITEMS
    )
    rows = [i for i, item in enumerate(dataset.items) if item.id in chosen]
    return dataset.subset(rows) if rows else None


def _balanced_draw(items: Iterable[Item], seed: int, limit: int) -> set[str]:
    """Ids of about ``limit`` items: a seeded draw, as many of every class."""
    by_class = _by_class(items, seed)
    share = max(1, limit // max(1, len(by_class)))
    return {item.id for ranked in by_class.values() for item in ranked[:share]}


def hold_out(items: Sequence[Item], seed: int) -> set[str]:
    """Ids of the items withheld from judging for a static quantiser: at most a tenth of them."""
    limit = min(QUANTISER_ITEMS, len(items) // 10)
    if limit == 0:
        return set()
    chosen = sorted(_balanced_draw(items, seed, limit), key=lambda item_id: rank(item_id, seed))
    return set(chosen[:limit])


def content_hashes(dataset: Dataset) -> set[str]:
    """SHA-256 of every readable item's raw content."""
    hashes = set()
    for index in range(len(dataset)):
        try:
            raw = dataset.raw(index)
        except UnreadableItemError:
            continue
        content = raw if isinstance(raw, bytes) else f"{raw.shape}".encode() + raw.tobytes()
        hashes.add(hashlib.sha256(content).hexdigest())
    return hashes


def absolute(source: DataSource) -> DataSource:
    """The same source, its path (if it is one) good from any working directory."""
    path = Path(source.source)
    if is_built_in(source.source) or not path.exists():
        return source
    return source.model_copy(update={"source": str(path.resolve())})


def _given_roles(items: Sequence[Item], role_of: dict[str, str]) -> dict[str, str]:
    return {item.id: role_of[item.split] for item in items if item.split in role_of}


def _drawn_roles(items: Sequence[Item], fraction: float, seed: int) -> dict[str, str]:
    roles: dict[str, str] = {}
    for ranked in _by_class(items, seed).values():
        cut = round(fraction * len(ranked))
        roles |= {item.id: TRAIN if place < cut else TEST for place, item in enumerate(ranked)}
    return roles


def _limited(items: Sequence[Item], roles: dict[str, str], limits: dict[str, int | None], seed: int) -> dict[str, str]:
    chosen: dict[str, str] = {}
    for role, limit in limits.items():
        members = [item for item in items if roles.get(item.id) == role]
        for ranked in _by_class(members, seed).values():
            chosen |= {item.id: role for item in ranked[:limit]}
    return chosen


def _by_class(items: Iterable[Item], seed: int) -> dict[int, list[Item]]:
    by_class: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        by_class[item.label].append(item)
    return {label: sorted(members, key=lambda item: rank(item.id, seed)) for label, members in sorted(by_class.items())}
