"""Every model family, at every size that the project promises."""

from __future__ import annotations

import pytest
import torch

from gapshift.errors import UnknownNameError
from gapshift.train.models import FAMILIES, ModelSpec, build, build_spec


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (24, 24), (32, 32), (64, 64), (16, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_images_to_one_logit_a_class(family: str, size: tuple[int, int], channels: int) -> None:
    model = build(family, channels=channels, size=size, classes=7, width=8).eval()
    logits = model(torch.zeros(2, channels, *size))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone(family: str) -> None:
    spec = ModelSpec(family=family, channels=1, size=(8, 8), classes=3, width=8)
    before = torch.random.get_rng_state()
    first, again, other = (build_spec(spec, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_items_of_a_batch_do_not_influence_each_other(family: str) -> None:
    model = build(family, channels=1, size=(8, 8), classes=3, width=8).eval()
    images = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    together, alone = model(images), torch.cat([model(image[None]) for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model family 'cn'. Did you mean 'cnn'\? Valid: cnn, vit"):
        build("cn", channels=1, size=(8, 8), classes=2, width=8)
