"""``gapshift contract``: the contract inside a file, or a template of one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import get_args

import pytest

from gapshift.cli import main
from gapshift.cli.catalog import DOMAINS
from gapshift.export.stamp import EXAMPLES, contract_from_toml
from gapshift.schema import Domain


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["contract", *words])
    out, err = capsys.readouterr()
    return int(stopped.value.code or 0), out, err


def test_domains_are_the_schema_s() -> None:
    assert get_args(Domain) == DOMAINS


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_template_of_a_domain_is_a_contract(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, domain: Domain
) -> None:
    code, out, _ = _run(capsys, "--domain", domain)
    (tmp_path / "contract.toml").write_text(out, encoding="utf-8")
    assert (code, out) == (0, EXAMPLES[domain])
    assert contract_from_toml(tmp_path / "contract.toml").domain == domain


@pytest.mark.parametrize("domain", DOMAINS)
def test_json_has_the_defaults_too(capsys: pytest.CaptureFixture[str], tmp_path: Path, domain: Domain) -> None:
    (tmp_path / "contract.toml").write_text(EXAMPLES[domain], encoding="utf-8")
    code, out, _ = _run(capsys, "--domain", domain, "--json")
    assert code == 0
    assert json.loads(out) == contract_from_toml(tmp_path / "contract.toml").model_dump(mode="json")


@pytest.mark.parametrize("words", [(), ("model.onnx", "--domain", "text")])
def test_a_model_or_a_domain(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = _run(capsys, *words)
    assert (code, out) == (2, "")
    assert err == "error: Give either a model or --domain NAME.\n"


def test_an_unknown_domain_is_refused_with_the_valid_ones(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = _run(capsys, "--domain", "sound")
    assert code == 2
    assert "'sound' is not one of 'vision', 'text', 'audio', 'control'" in err
