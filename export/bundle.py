"""A bundle: the ONNX file with everything stamped in, its training-side answers beside it."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import nn

from gapshift.errors import ContractError, EvaluationError
from gapshift.export.model_file import describe
from gapshift.export.model_file import sha256 as file_sha256
from gapshift.export.parity import Parity, check_parity
from gapshift.export.stamp import check_against, stamp
from gapshift.export.torch_onnx import to_onnx
from gapshift.records import Records, atomic_path, write_cell
from gapshift.schema import (
    OUTCOMES,
    TRAINING,
    Bundle,
    CellInfo,
    Contract,
    Domain,
    Execution,
    answers_key,
    canonical_json,
    digest,
)
from gapshift.workspace import Workspace


@dataclass(frozen=True, eq=False)
class Mix:
    """P_r: how often training drew each item; ``weights`` (n,) sum to 1."""

    item_ids: Sequence[str]
    weights: NDArray[np.float64]


@dataclass(frozen=True)
class Origin:
    """Where a bundle comes from: regime, seed, family and width, task and its domain, training
    settings; device and dtype that the network trained in, and the seconds it took."""

    regime: str
    seed: int
    family: str
    width: int
    task: str
    domain: Domain
    training: Mapping[str, Any]
    device: str = "cpu"
    dtype: str = "float32"
    seconds: float = 0.0


def export_bundle(
    model: nn.Module,
    *,
    workspace: Workspace,
    name: str,
    contract: Contract,
    inputs: NDArray[Any],
    answers: Records,
    mix: Mix,
    origin: Origin,
    length_axis: int | None = None,
    recurrent: bool = False,
    architecture: str | None = None,
) -> Bundle:
    """Write NAME.onnx, NAME.answers.parquet and NAME.mix.parquet into RUN/bundles.

    ``inputs`` (n, ...), prepared by the contract, are for the parity check; at least 7.
    ``answers`` are the network's own, to held-out *and* training items, whatever their kind.
    ``length_axis`` is the inputs' axis whose length stays free, ``recurrent`` says that the
    network holds an LSTM or a GRU, ``architecture`` what it has in common with others that differ
    in their weights alone (``to_onnx``). Every file is atomic and the ONNX file comes last, so where
    it lies the bundle is whole. Raises EvaluationError where export or parity fails,
    ContractError where the contract does not fit the graph or the task, WorkspaceError where
    the disk refuses.
    """
    _validate(answers, mix, contract, origin)
    path = workspace.bundles / f"{name}.onnx"
    workspace.bundles.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary:
        to_onnx(
            model,
            torch.from_numpy(inputs),
            temporary,
            input_name=contract.model.input,
            output_name=contract.model.output,
            length_axis=length_axis,
            recurrent=recurrent,
            architecture=architecture,
        )
        check_against(contract, describe(temporary), model=name)
        parity = check_parity(model, temporary, inputs, contract, length_axis=length_axis)
        stamp(temporary, contract, _stamps(model, origin, answers, mix, parity))
        sha256 = file_sha256(temporary)
        header = answers_header(name, sha256, model, origin.device, origin.dtype, origin.seconds)
        write_cell(workspace.answers_path(name), header, answers)
        write_mix(workspace.mix_path(name), mix)
    return Bundle(
        name=name,
        path=str(path.relative_to(workspace.root)),
        sha256=sha256,
        contract=contract,
        domain=origin.domain,
        task=origin.task,
        regime=origin.regime,
        seed=origin.seed,
        family=origin.family,
    )


def write_mix(path: Path, mix: Mix) -> None:
    """The items that training drew, with their weights (columns item_id, weight)."""
    drawn = np.flatnonzero(mix.weights > 0).tolist()
    table = pa.table(
        {
            "item_id": pa.array([mix.item_ids[i] for i in drawn], pa.string()),
            "weight": pa.array(mix.weights[drawn], pa.float64()),
        }
    )
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary)


def read_mix(path: Path) -> Mix:
    """What ``write_mix`` kept: the items that were drawn."""
    table = pq.read_table(path)
    return Mix(table["item_id"].to_pylist(), np.asarray(table["weight"].to_numpy()))


def weights_digest(model: nn.Module) -> str:
    """SHA-256 (hex) over the names and values of a network's weights."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(name.encode())
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()


