"""Separate calibrations on one scale, by common responder recipes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from gapshift.errors import CalibrationError
from gapshift.train.irt.base import Floats, ItemParameters


def link(b: ArrayLike, theta: ArrayLike) -> Floats:
    """b* = (b - mean theta) / sd theta: difficulty in units of the common recipes' abilities.

    ``b`` (items,) and ``theta`` (common recipes,) come from one calibration. Calibrations
    whose ``theta`` are those of the same recipes share the scale of b* (mean/sigma linking
    of Marco 1977, Journal of Educational Measurement 14, 139-160, on persons instead of
    items; population sd). Raises CalibrationError for fewer than two recipes, a non-finite
    ability or no spread.

    >>> link([1.0, 3.0], [0.0, 2.0]).tolist()
    [0.0, 2.0]
    """
    mean, sd = _scale(theta)
    return (np.asarray(b, dtype=np.float64) - mean) / sd


def link_parameters(parameters: ItemParameters) -> ItemParameters:
    """The same model on the scale where its own responders have mean 0 and sd 1."""
    mean, sd = _scale(parameters.theta)
    return replace(
        parameters,
        b=(parameters.b - mean) / sd,
        a=parameters.a * sd,
        se_b=parameters.se_b / sd,
        theta=(parameters.theta - mean) / sd,
    )


def _scale(theta: ArrayLike) -> tuple[float, float]:
    common = np.asarray(theta, dtype=np.float64)
    if common.ndim != 1 or len(common) < 2 or not np.isfinite(common).all() or not common.std() > 1e-6:
        raise CalibrationError(
            f"Linking needs the abilities of at least 2 common recipes, finite and not all equal; got {common.size} "
            "value(s) that are not. Calibrate both tasks with the same ladder of recipes."
        )
    return float(common.mean()), float(common.std())
