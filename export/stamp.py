"""The contract inside an ONNX file's metadata, and beside it as TOML.

Needs neither torch nor ONNX Runtime.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx

from gapshift.domains.audio import frames_of
from gapshift.errors import ContractError, SettingsError, UnknownNameError
from gapshift.export.model_file import ModelDescription, TensorDescription, describe, read_model
from gapshift.records import atomic_path
from gapshift.schema import (
    AudioPreprocessing,
    Contract,
    ControlPreprocessing,
    Domain,
    OutputKind,
    Preprocessing,
    TextPreprocessing,
    canonical_json,
)
from gapshift.settings import read_toml, validate

PREFIX = "gapshift."
CONTRACT = f"{PREFIX}contract"

EXAMPLES: dict[Domain, str] = {
    "vision": """\
schema_version = 1
domain = "vision"

[model]
input = "input"              # the graph's input name, (n, channels, height, width)
output = "logits"            # the graph's output name, (n, labels)
output_kind = "logits"       # or "probabilities"
labels = ["cat", "dog"]      # labels[i] names score i

[preprocessing]              # the keys that are not here have defaults (docs/contract.md)
color = "RGB"                # or "BGR", "L"
scale = 0.00392156862745098  # 1/255
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[preprocessing.resize]
size = [224, 224]            # height, width
library = "pillow"           # or "opencv"
interpolation = "bilinear"
""",
    "text": """\
schema_version = 1
domain = "text"

[model]
input = "input"              # the graph's input name, token ids (n, tokens), int64 or int32
output = "logits"            # the graph's output name, (n, labels); for spans (n, 2, tokens)
output_kind = "logits"       # or "probabilities", "spans" (with labels = ["start", "end"])
labels = ["negative", "positive"]  # labels[i] names score i

[preprocessing]              # the keys that are not here have defaults (docs/contract.md)
tokenizer = "word"           # or "wordpiece"
vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "film"]  # vocabulary[i] is token i
lowercase = true
strip_accents = true
max_length = 32              # tokens
truncation_side = "right"    # or "left"
padding_side = "right"       # or "left"
""",
    "audio": """\
schema_version = 1
domain = "audio"

[model]
input = "input"              # the graph's input name, log-mel features (n, mels, frames)
output = "logits"            # the graph's output name, (n, labels)
output_kind = "logits"       # or "probabilities"
labels = ["yes", "no"]       # labels[i] names score i

[preprocessing]              # the keys that are not here have defaults (docs/contract.md)
sample_rate = 16000          # Hz
duration = 1.0               # s
window = "hann-periodic"     # or "hann-symmetric"
window_length = 400          # samples
hop_length = 160             # samples
mels = 40
mel_scale = "slaney"         # or "htk"
mean = -6.5                  # of the log power over the training items
std = 3.2
""",
    "control": """\
schema_version = 1
domain = "control"

[model]
input = "input"              # the graph's input name, readings (n, window, observation)
output = "logits"            # the graph's output name, (n, labels)
output_kind = "actions"      # the highest score is the action taken
labels = ["left", "right"]   # labels[i] names action i

