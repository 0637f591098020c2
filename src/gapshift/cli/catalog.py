"""Commands that describe: the catalog, a model's contract or a template of one, this machine."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gapshift.cli.shared import PATH, json_option
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
@click.option("--environment-file", type=PATH, help="A TOML file with environments of your own, listed too.")
@json_option
def envs_list(groups: tuple[str, ...], environment_file: Path | None, as_json: bool) -> int:
    """Every environment: name, kind, groups, and where it is met."""
    from gapshift.envs.catalog import choose

    environments = choose((), groups, environment_file)
    if as_json:
        click.echo(json.dumps([environment.model_dump(mode="json") for environment in environments]))
        return 0
    width = max(len(environment.name) for environment in environments)
    for environment in environments:
        click.echo(f"{environment.name:<{width}}  {environment.kind:<10}  {environment.summary}")
    return 0


@envs.command("show")
@click.argument("name")
@click.option("--environment-file", type=PATH, help="A TOML file with environments of your own.")
@json_option
def envs_show(name: str, environment_file: Path | None, as_json: bool) -> int:
    """One environment and its deviations."""
    from gapshift.envs.catalog import choose

    (environment,) = choose((name,), (), environment_file)
    if as_json:
        click.echo(json.dumps(environment.model_dump(mode="json")))
        return 0
    click.echo(_environment_lines(environment))
    return 0


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


def _environment_lines(environment: Environment) -> str:
    lines = [environment.name, f"  {environment.summary}", f"  kind: {environment.kind}"]
    lines += [f"  groups: {', '.join(environment.groups)}", "  deviations:"]
    return "\n".join(lines + [f"    {key} = {json.dumps(value)}" for key, value in environment.deviations.items()])
