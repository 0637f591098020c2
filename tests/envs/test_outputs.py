"""Raw outputs on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gapshift.envs.outputs import outputs_file
from gapshift.errors import EvaluationError


def test_rows_stand_in_the_items_order_and_the_rest_is_nan(tmp_path: Path) -> None:
    path = tmp_path / "outputs" / "a.npy"
    with outputs_file(path, 3000) as keep:
        keep(np.array([2999, 0]), np.array([[1, 2], [3, 4]], np.float32))
        keep(np.array([7]), np.array([[5, 6]], np.float32))
    found = np.load(path)
    assert (found.shape, found.dtype) == ((3000, 2), np.float32)
    assert found[[2999, 0, 7]].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert np.isnan(np.delete(found, [2999, 0, 7], axis=0)).all()


def test_doubles_stay_doubles_and_spans_keep_their_shape(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 2, 5))
    with outputs_file(tmp_path / "a.npy", 4) as keep:
        keep(np.arange(4), values)
    assert np.load(tmp_path / "a.npy").tobytes() == values.tobytes()


def test_nothing_noted_is_an_empty_array(tmp_path: Path) -> None:
    with outputs_file(tmp_path / "a.npy", 4):
        pass
    assert np.load(tmp_path / "a.npy").shape == (4, 0)


def test_a_change_of_shape_leaves_no_file(tmp_path: Path) -> None:
    def other_shapes() -> None:
        with outputs_file(tmp_path / "a.npy", 4) as keep:
            keep(np.array([0]), np.zeros((1, 2), np.float32))
            keep(np.array([1]), np.zeros((1, 3), np.float32))

    with pytest.raises(EvaluationError, match=r"put out \(2,\) for the first items and \(3,\) for others"):
        other_shapes()
    assert list(tmp_path.iterdir()) == []
