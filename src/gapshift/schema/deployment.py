"""Environments: everything that a deployment settles, and deviations as dotted keys into it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator
from pydantic_core import to_jsonable_python

from gapshift.errors import SettingsError, UnknownNameError
from gapshift.schema.base import REFERENCE, Domain, Frozen, Grown, Kind
from gapshift.schema.contract import PREPROCESSING, OfOneDomain


class Precision(Grown):
    """The number format that a deployment asks for.

    ``int8-qdq`` is static quantisation with QuantizeLinear/DequantizeLinear pairs, ``int16x8-qdq`` the same
    with 16-bit activations, ``int4-weights`` keeps activations as they are. Formats that end in ``-emulated``
    round inside a float32 graph and are called so everywhere. ``keep_float32`` names operator types that
    ``float16`` and ``bfloat16`` leave as they were. ``per_channel``: one scale per output channel of int8 weights.
    A static quantiser finds ranges by ``calibrator`` on ``calibration_items`` items (null: all there are), of
    ``calibration_levels`` alone (empty: of any level; several: equally many of each, rounded down). A set that has
    fewer makes the cell not applicable.
    """

    later: ClassVar[tuple[str, ...]] = ("keep_float32", "calibration_items", "calibration_levels")

    format: Literal[
        "float32", "float16", "bfloat16", "int8-dynamic", "int8-qdq", "int16x8-qdq", "int4-weights",
        "tf32-emulated", "bfloat16-emulated", "float16-emulated", "fp8-e4m3-emulated", "fp8-e5m2-emulated",
    ] = "float32"  # fmt: skip
    per_channel: bool = False
    calibrator: Literal["minmax", "entropy", "percentile"] = "minmax"
    keep_float32: tuple[str, ...] = ()
    calibration_items: Annotated[int, Field(ge=1)] | None = None
    calibration_levels: tuple[Annotated[int, Field(ge=1, le=5)], ...] = ()

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Self:
        if self.keep_float32 and self.format not in ("float16", "bfloat16"):
            raise ValueError(f"keep_float32 means nothing for {self.format}; it is for float16 and bfloat16")
        chosen = self.calibration_items is not None or self.calibration_levels
        if chosen and self.format not in CALIBRATED_FORMATS:
            raise ValueError(
                f"{self.format} is not calibrated; calibration_items and calibration_levels are for "
                f"{' and '.join(CALIBRATED_FORMATS)}"
            )
        if self.calibrator != "minmax" and self.format not in CALIBRATED_FORMATS:
            raise ValueError(f"{self.format} has no calibrator; that is for {' and '.join(CALIBRATED_FORMATS)}")
        if self.per_channel and self.format not in _PER_CHANNEL:
            raise ValueError(f"per_channel means nothing for {self.format}; it is for {', '.join(_PER_CHANNEL)}")
        if len(set(self.calibration_levels)) < len(self.calibration_levels):
            raise ValueError("calibration_levels names a level twice; equally many items are taken of each")
        if self.calibration_items is not None and self.calibration_items < len(self.calibration_levels):
            raise ValueError(
                "calibration_items is smaller than the number of calibration_levels; give each one at least"
            )
        return self


CALIBRATED_FORMATS = ("int8-qdq", "int16x8-qdq")
"""Number formats whose quantiser needs calibration items."""
_PER_CHANNEL = ("int8-dynamic", *CALIBRATED_FORMATS)


class Graph(Frozen):
    """What converters change inside a model silently, as rewrites of the ONNX file (null: as given).

    ``max_pool``: windows that reach over the edge count (``ceil``) or not. ``resize_mode`` and
    ``resize_coordinates`` of Resize nodes, in ONNX's words. ``batch_norm``: ``folded`` into the
    convolution or matrix product before it. ``normalization_epsilon`` of batch, layer, group and instance
    normalisation. ``gelu``: ``exact`` (erf) or ``tanh``. ``softmax`` in half precision. ``average_pool``:
    padding counted in the mean, or not.
    """

    max_pool: Literal["ceil", "floor"] | None = None
    resize_mode: Literal["nearest", "linear", "cubic"] | None = None
    resize_coordinates: Literal["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"] | None = None
    batch_norm: Literal["folded"] | None = None
    normalization_epsilon: Annotated[float, Field(gt=0, lt=1)] | None = None
    gelu: Literal["exact", "tanh"] | None = None
    softmax: Literal["float16"] | None = None
    average_pool: Literal["padding-counted", "padding-excluded"] | None = None


class Runtime(Grown):
    """What executes the graph. ``precision_hint`` is OpenVINO's own (null: its default), and so is ``hint``.

    ``inter_op_threads`` run independent nodes at once where ``execution`` is ``parallel``. ``arena``: memory is
    kept between calls. ``order`` is a seed by which the items' order, and so who shares a batch, is drawn
    (null: as the data has it).
    """

    later: ClassVar[tuple[str, ...]] = ("inter_op_threads", "execution", "arena", "hint", "order")

    engine: Literal["onnxruntime", "onnx-reference", "openvino", "opencv-dnn", "torch"] = "onnxruntime"
    provider: str = "CPUExecutionProvider"
    optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    intra_op_threads: Annotated[int, Field(ge=1, le=1024)] = 2
    inter_op_threads: Annotated[int, Field(ge=1, le=1024)] = 1
    execution: Literal["sequential", "parallel"] = "sequential"
    arena: bool = True
    batch_size: Annotated[int, Field(ge=1)] = 16
    precision_hint: Literal["f32", "bf16", "f16"] | None = None
    hint: Literal["latency", "throughput"] = "latency"
    order: Annotated[int, Field(ge=0)] | None = None


CORRUPTIONS: dict[Domain, tuple[str, ...]] = {
    "vision": (
        "gaussian-noise", "shot-noise", "impulse-noise", "defocus-blur", "glass-blur", "motion-blur", "zoom-blur",
        "snow", "frost", "fog", "brightness", "contrast", "elastic", "pixelate", "jpeg",
    ),
    "text": (
        "keyboard-typos", "swapped-letters", "dropped-letters", "casing", "homoglyphs", "dropped-words",
    ),
    "audio": (
        "white-noise", "pink-noise", "babble-noise", "reverberation", "clipping", "packet-loss",
    ),
    "control": (
        "physics", "gravity", "weak-actuator", "heavy-cart", "heavy-pole", "long-pole", "sensor-noise",
        "actuator-noise",
    ),
}  # fmt: skip
"""The families of corruptions that each domain has. No two domains share a name."""


class Shift(Frozen):
    """Items unlike those of training: each is corrupted before preprocessing.

    ``corruption`` is one of the domain's CORRUPTIONS (null: none) at ``severity`` 1 (mild) to 5;
    what it does to an item follows from these, ``seed`` and the item's id alone. Raises
    UnknownNameError for a corruption that no domain has.
    """

    corruption: str | None = None
    severity: Annotated[int, Field(ge=1, le=5)] = 3
    seed: Annotated[int, Field(ge=0)] = 0

    @field_validator("corruption")
    @classmethod
    def _exists(cls, corruption: str | None) -> str | None:
        known = [name for names in CORRUPTIONS.values() for name in names]
        if corruption is not None and corruption not in known:
            raise UnknownNameError("corruption", corruption, known)
        return corruption

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Self:
        if self.corruption is None and (self.severity, self.seed) != (3, 0):
            raise ValueError("severity and seed mean nothing without a corruption; set shift.corruption as well")
        return self


class Service(Frozen):
    """A preprocessing or feature service that stands between an item and the model.

    Each request takes a log-normal time: ``latency_ms`` is its median, ``latency_spread`` the standard deviation
    of its logarithm. It fails where that exceeds ``timeout_ms`` or, at ``error_rate``, with an error; then it is
    asked up to ``retries`` times more. What it answers is at ``stale_rate`` the answer to the request before, at
    ``corruption_rate`` garbled; nobody notices either. Where every attempt failed the deployment falls back: to a
    ``default`` input, to the ``last`` one that it got, or it ``skip``s the item. Time is simulated. What befalls
    an item follows from its id and ``seed`` alone; requests come in an order drawn by ``seed``.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    latency_ms: Annotated[float, Field(ge=0)] = 0.0
    latency_spread: Annotated[float, Field(ge=0)] = 0.5
    timeout_ms: Annotated[float, Field(gt=0)] | None = None
    error_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    stale_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    corruption_rate: Annotated[float, Field(ge=0, le=1)] = 0.0
    retries: Annotated[int, Field(ge=0, le=100)] = 0
    fallback: Literal["default", "last", "skip"] = "skip"
    seed: Annotated[int, Field(ge=0)] = 0

    @property
    def fails(self) -> bool:
        """Whether a request can fail at all."""
        return self.error_rate > 0 or (self.timeout_ms is not None and self.latency_ms > 0)

    @model_validator(mode="after")
    def _nothing_is_set_in_vain(self) -> Self:
        if self.latency_ms and self.timeout_ms is None:
            raise ValueError("latency_ms alone changes no answer; set service.timeout_ms as well")
        if self.timeout_ms is not None and not self.latency_ms:
            raise ValueError("timeout_ms is never reached without latency; set service.latency_ms as well")
        if (self.retries or self.fallback != "skip") and not self.fails:
            raise ValueError(
                "retries and fallback mean nothing where no request fails; set service.error_rate, or latency_ms "
                "and timeout_ms"
            )
        return self


