"""Where an item's level comes from: a column, a file, or responders that never are the model under test."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gapshift.domains.base import Dataset
from gapshift.domains.vision import prepare
from gapshift.errors import CalibrationError, DataError, UnreadableItemError
from gapshift.flows.reporting import Reporter
from gapshift.records import ITEM_SCHEMA, read_items
from gapshift.schema import CalibrationCard, Frozen, Item, Preprocessing, Resize
from gapshift.train.irt.calibrate import Calibration, calibrate
from gapshift.train.responders import default_ladder, respond
from gapshift.train.settings import LadderSettings

_RESPONDER_SIDE = 32


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
    """Levels from an ``items.parquet``, matched by id. Raises DataError where items are missing in it."""
    table, cards = read_items(path)
    position = {item_id: row for row, item_id in enumerate(table["id"].to_pylist())}
    missing = [item.id for item in dataset.items if item.id not in position]
    if missing:
        raise DataError(
            f"{path} rates {len(position)} items, and {len(missing)} of the {len(dataset)} evaluated ones are not "
            f"among them, {missing[0]!r} first. Rate this data with `gapshift calibrate --data DIR --out DIR`."
        )
    rows = table.take([position[item.id] for item in dataset.items])
    card = (
        cards[0]
        if cards
        else CalibrationCard(
            task=task,
            engine="given",
            items=len(position),
            responders=0,
            source=path.name,
            notes=("The file holds no calibration card; gapshift cannot say how reliable its levels are.",),
        )
    )
    own = _table(dataset.items, task, {})
    for name in ("b", "a", "c", "se_b", "level", "level_abs", "proportion_correct"):
        if name in rows.column_names:
            own = own.set_column(own.column_names.index(name), name, rows[name].cast(ITEM_SCHEMA.field(name).type))
    return Rated(own, card)


def rate(
    dataset: Dataset,
    contract: Preprocessing,
    settings: CalibrationSettings,
    *,
    task: str,
    seed: int,
    reporter: Reporter,
) -> Rated:
    """Levels from small networks cross-fitted on ``dataset`` itself.

    Items that cannot be decoded stay in the table without a rating. Finished responders
    are kept in the cache folder by content, never beside the user's data.
    """
    images, readable = _responder_images(dataset, contract)
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


def _responder_images(dataset: Dataset, contract: Preprocessing) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Small images for the responders, shape (n readable, C, H, W), and which items are readable."""
    height, width = (min(side, _RESPONDER_SIDE) for side in contract.resize.size)
    small = Preprocessing(
        color="L" if contract.color == "L" else "RGB", resize=Resize(size=(height, width)), mean=(0.5,), std=(0.25,)
    )
    images, readable = [], np.zeros(len(dataset), dtype=bool)
    for index in range(len(dataset)):
        try:
            images.append(prepare(dataset.raw(index), small))
            readable[index] = True
        except UnreadableItemError:
            continue
    if not images:
        raise CalibrationError(
            f"None of the {len(dataset)} items of {dataset.name} can be decoded; there is nothing to rate."
        )
    return np.stack(images).astype(np.float32, copy=False), readable


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