[preprocessing]              # the keys that are not here have defaults (docs/contract.md)
window = 4                   # readings, oldest first
offset = [0.0, 0.0, 0.0, 0.0]  # a reading is (observation - offset) * scale
scale = [0.5, 0.5, 5.0, 0.5]
""",
}
"""A minimal contract.toml of each domain, shown where a contract is missing."""
_TOKEN_DTYPES = ("int64", "int32")
_KINDS: dict[Domain, tuple[OutputKind, ...]] = {
    "vision": ("logits", "probabilities"),
    "text": ("logits", "probabilities", "spans"),
    "audio": ("logits", "probabilities"),
    "control": ("actions",),
}
_MORE = "Correct it and give it with `--contract FILE`; `gapshift contract MODEL` prints a whole one."


# ------------------------------------------------------------------- in the ONNX file


def stamp(path: Path, contract: Contract, extra: Mapping[str, str] | None = None) -> None:
    """Write the contract and ``extra`` (keys without the ``gapshift.`` prefix) into the file's metadata.

    Earlier stamps are replaced, other metadata stays. Atomic.
    """
    model = read_model(path)
    wanted = {CONTRACT: canonical_json(contract.model_dump(mode="json"))}
    wanted |= {f"{PREFIX}{key}": value for key, value in (extra or {}).items()}
    kept = {entry.key: entry.value for entry in model.metadata_props if not entry.key.startswith(PREFIX)}
    onnx.helper.set_model_props(model, kept | wanted)
    with atomic_path(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def read_stamp(path: Path) -> dict[str, str]:
    """Everything stamped into the file, keys without the prefix. Raises ModelFileError."""
    return {key.removeprefix(PREFIX): value for key, value in describe(path).metadata.items() if key.startswith(PREFIX)}


def read_contract(path: Path) -> Contract:
    """The contract stamped into an ONNX file.

    Raises ModelFileError for a file that is not ONNX, and ContractError where the
    contract is absent or invalid.
    """
    text = read_stamp(path).get("contract")
    if text is None:
        raise ContractError(
            f"{path} carries no contract (metadata key {CONTRACT!r}): nothing says how its input is prepared "
            f"and what its outputs mean. {_example(_likely_domain(describe(path)))}"
        )
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise ContractError(f"The contract inside {path} is not JSON: {error}. {_MORE}") from error
    return _validated(tree, f"the contract inside {path}")


def _validated(tree: Any, where: str) -> Contract:
    """The contract of a tree; the first problem as a ContractError."""
    try:
        return validate(Contract, tree, where)
    except (SettingsError, UnknownNameError) as error:
        raise ContractError(f"{error} {_MORE}") from error


def _example(domain: Domain) -> str:
    others = ", ".join(other for other in EXAMPLES if other != domain)
    return (
        f"Give one with `--contract FILE`; the least that such a contract.toml says for {domain} "
        f"(the other domains: {others}):\n\n{EXAMPLES[domain]}"
    )


def _likely_domain(graph: ModelDescription) -> Domain:
    """What the first input looks like: token ids, features, or else images."""
    first = graph.inputs[0] if graph.inputs else None
    if first is not None and first.dtype in _TOKEN_DTYPES:
        return "text"
    return "audio" if first is not None and first.shape is not None and len(first.shape) == 3 else "vision"


# ------------------------------------------------------------------------------- TOML


def contract_from_toml(path: Path) -> Contract:
    """Read contract.toml. Raises ContractError naming the key, its value and the valid ones."""
    try:
        tree = read_toml(path)
    except SettingsError as error:
        raise ContractError(f"{error} {_MORE}") from error
    return _validated(tree, str(path))


def contract_to_toml(contract: Contract) -> str:
    """The contract as TOML; ``contract_from_toml`` reads the same contract back."""
    return _table(contract.model_dump(mode="json", exclude_none=True), ())


def _table(tree: Mapping[str, Any], path: tuple[str, ...]) -> str:
    plain = [f"{key} = {_value(value)}\n" for key, value in tree.items() if not isinstance(value, Mapping)]
    head = f"\n[{'.'.join(path)}]\n" if path and plain else ""
    tables = [_table(value, (*path, key)) for key, value in tree.items() if isinstance(value, Mapping)]
    return head + "".join(plain) + "".join(tables)


def _value(value: Any) -> str:
    """JSON's scalars and arrays are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("\x7f", "\\u007f")


# ------------------------------------------------------------- does it fit the graph?


def check_against(contract: Contract, graph: ModelDescription, model: str = "the model") -> None:
    """Raise ContractError, naming both sides, unless the contract fits the graph."""
    source = _find(contract.model.input, graph.inputs, "input", model)
    others = [port.name for port in graph.inputs if port is not source]
    if others:
        raise ContractError(
            f"{model} has {len(graph.inputs)} inputs ({', '.join(map(_port, graph.inputs))}); a contract feeds one, "
            f"{source.name!r}. Export the model with a single input."
        )
    target = _find(contract.model.output, graph.outputs, "output", model)
    _check_kind(contract)
    _check_input(contract, source, model)
    _check_output(contract, target, model)


def _port(port: TensorDescription) -> str:
    sizes = "?" if port.shape is None else ", ".join("?" if size is None else str(size) for size in port.shape)
    return f"{port.name!r} {port.dtype} ({sizes})"


