"""Training and test items that share no group and no near-duplicate.

A *cluster* is what no split may divide: items that share a group (speaker, paragraph) or a
signature (near-duplicates), directly or through others.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gapshift.domains.base import Dataset, listed, rank
from gapshift.domains.duplicates import LARGEST_THUMBNAIL, Signatures, repeated
from gapshift.errors import DataError
from gapshift.schema import Item

TRAIN, TEST = "train", "test"


@dataclass(frozen=True, slots=True)
class Limits:
    """How many items a class each part takes; None for all."""

    train: int | None = None
    test: int | None = None

    def of(self, role: str) -> int | None:
        """The limit of one part."""
        return self.train if role == TRAIN else self.test


def divided(dataset: Dataset, signatures: Signatures, fraction: float, seed: int) -> tuple[dict[str, str], list[str]]:
    """Each item's role, by whole clusters, and what there is to say of it.

    As near to ``fraction`` in every class as whole clusters allow: clusters of several items
    come first, in a seeded order, each to the part that lacks more of its classes; then they
    change sides while that brings the counts nearer; single items fill up what is lacking.
    Raises DataError where one cluster holds everything.
    """
    clusters = _clusters(dataset.items, signatures.all())
    several = _ordered((cluster for cluster in clusters if len(cluster) > 1), seed)
    if len(clusters) == 1 and several:
        raise DataError(_undividable(dataset, several[0]))
    totals = Counter(item.label for item in dataset.items)
    targets = {label: round(fraction * count) for label, count in totals.items()}
    training = _balanced(several, totals, targets)
    if len(clusters) == len(several):
        training = _neither_empty(several, training)
    chosen = zip(several, training, strict=True)
    roles = {item.id: TRAIN if trains else TEST for cluster, trains in chosen for item in cluster}
    trained = Counter(item.label for item in dataset.items if roles.get(item.id) == TRAIN)
    for label, ranked in by_class((cluster[0] for cluster in clusters if len(cluster) == 1), seed).items():
        cut = max(0, targets[label] - trained[label])
        roles |= {item.id: TRAIN if place < cut else TEST for place, item in enumerate(ranked)}
    return roles, _notes(dataset, signatures, roles, fraction)


def separated(
    dataset: Dataset, roles: dict[str, str], signatures: Signatures, limits: Limits, seed: int
) -> tuple[dict[str, str], list[str]]:
    """Of data with splits of its own: the items taken, and how many test items were passed over.

    The training part stays as it is. A test item is passed over where its group or signature
    occurs among the training items that were taken, and the next one of its class stands in.
    """
    trains = {item_id: role for item_id, role in roles.items() if role == TRAIN}
    chosen = limited(dataset.items, trains, limits, seed)
    place = {item.id: index for index, item in enumerate(dataset.items)}
    taken = [dataset.items[place[item_id]] for item_id in chosen]
    groups = {item.group for item in taken if item.group is not None}
    seen = {signatures.of(place[item.id]) for item in taken}
    shared: Counter[str] = Counter()
    for ranked in by_class((item for item in dataset.items if roles.get(item.id) == TEST), seed).values():
        kept = 0
        for item in ranked:
            if limits.test is not None and kept == limits.test:
                break
            if item.group in groups:
                shared["group"] += 1
            elif signatures.of(place[item.id]) in seen:
                shared["signature"] += 1
            else:
                kept += 1
                chosen[item.id] = TEST
    return chosen, _passed_over(dataset, shared, signatures)


def limited(items: Sequence[Item], roles: dict[str, str], limits: Limits, seed: int) -> dict[str, str]:
    """The roles of at most so many items of each class and part, drawn in a seeded order of ids."""
    chosen: dict[str, str] = {}
    for role in (TRAIN, TEST):
        members = [item for item in items if roles.get(item.id) == role]
        for ranked in by_class(members, seed).values():
            chosen |= {item.id: role for item in ranked[: limits.of(role)]}
    return chosen


def by_class(items: Iterable[Item], seed: int) -> dict[int, list[Item]]:
    """Each class's items in a seeded order of their ids."""
    found: defaultdict[int, list[Item]] = defaultdict(list)
    for item in items:
        found[item.label].append(item)
    return {label: sorted(members, key=lambda item: rank(item.id, seed)) for label, members in sorted(found.items())}


# --------------------------------------------------------------------------- clusters


