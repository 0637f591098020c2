"""The nouns of gapshift: frozen, versioned, and free of torch and ONNX Runtime.

Everything that crosses a stage boundary or lands on disk is defined here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic_core import to_jsonable_python

from gapshift.errors import SettingsError, UnknownNameError

SCHEMA_VERSION = 1
LEVELS = (1, 2, 3, 4, 5)
LEVEL_CUTS = (-1.5, -0.5, 0.5, 1.5)
"""Where ``level_abs`` cuts linked difficulty, in sd of the responders' abilities."""

Domain = Literal["vision", "text", "audio", "control"]
AnswerKind = Literal["classes", "spans", "episodes"]
"""How an item is answered: one class of several; a span of a text; a whole episode of control."""
OutputKind = Literal["logits", "probabilities", "spans", "actions"]
CLASS_OUTPUTS = ("logits", "probabilities")
"""Kinds of output with one score per class of the data."""
Kind = Literal["equivalent", "lossy", "mistake", "stress"]
CellStatus = Literal["ok", "error", "skipped", "not_applicable"]
Verdict = Literal["PASS", "FAIL", "INCONCLUSIVE", "ERROR", "NO DATA"]
RecordStatus = Literal["ok", "nan_output", "unreadable", "error"]

REFERENCE = "reference"
"""Name of the environment without deviations."""
TRAINING = "training"
"""Name of the cell that holds a bundle's training-side answers."""
TIE_GAP = 1e-4
"""A prediction is a *tie* when its two highest scores lie within this share of the range of the
item's scores (of two classes: when their probabilities lie within it): rounding alone can swap
them, so a change there breaks no equivalence. An episode is as near to a tie as the closest
of its decisions."""


