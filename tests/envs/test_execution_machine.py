"""Facts about the machine, on Linux and where the system tells nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gapshift.envs import machine


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    machine._cpuinfo.cache_clear()
    yield
    machine._cpuinfo.cache_clear()


def _pretend(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    path.write_text(text)
    monkeypatch.setattr(machine, "_CPUINFO", path)


def test_fingerprint_is_plain_json() -> None:
    facts = machine.fingerprint()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["cores"] >= 1
    assert facts["cpu"]


def test_flags_are_read_from_the_first_processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    text = "model name\t: Test CPU\nflags\t\t: fpu avx2 avx512_bf16 xyz\n\nmodel name\t: Other\nflags\t\t: amx_int8\n"
    _pretend(monkeypatch, tmp_path / "cpuinfo", text)
    assert machine.cpu_flags() == ("avx2", "avx512_bf16")
    assert machine.fingerprint()["cpu"] == "Test CPU"


def test_arm_names_its_features_otherwise(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _pretend(monkeypatch, tmp_path / "cpuinfo", "processor\t: 0\nFeatures\t: fp asimd bf16\n")
    assert machine.cpu_flags() == ("asimd", "bf16")


def test_system_that_tells_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "absent")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr("platform.processor", lambda: "")
    facts = machine.fingerprint()
    assert (facts["cpu"], facts["cpu_flags"], facts["memory_gib"]) == ("unknown", [], None)
    assert facts["cores"] >= 1


def test_versions_name_what_is_absent() -> None:
    found = machine.versions("numpy", "onnxruntime", "opencv", "no-such-library")
    assert found.pop("no-such-library") == "absent"
    assert all(text[0].isdigit() for text in found.values())
