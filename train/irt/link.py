"""Difficulty on the scale of the responders' abilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gapshift.errors import CalibrationError
from gapshift.train.irt.base import ItemParameters


def link_parameters(parameters: ItemParameters) -> ItemParameters:
    """The same model on the scale where its responders have mean 0 and (population) sd 1.

    Mean/sigma linking (Marco 1977, Journal of Educational Measurement 14, 139-160) on
    persons instead of items: tasks that the same ladder of recipes answered share the scale.
    Raises CalibrationError for fewer than two responders, a non-finite ability or no spread.
    """
    theta = parameters.theta
    if len(theta) < 2 or not np.isfinite(theta).all() or not theta.std() > 1e-6:
        raise CalibrationError(
            f"Linking needs the abilities of at least 2 responders, finite and not all equal; got {len(theta)} "
            "that are not. Add weaker or stronger responders."
        )
    mean, sd = theta.mean(), theta.std()
    return replace(
        parameters,
        b=(parameters.b - mean) / sd,
        a=parameters.a * sd,
        se_b=parameters.se_b / sd,
        theta=(theta - mean) / sd,
    )
