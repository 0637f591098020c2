"""Commands that describe: the catalog, a model's contract or a template of one, this machine."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapshift.cli.shared import PATH, environment_file_option, json_option
from gapshift.errors import UsageError

if TYPE_CHECKING:
    from gapshift.schema import Domain, Environment

DOMAINS: tuple[Domain, ...] = ("vision", "text", "audio", "control")
"""The schema's own, which is imported only where it is needed: ``--help`` answers at once."""


@click.group()
def envs() -> None:
    """The catalog of deployment environments."""


@envs.command("list")
@click.option("--group", "groups", multiple=True, metavar="GROUP", help="Only a group or kind. Repeatable.")
@environment_file_option
@json_option
def envs_list(groups: tuple[str, ...], environment_file: Path | None, as_json: bool) -> int:
    """Every environment by axis: name, kind, and where it is met; and how many there are."""
    from gapshift.envs.catalog import AXES, COMPOUND, axis_of, choose

    environments = choose((), groups, environment_file)
    if as_json:
        listed = [environment.model_dump(mode="json") | {"axis": axis_of(environment)} for environment in environments]
        click.echo(json.dumps(listed))
        return 0
    width = max(len(environment.name) for environment in environments)
    counts = []
    for axis in (*AXES, COMPOUND):
        own = [environment for environment in environments if axis_of(environment) == axis]
        if own:
            counts.append(f"{axis} {len(own)}")
            click.echo(f"{axis}\n" + "".join(f"  {_line(each, width)}\n" for each in own))
    click.echo(f"{', '.join(counts)}: {len(environments)} in all")
    return 0


def _line(environment: Environment, width: int) -> str:
    return f"{environment.name:<{width}}  {environment.kind:<10}  {environment.summary}"


@envs.command("show")
@click.argument("name")
@environment_file_option
@json_option
def envs_show(name: str, environment_file: Path | None, as_json: bool) -> int:
    """One environment and its deviations."""
    from gapshift.envs.catalog import axis_of, choose

    (environment,) = choose((name,), (), environment_file)
    axis = axis_of(environment)
    if as_json:
        click.echo(json.dumps(environment.model_dump(mode="json") | {"axis": axis}))
        return 0
    click.echo(_environment_lines(environment, axis))
    return 0


@envs.command("diff")
@click.argument("a")
@click.argument("b")
@environment_file_option
@json_option
def envs_diff(a: str, b: str, environment_file: Path | None, as_json: bool) -> int:
    """What A and B differ in: two environments, two files of `gapshift doctor --json`, or two run folders."""
    from gapshift.flows.environment_diff import compare

    found = compare(a, b, environment_file)
    if as_json:
        click.echo(json.dumps(found.as_json()))
        return 0
    sections = {
        f"only in {a}": [f"{path} = {_value(value)}" for path, value in found.only_in_a.items()],
        f"only in {b}": [f"{path} = {_value(value)}" for path, value in found.only_in_b.items()],
        f"in {a} and in {b}": [
            f"{path} = {_value(one)} and {_value(other)}" for path, (one, other) in found.different.items()
        ],
    }
    lines = [line for title, found in sections.items() if found for line in (title, *(f"  {each}" for each in found))]
    if found.a.kind == "run":
        lines.append("Compared: what ran in the cells that both have; not models, items or answers.")
    click.echo("\n".join(lines) or f"{a} and {b} do not differ.")
    return 0


def _value(value: Any) -> str:
    """TOML's look for a deviation's value; a list of names as words."""
    names = isinstance(value, list) and all(isinstance(each, str) for each in value)
    return ", ".join(value) if names else json.dumps(value)


@click.command()
@click.argument("model", type=PATH, required=False)
@click.option("--domain", type=click.Choice(DOMAINS), help="Print a template for models of this domain.")
@json_option
def contract(model: Path | None, domain: Domain | None, as_json: bool) -> int:
    """Print the contract inside an ONNX file as contract.toml, to read or to edit; or a template of one."""
    if model is not None and domain is None:
        text, tree = _inside(model)
    elif domain is not None and model is None:
        text, tree = _template(domain)
    else:
        raise UsageError("Give either a model or --domain NAME.")
    click.echo(json.dumps(tree) if as_json else text, nl=as_json)
    return 0


def _inside(model: Path) -> tuple[str, dict[str, Any]]:
    """The contract inside a file: as TOML, and as JSON's types."""
    from gapshift.export.stamp import contract_to_toml, read_contract

    found = read_contract(model)
    return contract_to_toml(found), found.model_dump(mode="json")


def _template(domain: Domain) -> tuple[str, dict[str, Any]]:
    """The least that a contract of a domain says: as TOML with its comments, and whole as JSON's types."""
    from gapshift.export.stamp import EXAMPLES
    from gapshift.schema import Contract

    return EXAMPLES[domain], Contract.model_validate(tomllib.loads(EXAMPLES[domain])).model_dump(mode="json")


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Which runtimes, providers, engines and instructions this machine has."""
    from gapshift.flows.doctor import examine

    found = examine()
    if as_json:
        click.echo(json.dumps(found))
        return 0
    for section, rows in found.items():
        click.echo(section)
        for key, value in rows.items():
            click.echo(f"  {key:<24} {_words(value)}")
    return 0


def _words(value: object) -> str:
    return (" ".join(map(str, value)) or "none") if isinstance(value, list | tuple) else str(value)


def _environment_lines(environment: Environment, axis: str) -> str:
    lines = [environment.name, f"  {environment.summary}", f"  kind: {environment.kind}", f"  axis: {axis}"]
    lines += [f"  groups: {', '.join(environment.groups)}", "  deviations:"]
    return "\n".join(lines + [f"    {key} = {json.dumps(value)}" for key, value in environment.deviations.items()])
