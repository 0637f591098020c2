"""py-irt (Lalor & Rodriguez 2023, INFORMS Journal on Computing 35) as a second opinion.

Hierarchical priors, 200 epochs of Adam at a rate of 0.1: its default priors ruin the 2PL,
and its own seed option is ignored, so Pyro is seeded here.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import random
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from gapshift.errors import CalibrationError
from gapshift.train.irt.base import Engine, Floats, ItemParameters, right_or_wrong

_EPOCHS, _LEARNING_RATE = 200, 0.1


def unavailable() -> str | None:
    """Why py-irt cannot run here, or None where it can."""
    if sys.version_info >= (3, 12):
        return f"py-irt needs Python below 3.12; this is {sys.version_info[0]}.{sys.version_info[1]}"
    if importlib.util.find_spec("py_irt") is None:
        return "py-irt is not installed (pip install py-irt)"
    return None


@final
class PyIrtEngine(Engine):
    """py-irt's 1PL or 2PL, by stochastic variational inference on the CPU.

    Its responses are binary: soft ones are right from 0.5 on. Its 1PL and 2PL know no
    guessing, so ``guessing`` has no effect and c is 0 in the result. a is 1 in the 1PL;
    se_b is the variational posterior's sd. Raises CalibrationError where py-irt cannot run.
    """

    def __init__(self, model: Literal["1pl", "2pl"] = "1pl") -> None:
        if model not in ("1pl", "2pl"):
            raise CalibrationError(f"py-irt model {model!r} is not offered. Valid: 1pl, 2pl.")
        self._model = model

    @property
    def name(self) -> str:
        return f"py-irt-{self._model}"

    def _fit(self, responses: Floats, guessing: Floats, seed: int) -> ItemParameters:  # noqa: ARG002
        reason = unavailable()
        if reason:
            raise CalibrationError(
                f"Engine {self.name!r} cannot run: {reason}. Use engine 'em', which runs everywhere."
            )
        with tempfile.TemporaryDirectory(prefix="gapshift-py-irt-") as folder, _contained():
            path = Path(folder) / "responses.jsonl"
            _write_json_lines(path, responses)
            return _parameters(_train(path, self._model, seed), responses.shape)


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """py-irt prints, warns, and reseeds every global generator: none of it gets out."""
    import torch

    threads = torch.get_num_threads()
    python_state, numpy_state = random.getstate(), np.random.get_state()
    quiet = contextlib.redirect_stdout(io.StringIO())
    with warnings.catch_warnings(), quiet, torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.set_num_threads(1)  # repeatable, and no slower: its steps are small
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            random.setstate(python_state)
            np.random.set_state(numpy_state)


def _write_json_lines(path: Path, responses: Floats) -> None:
    """py-irt's input: one line a responder, missing responses left out."""
    with path.open("w", encoding="utf-8") as file:
        for responder, row in enumerate(responses):
            items = np.flatnonzero(~np.isnan(row))
            right = right_or_wrong(row[items]).astype(int)
            answers = dict(zip(map(str, items.tolist()), right.tolist(), strict=True))
            file.write(json.dumps({"subject_id": str(responder), "responses": answers}) + "\n")


def _train(path: Path, model: str, seed: int) -> dict[str, Any]:
    import pyro
    from py_irt.config import IrtConfig
    from py_irt.training import IrtModelTrainer

    config = IrtConfig(model_type=model, epochs=_EPOCHS, lr=_LEARNING_RATE, priors="hierarchical")
    trainer = IrtModelTrainer(data_path=path, config=config, verbose=False)
    pyro.set_rng_seed(seed)
    trainer.train(device="cpu")
    fitted = dict(trainer.last_params, scale_diff=pyro.param("scale_diff").tolist())
    pyro.clear_param_store()
    return fitted


def _parameters(fitted: dict[str, Any], shape: tuple[int, ...]) -> ItemParameters:
    """py-irt's results, put back in the order of the matrix."""
    responders, items = shape
    names = fitted["item_ids"]
    parameters = ItemParameters(
        b=_in_order(fitted["diff"], names, items),
        a=_in_order(fitted.get("disc", np.ones(items)), names, items),
        c=np.zeros(items),
        se_b=_in_order(fitted["scale_diff"], names, items),
        theta=_in_order(fitted["ability"], fitted["subject_ids"], responders),
    )
    if not all(np.isfinite(value).all() for value in (parameters.b, parameters.a, parameters.theta)):
        raise CalibrationError("py-irt diverged: its parameters are not finite. Use engine 'em', or another seed.")
    return parameters


def _in_order(values: Any, names: dict[int, str], length: int) -> Floats:
    ordered = np.full(length, np.nan)
    ordered[[int(names[position]) for position in range(len(names))]] = values
    return ordered
