"""A user's own model as a bundle, and the environments that it meets. Imports neither torch nor ONNX Runtime."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from gapshift.errors import ContractError, ModelFileError
from gapshift.export.model_file import describe, sha256
from gapshift.export.stamp import check_against, contract_from_toml, read_contract
from gapshift.schema import Bundle, Environment, dotted, takes

_MOST_NAMES = 8
"""So many files are named where the one that was asked for is missing."""


def applicable(chosen: Iterable[Environment], bundle: Bundle, named: Collection[str]) -> tuple[Environment, ...]:
    """The chosen environments, without those of other domains that nobody named."""
    return tuple(e for e in chosen if e.name in named or takes(bundle.domain, e))


def default_folder(model: Path) -> Path:
    """Where a check of ``model`` lies when nobody says otherwise."""
    return Path("runs") / f"check-{model.stem}"


def user_bundle(model: Path, contract: Path | None) -> Bundle:
    """A user's ONNX file as a bundle. Raises ModelFileError or ContractError."""
    if not model.exists():
        raise ModelFileError(_missing(model))
    description = describe(model)
    agreed = contract_from_toml(contract) if contract else read_contract(model)
    check_against(agreed, description)
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", model.stem).lstrip("._-") or "model"
    return Bundle(
        name=name,
        path=str(model.resolve()),
        sha256=sha256(model),
        contract=agreed,
        domain=agreed.domain,
        task=name,
    )


def overridden(model: Path, contract: Path | None) -> tuple[str, ...]:
    """A note where a contract file says otherwise than the contract in the model, naming the keys; else none."""
    if contract is None:
        return ()
    try:
        own = dotted(read_contract(model))
    except ContractError:  # it has none, or none that can be read
        return ()
    given = dotted(contract_from_toml(contract))
    others = [key for key in {**own, **given} if own.get(key) != given.get(key)]
    if not others:
        return ()
    return (
        f"{contract.name} stands in for the contract inside {model.name} and says otherwise: {', '.join(others)}. "
        "Leave --contract out to judge the model by its own.",
    )


def _missing(model: Path) -> str:
    """What to say of a path where nothing lies; among a study's bundles, what lies there instead."""
    text = f"{model} does not exist; an ONNX file is expected."
    there = sorted(path.name for path in model.parent.glob("*.onnx"))
    if model.parent.name != "bundles" or not there:
        return f"{text} Give the path of a .onnx file."
    near = difflib.get_close_matches(model.name, there, n=_MOST_NAMES, cutoff=0.0)
    more = f" and {len(there) - len(near)} more" if len(there) > len(near) else ""
    return (
        f"{text} {model.parent} holds {', '.join(near)}{more}. "
        "A study exports the models of its regimes; what they are compared with (iid, the controls, "
        "other widths, transfers) is not exported."
    )
