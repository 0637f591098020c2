"""What could have gone wrong between an item and a model: ways of preparing it that are not the contract's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from gapshift.domains.mistakes import mistakes
from gapshift.domains.services import Rows
from gapshift.envs.catalog import catalog
from gapshift.envs.resolve import reference_deployment, resolve
from gapshift.errors import NotApplicableError, SettingsError
from gapshift.schema import AnyPreprocessing, Contract, digest, listing

_NO_CAUSE = ("action_noise",)
"""Settings of an environment that is no preparation: nobody prepares an item so by mistake."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """Items are prepared by ``preprocessing``, and ``apply`` is done to the batch then. ``words`` say what that is.

    ``relabel[k]`` is the label that answer ``k`` stands for (None: its own). ``settings``: what a contract would say
    for it, by dotted key; empty where no setting says it.
    """

    name: str
    words: str
    preprocessing: AnyPreprocessing
    apply: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    relabel: tuple[int, ...] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)


class Applied:
    """Rows of inputs with a candidate's function applied as they are read."""

    def __init__(self, rows: Rows, apply: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._rows, self._apply = rows, apply
        self.shape, self.dtype = rows.shape, rows.dtype

    def __getitem__(self, rows: NDArray[np.intp]) -> NDArray[Any]:
        return np.ascontiguousarray(self._apply(self._rows[rows]))


def candidates(contract: Contract, sample: NDArray[Any] | None) -> tuple[Candidate, ...]:
    """Every way of preparing that is tried: the catalog's mistakes and lossy ways, each single setting otherwise, and
    what no setting says (``domains/mistakes.py``). ``sample`` (n, ...) are some inputs as the contract prepares them.

    Of equals the first stays; none is the contract's own.
    """
    own = contract.preprocessing
    seen = {digest(own.model_dump(mode="json"))}
    found: list[Candidate] = []
    for each in (*_of_the_catalog(contract), *_settings(contract)):
        key = digest(each.preprocessing.model_dump(mode="json"))
        if key not in seen:
            seen.add(key)
            found.append(each)
    found += [
        Candidate(each.name, each.words, own, each.apply, settings=_full(each.settings))
        for each in mistakes(own, sample)
    ]
    return tuple(found)


def _full(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {f"preprocessing.{key}": value for key, value in settings.items()}


def _of_the_catalog(contract: Contract) -> Iterator[Candidate]:
    for environment in catalog().values():
        axes = {key.split(".")[0] for key in environment.deviations}
        if environment.kind not in ("mistake", "lossy") or axes != {"preprocessing"}:
            continue
        if any(key.split(".")[-1] in _NO_CAUSE for key in environment.deviations):
            continue
        try:
            made = resolve(contract, environment).preprocessing
        except NotApplicableError:
            continue
        yield Candidate(environment.name, _short(environment.deviations), made, settings=environment.deviations)


def _short(deviations: dict[str, Any]) -> str:
    return listing({key.removeprefix("preprocessing."): value for key, value in deviations.items()})


def _settings(contract: Contract) -> Iterator[Candidate]:
    """Every setting that has a few values, at each of its others."""
    reference = reference_deployment(contract)
    for key, value in _choices(contract.preprocessing, "preprocessing."):
        try:
            made = reference.deviate({key: value}).preprocessing
        except SettingsError:
            continue
        short = key.removeprefix("preprocessing.")
        yield Candidate(f"{short}={value}".lower(), f"{short} = {value}", made, settings={key: value})


def _choices(noun: BaseModel, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, declared in type(noun).model_fields.items():
        value = getattr(noun, name)
        if isinstance(value, BaseModel):
            yield from _choices(value, f"{prefix}{name}.")
            continue
        yield from ((f"{prefix}{name}", other) for other in _values(declared.annotation) if other != value)


def _values(annotation: Any) -> tuple[Any, ...]:
    """The values of a Literal or a bool, also where null is one more; none of anything else."""
    if annotation is bool:
        return False, True
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    return tuple(
        value for part in get_args(annotation) for value in (_values(part) if get_origin(part) is Literal else ())
    )
