"""Frozen trunks across domains (after Lu et al. 2021): does what one task taught help another?"""

from __future__ import annotations

from torch import nn

from gapshift.errors import TrainingError
from gapshift.train.models import FAMILIES
from gapshift.train.models.trunk import Trunk


def graft(target: nn.Module, trunk_of: nn.Module | None) -> nn.Module:
    """``target`` itself, with the trunk of another transformer of equal width, frozen.

    None leaves it its own, randomly initialised: the comparison's zero. The input embedding
    and the head stay trainable. Raises TrainingError where a network has no trunk, or the
    widths differ.
    """
    own = _trunk(target)
    if trunk_of is not None:
        lent = _trunk(trunk_of)
        if lent.width != own.width:
            raise TrainingError(
                f"A trunk of width {lent.width} ({type(trunk_of).__name__}) does not fit {type(target).__name__} of "
                f"width {own.width}. Give both the same `width`."
            )
        own.load_state_dict(lent.state_dict())
    own.requires_grad_(False)
    return target


def _trunk(model: nn.Module) -> Trunk:
    trunk = getattr(model, "trunk", None)
    if not isinstance(trunk, Trunk):
        raise TrainingError(
            f"{type(model).__name__} has no trunk to transfer. Valid families: "
            f"{', '.join(family.name for family in FAMILIES.values() if family.transformer)}."
        )
    return trunk
