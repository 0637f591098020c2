"""Every model family, at every shape that the project promises."""

from __future__ import annotations

import re

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from gapshift.errors import UnknownNameError
from gapshift.train.models import DEFAULT_RESPONDER, FAMILIES, SHAPES, ModelSpec, build_spec
from gapshift.train.models.trunk import DEPTH, MASKED, Trunk, trunk_width

SHAPE = {"vision": (1, 8, 8), "text": (12,), "audio": (8, 20), "control": (4, 3)}
TOKENS = 20
TEXT = [name for name, family in FAMILIES.items() if family.domain == "text"]
TRANSFORMERS = [name for name, family in FAMILIES.items() if family.transformer]


def spec_of(family: str, width: int = 8, shape: tuple[int, ...] | None = None, head: str = "classes") -> ModelSpec:
    domain = FAMILIES[family].domain
    return ModelSpec.model_validate(
        {
            "family": family,
            "shape": shape or SHAPE[domain],
            "classes": 2 if head == "spans" else 3,
            "width": width,
            "vocabulary": TOKENS if domain == "text" else 0,
            "head": head,
        }
    )


def inputs_of(spec: ModelSpec, count: int, shape: tuple[int, ...] | None = None) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    size = (count, *(shape or spec.shape))
    return (
        torch.randint(1, TOKENS, size, generator=generator)
        if spec.vocabulary
        else torch.randn(size, generator=generator)
    )


