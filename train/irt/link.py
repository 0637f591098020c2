"""Difficulty on the scale of the responders' abilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gapshift.errors import CalibrationError
from gapshift.train.irt.base import Floats, ItemParameters, first_few

LINKING_ASSUMPTION = (
    "The scale is linked by the ladder of responders: it has mean ability 0 and standard deviation 1 here and on "
    "every task that the same recipes answered. So level_abs compares tasks as far as the ladder's abilities are "
    "distributed alike on all of them."
)
"""What linking by recipe takes for granted; it stands on every card that was linked so."""


def link_parameters(parameters: ItemParameters) -> ItemParameters:
    """The same model on the scale where its responders have mean 0 and (population) sd 1.

    Mean/sigma linking (Marco 1977, Journal of Educational Measurement 14, 139-160) on
    persons instead of items: tasks that the same ladder of recipes answered share the scale.
    It rests on LINKING_ASSUMPTION.
    Raises CalibrationError for fewer than two responders, a non-finite ability or no spread.
    """
    theta = parameters.theta
    _validate(theta)
    mean, sd = theta.mean(), theta.std()
    return replace(
        parameters,
        b=(parameters.b - mean) / sd,
        a=parameters.a * sd,
        se_b=parameters.se_b / sd,
        theta=(theta - mean) / sd,
    )


def _validate(theta: Floats) -> None:
    if len(theta) < 2:
        raise CalibrationError(
            f"Linking needs the abilities of at least 2 responders; got {len(theta)}. Add responders to the ladder."
        )
    bad = np.flatnonzero(~np.isfinite(theta)).tolist()
    if bad:
        raise CalibrationError(
            f"{len(bad)} of {len(theta)} abilities are not finite: responder {first_few(bad)} (counted from 0). "
            "The fit broke down: try the other engine (em, py-irt), or leave those responders out."
        )
    if not theta.std() > 1e-6:
        raise CalibrationError(
            f"All {len(theta)} responders are equally able, so there is no scale to link. "
            "Add weaker or stronger responders (other capacities, data fractions, checkpoints)."
        )
