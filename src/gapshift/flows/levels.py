"""Where an item's level comes from: a column, a file, or responders that never are the model under test."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.decode import decode
from gapshift.domains.vision import prepare
from gapshift.errors import CalibrationError, DataError, UnreadableItemError, WorkspaceError
from gapshift.flows.reporting import Reporter
from gapshift.records import ITEM_SCHEMA, read_items, write_items
from gapshift.schema import LEVELS, CalibrationCard, Frozen, Item, Preprocessing, Resize
from gapshift.train.irt.calibrate import Calibration, calibrate
from gapshift.train.responders import default_ladder, respond
from gapshift.train.settings import LadderSettings

_LEAST_SIDE, _MOST_SIDE, _PROBE = 16, 32, 64
"""Responders look at images between these sides (pixels), as large as a sample of the items allows."""
_AS_IS = Preprocessing(resize=Resize(size=(_MOST_SIDE, _MOST_SIDE)))


class CalibrationSettings(Frozen):
    """How items are rated. ``ladder`` null: the default for the number of items.

    ``cross_check`` null: py-irt runs beside ``em`` where the matrix is small enough.
    """

    engine: Literal["em", "py-irt", "py-irt-1pl", "py-irt-2pl"] = "em"
    ladder: LadderSettings | None = None
    cross_check: bool | None = None


@dataclass(frozen=True)
class Rated:
    """``items.parquet`` in memory: the table (ITEM_SCHEMA) and its card."""

    table: pa.Table
    card: CalibrationCard

    def strata(self) -> dict[str, int]:
        """Level by item id; items without one are left out."""
        pairs = zip(self.table["id"].to_pylist(), self.table["level"].to_pylist(), strict=True)
        return {item_id: level for item_id, level in pairs if level is not None}

    def with_roles(self, roles: dict[str, str]) -> Rated:
        """The same, with ``split`` set to each item's role; items without a role are left out."""
        table = self.table.filter(pc.is_in(self.table["id"], pa.array(list(roles), pa.string())))
        split = pa.array([roles[item_id] for item_id in table["id"].to_pylist()], pa.string())
        return Rated(table.set_column(table.column_names.index("split"), "split", split), self.card)


def write_rated(path: Path, rated: Rated) -> None:
    """Write ``items.parquet`` with its card inside."""
    write_items(path, rated.table, [rated.card])


def read_rated(path: Path) -> Rated:
    """Read ``items.parquet`` back."""
    table, cards = read_items(path)
    card = cards[0] if cards else CalibrationCard(task="task", engine="given", items=len(table), responders=0)
    return Rated(table, card)


def cache_folder() -> Path:
    """Where ratings are kept between runs: ``GAPSHIFT_CACHE``, else the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(os.environ.get("GAPSHIFT_CACHE") or Path(base) / "gapshift")


def given_levels(dataset: Dataset, task: str) -> Rated:
    """Levels from the data's own ``level`` column. Raises DataError where an item has none."""
    missing = [item.id for item in dataset.items if item.level is None]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(dataset)} items have no level, {missing[0]!r} first. "
            "Fill the level column with 1-5."
        )
    levels = {item.id: item.level for item in dataset.items}
    card = CalibrationCard(
        task=task,
        engine="given",
        items=len(dataset),
        responders=0,
        source="the data's level column",
        notes=("Levels came with the data; gapshift cannot say how reliable they are.",),
    )
    return Rated(_table(dataset.items, task, levels), card)


def levels_from_file(path: Path, dataset: Dataset, task: str) -> Rated:
    """Levels from an ``items.parquet``, matched by id. Raises DataError where it does not fit the data."""
    if not path.is_file():
        raise DataError(f"{path} is no file. Make one with `gapshift calibrate`, or leave --items out.")
    try:
        table, cards = read_items(path)
    except WorkspaceError as error:
        raise DataError(str(error)) from error
    ids = table["id"].to_pylist()
    position = {item_id: row for row, item_id in enumerate(ids)}
    if len(position) < len(ids):
        twice, _ = Counter(ids).most_common(1)[0]
        raise DataError(f"{path} rates {twice!r} more than once. Make it again with `gapshift calibrate`.")
    missing = [item.id for item in dataset.items if item.id not in position]
    if missing:
        raise DataError(
            f"{path} rates {len(position)} items, and {len(missing)} of the {len(dataset)} evaluated ones are not "
            f"among them, {missing[0]!r} first. Rate this data with `gapshift calibrate --data DIR --out DIR`."
        )
    rows = table.take([position[item.id] for item in dataset.items])
    _refuse_other_labels(path, rows, dataset)
    own = _table(dataset.items, task, {})
    for name in ("b", "a", "c", "se_b", "level", "level_abs", "proportion_correct"):
        if name in rows.column_names:
            own = own.set_column(own.column_names.index(name), name, _cast(path, rows, name))
    card = _card_of(cards, path, task, len(position))
    return Rated(own, card.model_copy(update={"notes": (*card.notes, *_trained_on(rows))}))


def _trained_on(rows: pa.Table) -> list[str]:
    """A note where the file says that evaluated items are training items."""
    splits = rows["split"].to_pylist() if "split" in rows.column_names else []
    n = splits.count("train")
    return [f"{n} of the {len(rows)} evaluated items are training items, by the file's split column."] if n else []


