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

from gapshift.domains.answering import episode_of, texts_of
from gapshift.domains.base import Dataset, RawImage
from gapshift.domains.control.episodes import chance
from gapshift.domains.decode import decode
from gapshift.domains.text import length, rarity
from gapshift.errors import CalibrationError, DataError, UnreadableItemError, WorkspaceError
from gapshift.flows.reporting import Reporter
from gapshift.records import ITEM_SCHEMA, read_items, write_items
from gapshift.schema import (
    LEVELS,
    AnyPreprocessing,
    AudioPreprocessing,
    CalibrationCard,
    ControlPreprocessing,
    Frozen,
    Item,
    Preprocessing,
    Resize,
    TextPreprocessing,
)
from gapshift.train.irt.calibrate import Calibration, calibrate
from gapshift.train.responders import Responses, default_ladder, respond
from gapshift.train.settings import LadderSettings
from gapshift.train.tasks.make import Made, learnt, make_task

_LEAST_SIDE, _MOST_SIDE, _PROBE = 16, 32, 64
"""Responders look at images between these sides (pixels), as large as a sample of the items allows."""
_MOST_TOKENS = 128
"""And at texts up to this length."""
_AS_IS = Preprocessing(resize=Resize(size=(_MOST_SIDE, _MOST_SIDE)))

TRAINED_ON = "evaluated items are training items, by the file's split column."
"""How a card's note ends that says so: accuracy on such items flatters the model."""


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


def write_rated(path: Path, *rated: Rated) -> None:
    """Write ``items.parquet``: the items of all tasks, with their cards inside."""
    write_items(path, pa.concat_tables([each.table for each in rated]), [each.card for each in rated])


def read_rated(path: Path, task: str) -> Rated:
    """One task's part of ``items.parquet``."""
    table, cards = read_items(path)
    own = table.filter(pc.equal(table["task"], task)) if "task" in table.column_names else table
    unknown = CalibrationCard(task=task, engine="given", items=len(own), responders=0)
    return Rated(own, next((card for card in cards if card.task == task), unknown))


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
    return Rated(_with_chance(_table(dataset.items, task, levels), dataset), card)


def levels_from_file(path: Path, dataset: Dataset, task: str) -> Rated:
    """Levels from an ``items.parquet``, matched by id. Raises DataError where it does not fit the data."""
    if not path.is_file():
        raise DataError(f"{path} is no file. Make one with `gapshift calibrate`, or leave --items out.")
    try:
        table, cards = read_items(path)
    except WorkspaceError as error:
        raise DataError(str(error)) from error
    wanted = {item.id for item in dataset.items}
    position = {item_id: row for row, item_id in enumerate(table["id"].to_pylist())}
    # A study's file rates several tasks, and another task's items may have the same ids: these alone matter.
    for item_id, times in Counter(name for name in table["id"].to_pylist() if name in wanted).items():
        if times > 1:
            raise DataError(
                f"{path} rates {item_id!r} more than once. Make it again with `gapshift calibrate`, or keep the "
                "rows of one task."
            )
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
    return Rated(_with_chance(own, dataset), card.model_copy(update={"notes": (*card.notes, *_trained_on(rows))}))


def _trained_on(rows: pa.Table) -> list[str]:
    """A note where the file says that evaluated items are training items."""
    splits = rows["split"].to_pylist() if "split" in rows.column_names else []
    n = splits.count("train")
    return [f"{n} of the {len(rows)} {TRAINED_ON}"] if n else []


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


@dataclass(frozen=True)
class Rating:
    """Rated items, and other measures of their difficulty: of the items ``ids``, greater where harder."""

    rated: Rated
    ids: list[str]
    measures: dict[str, NDArray[np.float64]]


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
    return rate_and_measure(dataset, settings, task=task, seed=seed, reporter=reporter).rated


def rate_and_measure(
    dataset: Dataset,
    settings: CalibrationSettings,
    *,
    task: str,
    seed: int,
    reporter: Reporter,
) -> Rating:
    """``rate``, and with the same responders the other measures of difficulty that the domain has."""
    made = _responder_task(dataset)
    items = list(made.task.items)
    ladder = settings.ladder or default_ladder(len(items), dataset.domain)
    responses = respond(
        made.task,
        ladder,
        seed=seed,
        progress=lambda done, total: reporter.progress(f"responders of {task}", done, total),
        note=reporter.note,
        cache=cache_folder() / "responders",
    )
    calibration = calibrate(
        responses.matrix,
        [item.id for item in items],
        task=task,
        guessing=made.task.guessing,
        engine=settings.engine,
        runs=[str(run) for run in responses.runs],
        names=list(responses.names),
        cross_check=settings.cross_check,
        seed=seed,
    )
    table = _with_unrated(calibration, dataset, items, task)
    card = calibration.card.model_copy(update={"notes": (*_unread(dataset, items), *calibration.card.notes)})
    rated = Rated(_with_chance(table, dataset), card)
    return Rating(rated, [item.id for item in items], _measures(dataset, made, responses))


