"""docs/pytest.md shows every option, every key and the true defaults."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from gapshift.deploy_tests.options import OPTIONS
from gapshift.deploy_tests.plugin import gapshift_cell, gapshift_items, gapshift_level, gapshift_model, gapshift_run
from gapshift.deploy_tests.settings import Limits, PytestSettings

PAGE = (Path(__file__).parents[2] / "docs" / "pytest.md").read_text(encoding="utf-8")


def _block() -> str:
    (found,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    return str(found)


def test_the_table_has_every_option_with_its_key() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert rows == [(option.flag, option.key) for option in OPTIONS]


def test_the_configuration_shows_the_true_defaults() -> None:
    assert PytestSettings(**tomllib.loads(_block())["pytest"]) == PytestSettings()


def test_the_configuration_shows_every_key_with_a_valid_value() -> None:
    table = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", _block(), flags=re.MULTILINE))["pytest"]
    PytestSettings(**table)
    assert list(table) == list(PytestSettings.model_fields)
    assert list(table["properties"]) == list(Limits.model_fields)


def test_every_fixture_for_users_is_documented() -> None:
    rows = re.findall(r"^\| `(gapshift_\w+)` \|", PAGE, flags=re.MULTILINE)
    for_users = (gapshift_run, gapshift_cell, gapshift_level, gapshift_model, gapshift_items)
    assert rows == [fixture.__name__ for fixture in for_users]
