"""``gapshift calibrate``: items.parquet from a response matrix, or from a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from gapshift.domains.open import open_dataset
from gapshift.flows.levels import CalibrationSettings, Rated, rate, write_rated
from gapshift.flows.reporting import Reporter
from gapshift.records import write_text
from gapshift.schema import CalibrationCard, DataSource, Item
from gapshift.train.irt.calibrate import calibrate
from gapshift.train.irt.responses import read_responses

Engine = Literal["em", "py-irt", "py-irt-1pl", "py-irt-2pl"]


def calibrate_responses(
    path: Path,
    out: Path,
    *,
    reporter: Reporter,
    orientation: Literal["responders-by-items", "items-by-responders"] | None = None,
    guessing: float = 0.0,
    engine: Engine = "em",
    cross_check: bool = False,
    seed: int = 0,
) -> tuple[CalibrationCard, Path]:
    """Rate the items of a response matrix made elsewhere; the card and the path of items.parquet."""
    reporter.stage("calibrate")
    matrix = read_responses(path, orientation)
    if matrix.detected:
        reporter.note(f"{path.name} was read as {matrix.orientation} (detected; say otherwise with --orientation).")
    calibration = calibrate(
        matrix.responses,
        matrix.item_ids,
        task=path.stem,
        guessing=guessing,
        engine=engine,
        cross_check=cross_check or None,
        seed=seed,
    )
    items = [Item(id=item_id, label=-1) for item_id in matrix.item_ids]
    return _write(Rated(calibration.table(items), calibration.card), out)


def calibrate_data(
    source: DataSource,
    out: Path,
    *,
    reporter: Reporter,
    engine: Engine = "em",
    cross_check: bool = False,
    seed: int = 0,
) -> tuple[CalibrationCard, Path]:
    """Rate a data set's items by small networks cross-fitted on it; the card and the path of items.parquet."""
    reporter.stage("calibrate")
    dataset = open_dataset(source.source, split=source.split, root=source.root, classes=source.classes)
    settings = CalibrationSettings(engine=engine, cross_check=cross_check or None)
    rated = rate(dataset, settings, task=dataset.name, seed=seed, reporter=reporter)
    return _write(rated, out)


def _write(rated: Rated, out: Path) -> tuple[CalibrationCard, Path]:
    path = out / "items.parquet"
    write_rated(path, rated)
    write_text(out / "calibration.json", rated.card.model_dump_json(indent=1) + "\n")
    return rated.card, path