def _stamps(model: nn.Module, origin: Origin, answers: Records, mix: Mix, parity: Parity) -> dict[str, str]:
    hashes = {
        "weights": weights_digest(model),
        "items": digest(answers.item_id.tolist()),
        "mix": digest([[name, float(weight)] for name, weight in zip(mix.item_ids, mix.weights, strict=True)]),
        "training": digest(dict(origin.training)),
    }
    return {
        "regime": origin.regime,
        "seed": str(origin.seed),
        "family": origin.family,
        "width": str(origin.width),
        "task": origin.task,
        "domain": origin.domain,
        "training": canonical_json(dict(origin.training)),
        "hashes": canonical_json(hashes),
        "parity": canonical_json(_parity_stamp(parity)),
        "versions": canonical_json(_versions()),
    }


def _parity_stamp(parity: Parity) -> dict[str, Any]:
    return {
        "items": parity.items,
        "max_abs_difference": parity.max_abs_difference,
        "lengths": list(parity.lengths),
    }


def _versions() -> dict[str, str]:
    return {"torch": torch.__version__, "python": platform.python_version()}


def answers_header(name: str, sha256: str, model: nn.Module, device: str, dtype: str, seconds: float) -> CellInfo:
    """Where a network's own answers were computed: on its device, in float32 (``predict.scores``).

    ``sha256`` is that of its file, or of its weights where it has none; ``device``, ``dtype`` and
    ``seconds`` are those of its training.
    How the network was trained stands in the settings; the header's own seconds are inference time,
    which nobody measured.
    """
    execution = Execution(
        engine="torch",
        provider=next(model.parameters()).device.type,
        versions=_versions(),
        settings={
            "training_device": device,
            "training_dtype": dtype,
            "training_seconds": seconds,
        },
    )
    return CellInfo(key=answers_key(sha256), bundle=name, environment=TRAINING, execution=execution)


def _validate(answers: Records, mix: Mix, contract: Contract, origin: Origin) -> None:
    if contract.domain != origin.domain:
        raise ContractError(
            f"The contract is for {contract.domain} and the task {origin.task!r} is of {origin.domain}. "
            f"Set the contract's domain and preprocessing to {origin.domain}."
        )
    ids = answers.item_id
    if not len(ids) or len(np.unique(ids)) < len(ids):
        raise EvaluationError(
            f"The answers name {len(ids)} items, {len(np.unique(ids))} of them different; "
            "a bundle takes one answer an item, for at least one item."
        )
    if len(mix.item_ids) != len(mix.weights) or not np.isclose(mix.weights.sum(), 1.0) or (mix.weights < 0).any():
        raise EvaluationError(
            f"The training mix has {len(mix.item_ids)} ids and {len(mix.weights)} weights that sum to "
            f"{mix.weights.sum():g}; it takes one weight per id, none negative, with sum 1."
        )
    classes = _classes(contract)
    named = contract.model.output_kind != "spans"  # a span's prediction is the hash of its text
    if (answers.label >= classes).any() or (named and (answers.prediction >= classes).any()):
        raise EvaluationError(
            f"The answers hold labels to {answers.label.max()} and predictions to "
            f"{answers.prediction.max()}; {contract.model.output_kind} with {len(contract.model.labels)} "
            f"labels have 0 to {classes - 1}. Set model.labels of the contract to the task's classes."
        )


def _classes(contract: Contract) -> int:
    """Spans and episodes are right or wrong; scores name one of the labels."""
    graded = contract.model.output_kind in ("spans", "actions")
    return len(OUTCOMES) if graded else len(contract.model.labels)