def _refuse_other_labels(path: Path, rows: pa.Table, dataset: Dataset) -> None:
    """Equal ids are not enough: two data sets may both count from 000001.

    The file's classes may stand in another order, so labels must agree one to one, not be equal.
    """
    labels = rows["label"].to_pylist() if "label" in rows.column_names else []
    if not labels or any(label is None or label < 0 for label in labels):
        return  # the file knows of no labels, as one made from a response matrix
    pairs = {(theirs, item.label) for item, theirs in zip(dataset.items, labels, strict=True)}
    if not len({theirs for theirs, _ in pairs}) == len({ours for _, ours in pairs}) == len(pairs):
        raise DataError(
            f"{path} groups the items into other classes than the data does: it rates another data set. "
            "Rate this one with `gapshift calibrate --data DIR --out DIR`."
        )


def _cast(path: Path, rows: pa.Table, name: str) -> pa.ChunkedArray:
    try:
        column = rows[name].cast(ITEM_SCHEMA.field(name).type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"{path}: the column {name!r} holds no numbers: {error}.") from error
    if name == "level" and not set(column.to_pylist()) <= {*LEVELS, None}:
        raise DataError(f"{path}: the column 'level' holds other values than 1-5.")
    return column


def _card_of(cards: Sequence[CalibrationCard], path: Path, task: str, items: int) -> CalibrationCard:
    """The file's own card under the name of this run's task, or one that says that there is none."""
    if cards:
        return cards[0].model_copy(update={"task": task})
    return CalibrationCard(
        task=task,
        engine="given",
        items=items,
        responders=0,
        source=path.name,
        notes=("The file holds no calibration card; gapshift cannot say how reliable its levels are.",),
    )


def rate(
    dataset: Dataset,
    settings: CalibrationSettings,
    *,
    task: str,
    seed: int,
    reporter: Reporter,
) -> Rated:
    """Levels from small networks cross-fitted on ``dataset`` itself, whatever model is to be judged on it.

    Items that cannot be decoded stay in the table without a rating. Finished responders
    are kept in the cache folder by content, never beside the user's data.
    """
    images, readable = _responder_images(dataset)
    items = [item for item, is_readable in zip(dataset.items, readable, strict=True) if is_readable]
    ladder = settings.ladder or default_ladder(len(items))
    responses = respond(
        images,
        np.array([item.label for item in items]),
        [item.id for item in items],
        ladder,
        classes=len(dataset.classes),
        seed=seed,
        progress=lambda done, total: reporter.progress("responders", done, total),
        note=reporter.note,
        cache=cache_folder() / "responders",
    )
    calibration = calibrate(
        responses.matrix,
        [item.id for item in items],
        task=task,
        guessing=1 / len(dataset.classes),
        engine=settings.engine,
        runs=[str(run) for run in responses.runs],
        cross_check=settings.cross_check,
        seed=seed,
    )
    return Rated(_with_unrated(calibration, dataset, items, task), calibration.card)


def _with_unrated(calibration: Calibration, dataset: Dataset, rated: Sequence[Item], task: str) -> pa.Table:
    table = calibration.table(rated)
    known = {item.id for item in rated}
    unrated = [item for item in dataset.items if item.id not in known]
    return pa.concat_tables([table, _table(unrated, task, {})]) if unrated else table


def _responder_images(dataset: Dataset) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Small images for the responders, shape (n readable, C, H, W), and which items are readable."""
    view = _responder_view(dataset)
    images, readable = [], np.zeros(len(dataset), dtype=bool)
    for index in range(len(dataset)):
        try:
            images.append(prepare(dataset.raw(index), view))
            readable[index] = True
        except UnreadableItemError:
            continue
    if not images:
        raise CalibrationError(
            f"None of the {len(dataset)} items of {dataset.name} can be decoded; there is nothing to rate."
        )
    return np.stack(images).astype(np.float32, copy=False), readable


def _responder_view(dataset: Dataset) -> Preprocessing:
    """How responders see this data: that depends on the items alone, so that levels belong to them and to no model."""
    sides, coloured = [_LEAST_SIDE], False
    for index in np.linspace(0, len(dataset) - 1, min(_PROBE, len(dataset)), dtype=int):
        try:
            pixels = decode(dataset.raw(int(index)), _AS_IS)
        except UnreadableItemError:
            continue
        sides.append(min(pixels.shape[:2]))
        coloured = coloured or bool((pixels != pixels[..., :1]).any())
    side = min(_MOST_SIDE, max(sides))
    return Preprocessing(color="RGB" if coloured else "L", resize=Resize(size=(side, side)), mean=(0.5,), std=(0.25,))


def _table(items: Sequence[Item], task: str, levels: dict[str, int | None]) -> pa.Table:
    """A table of ITEM_SCHEMA without a calibration: everything unknown is null."""
    unknown = [None] * len(items)
    columns = {
        "id": [item.id for item in items],
        "task": [task] * len(items),
        "split": [item.split for item in items],
        "label": [item.label for item in items],
        "group": [item.group for item in items],
        "level": [levels.get(item.id) for item in items],
    }
    return pa.table({name: columns.get(name, unknown) for name in ITEM_SCHEMA.names}, schema=ITEM_SCHEMA)
