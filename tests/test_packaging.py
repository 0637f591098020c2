"""The wheel, the links and the import layers are what the project says they are."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("train", "export", "envs", "reports", "deploy_tests")


def _settings() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def _packages_on_disk() -> set[str]:
    found = set()
    for folder, name in [(ROOT / "src" / "gapshift", "gapshift"), *((ROOT / f, f"gapshift.{f}") for f in FOLDERS)]:
        for init in folder.rglob("__init__.py"):
            parts = init.parent.relative_to(folder).parts
            if not (name == "gapshift" and parts and parts[0] in FOLDERS):
                found.add(".".join((name, *parts)))
    return found


def test_every_package_on_disk_is_declared() -> None:
    assert set(_settings()["packages"]) == _packages_on_disk()


@pytest.mark.parametrize("folder", FOLDERS)
def test_root_folders_are_linked_into_the_package(folder: str) -> None:
    link = ROOT / "src" / "gapshift" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("../..") / folder


def test_the_wheel_holds_every_module_template_and_catalog_file(tmp_path: Path) -> None:
    copy = tmp_path / "source"  # a build in the checkout could be satisfied by an earlier one's leftovers
    leave = shutil.ignore_patterns(".git", ".venv", ".*_cache", "build", "dist", "runs", "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leave)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(copy)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    missing = [name for name in _expected_files() if name not in names]
    assert not missing


def _expected_files() -> list[str]:
    expected = []
    roots = [(ROOT / "src" / "gapshift", "gapshift"), *((ROOT / f, f"gapshift/{f}") for f in FOLDERS)]
    for folder, prefix in roots:
        for file in folder.rglob("*"):
            inside = file.relative_to(folder)
            through_link = prefix == "gapshift" and inside.parts[0] in FOLDERS
            wanted = file.suffix in (".py", ".toml", ".j2", ".css", ".js") or file.name == "py.typed"
            if file.is_file() and wanted and not through_link and "__pycache__" not in inside.parts:
                expected.append(f"{prefix}/{inside.as_posix()}")
    return expected


def test_constraints_pin_the_tested_torch() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in lines
