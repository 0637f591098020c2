"""A family of environments: what may deviate, to which values, and how much at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from gapshift.schema.base import Frozen, canonical_json, digest
from gapshift.schema.deployment import Environment, listing

Deviations = dict[str, Any]
PREFIX = "composed"
"""How the names of composed environments begin."""


class Family(Frozen):
    """Dotted keys into a ``Deployment``, each with the values that it may take, mild to severe; up to ``most`` at once.

    A member sets some of the keys, each to one of its values. Whether a model can have it is not known here: keys may
    contradict each other, or a contract.

    >>> family = Family(deviations={"preprocessing.jpeg_quality": (75, 50), "runtime.batch_size": (1,)}, most=2)
    >>> list(family.smaller({"preprocessing.jpeg_quality": 50}))
    [{'preprocessing.jpeg_quality': 75}]
    """

    deviations: Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], Field(min_length=1)]
    most: Annotated[int, Field(ge=1)] = 3

    @field_validator("deviations")
    @classmethod
    def _each_value_once(cls, deviations: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
        for key, values in deviations.items():
            said = [canonical_json(value) for value in values]
            twice = [value for place, value in enumerate(said) if value in said[:place]]
            if twice:
                raise ValueError(f"{key} has the value {twice[0]} twice; values go from mild to severe, each once")
        return deviations

    @classmethod
    def of(cls, environments: Iterable[Environment], most: int = 3) -> Self:
        """Every deviation of some environments: keys and values in the order in which they come.

        Raises pydantic's ValidationError where there is none.
        """
        found: dict[str, dict[str, Any]] = {}
        for environment in environments:
            for key, value in environment.deviations.items():
                found.setdefault(key, {}).setdefault(canonical_json(value), value)
        return cls(deviations={key: tuple(values.values()) for key, values in found.items()}, most=most)

    def members(self) -> int:
        """How many members there are.

        >>> Family(deviations={"a": (1, 2), "b": (1,)}, most=2).members()
        5
        """
        of_size = [1] + [0] * self.most
        for values in self.deviations.values():
            for k in range(self.most, 0, -1):
                of_size[k] += len(values) * of_size[k - 1]
        return sum(of_size[1:])

    def size(self, deviations: Mapping[str, Any]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """How large a member is: the number of its deviations, then each key's place and its value's place."""
        keys = list(self.deviations)
        return len(deviations), tuple(
            sorted((keys.index(key), self._place(key, deviations[key])) for key in deviations)
        )

    def smaller(self, deviations: Mapping[str, Any]) -> Iterator[Deviations]:
        """The members next below: without one of the deviations, or with a milder value of one."""
        for left_out in reversed(tuple(deviations)):
            if len(deviations) > 1:
                yield {key: value for key, value in deviations.items() if key != left_out}
        for key, value in deviations.items():
            for milder in self.deviations[key][: self._place(key, value)]:
                yield {**deviations, key: milder}

    def alone(self) -> Iterator[Deviations]:
        """Every member with one deviation."""
        for key, values in self.deviations.items():
            yield from ({key: value} for value in values)

    def without(self, members: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
        """The deviations but for those of some members, each of which has one."""
        gone = {(key, canonical_json(value)) for member in members for key, value in member.items()}
        kept = {
            key: tuple(value for value in values if (key, canonical_json(value)) not in gone)
            for key, values in self.deviations.items()
        }
        return {key: values for key, values in kept.items() if values}

    def environment(self, deviations: Mapping[str, Any], subsample: bool = False) -> Environment:
        """A member as an environment of kind *lossy*, named by its content, its keys in the family's order."""
        ordered = {key: deviations[key] for key in self.deviations if key in deviations}
        return Environment(
            name=f"{PREFIX}-{digest([ordered, subsample])[:10]}",
            kind="lossy",
            summary=f"Composed: {listing(ordered)}.",
            deviations=ordered,
            subsample=subsample,
        )

    def _place(self, key: str, value: Any) -> int:
        return [canonical_json(each) for each in self.deviations[key]].index(canonical_json(value))