def _measures(dataset: Dataset, made: Made, responses: Responses) -> dict[str, NDArray[np.float64]]:
    """Measures of difficulty beside b, each (n,)."""
    found = {"held-out inconsistency": 1 - responses.consistency}
    if responses.early_error is not None:
        found["early error norm"] = responses.early_error
    if dataset.domain == "text":
        texts = texts_of(dataset, made.rows)
        found["length"] = np.array([length(text) for text in texts], dtype=np.float64)
        found["rarity"] = rarity(texts, texts)
    return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}


def _with_chance(table: pa.Table, dataset: Dataset) -> pa.Table:
    """The table with what a random answer scores, where that is not the majority label's share."""
    if dataset.kind == "classes":
        return table
    by_id = dict(zip((item.id for item in dataset.items), _chance(dataset).tolist(), strict=True))
    column = pa.array([by_id[name] for name in table["id"].to_pylist()], pa.float64())
    return table.set_column(table.column_names.index("chance"), "chance", column)


def _chance(dataset: Dataset) -> NDArray[np.float64]:
    """A random policy's share of solved episodes; no chance of hitting a span."""
    if dataset.kind == "episodes":
        return chance([episode_of(dataset, row) for row in range(len(dataset))])
    return np.zeros(len(dataset))


def _with_unrated(calibration: Calibration, dataset: Dataset, rated: Sequence[Item], task: str) -> pa.Table:
    table = calibration.table(rated)
    known = {item.id for item in rated}
    unrated = [item for item in dataset.items if item.id not in known]
    return pa.concat_tables([table, _table(unrated, task, {})]) if unrated else table


def _unread(dataset: Dataset, rated: Sequence[Item]) -> list[str]:
    """A note on the items that could not be read, if any."""
    known = {item.id for item in rated}
    unread = [item.id for item in dataset.items if item.id not in known]
    if not unread:
        return []
    return [f"{len(unread)} of {len(dataset)} items cannot be read and have no level, {unread[0]!r} first."]


def _responder_task(dataset: Dataset) -> Made:
    """How responders see this data: that depends on the items alone, so that levels belong to them and to no model."""
    try:
        view = learnt(dataset, _responder_view(dataset))
        return make_task(dataset, view)
    except DataError as error:
        raise CalibrationError(f"{error} There is nothing to rate.") from error


def _responder_view(dataset: Dataset) -> AnyPreprocessing:
    if dataset.domain == "text":
        return TextPreprocessing(max_length=_text_length(dataset))
    if dataset.domain == "audio":
        return AudioPreprocessing()
    if dataset.domain == "control":
        return ControlPreprocessing()
    return _image_view(dataset)


def _text_length(dataset: Dataset) -> int:
    """Tokens that hold 95% of the texts, with room for the special ones."""
    lengths = [length(text) for text in texts_of(dataset, range(len(dataset)))]
    return int(min(_MOST_TOKENS, max(8, np.quantile(lengths, 0.95) + 4)))


def _image_view(dataset: Dataset) -> Preprocessing:
    """Small images: 16 to 32 pixels, as large as a sample of the items allows."""
    sides, coloured = [_LEAST_SIDE], False
    for index in np.linspace(0, len(dataset) - 1, min(_PROBE, len(dataset)), dtype=int):
        raw = _image(dataset, int(index))
        if raw is None:
            continue
        pixels = decode(raw, _AS_IS)
        sides.append(min(pixels.shape[:2]))
        coloured = coloured or bool((pixels != pixels[..., :1]).any())
    side = min(_MOST_SIDE, max(sides))
    return Preprocessing(color="RGB" if coloured else "L", resize=Resize(size=(side, side)), mean=(0.5,), std=(0.25,))


def _image(dataset: Dataset, index: int) -> RawImage | None:
    try:
        raw = dataset.raw(index)
        if isinstance(raw, (bytes, np.ndarray)):
            decode(raw, _AS_IS)
            return raw
    except UnreadableItemError:
        pass
    return None


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
