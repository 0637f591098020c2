"""The catalog of environments: what ships, how it is chosen, and a user's own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gapshift.envs.catalog import catalog, load, select
from gapshift.errors import GapshiftError, SettingsError, UnknownNameError
from gapshift.schema import (
    CORRUPTIONS,
    PREPROCESSING,
    REFERENCE_ENVIRONMENT,
    AudioPreprocessing,
    ControlPreprocessing,
    Deployment,
    Domain,
    Environment,
    Preprocessing,
    Resize,
    TextPreprocessing,
    takes,
)

ASKED_FOR = {
    "float16", "bfloat16-emulated", "int8-dynamic", "int8-qdq-per-tensor", "int8-qdq-per-channel",
    "resize-nearest", "resize-bicubic", "resize-opencv-bilinear", "bgr", "no-normalization", "jpeg-quality-50",
    "onnxruntime-unoptimized", "onnxruntime-one-thread", "onnxruntime-batch-1", "onnx-reference", "openvino-f32",
}  # fmt: skip
_COLOURS = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
BASES = (
    Deployment(preprocessing=Preprocessing(resize=Resize(size=(24, 24)), **_COLOURS)),
    Deployment(
        preprocessing=Preprocessing(
            resize=Resize(size=(24, 24), library="torch", interpolation="bicubic", antialias=False, fit="crop"),
            layout="NHWC",
            **_COLOURS,
        )
    ),
    Deployment(domain="text", preprocessing=TextPreprocessing(max_length=64)),
    Deployment(domain="audio", preprocessing=AudioPreprocessing(mean=-3.0, std=2.5)),
    Deployment(domain="control", preprocessing=ControlPreprocessing(offset=(0.5,), scale=(2.0,))),
)
OF_ONE_DOMAIN = ("preprocessing", "compound", "shift")
ENTRY = """
[{name}]
kind = "lossy"
summary = "A place."
[{name}.deviations]
"runtime.batch_size" = 3
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


# -------------------------------------------------------------------------- what ships


def test_the_catalog_holds_what_was_asked_for() -> None:
    assert len(catalog()) >= 16
    assert set(catalog()) >= ASKED_FOR
    assert {e.kind for e in catalog().values()} == {"equivalent", "lossy", "mistake", "stress"}
    axes = {key.split(".")[0] for e in catalog().values() for key in e.deviations}
    assert axes == {"preprocessing", "graph", "precision", "runtime", "shift", "service"}
    assert sum("compound" in e.groups and len(e.deviations) > 1 for e in catalog().values()) >= 2


@pytest.mark.parametrize("environment", catalog().values(), ids=lambda e: e.name)
def test_every_entry_says_in_one_sentence_where_it_is_met(environment: Environment) -> None:
    assert re.fullmatch(r"[A-Z0-9][^.!?]*(?:\.\d[^.!?]*)*\.", environment.summary)
    assert 20 < len(environment.summary) <= 120


@pytest.mark.parametrize("environment", catalog().values(), ids=lambda e: e.name)
def test_every_entry_deviates_in_exactly_what_it_names(environment: Environment) -> None:
    bases = [base for base in BASES if takes(base.domain, environment)]
    domains = {base.domain for base in bases}
    assert len(domains) == (1 if set(OF_ONE_DOMAIN) & set(environment.groups) else len(PREPROCESSING))
    for domain in domains:
        changed = [_changed(base, environment) for base in bases if base.domain == domain]
        assert any(changed), domain
        assert all(keys <= set(environment.deviations) for keys in changed)
    assert environment.groups


def _changed(base: Deployment, environment: Environment) -> set[str]:
    """The keys that an environment changes; none where it contradicts this contract."""
    try:
        return set(base.differences(base.deviate(environment.deviations)))
    except SettingsError:
        return set()


@pytest.mark.parametrize("base", BASES, ids=["vision", "vision-torch", "text", "audio", "control"])
def test_entries_of_a_domain_s_own_are_found_by_its_name(base: Deployment) -> None:
    own = {e.name for e in catalog().values() if takes(base.domain, e) and set(OF_ONE_DOMAIN) & set(e.groups)}
    assert len(own) >= 6
    assert {e.name for e in select(groups=[base.domain])} == own


@pytest.mark.parametrize("base", BASES[:1] + BASES[2:], ids=PREPROCESSING)
def test_no_two_entries_are_the_same_deployment(base: Deployment) -> None:
    taken = [e for e in catalog().values() if takes(base.domain, e) and _changed(base, e)]
    made = [base.deviate(e.deviations).model_dump_json() for e in taken]
    assert len(set(made)) == len(made)


def test_equivalent_entries_leave_preprocessing_and_precision_alone() -> None:
    for environment in select(groups=["equivalent"]):
        assert all(key.startswith(("runtime.", "graph.")) for key in environment.deviations)


