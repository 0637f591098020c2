"""The catalog of named environments: one TOML entry each, one file per axis.

    [int8-dynamic]
    kind = "lossy"                      # equivalent | lossy | mistake | stress
    groups = ["precision", "mobile"]
    summary = "One sentence: where it is met in practice."
    [int8-dynamic.deviations]
    "precision.format" = "int8-dynamic"

A user's own environments have the same form, in any TOML file; in ``gapshift.toml`` they are
``[environments.NAME]`` tables.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gapshift.errors import GapshiftError, SettingsError, UnknownNameError
from gapshift.schema import (
    REFERENCE,
    TRAINING,
    AudioPreprocessing,
    ControlPreprocessing,
    Deployment,
    Environment,
    Preprocessing,
    Resize,
    TextPreprocessing,
    takes,
)
from gapshift.settings import read_toml, user_settings, validate

AXES = ("preprocessing", "graph", "precision", "runtime", "shift", "service")
EVERY = "all"
"""The group that every environment is in."""
OWN_NAMES = (
    "`gapshift envs list` describes them; your own stand in gapshift.toml here, or need --environment-file FILE."
)
COMPOUND = "compound"
"""Where environments that deviate on several axes are listed."""

_SAMPLES = (
    *(
        Deployment(preprocessing=Preprocessing(resize=resize))
        for resize in (
            Resize(size=(32, 32)),
            Resize(size=(32, 32), antialias=False),
            Resize(size=(32, 32), library="opencv", antialias=False),
            Resize(size=(32, 32), library="torch", antialias=False),
        )
    ),
    Deployment(preprocessing=Preprocessing(resize=Resize(size=(32, 32)), decoder="simplejpeg")),
    Deployment(domain="text", preprocessing=TextPreprocessing(max_length=64)),
    Deployment(domain="audio", preprocessing=AudioPreprocessing()),
    Deployment(domain="control", preprocessing=ControlPreprocessing()),
)
"""Contracts of every kind: a deviation that none of them can take is wrong in itself."""


@cache
def catalog() -> Mapping[str, Environment]:
    """Every environment that ships with gapshift, by name."""
    entries: dict[str, Environment] = {}
    for file in sorted(files(__name__).iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            entries |= _parse(tomllib.loads(file.read_text(encoding="utf-8")), file.name)
    return MappingProxyType(entries)


def load(path: Path) -> dict[str, Environment]:
    """The environments of a user's TOML file, by name. Raises SettingsError, UnknownNameError."""
    tree = read_toml(path)
    entries = tree.get("environments", tree)
    if not isinstance(entries, dict) or not entries:
        raise SettingsError(f"{path} holds no environments; an environment is a [name] table.")
    return _not_the_catalog_s(entries, str(path))


def own(file: Path | None = None) -> dict[str, Environment]:
    """A user's own environments: those of ``gapshift.toml`` (``settings.user_settings``), and of ``file``.

    Raises SettingsError and UnknownNameError, each naming its file; a name that both have is an error.
    """
    settings = user_settings()
    here = _not_the_catalog_s(settings.tables.get("environments", {}), str(settings.path))
    if file is None or file.resolve() == settings.path:
        return here
    there = load(file)
    doubled = sorted(set(here) & set(there))
    if doubled:
        raise SettingsError(f"{settings.path} and {file} both have an environment {doubled[0]!r}; rename one of them.")
    return {**here, **there}


def _not_the_catalog_s(entries: Mapping[str, Any], where: str) -> dict[str, Environment]:
    taken = sorted(set(entries) & set(catalog()))
    if taken:
        raise SettingsError(f"{where}: the catalog has an environment {taken[0]!r}; call yours something else.")
    return _parse(entries, where)


def axis_of(environment: Environment) -> str:
    """The axis that an environment deviates on: one of AXES, or ``compound`` where there are several."""
    axes = {key.split(".")[0] for key in environment.deviations}
    return axes.pop() if len(axes) == 1 else COMPOUND


def select(
    names: Iterable[str] = (), groups: Iterable[str] = (), extra: Mapping[str, Environment] | None = None
) -> tuple[Environment, ...]:
    """Environments by name and by group, in catalog order; all of them when nothing is named.

    A kind (``equivalent``) is a group too, and so is ``all``. ``extra`` holds a user's own, which win over
    the catalog's. Raises UnknownNameError with the nearest names.
    """
    known = {**catalog(), **(extra or {})}
    names, groups = tuple(names), tuple(groups)
    valid_groups = {group for environment in known.values() for group in (EVERY, *environment.groups, environment.kind)}
    for name in names:
        if name not in known:
            raise UnknownNameError(
                "environment",
                name,
                known,
                OWN_NAMES,
            )
    for group in groups:
        if group not in valid_groups:
            raise UnknownNameError("environment group", group, valid_groups)
    everything = (not names and not groups) or EVERY in groups
    return tuple(
        environment
        for environment in known.values()
        if everything or environment.name in names or {environment.kind, *environment.groups} & set(groups)
    )


def choose(names: Iterable[str] = (), groups: Iterable[str] = (), file: Path | None = None) -> tuple[Environment, ...]:
    """``select`` from the catalog and a user's ``own``."""
    return select(names, groups, own(file))


def _parse(tree: Mapping[str, Any], where: str) -> dict[str, Environment]:
    entries = {}
    for name, entry in tree.items():
        if not isinstance(entry, dict):
            raise SettingsError(f"{where}: {name!r} is not a table; an environment is a [{name}] table.")
        if name in (REFERENCE, TRAINING):
            raise SettingsError(f"{where}: the name {name!r} is taken; call the environment something else.")
        if "name" in entry:
            raise SettingsError(f"{where} [{name}]: the table's header is the name; take the key 'name' away.")
        environment = validate(Environment, {"name": name, **entry}, f"{where} [{name}]")
        _check_deviations(environment, where)
        entries[name] = environment
    return entries


def _check_deviations(environment: Environment, where: str) -> None:
    """A typo in a deviation is found when the file is read, not when the cell runs."""
    if not environment.deviations:
        raise SettingsError(f"{where} [{environment.name}]: no deviations; name at least one.")
    samples = [sample for sample in _SAMPLES if takes(sample.domain, environment)] or [_nearest(environment)]
    problems = [error for sample in samples if (error := _refusal(sample, environment))]
    if len(problems) == len(samples):
        raise SettingsError(f"{where} [{environment.name}]: {problems[0]}") from problems[0]


def _nearest(environment: Environment) -> Deployment:
    """The sample whose keys are most like those of an environment that no domain can take."""
    parts = [key.split(".") for key in environment.deviations]
    names = [rest[0] for first, *rest in parts if first == "preprocessing" and rest]

    def likeness(sample: Deployment) -> int:
        known = type(sample.preprocessing).model_fields
        return sum(bool(get_close_matches(name, known)) for name in names)

    return max(_SAMPLES, key=likeness)  # the first of equals: images, the commonest


def _refusal(sample: Deployment, environment: Environment) -> GapshiftError | None:
    try:
        sample.deviate(environment.deviations)
    except GapshiftError as error:
        return error
    return None
