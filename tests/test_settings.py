"""Configuration errors name the file, the key, the value and what is valid."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import Contract, Deployment, Environment, RunPlan, Runtime
from gapshift.settings import environment_toml, read_toml, validate

CONTRACT: dict[str, Any] = {
    "preprocessing": {"resize": {"size": [8, 8]}},
    "model": {"input": "x", "output": "y", "labels": ["a", "b"]},
}


def test_a_file_becomes_its_tree(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text('text = "é"\n[table]\nvalue = 1\n', encoding="utf-8")
    assert read_toml(path) == {"text": "é", "table": {"value": 1}}


@pytest.mark.parametrize("name", ["edge-smallest", "edge.v2-smallest"])
def test_an_environment_reads_back_as_the_same(tmp_path: Path, name: str) -> None:
    deviations = {
        "preprocessing.mean": [0.5, 0.25],
        "preprocessing.resize.antialias": False,
        "runtime.provider": 'ä "b"',
    }
    path = tmp_path / "a.toml"
    path.write_text(environment_toml(name, "lossy", "A part.", deviations), encoding="utf-8")
    entry = {"kind": "lossy", "summary": "A part.", "deviations": deviations}
    assert read_toml(path) == {"environments": {name: entry}}


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"a = ", r"a\.toml is not readable TOML: Invalid value \(at end of document\)"),
        (b"a = 1\na = 2\n", r"a\.toml is not readable TOML: Cannot overwrite a value \(at line 2"),
        (b'a = "\xff"', r"a\.toml is no UTF-8 text \('utf-8' codec can't decode byte 0xff .*\)\. Save it as UTF-8"),
    ],
)
def test_a_file_that_is_no_toml_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(SettingsError, match=text):
        read_toml(tmp_path / "a.toml")


def test_no_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"No such file: .*b\.toml\. Give the path of a TOML file\."):
        read_toml(tmp_path / "b.toml")
    with pytest.raises(SettingsError, match="is not readable TOML"):
        read_toml(tmp_path)


def _changed(**changes: Any) -> dict[str, Any]:
    """CONTRACT with dotted keys (two underscores for the dot) set."""
    tree: dict[str, Any] = {key: dict(value) for key, value in CONTRACT.items()}
    tree["preprocessing"]["resize"] = dict(tree["preprocessing"]["resize"])
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = value
    return tree


def test_a_good_tree_is_the_model() -> None:
    assert validate(Contract, CONTRACT, "contract.toml").preprocessing.resize.size == (8, 8)


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (
            _changed(preprocessing__color="RGBA"),
            "c.toml: preprocessing.color: Input should be 'RGB', 'BGR' or 'L' (got 'RGBA').",
        ),
        (
            _changed(preprocessing__resize__size=[8]),
            "c.toml: the value 'preprocessing.resize.size.1' is missing; add it.",
        ),
        (
            _changed(model__labels=["a"]),
            "c.toml: model.labels: Tuple should have at least 2 items after validation, not 1 (got ['a']).",
        ),
        (
            _changed(preprocessing__mean=[0.1, 0.2]),
            "c.toml: preprocessing: mean has 2 values; RGB takes 1 or 3.",
        ),
        ({"preprocessing": CONTRACT["preprocessing"]}, "c.toml: the key 'model' is missing; add it."),
        (_changed(preprocessing__resize={}), "c.toml: the key 'preprocessing.resize.size' is missing; add it."),
        (
            _changed(preprocessing__resize=8),
            "c.toml: preprocessing.resize: Input should be a valid dictionary or instance of Resize (got 8).",
        ),
    ],
)
def test_a_bad_value_is_named_with_what_is_valid(tree: Any, text: str) -> None:
    with pytest.raises(SettingsError) as raised:
        validate(Contract, tree, "c.toml")
    assert str(raised.value) == text


def test_something_that_is_no_table_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^c\.toml: the whole table: Input should be a valid dictionary"):
        validate(Contract, ["a"], "c.toml")


@pytest.mark.parametrize(
    ("model", "tree", "key", "nearest", "valid"),
    [
        (Runtime, {"batchsize": 4}, "batchsize", "batch_size", ("engine", "provider", "precision_hint")),
        (
            Contract,
            _changed(preprocessing__resize__antialiasing=True),
            "preprocessing.resize.antialiasing",
            "preprocessing.resize.antialias",
            ("preprocessing.resize.fit", "preprocessing.resize.size"),
        ),
        (Contract, _changed(modle={}), "modle", "model", ("preprocessing", "domain")),
        (
            Deployment,
            {"preprocessing": CONTRACT["preprocessing"], "runtime": {"thread": 1}},
            "runtime.thread",
            "runtime.",
            ("runtime.intra_op_threads",),
        ),
    ],
)
def test_an_unknown_key_gets_the_nearest_and_all_valid_ones(
    model: Any, tree: Any, key: str, nearest: str, valid: tuple[str, ...]
) -> None:
    with pytest.raises(UnknownNameError) as raised:
        validate(model, tree, "c.toml")
    text = str(raised.value)
    assert text.startswith(f"Unknown key in c.toml {key!r}. Did you mean '{nearest}")
    assert all(name in text.split("Valid: ")[1] for name in valid)


def test_an_unknown_key_inside_a_list_names_the_list_s_own_keys() -> None:
    plan = {"command": "check", "tasks": [], "bundles": [], "environments": [{"kid": "lossy"}]}
    with pytest.raises(SettingsError, match=r"run\.json: the key 'environments\.0\.name' is missing"):
        validate(RunPlan, plan, "run.json")
    plan["environments"] = [{"name": "a", "kind": "lossy", "summary": "s", "sumary": "s"}]
    with pytest.raises(UnknownNameError, match=r"'environments\.0\.sumary'\. Did you mean 'environments\.0\.summary'"):
        validate(RunPlan, plan, "run.json")


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b"\xef\xbb\xbfa = 1\n")
    assert read_toml(tmp_path / "a.toml") == {"a": 1}


def test_a_mistyped_key_is_named_before_the_one_that_is_missing_for_it() -> None:
    tree = {"name": "e", "kind": "lossy", "sumary": "s"}
    with pytest.raises(UnknownNameError, match=r"^Unknown key in e\.toml 'sumary'\. Did you mean 'summary'\?"):
        validate(Environment, tree, "e.toml")