def _clusters(items: Sequence[Item], signatures: Sequence[str]) -> list[list[Item]]:
    """Items joined by a group or a signature: connected components of items and keys."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    keys: dict[tuple[str, str], int] = {}
    rows, columns = [], []
    for row, (item, mark) in enumerate(zip(items, signatures, strict=True)):
        for key in _keys(item, mark):
            rows.append(row)
            columns.append(len(items) + keys.setdefault(key, len(keys)))
    size = len(items) + len(keys)
    edges = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(size, size))
    _, component = connected_components(edges, directed=False)
    found: defaultdict[int, list[Item]] = defaultdict(list)
    for item, number in zip(items, component, strict=False):  # the components of the keys come after
        found[int(number)].append(item)
    return list(found.values())


def _keys(item: Item, mark: str) -> Iterator[tuple[str, str]]:
    yield "signature", mark
    if item.group is not None:
        yield "group", item.group


def _ordered(clusters: Iterable[list[Item]], seed: int) -> list[list[Item]]:
    return sorted(clusters, key=lambda cluster: rank(min(item.id for item in cluster), seed))


def _undividable(dataset: Dataset, cluster: Sequence[Item]) -> str:
    groups = sorted({item.group for item in cluster if item.group is not None})
    what = f"belong together (groups {listed(groups, 3)})" if groups else "are near-duplicates of one another"
    return f"{dataset.name}: all {len(cluster)} items {what}, and no split may divide them. Give more data."


def _balanced(clusters: Sequence[Sequence[Item]], totals: Counter[int], targets: dict[int, int]) -> list[bool]:
    """Whether each cluster trains, so that the classes' counts come near ``targets``."""
    counts = [Counter(item.label for item in cluster) for cluster in clusters]
    lacking = dict(targets)
    spare = {label: totals[label] - targets[label] for label in totals}
    training = []
    for count in counts:
        training.append(sum(n * (lacking[label] - spare[label]) for label, n in count.items()) >= 0)
        side = lacking if training[-1] else spare
        for label, n in count.items():
            side[label] -= n
    return _mended(counts, training, lacking, spare)


def _mended(
    counts: Sequence[Counter[int]], training: list[bool], lacking: dict[int, int], spare: dict[int, int]
) -> list[bool]:
    """Clusters change sides while that lowers the squared excess of both parts.

    What a part lacks does no harm: single items can fill it, or it is the other's excess.
    """
    for _ in range(4):
        changed = False
        for place, count in enumerate(counts):
            here, there = (lacking, spare) if training[place] else (spare, lacking)
            if _gain(count, here, there) > 0:
                for label, n in count.items():
                    here[label] += n
                    there[label] -= n
                training[place] = not training[place]
                changed = True
        if not changed:
            break
    return training


def _gain(count: Counter[int], here: dict[int, int], there: dict[int, int]) -> int:
    def excess(free: int) -> int:
        return min(free, 0) ** 2

    return sum(
        excess(here[label]) + excess(there[label]) - excess(here[label] + n) - excess(there[label] - n)
        for label, n in count.items()
    )


def _neither_empty(clusters: Sequence[Sequence[Item]], training: list[bool]) -> list[bool]:
    """Where clusters make up all the data and all lie on one side, the smallest one changes it."""
    if len(set(training)) > 1:
        return training
    smallest = min(range(len(clusters)), key=lambda place: len(clusters[place]))
    return [trains != (place == smallest) for place, trains in enumerate(training)]


# ------------------------------------------------------------------------------ notes


def _notes(dataset: Dataset, signatures: Signatures, roles: dict[str, str], fraction: float) -> list[str]:
    notes = []
    groups = {item.group for item in dataset.items if item.group is not None}
    share = sum(role == TRAIN for role in roles.values()) / len(roles)
    if groups:
        notes.append(
            f"{dataset.name}: divided by {len(groups)} whole groups; {share:.1%} of the items train "
            f"({fraction:.1%} were asked for)"
        )
    if near := repeated(signatures.all()):
        notes.append(f"{dataset.name}: {near} items have near-duplicates, which stay in one part together")
    return notes + _uncompared(dataset, signatures)


def _uncompared(dataset: Dataset, signatures: Signatures) -> list[str]:
    if not signatures.by_content:
        return []
    return [
        f"{dataset.name}: {signatures.by_content} images of more than {LARGEST_THUMBNAIL} bytes were compared by "
        "their bytes alone, so near-duplicates among them are not seen"
    ]


def _passed_over(dataset: Dataset, shared: Counter[str], signatures: Signatures) -> list[str]:
    notes = []
    if shared["group"]:
        notes.append(
            f"{dataset.name}: {shared['group']} test items were left out: their group (speaker, paragraph) also trains"
        )
    if shared["signature"]:
        notes.append(
            f"{dataset.name}: {shared['signature']} test items were left out: near-duplicates of training items"
        )
    return notes + _uncompared(dataset, signatures)