@pytest.mark.parametrize("domain", CORRUPTIONS)
def test_every_family_of_corruptions_is_met_as_stress(domain: Domain) -> None:
    met = [e for e in select(groups=["shift"]) if takes(domain, e)]
    assert {e.kind for e in met} == {"stress"}
    at = {(e.deviations["shift.corruption"], e.deviations["shift.severity"]) for e in met}
    assert {name for name, severity in at if severity == 3} == set(CORRUPTIONS[domain])
    assert {1, 3, 5} == {severity for _, severity in at}


def test_the_catalog_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        catalog()["mine"] = REFERENCE_ENVIRONMENT  # type: ignore[index]


# -------------------------------------------------------------------------- selecting


def test_nothing_named_is_everything_in_catalog_order() -> None:
    assert select() == tuple(catalog().values())


def test_names_groups_and_kinds_add_up_without_doubles() -> None:
    chosen = select(["bgr", "int8-dynamic", "bgr"], ["compound", "mistake"])
    names = [environment.name for environment in chosen]
    expected = {"bgr", "int8-dynamic"} | {e.name for e in catalog().values() if "compound" in e.groups}
    expected |= {e.name for e in catalog().values() if e.kind == "mistake"}
    assert set(names) == expected
    assert expected >= {"no-normalization", "scale-0-255", "mobile-int8", "edge-camera", "text-cased", "streaming-port"}
    assert names == [name for name in catalog() if name in expected]


@pytest.mark.parametrize(
    "group",
    [
        "precision",
        "preprocessing",
        "runtime",
        "compound",
        "mobile",
        "vision",
        "text",
        "audio",
        "control",
        "equivalent",
        "lossy",
        "shift",
        "stress",
    ],
)
def test_a_group_or_kind_is_everything_in_it(group: str) -> None:
    chosen = select(groups=[group])
    assert chosen
    assert all((group in e.groups or group == e.kind) == (e in chosen) for e in catalog().values())


@pytest.mark.parametrize(
    ("names", "groups", "text"),
    [
        (["resize-bicubik"], [], r"^Unknown environment 'resize-bicubik'\. Did you mean 'resize-bicubic'.*envs list"),
        (
            ["BGR"],
            [],
            r"^Unknown environment 'BGR'\. Did you mean 'bgr'\? Valid: bgr, .* and \d+ more\. `gapshift envs list`",
        ),
        (
            [],
            ["mobil"],
            r"^Unknown environment group 'mobil'\. Did you mean 'mobile'.*Valid: all, audio, .*compound, control, ",
        ),
        (["bgr"], ["stres"], r"^Unknown environment group 'stres'\. Did you mean 'stress'"),
    ],
)
def test_typos_get_the_nearest_names(names: list[str], groups: list[str], text: str) -> None:
    with pytest.raises(UnknownNameError, match=text):
        select(names, groups)


# ------------------------------------------------------------------------ a user's own


def test_a_user_s_environment_is_chosen_like_any_other(tmp_path: Path) -> None:
    extra = load(_file(tmp_path, ENTRY.format(name="mine") + ENTRY.format(name="other")))
    assert [e.name for e in select(["mine"], extra=extra)] == ["mine"]
    assert [e.name for e in select(extra=extra)] == [*catalog(), "mine", "other"]
    assert select(["mine"], extra=extra)[0].deviations == {"runtime.batch_size": 3}


def test_a_user_s_file_does_not_redefine_the_catalog(tmp_path: Path) -> None:
    """An equivalent environment called lossy would be gated no more."""
    with pytest.raises(SettingsError, match="the catalog has an environment 'bgr'; call yours something else"):
        load(_file(tmp_path, ENTRY.format(name="bgr")))


def test_environments_may_stand_in_a_table_of_that_name(tmp_path: Path) -> None:
    text = 'title = "ours"\n' + ENTRY.format(name="mine").replace("[mine", "[environments.mine")
    assert list(load(_file(tmp_path, text))) == ["mine"]


@pytest.mark.parametrize(
    ("deviations", "resize"),
    [
        ('"preprocessing.resize.interpolation" = "area"', Resize(size=(8, 8), library="opencv", antialias=False)),
        ('"preprocessing.resize.library" = "opencv"', Resize(size=(8, 8), antialias=False)),
        ('"preprocessing.resize.antialias" = true', Resize(size=(8, 8), antialias=False)),
    ],
)
def test_a_deviation_that_some_contracts_can_take_is_loaded(tmp_path: Path, deviations: str, resize: Resize) -> None:
    text = f'[mine]\nkind = "lossy"\nsummary = "s"\n[mine.deviations]\n{deviations}\n'
    environment = load(_file(tmp_path, text))["mine"]
    Deployment(preprocessing=Preprocessing(resize=resize)).deviate(environment.deviations)


