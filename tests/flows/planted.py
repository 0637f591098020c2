"""A model whose answers are planted: the red channel holds what it answers in the reference, the blue one elsewhere.

The graph passes the first channel on as its scores, and the environment ``bgr`` swaps the channels. So any two lists of
answers become a data set, and the whole of ``check`` runs on it, with nothing replaced by a stand-in.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.export.stamp import contract_to_toml
from gapshift.flows.check import CheckRequest
from gapshift.schema import Contract, DataSource, ModelInterface, Preprocessing, Resize

CLASSES = ("a", "b", "c", "d")
HARMED = "bgr"


def planted(
    folder: Path, level: Sequence[int], right: NDArray[Any], still: NDArray[Any], groups: Sequence[str] = ()
) -> CheckRequest:
    """A request for items of these levels that are ``right`` in the reference and ``still`` so under ``bgr``.

    All arrays have shape (n,). Ids are in the order of the items. ``groups`` has an item's group.
    """
    folder.mkdir(parents=True, exist_ok=True)
    label = np.arange(len(level)) % 4
    images = np.zeros((len(level), 2, 2, 3), dtype=np.uint8)
    for channel, good in ((0, right), (2, still)):
        answer = np.where(np.asarray(good, dtype=bool), label, (label + 1) % 4)
        images[np.arange(len(level)), answer // 2, answer % 2, channel] = 255
    images[..., 2] |= 1  # the channels are never alike: a swap that changes no tensor would not be evaluated
    columns = {"images": images, "labels": label, "level": np.array(level), "classes": np.array(CLASSES)}
    np.savez(folder / "items.npz", **columns, **({"group": np.array(groups)} if len(groups) else {}))
    (folder / "contract.toml").write_text(contract_to_toml(_model(folder / "planted.onnx")), encoding="utf-8")
    return CheckRequest(
        model=folder / "planted.onnx",
        contract=folder / "contract.toml",
        data=DataSource(source=str(folder / "items.npz")),
        out=folder / "run",
        environments=(HARMED,),
        sequential=True,
    )


def _model(path: Path) -> Contract:
    weights = np.zeros((12, 4), dtype=np.float32)
    weights[:4] = np.eye(4)
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])],
        "planted",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return Contract(
        preprocessing=Preprocessing(resize=Resize(size=(2, 2))),
        model=ModelInterface(input="x", output="y", labels=CLASSES),
    )
