"""A model's answers with denormal numbers flushed to zero, from a process of their own.

``session.set_denormal_as_zero`` sets the calling thread's mode with a process's first session alone, and there it stays
for NumPy as well. So it is neither possible nor wanted in a session of pytest.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gapshift.errors import EvaluationError, SkippedError

if TYPE_CHECKING:
    from gapshift.deploy_tests.probe import Probe

_UNAVAILABLE = 3
_DENORMAL = 1e-40
"""A float32 that is."""


def flushed_scores(probe: Probe) -> NDArray[np.float64]:
    """The probe's scores for all its items, shape (n, m), one item a call.

    Raises SkippedError where ONNX Runtime does not flush on this machine, EvaluationError where the process fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder) / "inputs.npy", Path(folder) / "outputs.npy"
        np.save(asked, probe.inputs)
        (Path(folder) / "contract.json").write_text(probe.contract.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", __name__, str(probe.model.resolve()), folder]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode == _UNAVAILABLE:
            raise SkippedError("ONNX Runtime does not flush denormal numbers to zero on this machine")
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
            raise EvaluationError(f"{probe.model.name} failed in a process that flushes denormal numbers: {last[0]}")
        return probe.comparable(np.load(answered))


def main(model: Path, folder: Path) -> int:
    """Answer ``inputs.npy`` of a folder by a model under its ``contract.json``, into ``outputs.npy``."""
    from gapshift.envs.resolve import reference_deployment
    from gapshift.envs.runtimes import open_runtime
    from gapshift.schema import Contract

    contract = Contract.model_validate_json((folder / "contract.json").read_text(encoding="utf-8"))
    inputs = np.load(folder / "inputs.npy")
    first = _flush()
    if not flushes():
        return _UNAVAILABLE
    # All on this thread: another one would have a mode of its own.
    runtime = reference_deployment(contract).runtime.model_copy(update={"intra_op_threads": 1})
    with open_runtime(runtime, model, contract) as session:
        outputs = [session.predict(inputs[row : row + 1]) for row in range(len(inputs))]
    del first
    np.save(folder / "outputs.npy", np.concatenate(outputs))
    return 0


def flushes() -> bool:
    """Whether this thread takes denormal numbers for zeros."""
    return not (np.full(4, _DENORMAL, dtype=np.float32) * np.float32(1)).any()


def _flush() -> Any:
    """This process's first session, which sets the mode of the thread that makes it."""
    import onnxruntime

    from gapshift.envs.runtimes.onnxruntime import identity

    onnxruntime.set_default_logger_severity(4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return onnxruntime.InferenceSession(identity(), options, providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
