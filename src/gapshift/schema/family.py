"""A family of environments: what may deviate, to which values, and how much at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product
from math import prod
from typing import Annotated, Any, Self

from pydantic import Field, field_validator

from gapshift.schema.base import Frozen, canonical_json, digest
from gapshift.schema.deployment import Environment, listing
from gapshift.schema.qualifying import COMPANIONS, default, qualifies

Deviations = dict[str, Any]
PREFIX = "composed"
"""How the names of composed environments begin."""


class Family(Frozen):
    """Dotted keys into a ``Deployment``, each with the values that it may take, mild to severe; up to ``most`` at once.

    A member sets some of the keys, each to one of its values. Those that qualify another key of the family (the
    severity of a corruption) are in it exactly where they mean something, so that none is ever left to a default that
    the family does not hold; they do not count towards ``most``. Whether a model can have a member is not known here:
    keys may contradict each other, or a contract.

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

        A qualifying key that one of them leaves out has its default there. Raises pydantic's ValidationError where
        there is none.
        """
        every = [environment.deviations for environment in environments]
        found = _values(every)
        wider = _values(each | _defaults(found, each) for each in every)
        return cls(deviations={key: wider[key] for key in found}, most=most)

    @property
    def qualifying(self) -> tuple[str, ...]:
        """The keys that qualify another one of the family."""
        return tuple(key for key in self.deviations if self._is_bound(key))

    def parts(self, deviations: Mapping[str, Any]) -> tuple[str, ...]:
        """The keys of a member that stand for themselves: its number of deviations is theirs."""
        return tuple(key for key in deviations if not self._is_bound(key))

    def needs(self, deviations: Mapping[str, Any]) -> tuple[str, ...]:
        """The qualifying keys that mean something beside some deviations, and are not among them."""
        known, needed = dict(deviations), []
        while (key := next((each for each in self.qualifying if self._lacks(known, each)), None)) is not None:
            needed.append(key)
            known[key] = self.deviations[key][0]
        return tuple(sorted(needed, key=tuple(self.deviations).index))

    def members(self) -> int:
        """How many members there are.

        >>> Family(deviations={"a": (1, 2), "b": (1,)}, most=2).members()
        5
        >>> Family(deviations={"shift.corruption": ("fog", "snow"), "shift.severity": (1, 2)}, most=1).members()
        4
        """
        of_size = [1] + [0] * self.most
        for keys in self._apart():
            counts = self._of_size(keys)
            of_size = [
                sum(of_size[k - n] * count for n, count in counts.items() if n <= k) for k in range(len(of_size))
            ]
        return sum(of_size[1:])

    def size(self, deviations: Mapping[str, Any]) -> tuple[int, tuple[tuple[int, int], ...]]:
        """How large a member is: the number of its deviations, then each key's place and its value's place."""
        keys = list(self.deviations)
        return len(self.parts(deviations)), tuple(
            sorted((keys.index(key), self._place(key, deviations[key])) for key in deviations)
        )

    def smaller(self, deviations: Mapping[str, Any]) -> Iterator[Deviations]:
        """The members next below: without one of the deviations, or with a milder value of one.

        >>> family = Family(deviations={"shift.corruption": ("fog",), "shift.severity": (1, 2)})
        >>> list(family.smaller({"shift.corruption": "fog", "shift.severity": 2}))
        [{'shift.corruption': 'fog', 'shift.severity': 1}]
        """
        parts = self.parts(deviations)
        for left_out in reversed(parts):
            if len(parts) > 1:
                yield from self.completed({key: value for key, value in deviations.items() if key != left_out})
        for key, value in deviations.items():
            for milder in self.deviations[key][: self._place(key, value)]:
                yield from self.completed({**deviations, key: milder})

    def is_below(self, deviations: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
        """Whether a member is a part of another one, or of that with milder values."""
        return deviations != other and all(
            key in other and self._place(key, value) <= self._place(key, other[key])
            for key, value in deviations.items()
        )

    def alone(self) -> Iterator[Deviations]:
        """Every member with one deviation."""
        for key in self.parts(self.deviations):
            for value in self.deviations[key]:
                yield from self.completed({key: value})

    def completed(self, deviations: Mapping[str, Any]) -> Iterator[Deviations]:
        """The members with these deviations: the qualifying keys that they need, and none that means nothing there."""
        known = {key: deviations[key] for key in self.parts(deviations)}
        kept = {key: deviations[key] for key in self.needs(known) if key in deviations}
        needed = self.needs(known | kept)
        for values in product(*(self.deviations[key] for key in needed)):
            yield known | kept | dict(zip(needed, values, strict=True))

    def without(self, members: Iterable[Mapping[str, Any]]) -> dict[str, tuple[Any, ...]]:
        """The deviations but for those that members of one deviation leave no form of, and what qualifies these."""
        gone = [canonical_json(member) for member in members]
        kept = {
            key: tuple(value for value in self.deviations[key] if not self._is_gone({key: value}, gone))
            for key in self.parts(self.deviations)
        }
        held = {key for key, values in kept.items() if values}
        return {
            key: kept.get(key, values)
            for key, values in self.deviations.items()
            if key in held or (self._is_bound(key) and held.intersection(COMPANIONS[key]))
        }

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

    def _is_bound(self, key: str) -> bool:
        return any(companion in self.deviations for companion in COMPANIONS.get(key, ()))

    def _lacks(self, deviations: Mapping[str, Any], key: str) -> bool:
        return key not in deviations and qualifies(key, self.deviations[key], deviations)

    def _is_gone(self, alone: Deviations, gone: Sequence[str]) -> bool:
        return all(canonical_json(member) in gone for member in self.completed(alone))

    def _apart(self) -> list[tuple[str, ...]]:
        """The keys that stand for themselves, those together that the same keys may qualify."""
        groups: dict[str, tuple[str, ...]] = {}
        axes = {key.partition(".")[0] for key in self.qualifying}
        for key in self.parts(self.deviations):
            axis = key.partition(".")[0]
            name = axis if axis in axes else key
            groups[name] = (*groups.get(name, ()), key)
        return list(groups.values())

    def _of_size(self, keys: Sequence[str]) -> Counter[int]:
        """How many members have so many deviations, of these keys alone; one has none."""
        found: Counter[int] = Counter()
        for values in product(*((_LEFT_OUT, *self.deviations[key]) for key in keys)):
            own = {key: value for key, value in zip(keys, values, strict=True) if value is not _LEFT_OUT}
            found[len(own)] += prod(len(self.deviations[key]) for key in self.needs(own))
        return found


_LEFT_OUT = object()


def _values(every: Iterable[Deviations]) -> dict[str, tuple[Any, ...]]:
    found: dict[str, dict[str, Any]] = {}
    for deviations in every:
        for key, value in deviations.items():
            found.setdefault(key, {}).setdefault(canonical_json(value), value)
    return {key: tuple(values.values()) for key, values in found.items()}


def _defaults(found: Mapping[str, tuple[Any, ...]], deviations: Deviations) -> Deviations:
    """What an environment means by leaving out keys that qualify it and that others give."""
    lacking = [key for key in found if key in COMPANIONS and key not in deviations]
    return {key: default(key) for key in lacking if qualifies(key, found[key], deviations)}
