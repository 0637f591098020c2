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

from gapshift.errors import ContractError, SettingsError, UnknownNameError
from gapshift.export.model_file import ModelDescription, TensorDescription, describe, read_model
from gapshift.records import atomic_path
from gapshift.schema import Contract, canonical_json
from gapshift.settings import read_toml, validate

PREFIX = "gapshift."
CONTRACT = f"{PREFIX}contract"

EXAMPLE = """\
schema_version = 1
domain = "vision"

[model]
input = "input"              # the graph's input name
output = "logits"            # the graph's output name
output_kind = "logits"       # or "probabilities"
labels = ["cat", "dog"]      # labels[i] names score i

[preprocessing]
color = "RGB"                # or "BGR", "L"
scale = 0.00392156862745098  # 1/255
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]

[preprocessing.resize]
size = [224, 224]            # height, width
library = "pillow"           # or "opencv"
interpolation = "bilinear"
"""
"""A minimal contract.toml, shown where a contract is missing."""
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
            f"and what its outputs mean. {_example()}"
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


def _example() -> str:
    return f"Give one with `--contract FILE`; the least that such a contract.toml says:\n\n{EXAMPLE}"


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
            f"{source.name!r}. Export the model with a single image input."
        )
    target = _find(contract.model.output, graph.outputs, "output", model)
    _check_input(contract, source, model)
    _check_labels(contract, target, model)


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


def _check_input(contract: Contract, source: TensorDescription, model: str) -> None:
    wanted = contract.preprocessing
    if source.dtype != wanted.dtype:
        raise ContractError(
            f"The contract's preprocessing.dtype is {wanted.dtype!r}; {model} takes {_port(source)}. "
            f"Set preprocessing.dtype to the model's."
        )
    (height, width), channels = wanted.resize.size, wanted.channels
    image = (channels, height, width) if wanted.layout == "NCHW" else (height, width, channels)
    if source.shape is None:
        return
    fits = len(source.shape) == 4 and all(
        have is None or have == want for have, want in zip(source.shape[1:], image, strict=True)
    )
    if not fits:
        raise ContractError(
            f"The contract makes {wanted.layout} images of {image} ({wanted.color}); {model} takes {_port(source)}. "
            "Set preprocessing.color, layout or resize.size (height, width) to what the model takes."
        )


def _check_labels(contract: Contract, target: TensorDescription, model: str) -> None:
    labels = len(contract.model.labels)
    if target.shape is None:
        return
    if len(target.shape) != 2 or target.shape[1] not in (None, labels):
        raise ContractError(
            f"The contract's model.labels names {labels} classes; {model} puts out {_port(target)}, and one score per "
            f"class, (batch, {labels}), is needed. Set model.labels to the model's classes in the order of its scores."
        )
