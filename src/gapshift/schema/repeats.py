"""Repeats of an environment: the same once more, and with threads, batches and orders that should not matter."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from gapshift.schema.base import Frozen
from gapshift.schema.deployment import Environment, Runtime, listing

Cause = Literal["repetition", "threads", "order", "batch", "order and batch"]
GROUP = "repeats"
"""The group of every environment made here."""
FOLDER = "repeats"
"""Where the repeats of a run lie, inside its folder, unless another one is given."""


class Setting(Frozen):
    """One way to repeat an environment, and the cause that it stands for.

    ``order`` leaves the batch size as it is, so that an item's place and companions alone change; another
    ``batch`` size changes the companions as well, and the shape that kernels see.
    """

    name: str
    cause: Cause
    deviations: dict[str, Any] = Field(default_factory=dict)


SETTINGS: tuple[Setting, ...] = (
    Setting(name="again-1", cause="repetition"),
    Setting(name="again-2", cause="repetition"),
    *(
        Setting(name=f"threads-{n}", cause="threads", deviations={"runtime.intra_op_threads": n})
        for n in (1, 4)
    ),
    *(Setting(name=f"order-{n}", cause="order", deviations={"runtime.order": n}) for n in (1, 2, 3)),
    *(Setting(name=f"batch-{n}", cause="batch", deviations={"runtime.batch_size": n}) for n in (1, 7, 64)),
    Setting(
        name="order-batch", cause="order and batch", deviations={"runtime.order": 1, "runtime.batch_size": 7}
    ),
)  # fmt: skip
CAUSES: tuple[Cause, ...] = ("repetition", "threads", "order", "batch", "order and batch")
_BY_NAME = {setting.name: setting for setting in SETTINGS}
_DEFAULTS = {f"runtime.{name}": field.default for name, field in Runtime.model_fields.items()}


def repeats_of(environment: Environment) -> tuple[Environment, ...]:
    """The environment once for every setting, named ENVIRONMENT.SETTING; those of ``own_settings`` are left out."""
    own = own_settings(environment)
    return tuple(repeat_of(environment, setting) for setting in SETTINGS if setting not in own)


def own_settings(environment: Environment) -> tuple[Setting, ...]:
    """The settings that say what the environment says anyway: they would repeat another repeat."""
    has = _DEFAULTS | environment.deviations
    return tuple(s for s in SETTINGS if any(has[key] == value for key, value in s.deviations.items()))


def fixed(environment: Environment, setting: Setting) -> bool:
    """Whether the environment itself says what the setting would change: with it, it would be another environment."""
    return bool(environment.deviations.keys() & setting.deviations.keys())


def repeated(environment: Environment) -> tuple[str, Setting] | None:
    """The name of the environment that this one repeats, and how; None where it repeats none."""
    base, _, name = environment.name.rpartition(".")
    if GROUP not in environment.groups or name not in _BY_NAME:
        return None
    return base, _BY_NAME[name]


def repeat_of(environment: Environment, setting: Setting) -> Environment:
    """The environment under one setting."""
    changes = listing(setting.deviations) or "nothing changed"
    return environment.model_copy(
        update={
            "name": f"{environment.name}.{setting.name}",
            "summary": f"{environment.name} repeated with {changes}.",
            "deviations": environment.deviations | setting.deviations,
            "groups": (GROUP,),
        }
    )
