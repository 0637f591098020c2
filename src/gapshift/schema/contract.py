"""The contract: what training did to an input and what the model's outputs mean, per domain."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from gapshift.schema.base import Domain, Frozen, Grown, OutputKind


class Resize(Grown):
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


class Preprocessing(Grown):
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


class TextPreprocessing(Grown):
    """From a text, or a pair of texts, to token ids (max_length,), int64.

    ``vocabulary[i]`` is token i and begins with SPECIAL_TOKENS; empty, it is still to be learnt
    from the training items. ``tokenizer``: whole ``word``s and punctuation, or ``wordpiece``s of
    them. ``clean_text`` (control and invisible characters out, as BERT's) comes first, then
    ``unicode_form``, ``strip_accents``, ``lowercase``. ``pre_tokenizer`` splits as Hugging Face's of that
    name: at white space and around each punctuation mark (``bert``), into runs of letters and of other
    characters (``whitespace``), at any white space (``whitespace-split``) or at spaces (``space``) alone.
    A pair is ``first [SEP] second``; where it is too long the second text is cut (a single text is cut
    itself) at ``truncation_side``. The ids are filled with [PAD] at ``padding_side``. ``template``: [CLS]
    first (``open``), a [SEP] at the end as well (``closed``, BERT's own), or no special token (``bare``).

    ``vocabulary_lacks`` is the share of tokens that the deployed vocabulary, an earlier version, does not
    have: drawn by a hash of the token from the rarer half, the list's second. ``vocabulary_ids`` of
    the others: ``kept``, or those of the shorter list (``renumbered``). ``unknown_rate``: the share of a text's
    tokens that reach the model as [UNK], drawn by a hash of that text alone.
    """

    later: ClassVar[tuple[str, ...]] = (
        "clean_text",
        "pre_tokenizer",
        "template",
        "vocabulary_lacks",
        "vocabulary_ids",
        "unknown_rate",
    )

    tokenizer: Literal["word", "wordpiece"] = "word"
    vocabulary: tuple[str, ...] = ()
    clean_text: bool = False
    unicode_form: Literal["none", "NFC", "NFD", "NFKC", "NFKD"] = "NFC"
    strip_accents: bool = True
    lowercase: bool = True
    pre_tokenizer: Literal["bert", "whitespace", "whitespace-split", "space"] = "bert"
    template: Literal["open", "closed", "bare"] = "open"
    max_length: Annotated[int, Field(ge=4)] = 32
    truncation_side: Literal["left", "right"] = "right"
    padding_side: Literal["left", "right"] = "right"
    vocabulary_lacks: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    vocabulary_ids: Literal["kept", "renumbered"] = "kept"
    unknown_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _special_tokens_come_first(self) -> Self:
        if self.vocabulary and self.vocabulary[: len(SPECIAL_TOKENS)] != SPECIAL_TOKENS:
            raise ValueError(f"vocabulary begins with {', '.join(SPECIAL_TOKENS)}, not {self.vocabulary[:4]}")
        if len(set(self.vocabulary)) < len(self.vocabulary):
            raise ValueError("vocabulary names a token more than once")
        return self

    @model_validator(mode="after")
    def _only_lacking_tokens_renumber(self) -> Self:
        if self.vocabulary_ids == "renumbered" and not self.vocabulary_lacks:
            raise ValueError(
                "vocabulary_ids are renumbered where tokens are missing; set vocabulary_lacks above 0 as well"
            )
        return self


class AudioPreprocessing(Grown):
    """From a WAV file to log-mel features (mels, frames), float32: (log(power + log_floor) - mean) / std.

    In this order. ``assumed_rate`` (Hz) overrides what the file says of itself. ``mono``: channels are averaged,
    added up, or the left one is taken. ``gain_db`` amplifies and ``dc_offset`` is added, then the wave is cut at
    +-``clip_at`` (all of full scale; null: no limit); ``peak`` instead of ``recorded`` ``level`` divides it by its
    own peak. ``line_rate`` (Hz): it passes a line of that rate, as 8-bit samples where ``line_coding`` is linear
    ``pcm8`` or G.711's ``mu-law`` or ``a-law``. It is resampled to ``sample_rate`` (Hz) by ``resampler`` (scipy's
    ``polyphase`` or ``fft``, ``soxr`` as librosa calls it, ``linear`` interpolation, or the ``nearest`` sample) and
    cut or filled with silence to ``duration`` (s); ``alignment`` says where the recording lies in it.
    ``pre_emphasis`` k: x[t] - k x[t-1].

    ``window_length``, ``hop_length`` (samples) and ``window`` shape the frames; ``center`` pads half a window
    at both ends, ``reflect``ed or ``zeros`` by ``frame_padding``. ``spectrum``: its ``power`` or ``magnitude``.
    ``mel_scale`` as HTK or Slaney's Auditory Toolbox has it, triangles of ``mel_norm`` ``area`` 1 or ``peak`` 1.
    ``feature_library`` does all this. ``log_floor`` is added before the logarithm, or is the least value
    (``flooring`` ``clamped``). ``log_reference``: 1, or the recording's highest value (``max``);
    ``log_range`` (dB) below its highest nothing goes (null: no limit). ``log_unit``: natural, or decibels.
    ``mean`` and ``std`` null: still to be learnt from the training items.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = (
        "mono",
        "gain_db",
        "dc_offset",
        "clip_at",
        "level",
        "line_rate",
        "line_coding",
        "alignment",
        "pre_emphasis",
        "frame_padding",
        "spectrum",
        "mel_norm",
        "feature_library",
        "flooring",
        "log_reference",
        "log_range",
        "log_unit",
    )

    sample_rate: Annotated[int, Field(ge=1000)] = 8000
    assumed_rate: Annotated[int, Field(ge=1000)] | None = None
    mono: Literal["mean", "left", "sum"] = "mean"
    gain_db: Annotated[float, Field(ge=-120, le=120)] = 0.0
    dc_offset: Annotated[float, Field(ge=-1, le=1)] = 0.0
    clip_at: Annotated[float, Field(gt=0)] | None = None
    level: Literal["recorded", "peak"] = "recorded"
    line_rate: Annotated[int, Field(ge=1000)] | None = None
    line_coding: Literal["none", "pcm8", "mu-law", "a-law"] = "none"
    resampler: Literal["polyphase", "fft", "soxr", "linear", "nearest"] = "polyphase"
    duration: Annotated[float, Field(gt=0)] = 1.0
    alignment: Literal["start", "centre", "end"] = "start"
    pre_emphasis: Annotated[float, Field(ge=0, lt=1)] = 0.0
    window: Literal["hann-periodic", "hann-symmetric", "hamming-periodic", "hamming-symmetric", "rectangular"] = (
        "hann-periodic"
    )
    window_length: Annotated[int, Field(ge=16)] = 256
    hop_length: Annotated[int, Field(ge=1)] = 128
    center: bool = True
    frame_padding: Literal["reflect", "zeros"] = "reflect"
    spectrum: Literal["power", "magnitude"] = "power"
    mels: Annotated[int, Field(ge=4)] = 32
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["area", "peak"] = "area"
    feature_library: Literal["numpy", "librosa"] = "numpy"
    log_floor: Annotated[float, Field(gt=0)] = 1e-6
    flooring: Literal["added", "clamped"] = "added"
    log_reference: Literal["one", "max"] = "one"
    log_range: Annotated[float, Field(gt=0)] | None = None
    log_unit: Literal["natural", "decibel"] = "natural"
    mean: float | None = None
    std: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _hops_leave_no_gap(self) -> Self:
        if self.hop_length > self.window_length:
            raise ValueError(f"hop_length {self.hop_length} is longer than window_length {self.window_length}")
        if self.duration * self.sample_rate < self.window_length:
            raise ValueError(f"{self.duration} s at {self.sample_rate} Hz is shorter than one window")
        return self


class ControlPreprocessing(Grown):
    """From a controller's latest observations to its input (window, observation), float32.

    A reading is ``(observation - offset) * scale``, one value or one per dimension; empty, both
    are still to be learnt. ``angles_in`` degrees: the sensor reports angles and their speeds so, and nobody
    converts them. Then the sensor's faults, in units of such a reading: ``sensor_gain``
    multiplies it, ``sensor_bias`` is added, beyond +-``saturation`` (null: no limit) it reads that,
    ``quantization`` > 0 rounds to its multiples. ``delay`` is how many steps old the newest
    reading is; ``drop_rate`` the chance that a reading is lost and the last one stands again (drawn from the
    item's own seed). ``window`` readings come oldest first, the first one repeated before the start. An action
    is held for ``action_repeat`` steps. ``action_noise`` is the share of steps at which the actuator
    does a random action instead, drawn from the item's own seed: the same for every controller.
    """

    model_config = ConfigDict(allow_inf_nan=False)
    later: ClassVar[tuple[str, ...]] = ("angles_in", "saturation", "action_noise")

    window: Annotated[int, Field(ge=1)] = 4
    offset: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()
    angles_in: Literal["radians", "degrees"] = "radians"
    sensor_gain: float = 1.0
    sensor_bias: float = 0.0
    saturation: Annotated[float, Field(gt=0)] | None = None
    quantization: Annotated[float, Field(ge=0)] = 0.0
    delay: Annotated[int, Field(ge=0)] = 0
    drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.0
    action_repeat: Annotated[int, Field(ge=1)] = 1
    action_noise: Annotated[float, Field(ge=0, le=1)] = 0.0


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


class OfOneDomain(Grown):
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


class Contract(OfOneDomain):
    """What training did to an input and what the model's outputs mean."""

    schema_version: Literal[1] = 1
    model: ModelInterface