class Deployment(OfOneDomain):
    """Everything that a deployment settles. Deviations are dotted keys into it."""

    later: ClassVar[tuple[str, ...]] = ("graph", "shift", "service")

    graph: Graph = Graph()
    precision: Precision = Precision()
    runtime: Runtime = Runtime()
    shift: Shift = Shift()
    service: Service = Service()

    @model_validator(mode="after")
    def _corruption_is_of_the_domain(self) -> Self:
        name, own = self.shift.corruption, CORRUPTIONS[self.domain]
        if name is not None and name not in own:
            raise ValueError(f"{self.domain} has no corruption {name!r}; it has {', '.join(own)}")
        return self

    def deviate(self, deviations: Mapping[str, Any]) -> Deployment:
        """This deployment with each dotted key set to its value.

        Raises UnknownNameError for a key that does not exist (with the nearest ones)
        and SettingsError for a value it cannot take, or a combination that contradicts
        itself.

        >>> from gapshift.schema import Preprocessing, Resize
        >>> base = Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8))))
        >>> base.deviate({"runtime.batch_size": 1}).runtime.batch_size
        1
        """
        tree = self.model_dump(mode="json")
        valid = tuple(key for key in dotted(self) if key != "domain")
        for key, value in deviations.items():
            if key not in valid:
                raise UnknownNameError(
                    "deviation", key, valid, "Deviations are dotted keys in quotes, such as 'runtime.batch_size'."
                )
            *parents, last = key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})  # a later field at its default is not there
            node[last] = value
        try:
            made = Deployment.model_validate(tree)
        except ValidationError as error:
            raise SettingsError(_first_problem(error)) from error
        _refuse_converted(deviations, dotted(made))
        return made

    def differences(self, other: Deployment) -> dict[str, Any]:
        """Dotted keys whose value in ``other`` is not this one's, with that value."""
        mine, theirs = dotted(self), dotted(other)
        return {key: theirs[key] for key in mine if mine[key] != theirs[key]}


