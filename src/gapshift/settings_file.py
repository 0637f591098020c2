"""Where a user's own settings lie: ``gapshift.toml``, or ``[tool.gapshift]`` in ``pyproject.toml``.

The standard library alone, since the pytest plugin looks for them in every session of every user.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gapshift.errors import SettingsError

OWN, PROJECT = "gapshift.toml", "pyproject.toml"


@dataclass(frozen=True)
class UserSettings:
    """The tables of a user's settings, none where there is no such file. Their headers begin with ``prefix``."""

    path: Path
    prefix: str = ""
    tables: dict[str, Any] = field(default_factory=dict)

    def where(self, table: str) -> str:
        """File and table in words."""
        return f"{self.path} [{self.prefix}{table}]"


def find_settings(start: Path | None = None) -> UserSettings:
    """The settings of the nearest folder, from ``start`` (the working directory) upwards, that has some.

    Raises SettingsError where a file is no TOML, and where a folder has both: neither is passed over in silence.
    """
    first = (start or Path.cwd()).resolve()
    for folder in (first, *first.parents):
        own, project = folder / OWN, _of_project(folder / PROJECT)
        if own.is_file() and project is not None:
            raise SettingsError(
                f"{own} and {project.path} [tool.gapshift] both hold settings of gapshift. Keep one of them."
            )
        if own.is_file():
            return UserSettings(own, tables=read_toml(own))
        if project is not None:
            return project
    return UserSettings(first / OWN)


def _of_project(path: Path) -> UserSettings | None:
    if not path.is_file() or b"gapshift" not in path.read_bytes():
        return None  # unparsed, since it is looked for everywhere
    tool = read_toml(path).get("tool", {})
    if "gapshift" not in tool:
        return None
    if not isinstance(tool["gapshift"], dict):
        raise SettingsError(f"{path}: tool.gapshift is not a table; it holds [tool.gapshift.NAME] tables.")
    return UserSettings(path, "tool.gapshift.", tool["gapshift"])


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's tree. Raises SettingsError when it cannot be read or parsed."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise SettingsError(f"No such file: {path}. Give the path of a TOML file.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path} is no UTF-8 text ({error}). Save it as UTF-8.") from error
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} is not readable TOML: {error}.") from error