class Frozen(BaseModel):
    """Immutable, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class _Grown(Frozen):
    """A noun that got fields after files of it were written.

    Those in ``later`` are left out of its JSON while they have their defaults, so that what
    behaves as before keeps its digest, and older versions go on reading it.
    """

    later: ClassVar[tuple[str, ...]] = ()

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = type(self).model_fields
        unsaid = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in whole(self).items() if name not in unsaid}


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no spaces, NaN refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value's canonical JSON."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


# --------------------------------------------------------------------------- items

OUTCOMES = ("wrong", "right")
"""The classes of data whose items are answered by a span or an episode."""


@dataclass(frozen=True, slots=True)
class Item:
    """One labelled input. ``id`` is the same on every run and machine.

    ``label`` indexes the data set's classes; where an item is answered by a span or an
    episode the classes are ``OUTCOMES`` and the label is the second. ``level`` is a rating
    1-5 that came with the data, if one did; ``group`` names a cluster (speaker, paragraph)
    that no split may divide.
    """

    id: str
    label: int
    split: str = "all"
    group: str | None = None
    level: int | None = None


# ------------------------------------------------------------------------ contract


class Resize(_Grown):
    """How an image reaches the model's size.

    ``size`` is (height, width) in pixels. ``antialias`` widens the kernel when the
    image shrinks (Pillow does by default, torch on request; OpenCV's kernels cannot, its
    ``area`` is a mean over pixels). With ``nearest``, ``nearest-exact`` and ``area`` it means
    nothing. OpenCV's ``linear-exact`` is its bilinear kernel in fixed point, the same on every
    machine. ``coordinates``: the centres of pixels correspond (``half-pixel``), or those of the
    corner pixels do (``align-corners``, torch's bilinear and bicubic alone).
    ``fit``: ``squash`` to the size; ``crop`` the centre after resizing the shorter
    side; ``letterbox`` into the size with zero padding.
    """

    later: ClassVar[tuple[str, ...]] = ("coordinates",)

    size: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]]
    library: Literal["pillow", "opencv", "torch"] = "pillow"
    interpolation: Literal[
        "nearest", "bilinear", "bicubic", "lanczos", "box", "hamming", "area", "linear-exact", "nearest-exact"
    ] = "bilinear"
    antialias: bool = True
    fit: Literal["squash", "crop", "letterbox"] = "squash"
    coordinates: Literal["half-pixel", "align-corners"] = "half-pixel"

    @model_validator(mode="after")
    def _library_has_the_kernel(self) -> Self:
        has = KERNELS[self.library]
        if self.interpolation not in has:
            raise ValueError(f"{self.library} has no {self.interpolation!r} kernel; it has {', '.join(has)}")
        if self.library == "opencv" and self.antialias and self.interpolation not in UNSMOOTHED:
            raise ValueError(
                f"opencv's {self.interpolation!r} does not antialias; set antialias = false or library = 'pillow'"
            )
        plain = ("nearest", "bilinear", "bicubic")
        if self.library == "pillow" and not self.antialias and self.interpolation not in plain:
            raise ValueError(f"pillow without antialias has {', '.join(plain)}, not {self.interpolation!r}")
        return self

    @model_validator(mode="after")
    def _torch_alone_aligns_corners(self) -> Self:
        if self.coordinates == "align-corners" and (self.library != "torch" or self.interpolation in UNSMOOTHED):
            raise ValueError(
                f"coordinates 'align-corners' are of torch's bilinear and bicubic, not of {self.library}'s "
                f"{self.interpolation!r}; set coordinates = 'half-pixel' or library = 'torch'"
            )
        return self


KERNELS = {
    "pillow": ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"),
    "opencv": ("nearest", "bilinear", "bicubic", "lanczos", "area", "linear-exact", "nearest-exact"),
    "torch": ("nearest", "bilinear", "bicubic", "area", "nearest-exact"),
}
"""Each library's interpolations."""
UNSMOOTHED = ("nearest", "nearest-exact", "area")
"""Interpolations for which ``antialias`` means nothing."""


class YUV(Frozen):
    """RGB through 8-bit YUV and back, as cameras, video and hardware decoders hand pictures over.

    ``matrix`` of ITU-R BT.601 or BT.709 (``none``: nothing of this happens); ``range``: luma
    16-235 and chroma 16-240 (``limited``), or 0-255. ``chroma``: for every pixel, or half as high
    and half as wide (``nv12``). ``read_matrix`` and ``read_range`` are what the reader takes it for
    (null: what it is). ``library``: OpenCV does the arithmetic (chroma: mean of four, repeated), or
    FFmpeg's swscale with its defaults.
    """

    matrix: Literal["none", "bt601", "bt709"] = "none"
    range: Literal["full", "limited"] = "full"
    chroma: Literal["4:4:4", "nv12"] = "4:4:4"
    read_matrix: Literal["bt601", "bt709"] | None = None
    read_range: Literal["full", "limited"] | None = None
    library: Literal["opencv", "ffmpeg"] = "opencv"


class Preprocessing(_Grown):
    """From an item's raw form to the model's input: (pixels * scale - mean) / std.

    ``scale`` multiplies 0-255 pixels. ``mean`` and ``std`` hold one value, or one per
    channel in the order of ``color``. ``jpeg_quality`` re-encodes every image before
    the rest (a camera or an upload path that does).

    ``decoder``: ``pillow-draft`` shrinks JPEGs while it decodes (by 1/2, 1/4 or 1/8 in the DCT, never
    below the model's size); ``pyav`` is FFmpeg; ``simplejpeg`` is libjpeg-turbo (other formats: Pillow).
    ``chroma_upsampling`` (pyav, simplejpeg; null: the decoder's own): JPEG's halved chroma repeated
    (``plain``) or interpolated (``fancy``). ``alpha``: dropped, or the picture composited on white or black.
    ``sixteen_bit``: samples ``scaled`` to their high byte, ``clipped`` at 255, or ``wrapped`` to their low
    byte. ``grey`` makes every picture grey by luma or mean (null: only where ``color`` is L, by the decoder).
    A ``layout`` of A-as-B is the memory of layout A taken for B: a tensor of B's shape.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = (
        "chroma_upsampling",
        "exif_orientation",
        "alpha",
        "sixteen_bit",
        "grey",
        "yuv",
    )

    decoder: Literal["pillow", "pillow-draft", "opencv", "pyav", "simplejpeg"] = "pillow"
    chroma_upsampling: Literal["plain", "fancy"] | None = None
    exif_orientation: Literal["applied", "ignored"] = "applied"
    alpha: Literal["dropped", "on-white", "on-black"] = "dropped"
    sixteen_bit: Literal["scaled", "clipped", "wrapped"] = "scaled"
    color: Literal["RGB", "BGR", "L"] = "RGB"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None
    yuv: YUV = YUV()
    grey: Literal["bt601", "bt709", "mean"] | None = None
    resize: Resize
    scale: Annotated[float, Field(gt=0)] = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[Annotated[float, Field(gt=0)], ...] = (1.0,)
    layout: Literal["NCHW", "NHWC", "NHWC-as-NCHW", "NCHW-as-NHWC"] = "NCHW"
    dtype: Literal["float32", "float16", "uint8"] = "float32"

    @property
    def channels(self) -> int:
        """Number of channels of the prepared image."""
        return 1 if self.color == "L" else 3

    @model_validator(mode="after")
    def _decoder_offers_the_upsampling(self) -> Self:
        if self.chroma_upsampling and self.decoder not in ("pyav", "simplejpeg"):
            raise ValueError(
                f"{self.decoder} has one chroma upsampling, its own; leave chroma_upsampling out "
                "or set decoder = 'simplejpeg' or 'pyav'"
            )
        return self

    @model_validator(mode="after")
    def _raw_pixels_have_no_statistics(self) -> Self:
        if self.dtype == "uint8" and (any(self.mean) or set(self.std) != {1.0}):
            raise ValueError("dtype uint8 gives the model raw pixels, so mean and std stay 0 and 1; leave them out")
        return self

    @model_validator(mode="after")
    def _one_value_or_one_per_channel(self) -> Self:
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (1, self.channels):
                takes = "1" if self.channels == 1 else f"1 or {self.channels}"
                raise ValueError(f"{name} has {len(values)} values; {self.color} takes {takes}")
        return self


class TextPreprocessing(Frozen):
    """From a text, or a pair of texts, to token ids (max_length,), int64.

    ``vocabulary[i]`` is token i and begins with SPECIAL_TOKENS; empty, it is still to be learnt
    from the training items. ``tokenizer``: whole ``word``s and punctuation, or ``wordpiece``s of
    them. ``unicode_form`` and ``strip_accents`` come before ``lowercase``. A pair is
    ``first [SEP] second``; where it is too long the second text is cut (a single text is cut
    itself) at ``truncation_side``. The ids are filled with [PAD] at ``padding_side``.
    """

    tokenizer: Literal["word", "wordpiece"] = "word"
    vocabulary: tuple[str, ...] = ()
    unicode_form: Literal["none", "NFC", "NFKC"] = "NFC"
    strip_accents: bool = True
    lowercase: bool = True
    max_length: Annotated[int, Field(ge=4)] = 32
    truncation_side: Literal["left", "right"] = "right"
    padding_side: Literal["left", "right"] = "right"

    @model_validator(mode="after")
    def _special_tokens_come_first(self) -> Self:
        if self.vocabulary and self.vocabulary[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"vocabulary begins with {', '.join(SPECIAL_TOKENS)}, not {self.vocabulary[:4]}")
        if len(set(self.vocabulary)) < len(self.vocabulary):
            raise ValueError("vocabulary names a token more than once")
        return self


class AudioPreprocessing(Frozen):
    """From a WAV file to log-mel features (mels, frames), float32: (log(power + log_floor) - mean) / std.

    Channels are averaged, the wave is resampled to ``sample_rate`` (Hz) by ``resampler`` (scipy's
    ``polyphase`` or ``fft``, or ``linear`` interpolation) and cut or filled with silence at its
    end to ``duration`` (s). ``assumed_rate`` (Hz) overrides what the file says of itself.
    ``window_length``, ``hop_length`` (samples) and ``window`` shape the frames; ``center``
    reflects half a window at both ends. ``mel_scale`` as HTK or Slaney's Auditory Toolbox has it.
    ``mean`` and ``std`` null: still to be learnt from the training items.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    sample_rate: Annotated[int, Field(ge=1000)] = 8000
    assumed_rate: Annotated[int, Field(ge=1000)] | None = None
    resampler: Literal["polyphase", "fft", "linear"] = "polyphase"
    duration: Annotated[float, Field(gt=0)] = 1.0
    window: Literal["hann-periodic", "hann-symmetric"] = "hann-periodic"
    window_length: Annotated[int, Field(ge=16)] = 256
    hop_length: Annotated[int, Field(ge=1)] = 128
    center: bool = True
    mels: Annotated[int, Field(ge=4)] = 32
    mel_scale: Literal["slaney", "htk"] = "slaney"
    log_floor: Annotated[float, Field(gt=0)] = 1e-6
    mean: float | None = None
    std: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _hops_leave_no_gap(self) -> Self:
        if self.hop_length > self.window_length:
            raise ValueError(f"hop_length {self.hop_length} is longer than window_length {self.window_length}")
        if self.duration * self.sample_rate < self.window_length:
            raise ValueError(f"{self.duration} s at {self.sample_rate} Hz is shorter than one window")
        return self


class ControlPreprocessing(Frozen):
    """From a controller's latest observations to its input (window, observation), float32.

    A reading is ``(observation - offset) * scale``, one value or one per dimension; empty, both
    are still to be learnt. Then the sensor's faults, in units of such a reading: ``sensor_gain``
    multiplies it, ``sensor_bias`` is added, ``quantization`` > 0 rounds to its multiples.
    ``delay`` is how many steps old the newest reading is; ``drop_rate`` the chance that a reading
    is lost and the last one stands again (drawn from the item's own seed). ``window`` readings
    come oldest first, the first one repeated before the start. An action is held for
    ``action_repeat`` steps.
    """

    model_config = ConfigDict(allow_inf_nan=False)

    window: Annotated[int, Field(ge=1)] = 4
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    sensor_gain: float = 1.0
    sensor_bias: float = 0.0
    quantization: Annotated[float, Field(ge=0)] = 0.0
    delay: Annotated[int, Field(ge=0)] = 0
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    action_repeat: Annotated[int, Field(ge=1)] = 1


AnyPreprocessing = Preprocessing | TextPreprocessing | AudioPreprocessing | ControlPreprocessing

PREPROCESSING: dict[Domain, type[Preprocessing | TextPreprocessing | AudioPreprocessing | ControlPreprocessing]] = {
    "vision": Preprocessing,
    "text": TextPreprocessing,
    "audio": AudioPreprocessing,
    "control": ControlPreprocessing,
}
"""What each domain's preprocessing can settle."""
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
"""The first tokens of every vocabulary, ids 0 to 3."""


def validated_preprocessing(value: Any, info: ValidationInfo) -> AnyPreprocessing:
    """A ``preprocessing`` field as its domain has it.

    Not left to the union, which would try every kind and speak of all of them.
    """
    return PREPROCESSING[info.data.get("domain", "vision")].model_validate(value)


class _OfOneDomain(Frozen):
    """What has a domain, and that domain's kind of preprocessing."""

    domain: Domain = "vision"
    preprocessing: AnyPreprocessing

    @field_validator("preprocessing", mode="wrap")
    @classmethod
    def _of_the_domain(cls, value: Any, _handler: Any, info: ValidationInfo) -> Any:
        return validated_preprocessing(value, info)


class ModelInterface(Frozen):
    """Names of the graph's input and output, and what the output means.

    ``labels[i]`` names the class of score ``i``; ``output_kind`` says whether scores (n, K)
    are logits (softmax gives confidences) or probabilities. Two more kinds: ``spans``, logits
    (n, 2, L) of every token being the answer's first and last, with the labels start and end;
    ``actions``, a controller's logits (n, A), with the actions' names as labels.
    """

    input: str
    output: str
    output_kind: OutputKind = "logits"
    labels: tuple[str, ...] = Field(min_length=2)

    @field_validator("labels")
    @classmethod
    def _each_label_once(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        twice = [label for place, label in enumerate(labels) if label in labels[:place]]
        if twice:
            raise ValueError(f"the label {twice[0]!r} stands there more than once")
        return labels


class Contract(_OfOneDomain):
    """What training did to an input and what the model's outputs mean."""

    schema_version: Literal[1] = 1
    model: ModelInterface


# -------------------------------------------------------------------- environments


class Precision(Frozen):
    """The number format that a deployment asks for.

    ``int8-qdq`` is static quantisation with QuantizeLinear/DequantizeLinear pairs.
    ``bfloat16-emulated`` rounds inside a float32 graph and is called so everywhere.
    """

    format: Literal["float32", "float16", "bfloat16-emulated", "int8-dynamic", "int8-qdq"] = "float32"
    per_channel: bool = False
    calibrator: Literal["minmax", "entropy", "percentile"] = "minmax"


class Runtime(Frozen):
    """What executes the graph. ``precision_hint`` is OpenVINO's own (null: its default)."""

    engine: Literal["onnxruntime", "onnx-reference", "openvino"] = "onnxruntime"
    provider: str = "CPUExecutionProvider"
    optimization: Literal["all", "extended", "basic", "disabled"] = "all"
    intra_op_threads: Annotated[int, Field(ge=1)] = 2
    batch_size: Annotated[int, Field(ge=1)] = 16
    precision_hint: Literal["f32", "bf16", "f16"] | None = None


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


class Deployment(_OfOneDomain):
    """Everything that a deployment settles. Deviations are dotted keys into it."""

    precision: Precision = Precision()
    runtime: Runtime = Runtime()
    shift: Shift = Shift()

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

        >>> base = Deployment(preprocessing=Preprocessing(resize=Resize(size=(8, 8))))
        >>> base.deviate({"runtime.batch_size": 1}).runtime.batch_size
        1
        """
        tree = self.model_dump(mode="json")
        valid = tuple(key for key in _leaves(self) if key != "domain")
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
            return Deployment.model_validate(tree)
        except ValidationError as error:
            raise SettingsError(_first_problem(error)) from error

    def differences(self, other: Deployment) -> dict[str, Any]:
        """Dotted keys whose value in ``other`` is not this one's, with that value."""
        mine, theirs = _leaves(self), _leaves(other)
        return {key: theirs[key] for key in mine if mine[key] != theirs[key]}


def _leaves(noun: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every dotted key of a noun, said in its JSON or not, with the value as JSON has it."""
    leaves: dict[str, Any] = {}
    for name in type(noun).model_fields:
        value, path = getattr(noun, name), f"{prefix}{name}"
        leaves |= _leaves(value, f"{path}.") if isinstance(value, BaseModel) else {path: to_jsonable_python(value)}
    return leaves


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
    name: Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*$")]
    kind: Kind
    summary: str
    deviations: dict[str, Any] = Field(default_factory=dict)
    groups: tuple[str, ...] = ()
    subsample: bool = False


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


# ------------------------------------------------------------------ bundles, cells


class Bundle(Frozen):
    """An ONNX file and where it comes from. ``path`` is relative to the run folder
    (bundles made by a study) or absolute (a user's own model)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    path: str
    sha256: str
    contract: Contract
    domain: Domain = "vision"
    task: str = "task"
    regime: str | None = None
    seed: int | None = None
    family: str | None = None


class TrainedRun(Frozen):
    """A model that a study trained, and whose answers lie in ``bundles/NAME.answers.parquet``.

    It is also a bundle where ``exported``. ``regime`` is what it was trained by; ``width`` the
    features of its first stage; ``shuffled`` the share of training levels that were permuted
    before training. A transferred model has its frozen trunk from ``trunk_from``, the name of
    another run, or "random" for one that was never trained.
    """

    name: str
    task: str
    domain: Domain
    family: str
    width: int
    regime: str
    seed: int
    sha256: str
    parameters: int = 0
    exported: bool = False
    shuffled: Annotated[float, Field(ge=0, le=1)] = 0.0
    trunk_from: str | None = None


class Execution(Frozen):
    """What really ran.

    ``providers`` counts nodes per provider. ``dtypes`` maps each compute operator to
    ``{format: number of nodes}`` as executed. ``matches`` is False when a format was
    asked for and another one ran; ``requested`` and ``executed`` name both.
    """

    engine: str
    provider: str
    providers: dict[str, int] = Field(default_factory=dict)
    dtypes: dict[str, dict[str, int]] = Field(default_factory=dict)
    requested: str = "float32"
    executed: str = "float32"
    matches: bool = True
    versions: dict[str, str] = Field(default_factory=dict)
    cpu_flags: tuple[str, ...] = ()
    settings: dict[str, Any] = Field(default_factory=dict)


class CellInfo(Frozen):
    """A cell's header; it travels in the metadata of the cell's Parquet file.

    ``key`` is the content address: model, contract, deployment, items, calibration
    items, seed and library versions. ``basis`` is the part of it that a plan knows
    (``cell_basis``), so that judging can tell another plan's records. ``seconds`` is
    inference wall time. ``open_loop`` (control) is the share of the steps along the
    reference's trajectories at which this cell takes another action.
    """

    schema_version: Literal[1] = 1
    key: str
    basis: str = ""
    bundle: str
    environment: str
    status: CellStatus = "ok"
    reason: str = ""
    execution: Execution | None = None
    seconds: float = 0.0
    items_per_second: float = 0.0
    open_loop: float | None = None


class CalibrationCard(Frozen):
    """What stands behind the levels of one task.

    ``split_half`` is the Spearman-Brown reliability over halves of the responders
    split by run (null where the levels were given). ``gated_bands`` are the groups of
    levels that are reliable enough to be judged apart. ``tie_share`` is the share of
    items whose level was settled by the hash of their id. ``abilities`` holds every
    responder's linked ability by its recipe's name, the same on every task.
    """

    task: str
    engine: str
    items: int
    responders: int
    guessing: float | None = None
    split_half: float | None = None
    rank_correlation_py_irt: float | None = None
    gated_bands: tuple[tuple[int, ...], ...] = ((1,), (2,), (3,), (4,), (5,))
    tie_share: float = 0.0
    source: str = "responders"
    circular: bool = False
    abilities: dict[str, float] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class DataSource(Frozen):
    """Where a run's items come from: a reader's name (``digits``) or a path.

    ``split`` picks one of the splits that the data has; ``classes`` keeps these classes
    alone; ``root`` is the folder that published data sets (``cifar-10``, ``sst-2``) lie in. The
    other fields matter to a study: how many items a class it takes (null: all), and the share
    that trains where the data has no splits of its own.
    """

    source: str
    split: str | None = None
    root: str | None = None
    classes: tuple[str, ...] | None = None
    train_per_class: Annotated[int, Field(ge=1)] | None = None
    test_per_class: Annotated[int, Field(ge=1)] | None = None
    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.5


class TaskPlan(Frozen):
    """One task of a run: where its items come from and the digest of those that are judged,
    their labels and contents."""

    name: str
    data: DataSource
    items: str = ""
    calibration_data: DataSource | None = None


class RunPlan(Frozen):
    """Everything that was planned before the first cell ran (``run.json``).

    ``deployments`` are the environments that the user named: they are gated. ``runs`` are all
    models that a study trained, the bundles among them.
    """

    schema_version: Literal[2] = 2
    command: str
    tasks: tuple[TaskPlan, ...]
    bundles: tuple[Bundle, ...]
    runs: tuple[TrainedRun, ...] = ()
    environments: tuple[Environment, ...]
    deployments: tuple[str, ...] = ()
    margin_pp: Annotated[float, Field(gt=0, lt=100)] = 2.0
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    seed: int = 0
    strict: bool = False
    allow_unlevelled: bool = False
    notes: tuple[str, ...] = ()

    def task(self, name: str) -> TaskPlan:
        """The task of this name. Raises UnknownNameError."""
        for task in self.tasks:
            if task.name == name:
                return task
        raise UnknownNameError("task", name, tuple(task.name for task in self.tasks))

    def environments_of(self, bundle: Bundle) -> tuple[Environment, ...]:
        """The environments that are planned for a bundle (``environments_for``)."""
        return environments_for(bundle, self.bundles, self.environments)


def environments_for(
    bundle: Bundle, bundles: Iterable[Bundle], environments: Iterable[Environment]
) -> tuple[Environment, ...]:
    """The environments that are planned for one of a run's bundles, in their order.

    One that is made for other domains is left out where some bundle of the run can have it;
    where none can, it is planned for all, and its cells say that it does not apply.
    """
    domains = {other.contract.domain for other in bundles}
    return tuple(
        environment
        for environment in environments
        if takes(bundle.contract.domain, environment) or not any(takes(domain, environment) for domain in domains)
    )


def cell_basis(bundle: Bundle, environment: Environment, items: str) -> str:
    """Digest of what a plan knows of a cell: model, contract, deviations, judged items."""
    contract = bundle.contract.model_dump(mode="json")
    return digest([bundle.sha256, contract, environment.deviations, environment.subsample, items])


def answers_key(bundle: Bundle | str) -> str:
    """Content address of a bundle's training-side answers; takes the bundle or its model's SHA-256."""
    return digest([TRAINING, bundle if isinstance(bundle, str) else bundle.sha256])
