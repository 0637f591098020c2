"""Environments that nobody listed: a family as a hypothesis strategy, and the family that catalog entries span.

Light: neither torch nor ONNX Runtime is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from gapshift.envs.resolve import reference_deployment
from gapshift.errors import SettingsError
from gapshift.schema import PREPROCESSING, Contract, Deployment, Domain, Environment, takes
from gapshift.schema.family import Family
from gapshift.schema.qualifying import COMPANIONS
from gapshift.settings import read_toml, validate


@st.composite
def environments(draw: st.DrawFn, family: Family, subsample: bool = False) -> Environment:
    """Members of a family, which shrink to fewer deviations, then to earlier keys and milder values.

    Some contradict themselves or a contract: ``gapshift.envs.resolve.resolve`` says so by NotApplicableError.
    """
    keys = family.parts(family.deviations)
    chosen = draw(st.lists(st.sampled_from(keys), unique=True, min_size=1, max_size=min(family.most, len(keys))))
    member = {key: draw(st.sampled_from(family.deviations[key])) for key in sorted(chosen, key=keys.index)}
    for key in family.needs(member):
        member[key] = draw(st.sampled_from(family.deviations[key]))
    return family.environment(member, subsample)


def read_family(path: Path) -> Family:
    """A family from a TOML file: ``most``, and ``[deviations]`` with a list of values for each dotted key in quotes.

    Raises SettingsError and UnknownNameError, each naming the file.
    """
    return validate(Family, read_toml(path), str(path))


def family_of(environments: Iterable[Environment], most: int = 3) -> Family:
    """The family that environments span: every key with all values that one of them gives it.

    Raises SettingsError where there is none to span it.
    """
    chosen = [environment for environment in environments if environment.deviations]
    if not chosen:
        raise SettingsError(
            "No environment spans a family. Name some with --environment or --group, or give a --family."
        )
    if most < 1:
        raise SettingsError(f"At most {most} deviations at once are none; give 1 or more.")
    return Family.of(chosen, most)


def fitted(family: Family, contract: Contract, stated: bool = False) -> tuple[Family, tuple[str, ...]]:
    """The family of what models with this contract can have, and what was left out of it, in words.

    Values that the contract has anyway are left out (but of keys that qualify another: those are always in a member
    then), and keys of other domains. Numbers go by their distance from the
    contract's own, but for a family whose order is ``stated``. Raises UnknownNameError for a key that no domain has,
    SettingsError for a value that no deployment can take (of a stated family), or where nothing is left.
    """
    reference = reference_deployment(contract)
    foreign, same, kept = [], [], {}
    for key, values in family.deviations.items():
        own = [value for value in values if _is_for(contract.domain, key, value)]
        foreign += [f"{key} = {value}" for value in values if value not in own]
        taken = [(value, _taken(reference, key, value)) for value in own]
        wrong = next((found for _, found in taken if isinstance(found, str) and found.startswith(key)), None)
        if stated and wrong:
            raise SettingsError(f"The family: {wrong}.")
        bound = key in family.qualifying
        same += [f"{key} = {value}" for value, found in taken if found == reference and not bound]
        mine = tuple(value for value, found in taken if found != reference or bound)
        if mine:
            kept[key] = mine if stated else _mild_first(mine, _mildest(reference, key))
    lost = [key for key in kept if key in family.qualifying and not any(each in kept for each in COMPANIONS[key])]
    kept = {key: values for key, values in kept.items() if key not in lost}
    notes = [f"not for {contract.domain} models: {', '.join(foreign)}"] if foreign else []
    notes += [f"the contract has them anyway: {', '.join(same)}"] if same else []
    notes += [f"they qualify nothing that is left: {', '.join(lost)}"] if lost else []
    if not kept:
        raise SettingsError(f"Nothing of the family is left for this model ({'; '.join(notes)}). Choose another one.")
    return Family(deviations=kept, most=family.most), tuple(notes)


def _is_for(domain: Domain, key: str, value: Any) -> bool:
    """Whether models of the domain can have it, or no model can, which ``_taken`` says better."""
    probe = Environment(name="probe", kind="lossy", summary="", deviations={key: value})
    return takes(domain, probe) or not any(takes(other, probe) for other in PREPROCESSING)


def _taken(reference: Deployment, key: str, value: Any) -> Deployment | str:
    """The deployment with this value, or why it cannot have it alone. Raises UnknownNameError for an unknown key."""
    try:
        return reference.deviate({key: value})
    except SettingsError as error:
        return str(error)


def _mildest(reference: Deployment, key: str) -> Any:
    """What stands at a dotted key, and None where nothing does; a severity counts from 0, whatever its default."""
    if key == "shift.severity":
        return 0
    found: Any = reference
    for name in key.split("."):
        found = getattr(found, name, None)
    return found


def _mild_first(values: tuple[Any, ...], own: Any) -> tuple[Any, ...]:
    """Numbers by their distance from the contract's own; anything else as it comes."""
    if not all(map(_is_number, (*values, own))):
        return values
    return tuple(sorted(values, key=lambda value: abs(float(value) - float(own))))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