def _find(name: str, ports: tuple[TensorDescription, ...], kind: str, model: str) -> TensorDescription:
    for port in ports:
        if port.name == name:
            return port
    names = ", ".join(repr(port.name) for port in ports)
    near = difflib.get_close_matches(name, [port.name for port in ports], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ContractError(
        f"The contract's model.{kind} is {name!r}; {model} has the {kind}s {names}.{hint} "
        f"Set model.{kind} to one of them."
    )


def _check_kind(contract: Contract) -> None:
    kinds = _KINDS[contract.domain]
    if contract.model.output_kind not in kinds:
        raise ContractError(
            f"The contract's model.output_kind is {contract.model.output_kind!r} and its domain {contract.domain!r}, "
            f"which has {', '.join(map(repr, kinds))}. Set model.output_kind or domain."
        )


def _check_input(contract: Contract, source: TensorDescription, model: str) -> None:
    _check_dtype(contract, source, model)
    wanted, made, keys = _prepared(contract)
    if source.shape is None:
        return
    fits = len(source.shape) == len(wanted) + 1 and all(
        have is None or want is None or have == want for have, want in zip(source.shape[1:], wanted, strict=True)
    )
    if not fits:
        raise ContractError(f"The contract makes {made}; {model} takes {_port(source)}. Set {keys} to what it takes.")


def _check_dtype(contract: Contract, source: TensorDescription, model: str) -> None:
    images = contract.preprocessing
    if isinstance(images, Preprocessing):
        if source.dtype != images.dtype:
            raise ContractError(
                f"The contract's preprocessing.dtype is {images.dtype!r}; {model} takes {_port(source)}. "
                f"Set preprocessing.dtype to the model's."
            )
        return
    wanted = _TOKEN_DTYPES if contract.domain == "text" else ("float32",)
    if source.dtype not in wanted:
        raise ContractError(
            f"The contract's domain is {contract.domain!r}, whose inputs are {' or '.join(wanted)}; {model} takes "
            f"{_port(source)}. Set domain to the model's, or export the model with such an input."
        )


def _prepared(contract: Contract) -> tuple[tuple[int | None, ...], str, str]:
    """The shape of one prepared item (None: any), what it is, and the keys that decide it."""
    match contract.preprocessing:
        case Preprocessing() as images:
            (height, width), channels = images.resize.size, images.channels
            image = (channels, height, width) if images.layout.endswith("NCHW") else (height, width, channels)
            made = f"{images.layout} images of {image} ({images.color})"
            return image, made, "preprocessing.color, layout or resize.size (height, width)"
        case TextPreprocessing(max_length=length):
            return (length,), f"token ids of ({length},)", "preprocessing.max_length"
        case AudioPreprocessing() as audio:
            mels, frames = audio.mels, frames_of(audio)
            keys = "preprocessing.mels, duration, sample_rate, window_length or hop_length"
            return (mels, frames), f"log-mel features of ({mels}, {frames})", keys
        case ControlPreprocessing(window=window) as readings:
            # One value may stand for all dimensions; two or more are one each.
            each = max(len(readings.offset), len(readings.scale))
            size = each if each > 1 else None
            return (window, size), f"readings of ({window}, {size or 'observation'})", "preprocessing.window and scale"


def _check_output(contract: Contract, target: TensorDescription, model: str) -> None:
    labels = len(contract.model.labels)
    if target.shape is None:
        return
    if contract.model.output_kind == "spans":
        if labels != 2 or len(target.shape) != 3 or target.shape[1] not in (None, 2):
            raise ContractError(
                f"The contract's model.output_kind is 'spans' with {labels} labels; {model} puts out {_port(target)}. "
                "Spans are two labels, start and end, and an output (batch, 2, tokens). Set model.output, output_kind "
                "or labels."
            )
    elif len(target.shape) != 2 or target.shape[1] not in (None, labels):
        raise ContractError(
            f"The contract's model.labels names {labels} classes; {model} puts out {_port(target)}, and one score per "
            f"class, (batch, {labels}), is needed. Set model.labels to the model's classes in the order of its scores."
        )
