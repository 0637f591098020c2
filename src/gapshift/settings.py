"""Configuration files: read as TOML, validated, with errors that name file, key, value and what is valid."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import PREPROCESSING

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tree. Raises SettingsError when it cannot be read or parsed."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SettingsError(f"No such file: {path}. Give the path of a TOML file.") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not readable TOML: {error}.") from error


def validate(model: type[Model], tree: Any, where: str) -> Model:
    """``tree`` as a ``model``; the first problem becomes a SettingsError.

    ``where`` names the file (and table) that the tree came from.
    """
    try:
        return model.model_validate(tree)
    except ValidationError as error:
        raise _explain(model, tree, error.errors()[0], where) from error


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
