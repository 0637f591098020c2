"""Which items train, which are judged, and which the quantiser may see.

Every choice depends on item ids and a seed alone, so that it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from gapshift.domains.base import Dataset
from gapshift.domains.open import open_dataset
from gapshift.errors import DataError, UnreadableItemError
from gapshift.schema import DataSource, Item

TRAIN, TEST, CALIBRATION = "train", "test", "calibration"
QUANTISER_ITEMS = 128
"""How many items a static quantiser calibrates on when none are given."""


def rank(item_id: str, seed: int) -> str:
    """A seeded random order over items that depends on nothing but their ids."""
    return hashlib.sha256(f"{seed}/{item_id}".encode()).hexdigest()


def open_source(source: DataSource, labels: Sequence[str] | None = None) -> Dataset:
    """The data set of one source; where it has several splits, the asked one, else ``test``."""
    dataset = open_dataset(source.source, labels=labels, split=source.split)
    splits = sorted({item.split for item in dataset.items})
    if len(splits) == 1:
        return dataset
    if TEST not in splits:
        raise DataError(f"{source.source} has the splits {', '.join(splits)}; name one with --split.")
    return dataset.subset([i for i, item in enumerate(dataset.items) if item.split == TEST])


def study_splits(source: DataSource, seed: int) -> tuple[Dataset, dict[str, str]]:
    """The data of a study and each item's role: ``train`` or ``test``.

    Splits that the data has are kept (``train``/``test``); else each class is divided by
    ``train_fraction`` in a seeded order. Raises DataError when either part is empty.
    """
    dataset = open_dataset(source.source, split=source.split)
    has = {item.split for item in dataset.items}
    roles = (
        _given_roles(dataset.items)
        if {TRAIN, TEST} <= has
        else _drawn_roles(dataset.items, source.train_fraction, seed)
    )
    limits = {TRAIN: source.train_per_class, TEST: source.test_per_class}
    chosen = _limited(dataset.items, roles, limits, seed)
    for role in (TRAIN, TEST):
        if role not in chosen.values():
            raise DataError(f"{source.source}: no {role} items; the splits found are {', '.join(sorted(has))}.")
    kept = dataset.subset([i for i, item in enumerate(dataset.items) if item.id in chosen])
    return kept, chosen


def with_role(dataset: Dataset, roles: dict[str, str], *wanted: str) -> Dataset:
    """The items of ``dataset`` whose role is one of ``wanted``."""
    return dataset.subset([i for i, item in enumerate(dataset.items) if roles.get(item.id) in wanted])


def quantiser_items(items: Iterable[Item], seed: int, limit: int = QUANTISER_ITEMS) -> set[str]:
    """Ids of the items for a static quantiser: a seeded draw, the same share of every class."""
    by_class = _by_class(items, seed)
    share = max(1, limit // max(1, len(by_class)))
    return {item.id for ranked in by_class.values() for item in ranked[:share]}


def hold_out(items: Sequence[Item], seed: int) -> set[str]:
    """Ids of the items withheld from judging for a static quantiser: at most a tenth of them."""
    limit = min(QUANTISER_ITEMS, len(items) // 10)
    if limit == 0:
        return set()
    chosen = sorted(quantiser_items(items, seed, limit), key=lambda item_id: rank(item_id, seed))
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
    return source.model_copy(update={"source": str(path.resolve())}) if path.exists() else source


def _given_roles(items: Sequence[Item]) -> dict[str, str]:
    return {item.id: item.split for item in items if item.split in (TRAIN, TEST)}


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