def dotted(noun: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a noun, said in its JSON or not, with the value as JSON has it.

    >>> dotted(Precision())["format"]
    'float32'
    """
    leaves: dict[str, Any] = {}
    for name in type(noun).model_fields:
        value, path = getattr(noun, name), f"{prefix}{name}"
        leaves |= dotted(value, f"{path}.") if isinstance(value, BaseModel) else {path: to_jsonable_python(value)}
    return leaves


def _refuse_converted(deviations: Mapping[str, Any], taken: Mapping[str, Any]) -> None:
    """What stands in a file is what is meant: true is no number, and a number in quotation marks none either."""
    for key, value in deviations.items():
        if isinstance(value, (bool, str)) and type(taken[key]) is not type(value):
            kind = "true or false" if isinstance(value, bool) else "a text"
            raise SettingsError(f"{key}: {value!r} is {kind}, and is taken for {taken[key]!r}. Write what is meant.")


def _first_problem(error: ValidationError) -> str:
    problem = error.errors()[0]
    where = ".".join(str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return f"{where}: {message}{got}"


class Environment(Frozen):
    """A named set of deviations from the contract, of one kind.

    ``summary`` says in one sentence where it is met in practice. ``subsample`` marks
    runtimes so slow that they answer a level-stratified sample, whose n is stated.
    """

    # No two separators in a row: BUNDLE--ENVIRONMENT.parquet must name one cell only.
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$", max_length=120)]
    kind: Kind
    summary: str
    deviations: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    subsample: bool = False


def listing(deviations: Mapping[str, Any]) -> str:
    """Deviations in words.

    >>> listing({"preprocessing.jpeg_quality": 50, "runtime.batch_size": 1})
    'preprocessing.jpeg_quality = 50, runtime.batch_size = 1'
    """
    return ", ".join(f"{key} = {value}" for key, value in deviations.items())


REFERENCE_ENVIRONMENT = Environment(
    name=REFERENCE, kind="equivalent", summary="The ONNX file as given, on ONNX Runtime's CPU provider."
)
"""What every environment is compared with: it deviates in nothing."""


def takes(domain: Domain, environment: Environment) -> bool:
    """Whether models of ``domain`` can have every deviation: its key, and a value of that key's kind.

    The value matters where several domains have a key: ``mean`` is one number for log-mel features
    and one a channel for pixels. A value that suits none of them is everyone's: ``Deployment.deviate``
    says what is wrong with it. A corruption belongs to the domain that has it.
    """
    return all(domain in _domains_of(key, value) for key, value in environment.deviations.items())


def _domains_of(key: str, value: Any) -> tuple[Domain, ...]:
    if key == "shift.corruption":
        return tuple(domain for domain, names in CORRUPTIONS.items() if value in names) or tuple(PREPROCESSING)
    axis, *path = key.split(".")
    if axis != "preprocessing":
        return tuple(PREPROCESSING)
    having = tuple(domain for domain, kind in PREPROCESSING.items() if path and path[0] in kind.model_fields)
    if len(having) < 2 or len(path) > 1:
        return having
    return tuple(domain for domain in having if _is_of_kind(value, domain, path[0])) or having


def _is_of_kind(value: Any, domain: Domain, field: str) -> bool:
    try:
        _kind_of(domain, field).validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _kind_of(domain: Domain, field: str) -> TypeAdapter[Any]:
    kind: Any = PREPROCESSING[domain].model_fields[field].annotation
    return TypeAdapter(kind)
