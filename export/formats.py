"""Number formats narrower than float32: what each rounds a float32 value to, in NumPy."""

from __future__ import annotations

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

CAST_TO: dict[str, int] = {
    "bfloat16": TensorProto.BFLOAT16,
    "float16": TensorProto.FLOAT16,
    "fp8-e4m3": TensorProto.FLOAT8E4M3FN,
    "fp8-e5m2": TensorProto.FLOAT8E5M2,
}
"""Formats that ONNX's Cast knows, with its number for each."""
EMULATED = ("tf32", *CAST_TO)
TF32_SPLIT = 2.0**42 + 1
"""The factor that leaves a float64 with tf32's 11 significant bits (Veltkamp's split)."""

_SATURATES_AT = {"fp8-e4m3": 448.0, "fp8-e5m2": 57344.0}
_TYPES = {
    "bfloat16": ml_dtypes.bfloat16,
    "float16": np.float16,
    "fp8-e4m3": ml_dtypes.float8_e4m3fn,
    "fp8-e5m2": ml_dtypes.float8_e5m2,
}


def rounded(values: NDArray[np.float32], form: str) -> NDArray[np.float32]:
    """The nearest value of ``form`` (one of EMULATED), ties to even, as float32; NaN stays NaN.

    What is too large becomes infinite in tf32, bfloat16 and float16. The 8-bit formats saturate at their largest
    value (448 and 57,344), infinities too, as ONNX's Cast does by default and accelerators' ``satfinite``
    conversions do; there is no scaling factor.

    >>> rounded(np.array([1.00390625, 1.01171875], dtype=np.float32), "bfloat16").tolist()
    [1.0, 1.015625]
    >>> rounded(np.array([0.3, 1000.0, 70000.0], dtype=np.float32), "fp8-e4m3").tolist()
    [0.3125, 448.0, 448.0]
    >>> rounded(np.array([0.3], dtype=np.float32), "tf32").tolist()
    [0.300048828125]
    """
    if form == "tf32":
        return _tf32(values)
    limit = _SATURATES_AT.get(form)
    within = values if limit is None else np.clip(values, -limit, limit)
    with np.errstate(all="ignore"):  # overflow to infinity is float16's own
        return within.astype(_TYPES[form]).astype(np.float32)


def _tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Bits below the tenth of the mantissa dropped; a carry may run into the exponent."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    half = np.uint32(0xFFF) + ((bits >> np.uint32(13)) & np.uint32(1))
    near = ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(values), near, values)
