"""Checkpoints on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gapshift.errors import TrainingError
from gapshift.train.checkpoint import load_checkpoint, save_checkpoint
from gapshift.train.models import FAMILIES, ModelSpec, build_spec
from gapshift.train.settings import TrainingSettings

SPEC = ModelSpec(family="cnn", shape=(1, 8, 8), classes=2, width=4)
CONFIG = TrainingSettings(width=4, steps=30, batch_size=16, learning_rate=1e-2)
SHAPE = {"vision": (1, 8, 8), "text": (9,), "audio": (8, 20), "control": (4, 3)}


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpoint_round_trip(tmp_path: Path, family: str) -> None:
    domain = FAMILIES[family].domain
    spec = ModelSpec(
        family=family,
        shape=SHAPE[domain],
        classes=2,
        width=8,
        vocabulary=7 if domain == "text" else 0,
        head="spans" if domain == "text" else "classes",
    )
    model, path = build_spec(spec, seed=3), tmp_path / "deep" / "model.pt"
    save_checkpoint(path, model, spec, CONFIG)
    loaded, loaded_spec, settings = load_checkpoint(path)
    assert (loaded_spec, settings, loaded.training) == (spec, CONFIG, False)
    assert all(torch.equal(loaded.state_dict()[name], weight) for name, weight in model.state_dict().items())
    assert [file.name for file in path.parent.iterdir()] == ["model.pt"]


def test_checkpoint_refuses_what_is_not_one(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(TrainingError, match=r"There is no checkpoint .*model.pt. Make it with `gapshift train`"):
        load_checkpoint(path)
    for content in (b"", b"not a checkpoint"):
        path.write_bytes(content)
        with pytest.raises(TrainingError, match="is not a checkpoint that this version reads"):
            load_checkpoint(path)
    torch.save(build_spec(SPEC), path)  # a pickled object, which could run code
    with pytest.raises(TrainingError, match=r"is not a checkpoint .*Delete it and train again"):
        load_checkpoint(path)


def test_checkpoint_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    for spec, reason in (
        ('{"family": "rnn", "shape": [1, 8, 8], "classes": 2, "width": 4}', "Unknown model family 'rnn'"),
        ('{"family": "cnn", "channels": 1, "size": [8, 8], "classes": 2, "width": 4}', "validation error"),
        ('{"family": "cnn", "shape": [1, 8, 8], "classes": 2, "width": 8}', "Error.* in loading state_dict"),
    ):
        content = {"weights": build_spec(SPEC).state_dict(), "spec": spec, "settings": CONFIG.model_dump_json()}
        torch.save(content, path)
        with pytest.raises(TrainingError, match=rf"is not a checkpoint that this version reads: .*{reason}"):
            load_checkpoint(path)
