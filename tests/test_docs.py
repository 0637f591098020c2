"""What README and docs show exists: commands, options, files, and configuration that loads."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from gapshift.cli import cli
from gapshift.envs import catalog
from gapshift.export.stamp import contract_from_toml
from gapshift.flows.study_settings import read_study

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _commands() -> list[str]:
    lines = [line for page in PAGES for block in _blocks(page, "console") for line in block.splitlines()]
    return sorted({line.split(" #")[0].strip() for line in lines if line.startswith("gapshift ")})


def test_commands_are_found() -> None:
    assert len(_commands()) >= 4


@pytest.mark.parametrize("line", _commands())
def test_commands_and_their_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def test_the_documented_contract_loads(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "docs" / "contract.md", "toml")
    (tmp_path / "contract.toml").write_text(block, encoding="utf-8")
    assert contract_from_toml(tmp_path / "contract.toml").model.labels == ("cat", "dog")


def test_the_documented_environment_loads(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "README.md", "toml")
    (tmp_path / "ours.toml").write_text(block, encoding="utf-8")
    assert list(catalog.load(tmp_path / "ours.toml")) == ["our-phone-app"]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_example_studies_are_valid(path: Path) -> None:
    assert read_study(path).seeds >= 3
