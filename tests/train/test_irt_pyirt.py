"""py-irt as a second opinion: same ranks, contained side effects, clear refusals."""

from __future__ import annotations

import random
import sys

import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from gapshift.errors import CalibrationError, UnknownNameError
from gapshift.train.irt import engine, pyirt

needs_py_irt = pytest.mark.skipif(sys.version_info >= (3, 12), reason="py-irt needs Python below 3.12")

_RANDOM = np.random.default_rng(1)
THETA, B = _RANDOM.normal(size=40), _RANDOM.normal(0, 1.3, 200)
ANSWERS = (_RANDOM.random((40, 200)) < expit(THETA[:, None] - B)).astype(float)


@needs_py_irt
@pytest.mark.parametrize("name", ["py-irt-1pl", "py-irt-2pl"])
def test_it_agrees_with_em(name: str) -> None:
    holes = np.where(np.random.default_rng(2).random(ANSWERS.shape) < 0.1, np.nan, ANSWERS)
    fitted = engine(name).fit(holes, 0.0, seed=3)
    assert spearmanr(fitted.b, engine("em").fit(holes).b).statistic > 0.95
    assert spearmanr(fitted.theta, THETA).statistic > 0.9
    assert (fitted.c == 0).all()
    assert ((fitted.a == 1).all()) == (name == "py-irt-1pl")
    assert (fitted.se_b > 0).all()


@needs_py_irt
def test_it_is_quiet_seeded_thresholds_soft_responses_and_leaves_the_globals_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    import torch

    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    small = ANSWERS[:12, :40]
    soft = np.where(small == 1, 0.5, 0.49)  # right from one half on
    one, again, other = (engine("py-irt").fit(given, 0.0, seed) for given, seed in ((small, 1), (soft, 1), (small, 2)))
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # type: ignore[index]
    np.testing.assert_array_equal(one.b, again.b)
    assert (one.b != other.b).any()
    assert states == after
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_engine_names() -> None:
    assert [engine(name).name for name in ("em", "py-irt", "py-irt-1pl", "py-irt-2pl")] == [
        "em",
        "py-irt-1pl",
        "py-irt-1pl",
        "py-irt-2pl",
    ]
    with pytest.raises(UnknownNameError, match=r"Unknown calibration engine 'py-irt-3pl'. Did you mean 'py-irt-"):
        engine("py-irt-3pl")
    with pytest.raises(CalibrationError, match=r"model '3pl' is not offered. Valid: 1pl, 2pl"):
        pyirt.PyIrtEngine("3pl")  # type: ignore[arg-type]


def test_on_a_newer_python_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyirt.sys, "version_info", (3, 12, 1, "final", 0))
    with pytest.raises(CalibrationError, match=r"py-irt needs Python below 3.12; this is 3.12. Use engine 'em'"):
        engine("py-irt").fit(ANSWERS)


def test_without_the_package_it_says_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyirt.sys, "version_info", (3, 11, 0))
    monkeypatch.setattr(pyirt.importlib.util, "find_spec", lambda name: None)  # noqa: ARG005
    with pytest.raises(CalibrationError, match=r"py-irt is not installed .* Use engine 'em'"):
        engine("py-irt-2pl").fit(ANSWERS)
