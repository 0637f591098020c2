"""What every noun is made of: frozen models, canonical JSON, digests; and the item."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

SCHEMA_VERSION = 1
LEVELS = (1, 2, 3, 4, 5)
LEVEL_CUTS = (-1.5, -0.5, 0.5, 1.5)
"""Where ``level_abs`` cuts linked difficulty, in sd of the responders' abilities."""

Domain = Literal["vision", "text", "audio", "control"]
AnswerKind = Literal["classes", "spans", "episodes"]
"""How an item is answered: one class of several; a span of a text; a whole episode of control."""
OutputKind = Literal["logits", "probabilities", "spans", "actions"]
CLASS_OUTPUTS = ("logits", "probabilities")
"""Kinds of output with one score per class of the data."""
Kind = Literal["equivalent", "lossy", "mistake", "stress"]
CellStatus = Literal["ok", "error", "skipped", "not_applicable"]
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR", "NO DATA"]
RecordStatus = Literal["ok", "nan_output", "unreadable", "error", "fallback", "no_answer"]
"""``fallback``: the model was given a service's fallback value, and its answer counts as any other; ``no_answer``: the
deployment gave none, which is wrong."""

REFERENCE = "reference"
"""Name of the environment without deviations."""
TRAINING = "training"
"""Name of the cell that holds a bundle's training-side answers."""
TIE_GAP = 1e-4
"""A prediction is a *tie* when its two highest scores lie within this share of the range of the
item's scores (of two classes: when their probabilities lie within it): rounding alone can swap
them, so a change there breaks no equivalence. An episode is as near to a tie as the closest
of its decisions."""


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Grown(Frozen):
    """A noun that got fields after files of it were written.

    Those in ``later`` are left out of its JSON while they have their defaults, so that what
    behaves as before keeps its digest, and older versions go on reading it.
    """

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unsaid = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in whole(self).items() if name not in unsaid}


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def rank(item_id: str, seed: int) -> str:
    """A seeded random order over items that depends on nothing but their ids."""
    return hashlib.sha256(f"{seed}/{item_id}".encode()).hexdigest()


OUTCOMES = ("wrong", "right")
"""The classes of data whose items are answered by a span or an episode."""


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled input. ``id`` is the same on every run and machine.

    ``label`` indexes the data set's classes; where an item is answered by a span or an
    episode the classes are ``OUTCOMES`` and the label is the second. ``level`` is a rating
    1-5 that came with the data, if one did; ``group`` names a cluster (speaker, paragraph)
    that no split may divide.
    """

    id: str
    label: int
    split: str = "all"
    group: str | None = None
    level: int | None = None
