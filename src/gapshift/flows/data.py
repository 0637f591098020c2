"""Which items train, which are judged, and which the quantiser may see.

Every choice depends on item ids and a seed alone, so that it is the same on every machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path

from gapshift.domains.base import Dataset, Episode, Raw, Text, listed, rank, splits_of, take
from gapshift.domains.duplicates import Signatures
from gapshift.domains.open import is_built_in, open_dataset
from gapshift.domains.published import data_root, is_published, published_notes
from gapshift.errors import DataError, UnreadableItemError
from gapshift.flows.splitting import TEST, TRAIN, Limits, by_class, divided, limited, separated
from gapshift.schema import DataSource, Item, canonical_json

CALIBRATION = "calibration"
_HELD_OUT = (TEST, "val", "valid", "validation")
QUANTISER_ITEMS = 128
"""How many items a static quantiser calibrates on when none are given."""


def open_source(source: DataSource, labels: Sequence[str] | None = None, default: str = TEST) -> Dataset:
    """The data set of one source; where it has several splits, the asked one, else ``default``."""
    dataset = open_data(source, labels)
    splits = splits_of(dataset)
    if len(splits) == 1:
        return dataset
    if default not in splits:
        option = "--split" if default == TEST else "--calibration-split"
        raise DataError(
            f"{source.source} has the splits {', '.join(splits)} and no {default!r}; name one with {option}."
        )
    return take(dataset, split=default)


def open_calibration(source: DataSource, labels: Sequence[str] | None, judged: Dataset) -> Dataset:
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


def study_splits(source: DataSource, seed: int) -> tuple[Dataset, dict[str, str], list[str]]:
    """The data of a study, each item's role (``train`` or ``test``), and what a report has to say of both.

    No speaker, paragraph (an item's group) or near-duplicate is in both parts. Splits that the
    data has are kept: ``train``, and ``test`` or else a validation split; test items that share
    a group or a signature with training items are left out. Data without splits is divided by
    ``train_fraction``, class by class as far as whole groups allow, in a seeded order of ids.
    Raises DataError when either part is empty, the splits have other names, or their labels differ.
    """
    dataset = open_data(source)
    has = splits_of(dataset)
    # built-in recordings are synthesised when read, each from draws of its own: all of them would take seconds
    signatures = Signatures(dataset, distinct=dataset.domain == "audio" and is_built_in(source.source))
    limits = Limits(source.train_per_class, source.test_per_class)
    if len(has) == 1:
        roles, notes = divided(dataset, signatures, source.train_fraction, seed)
        chosen = limited(dataset.items, roles, limits, seed)
    else:
        given = _given_roles(dataset.items, _role_of_split(source, has))
        _check_same_classes(source, dataset, given)
        chosen, notes = separated(dataset, given, signatures, limits, seed)
    for role in (TRAIN, TEST):
        if role not in chosen.values():
            raise DataError(f"{source.source}: no {role} items; the splits found are {', '.join(has)}.")
    kept = dataset.subset([i for i, item in enumerate(dataset.items) if item.id in chosen])
    return kept, chosen, published_notes(source) + notes


def open_data(source: DataSource, labels: Sequence[str] | None = None) -> Dataset:
    """All that a source names: its split and classes, or everything."""
    return open_dataset(source.source, labels=labels, split=source.split, root=source.root, classes=source.classes)


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
    ranked_by_class = by_class(items, seed)
    share = max(1, limit // max(1, len(ranked_by_class)))
    return {item.id for ranked in ranked_by_class.values() for item in ranked[:share]}


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
            hashes.add(hashlib.sha256(_content(dataset.raw(index))).hexdigest())
        except UnreadableItemError:
            continue
    return hashes


def _content(raw: Raw) -> bytes:
    if isinstance(raw, bytes):
        return raw
    if isinstance(raw, Text | Episode):
        return canonical_json(asdict(raw)).encode()
    return f"{raw.shape}".encode() + raw.tobytes()


def absolute(source: DataSource) -> DataSource:
    """The same source, its path or its data root good from any working directory."""
    if is_built_in(source.source):
        return source
    if is_published(source.source):
        root = data_root(source.root)
        return source if root is None else source.model_copy(update={"root": str(root.resolve())})
    path = Path(source.source)
    return source.model_copy(update={"source": str(path.resolve())}) if path.exists() else source


def _role_of_split(source: DataSource, has: Sequence[str]) -> dict[str, str]:
    held_out = next((name for name in _HELD_OUT if name in has), None)
    if TRAIN not in has or held_out is None:
        raise DataError(
            f"{source.source} has the splits {', '.join(has)}; a study needs train and one of "
            f"{', '.join(_HELD_OUT)}. Rename them, or name the only one to divide with data.split."
        )
    return {TRAIN: TRAIN, held_out: TEST}


def _given_roles(items: Sequence[Item], role_of: dict[str, str]) -> dict[str, str]:
    return {item.id: role_of[item.split] for item in items if item.split in role_of}


def _check_same_classes(source: DataSource, dataset: Dataset, roles: dict[str, str]) -> None:
    found: dict[str, set[int]] = {TRAIN: set(), TEST: set()}
    for item in dataset.items:
        if item.id in roles:
            found[roles[item.id]].add(item.label)
    for role, other in ((TRAIN, TEST), (TEST, TRAIN)):
        if lone := sorted(found[role] - found[other]):
            names = listed([dataset.classes[label] for label in lone], 5)
            raise DataError(
                f"{source.source}: the label sets of its splits differ: {names} only in the {role} part. Complete "
                "the other part, or name the classes that both have with data.classes."
            )
