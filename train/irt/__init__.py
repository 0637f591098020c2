"""Item response theory: from a response matrix to difficulty levels and a calibration card."""

from __future__ import annotations

from gapshift.errors import UnknownNameError
from gapshift.train.irt.base import Engine, ItemParameters
from gapshift.train.irt.em import EMEngine
from gapshift.train.irt.pyirt import PyIrtEngine

__all__ = ["ENGINES", "Engine", "ItemParameters", "engine"]

ENGINES = ("em", "py-irt", "py-irt-1pl", "py-irt-2pl")


def engine(name: str) -> Engine:
    """The engine of that name; ``py-irt`` means its 1PL. Raises UnknownNameError."""
    if name == "em":
        return EMEngine()
    if name in ("py-irt", "py-irt-1pl"):
        return PyIrtEngine("1pl")
    if name == "py-irt-2pl":
        return PyIrtEngine("2pl")
    raise UnknownNameError("calibration engine", name, ENGINES)
