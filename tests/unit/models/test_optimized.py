import copy
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from query2label.bundle import Bundle
from query2label.config import ModelConfig
from query2label.errors import BundleError, ConfigError
from query2label.models.build import build_model
from query2label.models.optimized_attention import absorbing_pays
from query2label.models.query2label import Query2Label
from query2label.preprocess import PreprocessSpec

SIZE = (96, 64)
FAMILIES = [*timm.list_models("test_*"), "tf_efficientnet_lite0", "swin_tiny_patch4_window7_224", "tresnet_m"]
SQUARE_ONLY = {"test_coatnet", "test_maxvit"}
K = 7
SMALL = {"backbone": "test_resnet", "weights": "none", "hidden_dim": 16, "feedforward_dim": 24}
HEADS = {
    "published": {},
    "no encoder, one layer": {"num_encoder_layers": 0, "num_decoder_layers": 1},
    "two encoder layers, three layers": {"num_encoder_layers": 2, "num_decoder_layers": 3},
    "first self-attention": {"first_self_attention": True},
    "all self-attention": {"first_self_attention": True, "other_self_attention": True},
    "other self-attention, three layers": {"other_self_attention": True, "num_decoder_layers": 3},
    "no projection": {"hidden_dim": None},
    "no projection, feature norm": {"hidden_dim": None, "feature_norm": True},
    "feature norm": {"feature_norm": True},
    "direct": {"attention": "direct", "num_encoder_layers": 0},
    "direct, one layer": {"attention": "direct", "num_encoder_layers": 0, "num_decoder_layers": 1},
    "direct, feature norm": {
        "attention": "direct",
        "num_encoder_layers": 0,
        "hidden_dim": None,
        "feature_norm": True,
    },
    "no feed-forward": {"feedforward_dim": 0},
    "linear": {"head": "linear"},
    "linear, feature norm": {"head": "linear", "feature_norm": True},
    "csra": {"head": "csra", "csra_num_heads": 4},
    "ml_decoder": {"head": "ml_decoder", "ml_decoder_num_groups": 3},
    "ml_decoder, feature norm": {"head": "ml_decoder", "feature_norm": True},
}
MEETING = {"all self-attention", "other self-attention, three layers"}


