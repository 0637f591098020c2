"""Which models a study trains: each once, under a name of its own, lenders before borrowers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gapshift.errors import SettingsError
from gapshift.flows.study_runs import UNTRAINED, ModelRun, model_runs
from gapshift.flows.study_settings import StudySettings
from gapshift.schema import Domain
from gapshift.settings import validate
from gapshift.train.models import FAMILIES
from gapshift.train.regimes import REGIMES

SOURCES: dict[Domain, str] = {"vision": "digits", "text": "sentiment", "audio": "keywords", "control": "cartpole"}
PREPROCESSING: dict[Domain, dict[str, Any]] = {
    "vision": {"color": "L", "resize": {"size": [8, 8]}, "mean": [0.5], "std": [0.5]}
}


def _task(domain: Domain, families: list[str]) -> dict[str, Any]:
    own = {"domain": domain, "data": {"source": SOURCES[domain]}, "preprocessing": PREPROCESSING.get(domain, {})}
    return {**own, "families": families} if families else own


@st.composite
def tasks(draw: st.DrawFn) -> dict[str, Any]:
    domain = draw(st.sampled_from(sorted(SOURCES)))
    valid = sorted(name for name, family in FAMILIES.items() if family.domain == domain)
    return _task(domain, draw(st.lists(st.sampled_from(valid), unique=True)))


comparisons = st.fixed_dictionaries(
    {
        "controls": st.booleans(),
        "matrix": st.booleans(),
        "widths": st.lists(st.sampled_from([4, 8, 16, 32]), unique=True, max_size=3),
        "full": st.booleans(),
    },
    optional={
        "shuffled": st.sampled_from([0.1, 0.3, 1.0]),
        "transfer": st.fixed_dictionaries({"width": st.sampled_from([8, 16, 32])}),
    },
)
studies = st.fixed_dictionaries(
    {
        "name": st.just("any"),
        "tasks": st.dictionaries(st.sampled_from(["a", "b", "a-audio", "a.b", "text", "vit"]), tasks(), min_size=1),
        "regimes": st.lists(st.sampled_from(sorted(REGIMES)), unique=True, min_size=1, max_size=4),
        "seeds": st.integers(3, 4),
        "comparisons": comparisons,
        "training": st.fixed_dictionaries({"width": st.sampled_from([4, 8, 16])}),
    }
)


def _settings(tree: dict[str, Any]) -> StudySettings | None:
    try:
        return validate(StudySettings, tree, "study.toml")
    except SettingsError as error:
        if "get the same names" not in str(error):  # two tasks whose models would share a file, and nothing else
            raise
        return None


@given(studies)
def test_names_are_unique_and_lenders_come_before_borrowers(tree: dict[str, Any]) -> None:
    settings = _settings(tree)
    if settings is None:
        return
    runs = model_runs(settings)
    names = [run.name for run in runs]
    assert len(set(names)) == len(names)
    assert all("--" not in name for name in names)  # a cell's file is BUNDLE--ENVIRONMENT
    for place, run in enumerate(runs):
        if run.trunk_from is not None and not run.trunk_from.startswith(UNTRAINED):
            assert run.trunk_from in names[:place]


@given(studies)
def test_exactly_the_regimes_of_the_named_families_are_exported(tree: dict[str, Any]) -> None:
    settings = _settings(tree)
    if settings is None:
        return
    exported = {run for run in model_runs(settings) if run.exported}
    assert {run.name for run in exported} == {
        f"{name}-{family}-{regime}-s{seed}"
        for name, task in settings.tasks.items()
        for family in task.families
        for regime in settings.regimes
        for seed in range(settings.seeds)
    }
    assert all(run.width is None and not run.shuffled and run.trunk_from is None for run in exported)


@given(studies)
def test_every_task_gets_its_yardstick_and_what_lends_is_of_one_width(tree: dict[str, Any]) -> None:
    settings = _settings(tree)
    if settings is None:
        return
    runs = model_runs(settings)
    by_name = {run.name: run for run in runs}
    for name, task in settings.tasks.items():
        assert f"{name}-{task.families[0]}-iid-s0" in by_name
    widths = {_width(settings, by_name[run.trunk_from]) for run in runs if run.trunk_from in by_name}
    widths |= {_width(settings, run) for run in runs if run.trunk_from is not None}
    assert len(widths) <= 1


def _width(settings: StudySettings, run: ModelRun) -> int:
    return settings.training_of(run.task).width if run.width is None else run.width


def test_a_borrower_without_a_lender_has_a_trunk_that_was_never_trained() -> None:
    tree = {"name": "x", "tasks": {"a": _task("text", [])}, "comparisons": {"transfer": {"width": 8, "steps": 2}}}
    runs = model_runs(validate(StudySettings, tree, "study.toml"))
    untrained = [run for run in runs if run.trunk_from == UNTRAINED]
    assert [run.name for run in untrained] == [f"a-text-transformer-w8-on.random-s{seed}" for seed in range(3)]
    assert not any(run.exported for run in untrained)


def test_the_controls_train_for_the_first_task_of_a_domain_and_with_full_for_all() -> None:
    tree: dict[str, Any] = {"name": "x", "tasks": {"a": _task("text", ["gru", "lstm"]), "b": _task("text", [])}}
    tree["comparisons"] = {"controls": True}
    runs = model_runs(validate(StudySettings, tree, "study.toml"))
    assert {(run.task, run.family) for run in runs if run.regime == "size-control"} == {("a", "gru")}
    tree["comparisons"]["full"] = True
    runs = model_runs(validate(StudySettings, tree, "study.toml"))
    assert {(run.task, run.family) for run in runs if run.regime == "size-control"} == {
        ("a", "gru"),
        ("a", "lstm"),
        ("b", "text-transformer"),
    }


def test_tasks_whose_models_would_share_a_file_are_refused() -> None:
    tree = {"name": "x", "tasks": {"a": _task("audio", ["audio-cnn"]), "a-audio": _task("vision", ["cnn"])}}
    with pytest.raises(
        SettingsError, match=r"models of 'a' and 'a-audio' get the same names a-audio-cnn-\.\.\.: rename one"
    ):
        validate(StudySettings, tree, "study.toml")