@pytest.mark.parametrize("family", ["cnn", "vit"])
@pytest.mark.parametrize("size", [(8, 8), (16, 16), (24, 24), (32, 32), (64, 64), (16, 32)])
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_images_to_one_logit_a_class(family: str, size: tuple[int, int], channels: int) -> None:
    model = build_spec(spec_of(family, shape=(channels, *size))).eval()
    logits = model(torch.zeros(2, channels, *size))
    assert logits.shape == (2, 3)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_maps_a_batch_to_one_logit_a_class_at_all_three_widths(family: str) -> None:
    small, medium, large = FAMILIES[family].widths
    assert small < medium < large
    sizes = []
    for width in (small, medium, large):
        spec = spec_of(family, width)
        model = build_spec(spec).eval()
        assert model(inputs_of(spec, 2)).shape == (2, 3)
        sizes.append(sum(parameter.numel() for parameter in model.parameters()))
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("family", "shape"),
    [(name, shape) for name in TEXT for shape in ((1,), (30,))]
    + [(name, (8, frames)) for name in ("audio-cnn", "audio-transformer") for frames in (1, 7, 61)]
    + [("controller", (1, 3)), ("controller", (9, 3))],
)
def test_sequences_may_have_another_length_than_the_network_was_built_with(family: str, shape: tuple[int, ...]) -> None:
    assert FAMILIES[family].sequence
    spec = spec_of(family)
    logits = build_spec(spec).eval()(inputs_of(spec, 2, shape))
    assert logits.shape == (2, 3)
    assert bool(torch.isfinite(logits).all())


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_depend_on_the_seed_alone_and_the_global_generator_is_left_alone(family: str) -> None:
    spec = spec_of(family)
    before = torch.random.get_rng_state()
    first, again, other = (build_spec(spec, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b, _ in pairs)
    assert not all(torch.equal(a, c) for a, _, c in pairs)


@pytest.mark.parametrize("family", FAMILIES)
def test_items_of_a_batch_do_not_influence_each_other(family: str) -> None:
    spec = spec_of(family)
    model, inputs = build_spec(spec).eval(), inputs_of(spec, 5)
    together, alone = model(inputs), torch.cat([model(item[None]) for item in inputs])
    assert torch.allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_place_of_the_input_can_change_the_scores(family: str) -> None:
    """A window, a mask or a pool that loses a place would leave its gradient at zero."""
    spec = spec_of(family)
    model, inputs = build_spec(spec).eval(), inputs_of(spec, 6)
    if spec.vocabulary:
        scores = model(inputs)
        for place in range(inputs.shape[1]):
            changed = inputs.clone()
            changed[:, place] = changed[:, place] % (TOKENS - 1) + 1
            assert not torch.equal(model(changed), scores)
    else:
        inputs.requires_grad_()
        (gradient,) = torch.autograd.grad(model(inputs).square().sum(), inputs)
        assert bool((gradient != 0).any(dim=0).all())


# ------------------------------------------------------------------------ padding


@pytest.mark.parametrize("head", ["classes", "spans"])
@pytest.mark.parametrize("family", TEXT)
def test_a_text_that_is_all_padding_gives_finite_scores_and_gradients(family: str, head: str) -> None:
    model = build_spec(spec_of(family, head=head)).train()
    scores = model(torch.zeros(2, 12, dtype=torch.int64))
    assert bool(torch.isfinite(scores).all())
    scores.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize("head", ["classes", "spans"])
def test_what_follows_as_padding_changes_nothing_in_a_transformer(head: str) -> None:
    model = build_spec(spec_of("text-transformer", head=head)).eval()
    ids = inputs_of(spec_of("text-transformer"), 4)
    padded = torch.cat((ids, torch.zeros(4, 5, dtype=torch.int64)), dim=1)
    assert torch.allclose(model(padded)[..., : model(ids).shape[-1]], model(ids), atol=1e-5)


@pytest.mark.parametrize("family", TEXT)
@pytest.mark.parametrize("left", [False, True])
def test_no_span_begins_or_ends_in_padding(family: str, left: bool) -> None:
    model = build_spec(spec_of(family, head="spans")).eval()
    ids = inputs_of(spec_of(family), 4)
    padding = slice(0, 5) if left else slice(7, 12)
    ids[:, padding] = 0
    scores = model(ids)
    assert scores.shape == (4, 2, 12)
    assert bool((scores[:, :, padding] == MASKED).all())
    assert bool((scores[:, :, slice(5, 12) if left else slice(0, 7)] > MASKED / 2).all())


@pytest.mark.parametrize("family", TEXT)
def test_left_padding_is_left_out_of_the_pool(family: str) -> None:
    """What the padding's own embedding is may not matter to the mean or the maximum over tokens."""
    model = build_spec(spec_of(family)).eval()
    ids = inputs_of(spec_of(family), 4)
    ids[:, :6] = 0
    states = torch.randn(
        4, 12, 16 if family == "text-transformer" else 8, generator=torch.Generator().manual_seed(1)
    ).tanh()
    states = states[:, :, : _features(model)]
    moved = states.clone()
    moved[:, :6] = 0.99
    assert torch.equal(model.head(states, ids != 0), model.head(moved, ids != 0))


def _features(model: nn.Module) -> int:
    return int(next(layer for layer in model.head.modules() if isinstance(layer, nn.Linear)).in_features)


def test_nothing_attends_to_padding() -> None:
    trunk = Trunk(16).eval()
    tokens = torch.randn(2, 6, 16, generator=torch.Generator().manual_seed(0))
    valid = torch.tensor([[True] * 4 + [False] * 2, [False] * 2 + [True] * 4])
    moved = torch.where(valid[:, :, None], tokens, 100.0)
    assert torch.equal(trunk(tokens, valid)[valid], trunk(moved, valid)[valid])
    assert not torch.allclose(trunk(tokens)[valid], trunk(tokens, valid)[valid])


# -------------------------------------------------------------------------- trunks


@pytest.mark.parametrize("width", [8, 20, 32])
def test_a_trunk_fits_every_transformer_of_equal_width(width: int) -> None:
    trunks = [build_spec(spec_of(family, width), seed=seed).trunk for seed, family in enumerate(TRANSFORMERS)]
    assert all(isinstance(trunk, Trunk) and len(trunk.blocks) == DEPTH for trunk in trunks)
    assert {trunk.width for trunk in trunks} == {trunk_width(width)}
    for trunk in trunks[1:]:
        trunk.load_state_dict(trunks[0].state_dict())
    assert [name for name in FAMILIES if not FAMILIES[name].transformer] == ["cnn", "lstm", "gru", "audio-cnn"]


# --------------------------------------------------------------------------- specs


def test_unknown_family_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown model family 'cn'. Did you mean 'cnn'\? Valid: audio-cnn, "):
        ModelSpec(family="cn", shape=(1, 8, 8), classes=2, width=8)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"family": "audio-cnn"},
            "audio-cnn is a family for audio, whose inputs have the shape (mels, frames), not (1, 8, 8); "
            "families for it: cnn, vit",
        ),
        ({"shape": (1, 2, 3, 4)}, "not (1, 2, 3, 4); families for it: none"),
        ({"vocabulary": 9}, "vocabulary is 9, and cnn (for vision) knows no tokens"),
        ({"family": "gru", "shape": (8,)}, "vocabulary is 0, and gru (for text) needs the number of tokens"),
        ({"head": "spans"}, "head 'spans' is for text, and cnn is for vision; use 'classes'"),
    ],
)
def test_a_spec_that_does_not_fit_its_family_says_why(changed: dict[str, object], message: str) -> None:
    whole = {"family": "cnn", "shape": (1, 8, 8), "classes": 2, "width": 8, **changed}
    with pytest.raises(ValidationError, match=re.escape(message)):
        ModelSpec.model_validate(whole)


def test_every_domain_has_families_and_a_responder_of_its_own() -> None:
    assert {family.domain for family in FAMILIES.values()} == set(SHAPES) == set(DEFAULT_RESPONDER)
    assert all(FAMILIES[name].domain == domain for domain, name in DEFAULT_RESPONDER.items())
    assert [name for name, family in FAMILIES.items() if family.recurrent] == ["lstm", "gru"]


@pytest.mark.parametrize("family", ["lstm", "gru"])
def test_recurrent_layers_stay_in_float32_under_autocast(family: str) -> None:
    spec = ModelSpec(family=family, shape=(6,), classes=3, width=8, vocabulary=9)
    model, seen = build_spec(spec), list[torch.dtype]()
    layer = model.get_submodule("layer")
    layer.register_forward_hook(lambda _module, _inputs, outputs: seen.append(outputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.ones(2, 6, dtype=torch.int64))
    assert (seen, logits.dtype) == ([torch.float32], torch.bfloat16)