def unsettle(model: nn.Module) -> nn.Module:
    """Gives every parameter and statistic a value that is not where it started."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim < 2:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.2 * parameter.std(correction=0).clamp_min(0.5) * noise)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean += 0.3 * torch.randn(module.running_mean.shape, generator=generator)
                module.running_var *= torch.rand(module.running_var.shape, generator=generator) + 0.5
    return model


def build(num_labels: int = K, **settings: object) -> Query2Label:
    torch.manual_seed(0)
    model = build_model(ModelConfig(**{**SMALL, **settings}), num_labels, image_size=SIZE)
    if settings.get("attention") == "direct":  # it starts at zero
        for parameter in model.head.parameters():
            nn.init.normal_(parameter, std=0.3)
    return unsettle(model).eval()


def images(count: int = 3, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(2))


@pytest.fixture(params=HEADS, ids=str)
def head_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("num_labels", [2, 5, 300], ids=["all absorbed", "keys absorbed", "not absorbed"])
def test_optimized__gives_the_same_logits(head_name: str, num_labels: int) -> None:
    model = build(num_labels, **HEADS[head_name])

    with torch.inference_mode():
        expected = model(images())
        optimized = model.optimize_for_inference(image_size=SIZE)
        found, alone = optimized(images()), optimized(images()[1:2])

    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(alone, expected[1:2], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("num_labels", "absorbed"),
    [(2, [(True, True), (True, True)]), (5, [(True, False), (False, False)]), (300, [(False, False)] * 2)],
)
def test_optimized__puts_projections_where_they_cost_least(
    num_labels: int, absorbed: list[tuple[bool, bool]]
) -> None:
    head: Any = build(num_labels).optimize_for_inference(image_size=SIZE).head

    attentions = [layer.cross_attention for layer in (head.first, *head.later)]
    assert [(each.absorbs_keys, each.value_weight is not None) for each in attentions] == absorbed


@pytest.mark.parametrize("name", FAMILIES)
def test_optimized__gives_the_same_logits_with_any_backbone(name: str) -> None:
    size = (160, 160) if name in SQUARE_ONLY else (160, 96)
    torch.manual_seed(0)
    config = ModelConfig(**{**SMALL, "backbone": name})
    model = unsettle(build_model(config, K, image_size=size)).eval()

    with torch.inference_mode():
        expected = model(images(2, size))
        found = model.optimize_for_inference(image_size=size)(images(2, size))

    assert expected.std() > 1e-2
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("any_size", [False, True])
@pytest.mark.parametrize("size", [(64, 96), (32, 32), (128, 160)])
def test_optimized__takes_other_image_sizes(size: tuple[int, int], any_size: bool) -> None:
    model = build()

    with torch.inference_mode():
        found = model.optimize_for_inference(image_size=SIZE, any_size=any_size)(images(2, size))
        torch.testing.assert_close(found, model(images(2, size)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [SIZE, (64, 96)])
def test_optimized__keeps_the_stored_position(size: tuple[int, int]) -> None:
    model = build(stored_position=(size[0] // 32, size[1] // 32))
    model.head.position += 0.5 * torch.randn(model.head.position.shape)
    optimized = model.optimize_for_inference(image_size=SIZE)

    with torch.inference_mode():
        for each in (SIZE, size):
            torch.testing.assert_close(optimized(images(2, each)), model(images(2, each)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(HEADS.keys() - MEETING))
def test_optimized__scores_some_labels_and_chunks(name: str) -> None:
    model = build(11, **HEADS[name])
    optimized = model.optimize_for_inference(image_size=SIZE)
    indices = torch.tensor([7, 0, 10, 2, 2])

    with torch.inference_mode():
        expected = model(images())
        some = optimized(images(), label_indices=indices)
        chunks = optimized(images(), label_chunk=4)

    torch.testing.assert_close(some, expected[:, indices], rtol=0, atol=1e-5)
    torch.testing.assert_close(chunks, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", sorted(MEETING))
def test_optimized__refuses_some_labels_where_they_meet(name: str) -> None:
    optimized = build(**HEADS[name]).optimize_for_inference(image_size=SIZE)

    with pytest.raises(ConfigError, match="each logit depends on all labels"):
        optimized(images(), label_chunk=4)


@pytest.mark.parametrize("num_labels", [2, 5, 300])
@pytest.mark.parametrize("name", ["published", "all self-attention", "direct", "no projection"])
def test_optimized__says_where_it_looked(name: str, num_labels: int) -> None:
    model = build(num_labels, **HEADS[name])

    with torch.inference_mode():
        logits, maps = model.forward_with_attention(images())
        found, found_maps = model.optimize_for_inference(image_size=SIZE).forward_with_attention(images())

    assert maps.std() > 1e-3
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-5)
    torch.testing.assert_close(found_maps, maps, rtol=0, atol=1e-5)


def test_optimized__leaves_the_model_as_it_is(head_name: str) -> None:
    model = build(**HEADS[head_name])
    before = copy.deepcopy(model.state_dict())
    asking = [parameter.requires_grad for parameter in model.parameters()]
    modes = {name: module.training for name, module in model.train().named_modules()}

    optimized = model.optimize_for_inference(image_size=SIZE)
    with torch.no_grad():
        for tensor in (*optimized.parameters(), *optimized.buffers()):
            tensor.zero_()

    assert {name: module.training for name, module in model.named_modules()} == modes
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert [parameter.requires_grad for parameter in model.parameters()] == asking
    assert not optimized.training


def test_optimized__keeps_the_bundle_and_its_image_size() -> None:
    model = build()
    model.bundle = Bundle(
        model=ModelConfig(**SMALL),
        labels=tuple("abcdefg"),
        preprocess=PreprocessSpec(image_size=(64, 160)),
        thresholds=(0.5,) * K,
    )

    optimized: Any = model.optimize_for_inference()

    assert optimized.bundle is model.bundle
    assert optimized.head.map_shape == (2, 5)
    assert optimized.optimize_for_inference() is optimized


def test_optimized__is_for_inference_only(tmp_path: Path) -> None:
    optimized = build().optimize_for_inference(image_size=SIZE)

    with pytest.raises(ConfigError, match="An optimized model cannot be trained: train the one"):
        optimized.train()
    with pytest.raises(BundleError, match="An optimized model cannot be saved as a bundle"):
        optimized.save_pretrained(tmp_path / "bundle")
    assert optimized.eval() is optimized
    assert not any(parameter.requires_grad for parameter in optimized.parameters())


@pytest.mark.parametrize(
    ("sizes", "keys_of_first_layer", "others"),
    [
        ((196, 80, 2048, 4), True, True),  # R101 at 448, MS-COCO
        ((144, 80, 1536, 4), True, True),  # Swin-L at 384
        ((196, 500, 2048, 4), True, False),
        ((196, 5000, 2048, 4), False, False),
        ((49, 80, 2048, 4), True, False),
    ],
)
def test_absorbing_pays__compares_multiply_adds(
    sizes: tuple[int, int, int, int], keys_of_first_layer: bool, others: bool
) -> None:
    assert absorbing_pays(*sizes, constant_query=True) is keys_of_first_layer
    assert absorbing_pays(*sizes) is others
