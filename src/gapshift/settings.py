"""Configuration files: read as TOML, validated, with errors that name file, key, value and what is valid."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import PREPROCESSING, Traffic
from gapshift.settings_file import UserSettings, find_settings
from gapshift.settings_file import read_toml as read_toml

Model = TypeVar("Model", bound=BaseModel)
TABLES_OF_TABLES = ("environments", "traffic")
USER_TABLES = (*TABLES_OF_TABLES, "pytest")
"""What may stand in a user's own settings; ``deploy_tests`` reads the last."""


def user_settings() -> UserSettings:
    """A user's own tables: ``gapshift.toml``, or ``[tool.gapshift]`` in ``pyproject.toml``, of the nearest folder.

    Raises SettingsError where the file is no TOML or holds something else than tables, and where a folder has both
    files; UnknownNameError for a table that means nothing. Each names the file.
    """
    found = find_settings()
    for name, value in found.tables.items():
        if name not in USER_TABLES:
            raise UnknownNameError(f"table in {found.path}", name, USER_TABLES)
        if not isinstance(value, dict):
            holds = f"[{found.prefix}{name}.NAME] tables" if name in TABLES_OF_TABLES else "keys and values"
            raise SettingsError(f"{found.path}: {name!r} is not a table; it holds {holds}.")
    return found


def user_traffic() -> tuple[Traffic, ...]:
    """A user's own mixes of requests: the ``[traffic.NAME]`` tables of ``user_settings``.

    Raises SettingsError and UnknownNameError, naming the file and the table.
    """
    settings, found = user_settings(), []
    for name, entry in settings.tables.get("traffic", {}).items():
        where = settings.where(f"traffic.{name}")
        if not isinstance(entry, dict):
            raise SettingsError(f"{where} is not a table; a mix holds levels, labels or groups with their weights.")
        if "name" in entry:
            raise SettingsError(f"{where}: the table's header is the name; take the key 'name' away.")
        found.append(validate(Traffic, {"name": name, **entry}, where))
    return tuple(found)


def environment_toml(name: str, kind: str, summary: str, deviations: Mapping[str, Any]) -> str:
    """An environment as a table for ``gapshift.toml``; texts, numbers, booleans and lists are JSON's.

    >>> print(environment_toml("mine", "lossy", "Mine.", {"preprocessing.lowercase": False}))
    [environments.mine]
    kind = "lossy"
    summary = "Mine."
    [environments.mine.deviations]
    "preprocessing.lowercase" = false
    """
    header = name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)  # a bare dot would begin another table
    values = (
        f"{json.dumps(key)} = {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
        for key, value in deviations.items()
    )
    return "\n".join(
        [
            f"[environments.{header}]",
            f"kind = {json.dumps(kind)}",
            f"summary = {json.dumps(summary)}",
            f"[environments.{header}.deviations]",
            *values,
        ]
    )


def validate(model: type[Model], tree: Any, where: str) -> Model:
    """``tree`` as a ``model``; the first problem becomes a SettingsError.

    ``where`` names the file (and table) that the tree came from.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explain(model, tree, _first_problem(error), where) from error


def _first_problem(error: ValidationError) -> ErrorDetails:
    """The first one; where that is a missing key and one beside it is a slip of it, the mistyped key."""
    first, *others = error.errors()
    if first["type"] != "missing":
        return first
    table, key = first["loc"][:-1], str(first["loc"][-1])
    unknown = (each for each in others if each["type"] == "extra_forbidden" and each["loc"][:-1] == table)
    return next((each for each in unknown if get_close_matches(str(each["loc"][-1]), [key])), first)


def _explain(model: type[BaseModel], tree: Any, problem: ErrorDetails, where: str) -> SettingsError | UnknownNameError:
    path = [str(part) for part in problem["loc"]]
    key = ".".join(path)
    if problem["type"] == "extra_forbidden":
        parent = _model_at(model, tree, path[:-1])
        return UnknownNameError(f"key in {where}", key, [".".join([*path[:-1], name]) for name in parent.model_fields])
    if problem["type"] == "missing":
        what = "key" if isinstance(problem["loc"][-1], str) else "value"
        return SettingsError(f"{where}: the {what} {key!r} is missing; add it.")
    message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return SettingsError(f"{where}: {key or 'the whole table'}: {message}{got}.")


def _model_at(model: type[BaseModel], tree: Any, path: list[str]) -> type[BaseModel]:
    for name in path:
        field = model.model_fields.get(name)
        inner = _inner_model(field.annotation) if field else None
        if inner is not None:
            of_domain = name == "preprocessing" and isinstance(tree, Mapping)
            model = PREPROCESSING.get(tree.get("domain", "vision"), inner) if of_domain else inner
        tree = tree.get(name) if isinstance(tree, Mapping) else None
    return model


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _inner_model(arg))), None)
