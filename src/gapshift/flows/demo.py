"""``gapshift demo``: a study on data that comes with the installation."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from gapshift.flows.study_settings import StudySettings
from gapshift.settings import validate


def demo_settings() -> StudySettings:
    """The settings of the demo, ``demo.toml`` beside this file: a study file like any other."""
    text = files("gapshift.flows").joinpath("demo.toml").read_text(encoding="utf-8")
    return validate(StudySettings, tomllib.loads(text), "demo.toml")
