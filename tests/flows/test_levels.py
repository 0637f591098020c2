"""Where levels come from, and what the table says beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gapshift.domains.base import Dataset, InMemory
from gapshift.domains.open import open_dataset
from gapshift.flows.levels import CalibrationSettings, Rated, given_levels, levels_from_file, rate, write_rated
from gapshift.schema import CalibrationCard, Item
from gapshift.train.settings import LadderSettings


class _Quiet:
    def stage(self, name: str) -> None: ...

    def progress(self, what: str, done: int, total: int) -> None: ...

    def note(self, text: str) -> None: ...


@pytest.fixture(scope="module")
def episodes() -> Dataset:
    """Sixty episodes, each with a level of its own."""
    every = open_dataset("cartpole")
    few = every.subset(list(range(0, len(every), len(every) // 60))[:60])
    items = [Item(item.id, item.label, item.split, item.group, 1 + row % 5) for row, item in enumerate(few.items)]
    raws = [few.raw(row) for row in range(len(items))]
    return InMemory(few.name, few.classes, items, raws, "control", "episodes")


def _chances(rated: Rated) -> Any:
    return np.array(rated.table["chance"].to_pylist(), dtype=float)


def test_an_episodes_chance_is_a_random_policys_wherever_its_level_is_from(episodes: Dataset, tmp_path: Path) -> None:
    """All episodes have the label "right": the commonest label's share would put every level at the floor."""
    given = given_levels(episodes, "cartpole")
    card = CalibrationCard(task="cartpole", engine="em", items=60, responders=1)
    bare = given.table.drop_columns(["chance"])
    write_rated(tmp_path / "items.parquet", Rated(given.table.select([*bare.column_names, "chance"]), card))
    from_file = levels_from_file(tmp_path / "items.parquet", episodes, "model")
    for chances in (_chances(given), _chances(from_file)):
        assert (chances >= 0).all()
        assert chances.mean() < 0.5


def test_items_that_cannot_be_read_are_on_the_card() -> None:
    random = np.random.default_rng(0)
    pixels = [np.full((16, 16, 3), 60 + 120 * (row % 2), np.uint8) for row in range(40)]
    noisy = [image + random.integers(0, 70, image.shape).astype(np.uint8) for image in pixels]
    items = [Item(f"{row:02d}", row % 2) for row in range(42)]
    broken = InMemory("made", ["dark", "light"], items, [*noisy, b"no image", b""], "vision")
    ladder = LadderSettings(
        capacities=(2, 4), data_fractions=(1.0,), seeds=1, checkpoints=(0.2, 1.0), epochs=1, least_steps=6
    )
    rated = rate(broken, CalibrationSettings(ladder=ladder, cross_check=False), task="made", seed=0, reporter=_Quiet())
    assert rated.card.notes[0] == "2 of 42 items cannot be read and have no level, '40' first."
    assert len(rated.table) == 42
