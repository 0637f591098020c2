"""The nouns: frozen, strict, and precise about what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema import (
    CORRUPTIONS,
    PREPROCESSING,
    YUV,
    AnyPreprocessing,
    AudioPreprocessing,
    Bundle,
    Contract,
    ControlPreprocessing,
    Deployment,
    Domain,
    Environment,
    Graph,
    ModelInterface,
    Precision,
    Preprocessing,
    Resize,
    RunPlan,
    Runtime,
    Service,
    Shift,
    TextPreprocessing,
    canonical_json,
    digest,
    environments_for,
    takes,
)

BASE = Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8))))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


# --------------------------------------------------------------------------- deviate


def test_deviations_are_set_and_the_rest_stays() -> None:
    other = BASE.deviate({"runtime.batch_size": 1, "preprocessing.resize.interpolation": "nearest"})
    assert other.runtime == Runtime(batch_size=1)
    assert other.preprocessing.resize == Resize(size=(8, 8), interpolation="nearest")
    assert other.precision == BASE.precision
    assert BASE.runtime.batch_size == 16


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("runtime.batchsize", "'runtime.batch_size'"),
        ("resize.interpolation", "'preprocessing.resize.interpolation'"),
        ("precision.fromat", "'precision.format'"),
        ("preprocessing.resize", "'preprocessing.resize"),
        ("precision", "'precision.calibrator'"),
    ],
)
def test_an_unknown_deviation_gets_the_nearest_names(key: str, nearest: str) -> None:
    with pytest.raises(UnknownNameError) as raised:
        BASE.deviate({key: 1})
    text = str(raised.value)
    assert text.startswith(f"Unknown deviation {key!r}. Did you mean ")
    assert nearest in text.split("Valid:")[0]
    assert text.endswith("Deviations are dotted keys in quotes, such as 'runtime.batch_size'.")
    assert all(name in text for name in ("preprocessing.color", "precision.calibrator", "runtime.engine"))


@pytest.mark.parametrize(
    ("deviations", "text"),
    [
        ({"runtime.batch_size": 0}, r"runtime\.batch_size: .*greater than or equal to 1 \(got 0\)"),
        ({"runtime.batch_size": True}, r"^runtime\.batch_size: True is true or false, and is taken for 1\. Write"),
        ({"runtime.batch_size": "4"}, r"^runtime\.batch_size: '4' is a text, and is taken for 4\. Write what is meant"),
        ({"runtime.intra_op_threads": 100_000}, r"runtime\.intra_op_threads: .*less than or equal to 1024"),
        ({"service.error_rate": 0.1, "service.retries": 10**8}, r"service\.retries: .*less than or equal to 100 "),
        ({"precision.format": "int7"}, r"precision\.format: Input should be 'float32'.* \(got 'int7'\)"),
        ({"preprocessing.jpeg_quality": 101}, r"preprocessing\.jpeg_quality: .*\(got 101\)"),
        ({"preprocessing.resize.size": [0, 8]}, r"preprocessing\.resize\.size\.0: .*\(got 0\)"),
        ({"preprocessing.mean": [0.5, 0.5]}, r"preprocessing: mean has 2 values; RGB takes 1 or 3$"),
        ({"preprocessing.color": "L", "preprocessing.std": [1.0] * 3}, "std has 3 values; L takes 1$"),
        ({"preprocessing.resize.library": "opencv"}, r"^preprocessing\.resize: opencv's 'bilinear' does not antialias"),
        ({"preprocessing.resize.interpolation": "area"}, "pillow has no 'area' kernel; it has nearest, bilinear"),
        ({"preprocessing.scale": float("nan")}, r"preprocessing\.scale: .*\(got nan\)"),
        ({"shift.corruption": "snow", "shift.severity": 6}, r"shift\.severity: .*less than or equal to 5 \(got 6\)"),
        ({"shift.corruption": "snow", "shift.seed": -1}, r"shift\.seed: .*greater than or equal to 0 \(got -1\)"),
        (
            {"shift.severity": 5},
            r"^shift: severity and seed mean nothing without a corruption; set shift\.corr",
        ),
        ({"shift.seed": 1}, r"^shift: severity and seed mean nothing without a corruption"),
        ({"shift.corruption": "homoglyphs"}, r"vision has no corruption 'homoglyphs'; it has gaussian-noise, shot-noi"),
        (
            {"preprocessing.mean": [float("nan")]},
            r"preprocessing\.mean\.0: Input should be a finite number \(got nan\)",
        ),
        ({"preprocessing.std": [float("inf")]}, r"preprocessing\.std\.0: Input should be a finite number \(got inf\)"),
    ],
)
def test_a_value_that_cannot_be_is_refused(deviations: dict[str, Any], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        BASE.deviate(deviations)


def test_a_corruption_that_exists_nowhere_gets_the_nearest_names() -> None:
    with pytest.raises(UnknownNameError, match=r"^Unknown corruption 'gausian-noise'\. Did you mean 'gaussian-noise'"):
        BASE.deviate({"shift.corruption": "gausian-noise"})


def test_names_of_corruptions_tell_the_domain() -> None:
    for domain, names in CORRUPTIONS.items():
        for name in names:
            environment = Environment(
                name="e", kind="stress", summary="s", deviations={"shift.corruption": name, "shift.severity": 5}
            )
            assert [other for other in PREPROCESSING if takes(other, environment)] == [domain]
    unknown = Environment(name="e", kind="stress", summary="s", deviations={"shift.corruption": "drizzle"})
    assert all(takes(domain, unknown) for domain in PREPROCESSING)


def test_values_that_contradict_one_by_one_may_agree_together() -> None:
    together = {"preprocessing.resize.library": "opencv", "preprocessing.resize.antialias": False}
    assert BASE.deviate(together).preprocessing.resize.library == "opencv"


def _deployments() -> st.SearchStrategy[Deployment]:
    resize = st.builds(
        Resize,
        size=st.tuples(st.integers(1, 512), st.integers(1, 512)),
        interpolation=st.sampled_from(["nearest", "bilinear", "bicubic"]),
        antialias=st.booleans(),
        fit=st.sampled_from(["squash", "crop", "letterbox"]),
    )
    value = st.floats(0.001, 1.0)
    preprocessing = st.builds(
        Preprocessing,
        resize=resize,
        color=st.sampled_from(["RGB", "BGR"]),
        jpeg_quality=st.none() | st.integers(1, 100),
        scale=value,
        mean=st.tuples(value) | st.tuples(value, value, value),
        std=st.tuples(value) | st.tuples(value, value, value),
        layout=st.sampled_from(["NCHW", "NHWC"]),
    )
    return st.builds(
        Deployment,
        preprocessing=preprocessing,
        precision=st.builds(Precision)
        | st.builds(Precision, format=st.just("int8-dynamic"), per_channel=st.booleans()),
        runtime=st.builds(
            Runtime, batch_size=st.integers(1, 64), precision_hint=st.sampled_from([None, "f32", "bf16"])
        ),
        shift=st.just(Shift())
        | st.builds(
            Shift,
            corruption=st.sampled_from(CORRUPTIONS["vision"]),
            severity=st.integers(1, 5),
            seed=st.integers(0, 9),
        ),
        graph=st.builds(Graph, gelu=st.sampled_from([None, "tanh"]), batch_norm=st.sampled_from([None, "folded"])),
        service=st.just(Service()) | st.builds(Service, error_rate=st.floats(0.1, 1), retries=st.integers(0, 3)),
    )


@given(_deployments(), _deployments())
@settings(max_examples=60, deadline=None)
def test_differences_round_trip_through_deviate(one: Deployment, other: Deployment) -> None:
    assert one.deviate(one.differences(other)) == other
    assert one.differences(one) == {}
    assert set(one.differences(other)) == set(other.differences(one))


def test_differences_name_the_other_value() -> None:
    assert BASE.differences(BASE.deviate({"runtime.batch_size": 1})) == {"runtime.batch_size": 1}


# ------------------------------------------------------------------------ validators


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"interpolation": "area"}, "pillow has no 'area' kernel; it has nearest, bilinear, bicubic, lanczos, box"),
        ({"library": "opencv", "interpolation": "box"}, "opencv has no 'box' kernel; it has nearest, bilinear"),
        ({"library": "opencv"}, "set antialias = false or library = 'pillow'"),
        ({"interpolation": "lanczos", "antialias": False}, "pillow without antialias has nearest, bilinear, bicubic"),
        ({"size": (0, 8)}, "greater than or equal to 1"),
        ({"fit": "stretch"}, "Input should be 'squash', 'crop' or 'letterbox'"),
        ({"library": "torch", "interpolation": "lanczos"}, "torch has no 'lanczos' kernel; it has nearest, bilinear, "),
        ({"library": "opencv", "interpolation": "linear-exact"}, "opencv's 'linear-exact' does not antialias"),
        (
            {"coordinates": "align-corners"},
            "coordinates 'align-corners' are of torch's bilinear and bicubic, not of pillow's 'bilinear'; set coord",
        ),
        (
            {"coordinates": "align-corners", "library": "torch", "interpolation": "nearest"},
            "bilinear and bicubic, not of torch's 'nearest'; set coordinates = 'half-pixel'",
        ),
    ],
)
def test_resize_says_what_the_library_has(fields: dict[str, Any], text: str) -> None:
    with pytest.raises(ValidationError, match=text):
        Resize.model_validate({"size": (8, 8), **fields})


@pytest.mark.parametrize("interpolation", ["nearest", "area"])
def test_opencv_kernels_that_antialias_does_not_touch(interpolation: str) -> None:
    Resize.model_validate({"size": (8, 8), "library": "opencv", "interpolation": interpolation})


@pytest.mark.parametrize("decoder", ["pillow", "pillow-draft", "opencv"])
def test_a_decoder_of_one_chroma_upsampling_says_so(decoder: str) -> None:
    text = f"{decoder} has one chroma upsampling, its own; leave chroma_upsampling out or set decoder = 'simplejpeg'"
    with pytest.raises(ValidationError, match=text):
        Preprocessing.model_validate({"resize": {"size": (8, 8)}, "decoder": decoder, "chroma_upsampling": "plain"})


FIRST_KEYS = {"decoder", "color", "jpeg_quality", "resize", "scale", "mean", "std", "layout", "dtype"}
FIRST_RESIZE_KEYS = {"size", "library", "interpolation", "antialias", "fit"}


def test_keys_that_came_later_are_written_only_where_they_matter() -> None:
    """So contracts of before keep their digests, and older versions read new files."""
    tree = Preprocessing(resize=Resize(size=(8, 8))).model_dump(mode="json")
    assert set(tree) == FIRST_KEYS
    assert set(tree["resize"]) == FIRST_RESIZE_KEYS
    white = Preprocessing(resize=Resize(size=(8, 8)), alpha="on-white", yuv=YUV(matrix="bt601"))
    assert set(white.model_dump(mode="json")) == FIRST_KEYS | {"alpha", "yuv"}
    assert Preprocessing.model_validate_json(white.model_dump_json()) == white


def test_keys_that_are_not_written_can_be_deviated_from_and_compared() -> None:
    changes = {
        "preprocessing.yuv.chroma": "nv12",
        "preprocessing.yuv.matrix": "bt709",
        "preprocessing.alpha": "on-black",
    }
    one = Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8))))
    other = one.deviate(changes)
    assert one.differences(other) == changes
    assert other.differences(one) == {
        "preprocessing.yuv.chroma": "4:4:4",
        "preprocessing.yuv.matrix": "none",
        "preprocessing.alpha": "dropped",
    }
    assert other.deviate(other.differences(one)) == one


def test_channels_follow_the_color() -> None:
    resize = Resize(size=(8, 8))
    assert Preprocessing(resize=resize, mean=(0.1, 0.2, 0.3)).channels == 3
    assert Preprocessing(resize=resize, color="L").channels == 1
    with pytest.raises(ValidationError, match="mean has 3 values; L takes 1"):
        Preprocessing(resize=resize, color="L", mean=(0.1, 0.2, 0.3))
    with pytest.raises(ValidationError, match="greater than 0"):
        Preprocessing(resize=resize, std=(0.0,))


@pytest.mark.parametrize("name", ["", "Upper", "a b", "../x", "-x", "a/b"])
def test_environment_names_are_file_names(name: str) -> None:
    with pytest.raises(ValidationError, match="String should match pattern"):
        Environment(name=name, kind="lossy", summary="s")


@pytest.mark.parametrize("margin", [0.0, 100.0, float("nan")])
def test_a_margin_is_between_0_and_100(margin: float) -> None:
    with pytest.raises(ValidationError, match="margin_pp"):
        RunPlan(command="check", tasks=(), bundles=(), environments=(), margin_pp=margin)


# -------------------------------------------------------------------- frozen, strict

CONTRACT = Contract(preprocessing=BASE.preprocessing, model=ModelInterface(input="x", output="y", labels=("a", "b")))
NOUNS = [
    BASE,
    CONTRACT,
    Bundle(name="b", path="b.onnx", sha256="0", contract=CONTRACT),
    Environment(name="e", kind="lossy", summary="s"),
]


@pytest.mark.parametrize("noun", NOUNS, ids=lambda noun: type(noun).__name__)
def test_nouns_are_frozen_and_refuse_unknown_keys(noun: Any) -> None:
    first = next(iter(type(noun).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(noun, first, getattr(noun, first))
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        type(noun).model_validate(noun.model_dump() | {"unheard_of": 1})
    assert type(noun).model_validate_json(noun.model_dump_json()) == noun


def test_a_contract_of_another_version_is_refused() -> None:
    with pytest.raises(ValidationError, match="schema_version"):
        Contract.model_validate(CONTRACT.model_dump() | {"schema_version": 2})


# ---------------------------------------------------------------------------- digest


def _reordered(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _reordered(inner) for key, inner in reversed(value.items())}
    return [_reordered(inner) for inner in value] if isinstance(value, list) else value


@given(JSON)
@settings(max_examples=80, deadline=None)
def test_digest_does_not_depend_on_the_order_of_keys(value: Any) -> None:
    assert digest(value) == digest(_reordered(value))


@given(JSON, JSON)
@settings(max_examples=80, deadline=None)
def test_different_values_have_different_digests(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (canonical_json(one) == canonical_json(other))


def test_digest_is_the_same_on_every_machine() -> None:
    expected = "e57f5d37865437a82e1108bafb4e5213dfe7e9085f5c253341ebbab30cac5faf"
    assert digest({"b": [1, 2.5], "a": None}) == expected
    assert canonical_json({"b": [1, 2.5], "a": None}) == '{"a":null,"b":[1,2.5]}'


def test_nan_has_no_digest() -> None:
    with pytest.raises(ValueError, match="Out of range float"):
        digest({"mean": float("nan")})


@pytest.mark.parametrize("statistic", [{"mean": (0.5,)}, {"std": (2.0,)}])
def test_raw_pixels_have_no_mean_and_std(statistic: dict[str, tuple[float, ...]]) -> None:
    with pytest.raises(ValidationError, match="dtype uint8 gives the model raw pixels"):
        Preprocessing(resize=Resize(size=(8, 8)), dtype="uint8", **statistic)


def test_a_label_stands_once() -> None:
    with pytest.raises(ValidationError, match="the label 'cat' stands there more than once"):
        ModelInterface(input="x", output="y", labels=("cat", "dog", "cat"))


# ------------------------------------------------------- which domains take a deviation

OF_EACH: dict[Domain, AnyPreprocessing] = {
    "vision": Preprocessing(resize=Resize(size=(8, 8)), mean=(0.4, 0.5, 0.6)),
    "text": TextPreprocessing(),
    "audio": AudioPreprocessing(mean=-3.0, std=2.0),
    "control": ControlPreprocessing(offset=(0.0, 1.0), scale=(1.0, 2.0)),
}


def _environment(deviations: dict[str, Any], name: str = "e") -> Environment:
    return Environment(name=name, kind="lossy", summary="s", deviations=deviations)


def _taken(deviations: dict[str, Any]) -> list[str]:
    return [domain for domain in PREPROCESSING if takes(domain, _environment(deviations))]


@pytest.mark.parametrize(
    ("deviations", "domains"),
    [
        ({}, ["vision", "text", "audio", "control"]),
        ({"runtime.batch_size": 1, "precision.format": "float16"}, ["vision", "text", "audio", "control"]),
        ({"preprocessing.resize.fit": "crop"}, ["vision"]),
        ({"preprocessing.lowercase": False, "runtime.batch_size": 1}, ["text"]),
        ({"preprocessing.mean": [0.0], "preprocessing.std": [1.0]}, ["vision"]),
        ({"preprocessing.mean": 0.0, "preprocessing.std": 1}, ["audio"]),
        ({"preprocessing.mean": None}, ["audio"]),
        ({"preprocessing.scale": 1.0}, ["vision"]),
        ({"preprocessing.scale": [1.0, 2.0]}, ["control"]),
        ({"preprocessing.window": 8}, ["control"]),
        ({"preprocessing.window": "hann-symmetric"}, ["audio"]),
        ({"preprocessing.mean": [0.0], "preprocessing.std": 1.0}, []),
        ({"preprocessing.mean": [0.0], "preprocessing.lowercase": False}, []),
        ({"preprocessing.no_such_key": 1}, []),
        ({"preprocessing": 1}, []),
    ],
)
def test_a_deviation_is_taken_by_the_domains_that_have_its_key_and_its_kind_of_value(
    deviations: dict[str, Any], domains: list[str]
) -> None:
    assert _taken(deviations) == domains


@pytest.mark.parametrize(
    ("deviations", "domains"),
    [
        ({"preprocessing.mean": "grey"}, ["vision", "audio"]),
        ({"preprocessing.window": "square"}, ["audio", "control"]),
        ({"preprocessing.max_length": "long"}, ["text"]),
        ({"preprocessing.std": [0.0]}, ["vision", "audio"]),
    ],
)
def test_a_value_that_is_wrong_everywhere_is_left_to_deviate(deviations: dict[str, Any], domains: list[Domain]) -> None:
    """So that a mistake in a value is an error that names it, and not an environment for nobody."""
    assert _taken(deviations) == domains
    for domain in domains:
        with pytest.raises(SettingsError, match=next(iter(deviations))):
            Deployment(domain=domain, preprocessing=OF_EACH[domain]).deviate(deviations)


LEAVES = [(domain, key) for domain, how in OF_EACH.items() for key in how.model_dump(mode="json")]


@given(st.lists(st.sampled_from(LEAVES), min_size=1, max_size=4, unique_by=lambda leaf: leaf[1]))
def test_a_domain_takes_whatever_its_own_contracts_hold(leaves: list[tuple[Domain, str]]) -> None:
    """Values of a contract of a domain are taken by that domain, and by no other that has the keys."""
    domains = {domain for domain, _ in leaves}
    deviations = {f"preprocessing.{key}": OF_EACH[domain].model_dump(mode="json")[key] for domain, key in leaves}
    assert _taken(deviations) == (list(domains) if len(domains) == 1 else [])


def _of_domain(domain: Domain) -> Bundle:
    contract = Contract(
        domain=domain, preprocessing=OF_EACH[domain], model=ModelInterface(input="x", output="y", labels=("a", "b"))
    )
    return Bundle(name=domain, path="m.onnx", sha256="0", contract=contract, domain=domain)


def test_a_bundle_is_planned_the_environments_of_its_domain_and_those_of_nobody_s() -> None:
    batch, bgr = _environment({"runtime.batch_size": 1}, "batch"), _environment({"preprocessing.color": "BGR"}, "bgr")
    raw = _environment({"preprocessing.mean": 0.0}, "raw")
    late, gone = _environment({"preprocessing.delay": 1}, "late"), _environment({"preprocessing.gone": 1}, "gone")
    every = (late, gone, raw, batch, bgr)
    bundles = [_of_domain("vision"), _of_domain("audio"), _of_domain("audio")]
    assert environments_for(bundles[0], bundles, every) == (late, gone, batch, bgr)
    assert environments_for(bundles[1], bundles, every) == (late, gone, raw, batch)
    assert environments_for(bundles[0], [bundles[0]], every) == every


def test_what_is_planned_follows_the_contract() -> None:
    audio = _of_domain("audio").model_copy(update={"domain": "vision"})
    raw, bgr = _environment({"preprocessing.mean": 0.0}, "raw"), _environment({"preprocessing.color": "BGR"}, "bgr")
    assert environments_for(audio, [audio, _of_domain("vision")], (raw, bgr)) == (raw,)
