"""What can be set about training; the same for every regime of a study."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gapshift.errors import SettingsError
from gapshift.schema import Frozen

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainingSettings(Frozen):
    """One run's budget and optimiser (AdamW, trapezoid schedule).

    ``curriculum_open_by`` is the share of the steps by which a curriculum has opened
    every level. ``augment`` is off: shifts and flips change how hard an item is, and a
    mirrored digit is another digit; ``shift`` moves by up to an eighth of the side,
    ``shift-flip`` also mirrors left and right. ``threads`` (CPU only) is 1: results then do
    not depend on the machine's cores, a second thread gains only 1.3-1.4 times at these
    widths, and on a shared machine its waiting costs up to ten times.
    """

    family: str = "cnn"
    width: Count = 16
    steps: Count = 300
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 3e-3
    weight_decay: NotNegative = 0.05
    warmup_fraction: Fraction = 0.05
    decay_fraction: Fraction = 0.4
    curriculum_open_by: Annotated[float, Field(ge=0.4, le=0.5)] = 0.45
    augment: Literal["none", "shift", "shift-flip"] = "none"
    threads: Count = 1

    @model_validator(mode="after")
    def _decay_after_the_last_level_opens(self) -> Self:
        if self.curriculum_open_by + self.decay_fraction > 1:
            raise ValueError(
                f"decay_fraction {self.decay_fraction} begins before curriculum_open_by "
                f"{self.curriculum_open_by}; their sum is at most 1"
            )
        return self


class LadderSettings(Frozen):
    """Responders: every capacity x data fraction x seed is one run (a recipe), and every
    run answers at every checkpoint (share of its steps).

    ``epochs`` counts passes over a fold at data fraction 1; smaller fractions train for
    the same number of steps. ``least_steps`` keeps small data sets from stopping at once.
    ``family`` null: the default of the domain (``DEFAULT_RESPONDER`` in ``train/models``).
    """

    family: str | None = None
    capacities: tuple[Count, ...] = Field(default=(8, 16, 32), min_length=1)
    data_fractions: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.5, 1.0), min_length=1)
    seeds: Annotated[int, Field(ge=1)] = 2
    checkpoints: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(default=(0.4, 1.0), min_length=1)
    epochs: Positive = 4.0
    least_steps: Count = 60
    batch_size: Annotated[int, Field(ge=2)] = 64
    learning_rate: Positive = 5e-3
    weight_decay: NotNegative = 0.05

    @field_validator("capacities", "data_fractions", "checkpoints")
    @classmethod
    def _each_once(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{values} names a value twice; the same run twice is not two. Raise `seeds` instead")
        return values

    def training(self, width: int, steps: int) -> TrainingSettings:
        """The training settings of one responder. Raises SettingsError where no family is named yet."""
        if self.family is None:
            raise SettingsError("The ladder names no `family`. Set it, or take the domain's DEFAULT_RESPONDER.")
        return TrainingSettings(
            family=self.family,
            width=width,
            steps=steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
        )
