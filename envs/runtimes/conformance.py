"""What every runtime has to hold, published for runtimes made elsewhere.

``check_runtime`` runs all CHECKS; a test may also be parametrised over them.

>>> from gapshift.envs.runtimes.scripted import ScriptedSession
>>> def sums(batch):
...     return np.stack([batch.sum(axis=1), batch.max(axis=1)], axis=1)
>>> check_runtime(lambda: ScriptedSession(sums, shape=(None, 4)), np.eye(4, dtype=np.float32))
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gapshift.envs.runtimes.base import Session
from gapshift.errors import EvaluationError
from gapshift.schema import Contract, ModelInterface, Preprocessing, Resize

Factory = Callable[[], Session]
Inputs = NDArray[Any]

TOLERANCE = 1e-4
"""Largest difference between batch sizes that counts as rounding, for scores of order 1."""


def check_runtime(session_factory: Factory, inputs: Inputs) -> None:
    """Run every check on sessions of one float32 model.

    ``session_factory`` gives a new session, open or not, as often as it is called; ``inputs``, shape
    (n, ...) with n >= 3 and rows that differ, suit its model. Raises AssertionError that names the failed check.
    """
    if len(inputs) < 3:
        raise ValueError(f"inputs holds {len(inputs)} rows; the checks need at least 3.")
    for check in CHECKS:
        try:
            check(session_factory, inputs)
        except AssertionError as error:
            raise AssertionError(f"{check.__name__}: {error}") from error


def small_classifier(path: Path, *, batch: int | None = None, size: int = 8, seed: int = 0) -> Contract:
    """Write a classifier of random weights to ``path``; returns its contract.

    Two convolutions and a Gemm: input (n, 3, size, size) float32, output (n, 5) logits.
    ``batch`` fixes n in the file, None leaves it symbolic.
    """
    rng = np.random.default_rng(seed)
    shapes = {"w0": (16, 3, 3, 3), "b0": (16,), "w1": (24, 16, 3, 3), "b1": (24,), "w2": (5, 24), "b2": (5,)}
    weights = {name: rng.normal(0, 0.2, shape).astype(np.float32) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["input", "w0", "b0"], ["c0"], name="conv0", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c0"], ["r0"], name="relu0"),
        helper.make_node("Conv", ["r0", "w1", "b1"], ["c1"], name="conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], name="relu1"),
        helper.make_node("GlobalAveragePool", ["r1"], ["pooled"], name="pool"),
        helper.make_node("Flatten", ["pooled"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w2", "b2"], ["logits"], name="classifier", transB=1),
    ]
    rows: int | str = "batch" if batch is None else batch
    graph = helper.make_graph(
        nodes,
        "small_classifier",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [rows, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [rows, 5])],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), str(path))
    return Contract(
        preprocessing=Preprocessing(resize=Resize(size=(size, size))),
        model=ModelInterface(input="input", output="logits", labels=tuple("abcde")),
    )


def one_row_of_scores_per_item(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        scores = session.predict(inputs)
    spans = (len(inputs), 2, inputs.shape[-1])
    rows = scores.ndim == 2 or scores.shape == spans
    _hold(rows and len(scores) == len(inputs), f"scores of shape {scores.shape} for {len(inputs)} rows")
    _hold(np.issubdtype(scores.dtype, np.floating), f"scores are {scores.dtype}, not floating point")


def finite_inputs_give_finite_scores(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        _hold(np.isfinite(session.predict(inputs)).all(), "finite inputs were answered with NaN or infinity")


def repeats_are_equal(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        first, again = session.predict(inputs), session.predict(inputs)
    _hold(np.array_equal(first, again, equal_nan=True), "the same batch was answered differently the second time")


def answers_are_kept(factory: Factory, inputs: Inputs) -> None:
    """A later call must not write into an earlier answer."""
    with factory() as session:
        first = session.predict(inputs)
        before = first.copy()
        session.predict(inputs[::-1].copy())
    _hold(np.array_equal(first, before, equal_nan=True), "a later call changed an earlier answer")


def batches_may_be_split(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        whole = session.predict(inputs)
        parts = [session.predict(inputs[:1]), session.predict(inputs[1:])]
    _hold(
        np.allclose(whole, np.concatenate(parts), atol=TOLERANCE, equal_nan=True),
        f"a batch and its parts differ by more than {TOLERANCE}",
    )


def a_row_s_place_does_not_matter(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        forth, back = session.predict(inputs), session.predict(inputs[::-1].copy())
    _hold(
        np.allclose(forth, back[::-1], atol=TOLERANCE, equal_nan=True),
        f"a row's scores in a reversed batch differ by more than {TOLERANCE}",
    )


def strided_input_is_read_right(factory: Factory, inputs: Inputs) -> None:
    """A view that is not contiguous means the same values."""
    view = np.repeat(inputs, 2, axis=0)[::2]
    with factory() as session:
        _hold(
            np.array_equal(session.predict(view), session.predict(inputs), equal_nan=True),
            "a strided view of the batch was answered differently",
        )


def inputs_are_left_alone(factory: Factory, inputs: Inputs) -> None:
    given = inputs.copy()
    with factory() as session:
        session.predict(given)
    _hold(np.array_equal(given, inputs, equal_nan=True), "predict changed its input")


def wrong_rank_is_refused(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        _refuses(session, inputs[..., None], "an input of one dimension too many")
        _refuses(session, inputs[:0], "a batch without rows")


def a_refusal_leaves_the_session_usable(factory: Factory, inputs: Inputs) -> None:
    with factory() as session:
        before = session.predict(inputs)
        _refuses(session, inputs[..., None], "an input of one dimension too many")
        after = session.predict(inputs)
    _hold(np.array_equal(before, after, equal_nan=True), "answers changed after an input had been refused")


def two_sessions_do_not_disturb_each_other(factory: Factory, inputs: Inputs) -> None:
    """Answers with another session open, used in between, and closed again."""
    others = inputs[::-1].copy()
    with factory() as alone:
        expected, elsewhere = alone.predict(inputs), alone.predict(others)
    one, two = factory().open(), factory().open()
    try:
        answers = [one.predict(inputs), two.predict(others), one.predict(inputs)]
        two.close()
        answers.append(one.predict(inputs))
    finally:
        one.close()
        two.close()
    wanted = (expected, elsewhere, expected, expected)
    same = all(np.array_equal(a, b, equal_nan=True) for a, b in zip(answers, wanted, strict=True))
    _hold(same, "with two sessions open, one answered otherwise than alone")


def reopening_gives_the_same_answers(factory: Factory, inputs: Inputs) -> None:
    session = factory()
    with session:
        first = session.predict(inputs)
    with session:
        again = session.predict(inputs)
    _hold(np.array_equal(first, again, equal_nan=True), "a session that was opened again answered otherwise")


def the_process_is_left_as_it_was(factory: Factory, inputs: Inputs) -> None:
    """Thread counts of libraries that have one for all, NumPy's error state and the environment's variables."""
    with factory() as session:  # what a library settles when it is first used is not the session's doing
        session.predict(inputs)
    before = process_state()
    with factory() as session:
        session.predict(inputs)
        session.executed()
    after = process_state()
    changed = ", ".join(f"{name}: {before[name]} -> {after[name]}" for name in before if before[name] != after[name])
    _hold(not changed, f"the session changed the process for everyone else: {changed}")


def process_state() -> dict[str, Any]:
    """What a session could change for the whole process; libraries that nobody imported are left out."""
    state: dict[str, Any] = {"numpy.geterr": np.geterr(), "os.environ": dict(os.environ)}
    for module, threads in (("torch", "get_num_threads"), ("cv2", "getNumThreads")):
        if module in sys.modules:
            state[f"{module}.{threads}"] = getattr(sys.modules[module], threads)()
    return state


def closed_session_is_refused(factory: Factory, inputs: Inputs) -> None:
    session = factory()
    session.open()
    session.close()
    _refuses(session, inputs, "predict on a closed session")
    with session:
        session.predict(inputs)  # and may be opened again


def closing_twice_is_harmless(factory: Factory, inputs: Inputs) -> None:
    del inputs
    session = factory().open()
    session.close()
    session.close()


def tells_what_it_runs(factory: Factory, inputs: Inputs) -> None:
    del inputs
    with factory() as session:
        graph = session.executed()
    _hold(sum(graph.providers.values()) > 0, "no provider is named")
    _hold(all(form != "unknown" for _, form in graph.nodes), f"compute nodes of unknown format: {graph.nodes}")


CHECKS: tuple[Callable[[Factory, Inputs], None], ...] = (
    one_row_of_scores_per_item,
    finite_inputs_give_finite_scores,
    repeats_are_equal,
    answers_are_kept,
    batches_may_be_split,
    a_row_s_place_does_not_matter,
    strided_input_is_read_right,
    inputs_are_left_alone,
    wrong_rank_is_refused,
    a_refusal_leaves_the_session_usable,
    two_sessions_do_not_disturb_each_other,
    reopening_gives_the_same_answers,
    the_process_is_left_as_it_was,
    closed_session_is_refused,
    closing_twice_is_harmless,
    tells_what_it_runs,
)


def _hold(condition: Any, otherwise: str) -> None:
    if not condition:
        raise AssertionError(otherwise)


def _refuses(session: Session, batch: Inputs, what: str) -> None:
    try:
        session.predict(batch)
    except EvaluationError:
        return
    raise AssertionError(f"{what} was accepted; an EvaluationError is expected")
