"""What a pytest session judges: the command line's options over the configuration file's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from gapshift.deploy_tests.options import OPTIONS
from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import TIE_GAP, Frozen
from gapshift.settings import user_settings, validate

Flag = Annotated[bool, Field(strict=True)]
Level = Annotated[int, Field(strict=True, ge=1, le=5)]
Text = Annotated[str, Field(strict=True, min_length=1)]


class Limits(Frozen):
    """What properties of any model demand (``[pytest.properties]``).

    ``tolerance``: the share of its scores' range that counts as rounding. ``scale``: inputs up to so many times as
    large as the data's must give finite outputs. ``examples`` are tried of each property. Of pairs of items whose
    confidences differ by more than ``confidence_apart`` a number format may turn the share ``confidence_swapped``.
    """

    tolerance: Annotated[float, Field(ge=0, lt=1)] = TIE_GAP
    scale: Annotated[float, Field(ge=1, le=1e30)] = 10.0
    examples: Annotated[int, Field(strict=True, ge=1)] = 25
    confidence_apart: Annotated[float, Field(ge=0, lt=1)] = 0.1
    confidence_swapped: Annotated[float, Field(ge=0, lt=1)] = 0.02


class PytestSettings(Frozen):
    """The options of a session by their keys (``options.OPTIONS`` says what each means)."""

    model: Text | None = None
    data: Text | None = None
    split: Text | None = None
    contract: Text | None = None
    baseline: Text | None = None
    items: Text | None = None
    environments: tuple[Text, ...] = ()
    groups: tuple[Text, ...] = ()
    environment_file: Text | None = None
    levels: tuple[Level, ...] = ()
    margin_pp: Annotated[float, Field(strict=True, gt=0, lt=100)] = 2.0
    budget: Annotated[int, Field(strict=True, ge=1)] | None = None
    sequential: Flag = False
    calibration_data: Text | None = None
    calibration_split: Text | None = None
    report: Text | None = None
    strict: Flag = False
    allow_unlevelled: Flag = False
    inconclusive: Literal["fail", "warn", "xfail"] = "fail"
    properties: Limits = Limits()

    def path(self, key: str) -> Path | None:
        """One of the values as a path."""
        value = getattr(self, key)
        return Path(value) if value is not None else None

    @property
    def shown_levels(self) -> tuple[int, ...]:
        """The levels whose tests are shown, each once."""
        return tuple(level for level in (1, 2, 3, 4, 5) if not self.levels or level in self.levels)


def session_settings(given: Mapping[str, Any]) -> tuple[PytestSettings, str]:
    """The settings of a session, and the file and table that they stand in; empty where there is no such table.

    ``given`` is what stands on the command line. Raises SettingsError and UnknownNameError.
    """
    own = user_settings()
    table, where = own.tables.get("pytest", {}), own.where("pytest")
    return merged(table, where, own.path.parent, given), where if table else ""


def merged(table: Mapping[str, Any], where: str, folder: Path, given: Mapping[str, Any]) -> PytestSettings:
    """A file's table under what stands on the command line, key by key.

    ``where`` names the table and ``folder`` is what its relative paths are relative to. Raises SettingsError and
    UnknownNameError, which name file or option, key and value.
    """
    in_file = validate(PytestSettings, table, where)
    own = {key: _anchored(key, value, folder) for key, value in in_file.model_dump(exclude_unset=True).items()}
    settings = PytestSettings(**{**own, **_from_command_line(given)})
    if (settings.model is None) != (settings.data is None):
        raise SettingsError(
            "model and data go together (--gapshift-model, --gapshift-data): an ONNX file and a labelled evaluation "
            f"set. Only {'data' if settings.model is None else 'model'} was given."
        )
    return settings


def _from_command_line(given: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return validate(PytestSettings, given, "The command line").model_dump(exclude_unset=True)
    except (SettingsError, UnknownNameError) as error:
        text = str(error)
        for option in OPTIONS:
            text = text.replace(f": {option.key}", f": --gapshift-{option.flag}")
        raise SettingsError(text) from error


def _anchored(key: str, value: Any, folder: Path) -> Any:
    """A path of a file's, made absolute; a name (``digits``) of which nothing lies there stays one."""
    option = next((option for option in OPTIONS if option.key == key), None)
    if option is None or not option.path or value is None:
        return value
    path = folder / Path(value).expanduser()
    is_name = key in ("data", "calibration_data") and not any(mark in value for mark in "/\\.")
    return value if is_name and not path.exists() else str(path)
