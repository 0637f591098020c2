"""Synthetic summaries for the renderers' tests: a whole study, and the least that a check can hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

LEVELS = ("1", "2", "3", "4", "5")
KEYS = ("all", *LEVELS)
STUDY_RANGES = {"easy-only": [12, 22], "hard-only": [8, 14], "curriculum": [3, 8], "random": [6, 10]}
BASE = {
    "easy-only": (98, 82, 55, 38, 16),
    "hard-only": (90, 84, 70, 52, 36),
    "curriculum": (98, 94, 82, 58, 30),
    "random": (97, 93, 80, 57, 29),
}
# name: (kind, what it deviates in, size of the drop in pp, how it grows with the level)
ENVIRONMENTS: dict[str, tuple[str, dict[str, Any], float, float]] = {
    "ort-no-optimisation": ("equivalent", {"runtime.optimization": "disabled"}, 0, 0),
    "ort-one-thread": ("equivalent", {"runtime.intra_op_threads": 1}, 0, 0),
    "ort-batch-1": ("equivalent", {"runtime.batch_size": 1}, 0, 0),
    "onnx-reference": ("equivalent", {"runtime.engine": "onnx-reference"}, 0, 0),
    "openvino-f32": ("equivalent", {"runtime.engine": "openvino", "runtime.precision_hint": "f32"}, 0, 0),
    "openvino-default": ("lossy", {"runtime.engine": "openvino"}, 0.05, 0),
    "float16": ("lossy", {"precision.format": "float16"}, 0.02, 0),
    "bfloat16-emulated": ("lossy", {"precision.format": "bfloat16-emulated"}, 0.1, 0.1),
    "int8-dynamic": ("lossy", {"precision.format": "int8-dynamic"}, 1.9, 1.2),
    "int8-qdq-per-tensor": ("lossy", {"precision.format": "int8-qdq"}, 1.2, 0.8),
    "int8-qdq-per-channel": ("lossy", {"precision.format": "int8-qdq", "precision.per_channel": True}, 0.6, 0.5),
    "resize-nearest": ("lossy", {"preprocessing.resize.interpolation": "nearest"}, 8, 1),
    "resize-bicubic": ("lossy", {"preprocessing.resize.interpolation": "bicubic"}, -0.4, -0.3),
    "resize-opencv-bilinear": ("lossy", {"preprocessing.resize.library": "opencv"}, 2.5, 0.8),
    "jpeg-50": ("lossy", {"preprocessing.jpeg_quality": 50}, 3, 1),
    "edge-device": ("lossy", {"precision.format": "int8-qdq", "preprocessing.jpeg_quality": 75}, 4, 1),
    "web-upload": ("lossy", {"preprocessing.jpeg_quality": 60, "preprocessing.decoder": "opencv"}, 2, 1),
    "bgr-for-rgb": ("mistake", {"preprocessing.color": "BGR"}, 17, 0.2),
    "missing-normalisation": ("mistake", {"preprocessing.mean": [0.0], "preprocessing.std": [1.0]}, 30, -0.5),
    "scale-0-255": ("mistake", {"preprocessing.scale": 1.0}, 45, -0.6),
    "dim-light": ("stress", {"preprocessing.scale": 0.002}, 6, 0.8),
    "cuda": ("lossy", {"runtime.provider": "CUDAExecutionProvider"}, 0, 0),
}


def estimate(value: float, half: float, **more: float) -> dict[str, float]:
    """An E of the summary, symmetric about its estimate."""
    return {"estimate": round(value, 4), "low": round(value - half, 4), "high": round(value + half, 4), **more}


def study(regimes: tuple[str, ...] = tuple(BASE), seeds: int = 3, extra: int = 0) -> dict[str, Any]:
    """Four regimes × three seeds × 22 environments (plus ``extra`` lossy ones) with plausible numbers."""
    rng = np.random.default_rng(7)
    catalog = ENVIRONMENTS | {f"extra-{i}": ("lossy", {"runtime.batch_size": i + 2}, 1.0, 0.3) for i in range(extra)}
    bundles = [_bundle(regime, seed) for regime in regimes for seed in range(seeds)]
    return {
        "schema_version": 1,
        "verdict": "FAIL",
        "headline": "Do not ship int8-dynamic: it loses more than 2 pp of accuracy on harder inputs.",
        "reasons": [
            "int8-dynamic loses 3.9 pp [2.8, 5.0] at level 4 of curriculum-s0; the margin is 2 pp.",
            "Gated: int8-dynamic (named) and 5 environments that should change nothing.",
        ],
        "margin_pp": 2.0,
        "alpha": 0.05,
        "holm_family": 60,
        "deployments": ["int8-dynamic"],
        "environments": [
            {"name": n, "kind": v[0], "summary": f"Met where a service runs {n}.", "deviations": v[1], "groups": []}
            for n, v in catalog.items()
        ],
        "tasks": [{"name": "cifar", "data": {"source": "cifar10-jpeg-subset"}}],
        "items": {"judged": 3000, "by_level": dict.fromkeys(LEVELS, 600) | {"all": 3000}, "unreadable": 2},
        "calibration": [_card()],
        "bundles": bundles,
        "cells": [_cell(bundle, name, *catalog[name], rng) for bundle in bundles for name in catalog],
        "regimes": [_regime(regime, catalog, seeds, rng) for regime in regimes],
        "contrasts": [_contrast(pair) for pair in itertools.combinations(regimes, 2)],
    }


def single() -> dict[str, Any]:
    """One model of no regime in 22 environments."""
    summary = study(regimes=("random",), seeds=1)
    summary["bundles"][0] |= {"name": "model", "regime": None, "seed": None}
    for cell in summary["cells"]:
        cell["bundle"] = "model"
    return summary | {"regimes": [], "contrasts": []}


def _bundle(regime: str, seed: int) -> dict[str, Any]:
    accuracy = [a / 100 for a in BASE[regime]]
    by_level = dict(zip(LEVELS, accuracy, strict=True)) | {"all": sum(accuracy) / 5}
    return {
        "name": f"{regime}-s{seed}",
        "domain": "vision",
        "task": "cifar10",
        "regime": regime,
        "seed": seed,
        "family": "cnn",
        "sha256": f"{seed:02x}" * 32,
        "reference": {"accuracy": by_level, "status": "ok", "seconds": 1.2, "items_per_second": 2500.0, "ece": 0.05},
        "export_drop_pp": dict.fromkeys(KEYS, estimate(0.0, 0.1)),
    }


def _card() -> dict[str, Any]:
    return {
        "task": "cifar10",
        "engine": "em",
        "items": 6000,
        "responders": 24,
        "split_half": 0.91,
        "rank_correlation_py_irt": 0.987,
        "gated_bands": [[1], [2], [3], [4], [5]],
        "tie_share": 0.013,
        "source": "responders",
        "circular": False,
        "notes": ["Responders: 24 recipes, two-fold cross-fitted."],
    }


def _cell(bundle: dict[str, Any], name: str, kind: str, deviations: Any, size: float, slope: float, rng: Any) -> Any:
    named = name == "int8-dynamic"
    cell = {
        "bundle": bundle["name"],
        "environment": name,
        "kind": kind,
        "gated": kind == "equivalent" or named,
        "named": named,
        "deviations": deviations,
    }
    if name == "cuda":
        reason = "ONNX Runtime here has no CUDAExecutionProvider; it has CPUExecutionProvider."
        return cell | {"status": "skipped", "reason": reason, "verdict": None, "levels": {}}
    if name == "dim-light" and bundle["seed"] == 0:
        return cell | {"status": "not_applicable", "reason": "The model takes uint8 input.", "verdict": None}
    drops = _drops(bundle, kind, size, slope, rng)
    return cell | _answers(bundle, name, size, drops) | _judged(kind, drops) | _executed(name)


def _drops(bundle: dict[str, Any], kind: str, size: float, slope: float, rng: Any) -> dict[str, float]:
    reference, noise = bundle["reference"]["accuracy"], 0.0 if kind == "equivalent" else 0.4
    drops = [size * (1 + slope * (i - 2) / 2) * min(1, reference[k] * 1.6) for i, k in enumerate(LEVELS)]
    by_level = {k: drop + rng.normal(0, noise) for k, drop in zip(LEVELS, drops, strict=True)}
    return by_level | {"all": float(np.mean(list(by_level.values())))}


def _answers(bundle: dict[str, Any], name: str, size: float, drops: dict[str, float]) -> dict[str, Any]:
    reference, slow = bundle["reference"]["accuracy"], name == "onnx-reference"
    floor = [5] if bundle["regime"] == "easy-only" else []
    half = 0.3 if size == 0 else 1.1
    return {
        "status": "ok",
        "n_by_level": dict.fromkeys(LEVELS, 100 if slow else 600),
        "n": 500 if slow else 3000,
        "subsampled": slow,
        "tie_changes": 0,
        "accuracy": {k: reference[k] - drops[k] / 100 for k in KEYS},
        "reference_accuracy": reference,
        "drop_pp": {k: estimate(drops[k], half, p_change=0.04, p_fail=0.5) for k in KEYS},
        "loss": {k: estimate(max(drops[k], 0) / 100 / reference[k] + 0.001, 0.001) for k in KEYS},
        "gain": {k: estimate(0.004, 0.002) for k in KEYS},
        "loss_slope": estimate(0.31, 0.1),
        "tilt_pp": None if floor else estimate(drops["5"] - drops["1"], 1.6),
        "ability_shift": estimate(-size / 12, 0.05),
        "predicted_drop_pp": drops,
        "floor": floor,
        "churn": {k: estimate(abs(drops[k]) / 90, abs(drops[k]) / 450) for k in KEYS},
        "flips": {"right_to_wrong": dict.fromkeys(KEYS, 12), "wrong_to_right": dict.fromkeys(KEYS, 7)},
        "ece": 0.06,
        "reference_ece": 0.05,
        "ece_difference": estimate(0.01, 0.008),
    }


def _judged(kind: str, drops: dict[str, float]) -> dict[str, Any]:
    verdicts = {k: _verdict(kind, drops[k]) for k in LEVELS}
    return {
        "verdict": next(v for v in ("FAIL", "INCONCLUSIVE", "PASS") if v in verdicts.values()),
        "levels": verdicts,
        "level_reasons": {k: f"drop {drops[k]:.1f} pp, margin 2 pp" for k, v in verdicts.items() if v != "PASS"},
        "items_needed": {k: 2400 if v == "INCONCLUSIVE" else None for k, v in verdicts.items()},
    }


def _verdict(kind: str, drop: float) -> str:
    if kind == "equivalent" or drop + 1.1 < 2:
        return "PASS"
    return "FAIL" if drop - 1.1 > 2 else "INCONCLUSIVE"


def _executed(name: str) -> dict[str, Any]:
    mismatch = name == "float16"
    execution = {
        "engine": "onnxruntime",
        "provider": "CPUExecutionProvider",
        "dtypes": {"Conv": {"float32": 9}, "MatMul": {"float32": 1}},
        "requested": "float16" if mismatch else "float32",
        "executed": "float32",
        "matches": not mismatch,
        "versions": {"onnxruntime": "1.31.1", "onnx": "1.20.0", "numpy": "2.3.1"},
    }
    reason = "asked for float16, ran in float32" if mismatch else ""
    return {"execution": execution, "reason": reason, "seconds": 1.3, "items_per_second": 2310.0}


def _regime(regime: str, catalog: Any, seeds: int, rng: Any) -> dict[str, Any]:
    base = BASE[regime]
    g1 = {"easy-only": 39.0, "hard-only": 9.2, "curriculum": 6.1, "random": 8.4}[regime]
    shifts = {n: (v[2] + rng.normal(0, 0.2), v[2] * v[3]) for n, v in catalog.items() if n != "cuda"}
    accuracy = {k: estimate(a / 100, 0.018) for k, a in zip(LEVELS, base, strict=True)}
    return {
        "domain": "vision",
        "task": "cifar10",
        "family": "cnn",
        "regime": regime,
        "seeds": seeds,
        "g1_pp": estimate(g1, 1.9),
        "memorisation_pp": estimate(g1 * 0.4, 1.0),
        "shift_pp": estimate(g1 * 0.6, 1.2),
        "test_accuracy": accuracy | {"all": estimate(sum(base) / 500, 0.01)},
        "g2_pp": estimate(base[0] - base[4], 3.0),
        "g3_pp": estimate(4.0, 1.0),
        "study_range_pp": STUDY_RANGES[regime],
        "environments": {
            n: {"g1_shift_pp": estimate(d, 0.7), "tilt_pp": estimate(t, 1)} for n, (d, t) in shifts.items()
        },
        "note": "three seeds: nothing is called supported",
    }


def _contrast(pair: tuple[str, str]) -> dict[str, Any]:
    return {
        "domain": "vision",
        "task": "cifar10",
        "family": "cnn",
        "regimes": list(pair),
        "metric": "g1_pp",
        "seeds": 3,
        "difference_pp": estimate(2.0, 3.1),
        "supported": None,
        "note": "fewer than five seeds: nothing is called supported",
    }


def check() -> dict[str, Any]:
    """One model, two environments, no regimes, nothing estimated: the least that a summary can hold."""
    judged = {
        "bundle": "model",
        "environment": "ort-one-thread",
        "kind": "equivalent",
        "gated": True,
        "deviations": {"runtime.intra_op_threads": 1},
        "status": "ok",
        "reason": "",
        "drop_pp": dict.fromkeys(KEYS),
        "loss": dict.fromkeys(KEYS),
        "churn": None,
        "tilt_pp": None,
        "floor": [5],
        "execution": {},
        "verdict": "NO DATA",
        "levels": dict.fromkeys(LEVELS, "NO DATA"),
        "seconds": 0.5,
        "items_per_second": 100.0,
    }
    skipped = {
        "bundle": "model",
        "environment": "cuda",
        "kind": "lossy",
        "gated": False,
        "deviations": {},
        "status": "skipped",
        "reason": "no such provider",
        "verdict": None,
        "levels": {},
    }
    bundle = {"name": "model", "domain": "vision", "task": "task", "regime": None, "seed": None, "family": None}
    return {
        "schema_version": 1,
        "verdict": "NO DATA",
        "reasons": ["Level 5 is at the floor."],
        "margin_pp": 2.0,
        "alpha": 0.05,
        "holm_family": 0,
        "calibration": [],
        "bundles": [bundle | {"sha256": "ab" * 32}],
        "cells": [judged, skipped],
        "regimes": [],
    }
