"""Frozen trunks from one transformer in another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from gapshift.errors import TrainingError
from gapshift.train.loop import fit
from gapshift.train.models import ModelSpec, build_spec
from gapshift.train.settings import TrainingSettings
from gapshift.train.sources import Tensors
from gapshift.train.transfer import graft


def vit(width: int = 16) -> nn.Module:
    return build_spec(ModelSpec(family="vit", shape=(1, 8, 8), classes=2, width=width), seed=1)


def text(family: str = "text-transformer") -> nn.Module:
    return build_spec(ModelSpec(family=family, shape=(6,), classes=2, width=16, vocabulary=9), seed=2)


def trunk_state(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items() if name.startswith("trunk.")}


@pytest.mark.parametrize("lender", [None, vit()])
def test_the_trunk_stays_frozen_while_input_and_head_are_trained(lender: nn.Module | None) -> None:
    target = text()
    before = {name: weight.clone() for name, weight in target.state_dict().items()}
    expected = trunk_state(target if lender is None else lender)
    assert graft(target, lender) is target
    ids = torch.randint(1, 9, (16, 6), generator=torch.Generator().manual_seed(0))
    draws = np.arange(16).reshape(1, 16).repeat(3, 0)
    fit(target, Tensors(ids, torch.arange(16) % 2), draws, TrainingSettings(), "cpu")
    assert all(torch.equal(weight, expected[name]) for name, weight in trunk_state(target).items())
    moved = {
        name.split(".")[0] for name, weight in target.state_dict().items() if not torch.equal(weight, before[name])
    }
    assert moved - {"trunk"} == {"embed", "head"}


def test_the_lender_is_left_as_it_was() -> None:
    lender = vit()
    before = trunk_state(lender)
    graft(text(), lender).trunk.blocks[0].norm.weight.data += 1  # type: ignore[union-attr,operator,index]
    assert all(torch.equal(weight, before[name]) for name, weight in trunk_state(lender).items())
    assert all(parameter.requires_grad for parameter in lender.parameters())


def test_refuses_other_widths_and_networks_without_a_trunk() -> None:
    with pytest.raises(TrainingError, match=r"A trunk of width 32 .Vit. does not fit TextTransformer of width 16"):
        graft(text(), vit(32))
    with pytest.raises(TrainingError, match=r"Recurrent has no trunk to transfer. Valid families: vit, text-tr"):
        graft(text("lstm"), vit())
    with pytest.raises(TrainingError, match="Recurrent has no trunk"):
        graft(text(), text("gru"))