@pytest.mark.parametrize(
    ("deviations", "message"),
    [
        ('"preprocessing.max_lenght" = 16', r"'preprocessing\.max_lenght'\. Did you mean 'preprocessing\.max_length'"),
        ('"preprocessing.mel" = 16', r"Unknown deviation 'preprocessing\.mel'\. Did you mean 'preprocessing\.mels'"),
        ('"preprocessing.sensor_gian" = 2', r"Did you mean 'preprocessing\.sensor_gain'"),
        (
            '"preprocessing.gamma" = 2',
            r"Unknown deviation 'preprocessing\.gamma'\..* Valid: .*preprocessing\.resize\.fit",
        ),
        ('"preprocessing.max_length" = 2', r"preprocessing\.max_length: Input should be greater than or equal to 4"),
        ('"preprocessing.window" = "square"', r"preprocessing\.window: Input should be 'hann-periodic', 'hann-symm"),
        (
            '"shift.corruption" = "gausian-noise"',
            r"Unknown corruption 'gausian-noise'\. Did you mean 'gaussian-noise'.* Valid: actuator-noise, babble",
        ),
        ('"shift.corruption" = 3', r"shift\.corruption: Input should be a valid string \(got 3\)"),
        (
            '"shift.corruption" = "snow"\n"shift.severity" = 6',
            r"shift\.severity: Input should be less than or e",
        ),
        (
            '"shift.corruption" = "snow"\n"shift.severity" = 0',
            r"shift\.severity: Input should be greater than or equal to 1",
        ),
        ('"shift.severty" = 3', r"Unknown deviation 'shift\.severty'\. Did you mean 'shift\.severity'"),
        (
            '"shift.severity" = 5',
            r"shift: severity and seed mean nothing without a corruption; set shift\.corr",
        ),
        (
            '"preprocessing.mels" = 40\n"preprocessing.mean" = [0.0]',
            r"preprocessing\.mean: Input should be a valid number",
        ),
    ],
)
def test_a_bad_deviation_of_any_domain_is_named_in_that_domain_s_words(
    tmp_path: Path, deviations: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(_file(tmp_path, f'[mine]\nkind = "lossy"\nsummary = "s"\n[mine.deviations]\n{deviations}\n'))


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        (
            ENTRY.format(name="mine").replace("lossy", "lousy"),
            SettingsError,
            r"mine\.toml \[mine\]: kind: Input should be 'equivalent', 'lossy', 'mistake' or 'stress' \(got 'lousy'\)",
        ),
        (
            ENTRY.format(name="mine").replace("batch_size", "batchsize"),
            SettingsError,
            r"mine\.toml \[mine\]: Unknown deviation 'runtime\.batchsize'\. Did you mean 'runtime\.batch_size'",
        ),
        (
            ENTRY.format(name="mine").replace("= 3", '= "three"'),
            SettingsError,
            r"mine\.toml \[mine\]: runtime\.batch_size: Input should be a valid integer.*\(got 'three'\)",
        ),
        (
            '[mine]\nkind = "lossy"\nsummary = "s"\n[mine.deviations]\n"preprocessing.mean" = [nan]\n',
            SettingsError,
            r"mine\.toml \[mine\]: preprocessing\.mean\.0: Input should be a finite number",
        ),
        (
            '[mine]\nkind = "lossy"\nsummary = "s"\n[mine.deviations]\n"preprocessing.resize.interpolation" = "area"\n'
            '"preprocessing.resize.library" = "pillow"\n',
            SettingsError,
            r"mine\.toml \[mine\]: preprocessing\.resize: pillow has no 'area' kernel",
        ),
        (
            '[mine]\nkind = "lossy"\nsummary = "A place."\n',
            SettingsError,
            r"mine\.toml \[mine\]: no deviations; name at least one\.",
        ),
        (
            ENTRY.format(name="reference"),
            SettingsError,
            r"mine\.toml: the name 'reference' is taken; call the environment something else\.",
        ),
        (ENTRY.format(name="training"), SettingsError, r"the name 'training' is taken"),
        (
            ENTRY.format(name="mine").replace('kind = "lossy"', 'kind = "lossy"\nname = "reference"'),
            SettingsError,
            r"mine\.toml \[mine\]: the table's header is the name; take the key 'name' away\.",
        ),
        ("mine = 3\n", SettingsError, r"mine\.toml: 'mine' is not a table; an environment is a \[mine\] table\."),
        ("", SettingsError, r"mine\.toml holds no environments; an environment is a \[name\] table\."),
        ("[[environments]]\nname = 'a'\n", SettingsError, r"mine\.toml holds no environments"),
        (
            ENTRY.format(name="mine").replace("summary", "sumary"),
            GapshiftError,
            r"mine\.toml \[mine\]",
        ),
        (
            ENTRY.format(name="mine").replace('kind = "lossy"\n', 'kind = "lossy"\ngroup = ["a"]\n'),
            UnknownNameError,
            r"^Unknown key in .*mine\.toml \[mine\] 'group'\. Did you mean 'groups'",
        ),
        (ENTRY.format(name='"No Good"'), SettingsError, r"\[No Good\]: name: String should match pattern"),
        ("[mine", SettingsError, r"mine\.toml is not readable TOML"),
    ],
)
def test_a_bad_entry_is_an_error_when_the_file_is_read(
    tmp_path: Path, text: str, error: type[GapshiftError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(_file(tmp_path, text))


def test_the_reference_has_no_deviations() -> None:
    assert REFERENCE_ENVIRONMENT.deviations == {}
    assert REFERENCE_ENVIRONMENT.name not in catalog()
