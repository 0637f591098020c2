"""What README, docs and examples show exists: commands, options, files, and configuration that loads."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections import Counter
from pathlib import Path

import click
import pytest

from gapshift.cli import cli
from gapshift.domains.open import open_dataset
from gapshift.domains.published import PUBLISHED
from gapshift.envs import catalog
from gapshift.envs.resolve import preprocessing_deviations, resolve
from gapshift.errors import NotApplicableError
from gapshift.export.stamp import contract_from_toml
from gapshift.flows.levels import CalibrationSettings
from gapshift.flows.lock import BOUND_PP
from gapshift.flows.study import planned_environments
from gapshift.flows.study_runs import model_runs
from gapshift.flows.study_settings import (
    DEFAULT_FAMILY,
    ComparisonSettings,
    EvaluationSettings,
    StudySettings,
    TaskSettings,
    TransferSettings,
    read_study,
)
from gapshift.reports.regimes import STUDY_RANGES_PP
from gapshift.reports.study.claims import CLAIMS
from gapshift.schema import (
    CORRUPTIONS,
    PREPROCESSING,
    REFERENCE,
    YUV,
    Contract,
    DataSource,
    Deployment,
    Domain,
    Environment,
    Frozen,
    ModelInterface,
    Resize,
)
from gapshift.settings import read_toml
from gapshift.train.models import FAMILIES
from gapshift.train.regimes import REGIMES
from gapshift.train.settings import LadderSettings, TrainingSettings

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CONTRIBUTING", "CHANGELOG")),
    *sorted((ROOT / "docs").glob("*.md")),
]
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))
CODE = [
    path
    for part in ("src", "train", "export", "envs", "reports", "deploy_tests")
    for path in (ROOT / part).rglob("*.py")
]
STUDY = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def _commands() -> list[str]:
    lines = [line for page in PAGES for block in _blocks(page, "console") for line in block.splitlines()]
    return sorted({line.split(" #")[0].strip() for line in lines if line.startswith("gapshift ")})


def _uncommented(block: str) -> str:
    """With the keys that have no default filled in."""
    return re.sub(r"^# (\w+ = )", r"\1", block, flags=re.MULTILINE)


def _keys(text: str) -> set[str]:
    """Every key of a block, commented ones and table headers too."""
    headers = re.findall(r"^\[([\w.-]+)\]", text, flags=re.MULTILINE)
    return {
        *re.findall(r"^(?:# )?(\w+) = ", text, flags=re.MULTILINE),
        *(part for h in headers for part in h.split(".")),
    }


# --------------------------------------------------------------------- commands, files


def test_commands_are_found() -> None:
    assert len(_commands()) >= 8


@pytest.mark.parametrize("line", _commands())
def test_commands_and_their_options_exist(line: str) -> None:
    words = shlex.split(line)[1:]
    command: click.Command = cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known
    assert all((ROOT / word).is_file() for word in words if word.startswith("examples/"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_source_files_that_are_named_exist(page: Path) -> None:
    named = re.findall(r"`([\w/]+\.py)`", page.read_text(encoding="utf-8"))
    assert [name for name in named if not any(path.as_posix().endswith(f"/{name}") for path in CODE)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_environments_that_commands_name_exist(page: Path) -> None:
    own = {name for block in _blocks(page, "toml") for name in re.findall(r"^\[([\w-]+)\]", block, flags=re.MULTILINE)}
    text = "\n".join(_blocks(page, "console"))
    assert set(re.findall(r"--environment ([\w.-]+)", text)) <= {*catalog.catalog(), *own, REFERENCE}


def test_published_names_are_documented() -> None:
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    assert [name for name in PUBLISHED if not re.search(rf"\b{re.escape(name)}\b", text)] == []


# --------------------------------------------------------------------------- contracts


@pytest.mark.parametrize("block", _blocks(ROOT / "docs" / "contract.md", "toml"))
def test_documented_contracts_load_and_show_every_key(tmp_path: Path, block: str) -> None:
    every = _uncommented(block).replace('decoder = "pillow" ', 'decoder = "pyav"')  # chroma_upsampling is not Pillow's
    for text in (block, every):
        (tmp_path / "contract.toml").write_text(text, encoding="utf-8")
        contract = contract_from_toml(tmp_path / "contract.toml")
    preprocessing = type(contract.preprocessing)
    keys = {*Contract.model_fields, *ModelInterface.model_fields, *preprocessing.model_fields}
    keys |= {*Resize.model_fields, *YUV.model_fields} if contract.domain == "vision" else set()
    assert keys <= _keys(block)


def test_every_domain_has_a_documented_contract() -> None:
    blocks = _blocks(ROOT / "docs" / "contract.md", "toml")
    assert [tomllib.loads(block)["domain"] for block in blocks] == list(PREPROCESSING)


def test_the_documented_environment_loads(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "README.md", "toml")
    (tmp_path / "ours.toml").write_text(block, encoding="utf-8")
    assert list(catalog.load(tmp_path / "ours.toml")) == ["our-phone-app"]


ENVIRONMENTS = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")


def test_the_documented_composed_environment_loads(tmp_path: Path) -> None:
    (block,) = _blocks(ROOT / "docs" / "environments.md", "toml")
    (tmp_path / "ours.toml").write_text(block, encoding="utf-8")
    assert list(catalog.load(tmp_path / "ours.toml")) == ["night-camera"]


@pytest.mark.parametrize("axis", ["precision", "runtime", "shift"])
def test_every_key_of_an_axis_is_documented(axis: str) -> None:
    keys = {f"{axis}.{name}" for name in Deployment.model_fields[axis].annotation.model_fields}  # type: ignore[union-attr]
    assert {key for key in re.findall(r"`(\w+\.\w+)`", ENVIRONMENTS) if key.startswith(f"{axis}.")} == keys


@pytest.mark.parametrize("domain", CORRUPTIONS)
def test_every_corruption_is_documented_with_its_domain(domain: Domain) -> None:
    section = ENVIRONMENTS[ENVIRONMENTS.index(f"(`{domain}`)") :].partition("\n**")[0]
    cells = [row.split("|")[1] for row in section.splitlines() if row.startswith("| `")]
    assert sorted(name for cell in cells for name in re.findall(r"`([\w-]+)`", cell)) == sorted(CORRUPTIONS[domain])


# ----------------------------------------------------------------- the documented study


def _documented(tmp_path: Path, text: str) -> StudySettings:
    (tmp_path / "study.toml").write_text(text, encoding="utf-8")
    return read_study(tmp_path / "study.toml")


def _study_block() -> str:
    (block,) = _blocks(ROOT / "docs" / "study.md", "toml")
    return block


def test_the_documented_study_shows_the_true_defaults(tmp_path: Path) -> None:
    shown = _documented(tmp_path, _study_block())
    least = _documented(
        tmp_path,
        'name = "my-study"\n[tasks.photos]\ndata = { source = "photos" }\n'
        "preprocessing = { resize = { size = [32, 32] } }\n",
    )
    parts = {
        "calibration": CalibrationSettings(ladder=LadderSettings()),
        "comparisons": ComparisonSettings(transfer=TransferSettings()),
    }
    assert shown == least.model_copy(update=parts)


@pytest.mark.parametrize(
    "settings",
    [
        StudySettings,
        TaskSettings,
        DataSource,
        CalibrationSettings,
        LadderSettings,
        TrainingSettings,
        ComparisonSettings,
        TransferSettings,
        EvaluationSettings,
    ],
)
def test_the_documented_study_shows_every_key(settings: type[Frozen]) -> None:
    assert set(settings.model_fields) <= _keys(_study_block())


def test_keys_without_a_default_are_shown_with_a_valid_value(tmp_path: Path) -> None:
    full = _documented(tmp_path, _uncommented(_study_block()))
    assert full.tasks["photos"].data.classes == ("cat", "dog")
    assert full.comparisons.shuffled == 0.3


def test_the_documented_families_have_their_widths() -> None:
    rows = re.findall(r"^\| (`[^|]+) \| (\w+) \| ([\d, ]+) \|", STUDY, flags=re.MULTILINE)
    shown = {name: (domain, widths) for names, domain, widths in rows for name in re.findall(r"`([\w-]+)`", names)}
    assert shown == {name: (family.domain, ", ".join(map(str, family.widths))) for name, family in FAMILIES.items()}
    assert all(f'["{family}"]' in _study_block() for family in DEFAULT_FAMILY.values())


def test_every_regime_is_documented() -> None:
    assert [regime for regime in REGIMES if f"`{regime}`" not in STUDY] == []


def test_every_claim_is_documented() -> None:
    table = STUDY[STUDY.index("| claim | taken to say |") :]
    shown = re.findall(r"^\| (\d\w?)(?:–(\d\w))? \|", table, flags=re.MULTILINE)
    numbers = [first[0] + letter for first, last in shown for letter in ("abcd" if last else first[1:] or [""])]
    assert numbers == [claim.number for claim in CLAIMS]
    assert all(f"{low}–{high}" in table for low, high in STUDY_RANGES_PP.values())


def test_the_documented_bound_of_a_repetition_is_the_true_one() -> None:
    assert f"lies within {BOUND_PP:g} pp" in " ".join(STUDY.split())


# --------------------------------------------------------------------------- examples


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_example_studies_are_valid(path: Path) -> None:
    settings = read_study(path)
    assert settings.seeds >= 3
    assert planned_environments(settings)
    names = [run.name for run in model_runs(settings)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_examples_are_documented(path: Path) -> None:
    assert f"../examples/{path.name}" in STUDY


def test_the_real_data_example_names_published_data(tmp_path: Path) -> None:
    settings = read_study(ROOT / "examples" / "real-data-study.toml", data_root=tmp_path)
    sources = {task.data.source for task in settings.tasks.values()}
    assert sources - {"cartpole", "mountaincar"} <= set(PUBLISHED)
    assert {task.domain for task in settings.tasks.values()} == set(PREPROCESSING)
    assert settings.tasks["cifar-10"].data.root == str(tmp_path.resolve())


def test_the_real_data_example_trains_as_many_models_as_is_said() -> None:
    runs = model_runs(read_study(ROOT / "examples" / "real-data-study.toml"))
    (said,) = re.findall(r"comes to (\d+)\s+models,\s+(\d+)\s+of\s+them\s+exported", STUDY)
    assert said == (str(len(runs)), str(sum(run.exported for run in runs)))


EVERY_FAMILY = ROOT / "examples" / "every-family.toml"


def test_every_family_has_every_model_family_and_both_heads() -> None:
    tasks = read_study(EVERY_FAMILY).tasks
    assert {family for task in tasks.values() for family in task.families} == set(FAMILIES)
    kinds = {open_dataset(task.data.source).kind for task in tasks.values()}
    assert kinds == {"classes", "spans", "episodes"}


@pytest.mark.parametrize("task", read_toml(EVERY_FAMILY)["tasks"])
def test_every_family_meets_every_kind_of_environment(task: str) -> None:
    settings = read_study(EVERY_FAMILY)
    own = settings.tasks[task]
    interface = ModelInterface(input="input", output="logits", labels=("a", "b"))
    contract = Contract(domain=own.domain, preprocessing=own.preprocessing, model=interface)
    met = Counter(_axis(each) for each in planned_environments(settings) if _applies(contract, each))
    assert met["precision"] >= 1
    assert met["preprocessing"] >= 2
    assert met["runtime"] >= 1


def _axis(environment: Environment) -> str:
    if preprocessing_deviations(environment):
        return "preprocessing"
    return next(iter(environment.deviations)).split(".")[0]


def _applies(contract: Contract, environment: Environment) -> bool:
    try:
        resolve(contract, environment)
    except NotApplicableError:
        return False
    return True
