"""Perceptual distance: the definition against loops, VGG16 by torchvision's names, input ranges, hostile files."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.texture.perceptual import (
    IMAGENET_MEAN,
    VGG16_BLOCKS,
    FeatureDistance,
    VaeFeatures,
    VggFeatures,
    make_perceptual,
)


@pytest.fixture(scope="module")
def vgg_weights():
    """Random weights under torchvision's names: the layout is its `vgg16().features`."""
    generator, weights, number, inputs = torch.Generator().manual_seed(0), {}, 0, 3
    for channels in VGG16_BLOCKS:
        for outputs in channels:
            weights[f"features.{number}.weight"] = torch.randn(outputs, inputs, 3, 3, generator=generator) * 0.05
            weights[f"features.{number}.bias"] = torch.randn(outputs, generator=generator) * 0.05
            number, inputs = number + 2, outputs
        number += 1
    return weights


def test_layers_carry_torchvisions_numbers(vgg_weights):
    numbers = sorted({int(name.split(".")[1]) for name in vgg_weights})
    assert numbers == [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28]


def test_distance_is_lpips_with_equal_weights(generator):
    first, second = torch.rand(2, 2, 5, 4, 3, generator=generator).unbind()
    distance = FeatureDistance(lambda images: [images.permute(0, 3, 1, 2)])(first, second)
    total = 0.0
    for b in range(2):
        for y in range(5):
            for x in range(4):
                mine, theirs = first[b, y, x], second[b, y, x]
                total += float((mine / mine.norm() - theirs / theirs.norm()).square().sum())
    assert float(distance) == pytest.approx(total / 40, rel=1e-5)


def test_vgg_sees_normalised_pictures_and_its_first_layers(vgg_weights, generator):
    images = torch.rand(1, 16, 16, 3, generator=generator)
    features = VggFeatures(vgg_weights, layers=2)(images)
    assert [list(layer.shape) for layer in features] == [[1, 64, 16, 16], [1, 128, 8, 8]]
    mean = torch.tensor(IMAGENET_MEAN).expand(1, 16, 16, 3)
    by_hand = torch.zeros(1, 3, 16, 16)
    for number in (0, 2):  # a picture of the mean colour is zero to the network
        by_hand = torch.conv2d(
            by_hand, vgg_weights[f"features.{number}.weight"], vgg_weights[f"features.{number}.bias"], padding=1
        ).relu()
    torch.testing.assert_close(VggFeatures(vgg_weights, layers=1)(mean)[0], by_hand, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_vgg_distance_has_a_gradient_and_is_zero_between_equals(vgg_weights, generator, tmp_path):
    from safetensors.torch import save_file

    save_file(vgg_weights, tmp_path / "vgg16.safetensors")
    torch.save(vgg_weights, tmp_path / "vgg16.pth")
    images = torch.rand(1, 32, 32, 3, generator=generator)
    other = torch.rand(1, 32, 32, 3, generator=generator).requires_grad_()
    values = []
    for name in ("vgg16.safetensors", "vgg16.pth"):
        distance = make_perceptual("vgg16", None, tmp_path / name)
        assert float(distance(images, images)) == 0
        values.append(distance(other, images))
    assert torch.equal(*values)
    (gradient,) = torch.autograd.grad(values[0], other)
    assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0


def test_vae_features_are_the_encoders_own_in_its_own_range(tiny_sd, generator):
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"))
    images = torch.rand(2, 32, 32, 3, generator=generator)
    features = VaeFeatures(guide.vae)(images)
    first = guide.vae.encoder.conv_in(images.permute(0, 3, 1, 2) * 2 - 1)
    torch.testing.assert_close(features[0], first)
    assert len(features) == 1 + len(guide.vae.encoder.down_blocks)
    distance = make_perceptual("vae", guide)
    leaf = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(distance(leaf, images.flip(0)), leaf)
    assert bool(gradient.isfinite().all()) and float(gradient.abs().max()) > 0
    assert float(distance(images, images)) == 0


def test_black_pictures_have_finite_gradients():
    leaf = torch.zeros(1, 4, 4, 3, requires_grad=True)
    distance = FeatureDistance(lambda images: [images.permute(0, 3, 1, 2)])
    (gradient,) = torch.autograd.grad(distance(leaf, torch.ones(1, 4, 4, 3)), leaf)
    assert bool(gradient.isfinite().all())


def test_what_is_missing_is_named(vgg_weights, tmp_path):
    with pytest.raises(InputError, match="perceptual weights: expected the path of torchvision's vgg16"):
        make_perceptual("vgg16", None)
    with pytest.raises(InputError, match="expected a VAE with a diffusers encoder"):
        make_perceptual("vae", None)
    with pytest.raises(InputError, match="perceptual: expected one of vae, vgg16, got 'alexnet'"):
        make_perceptual("alexnet", None)
    with pytest.raises(FileNotFoundError):
        make_perceptual("vgg16", None, tmp_path / "none.pth")
    (tmp_path / "noise.pth").write_bytes(b"no weights" * 20)
    with pytest.raises(InputError, match="noise.pth: expected torchvision's VGG16 weights"):
        make_perceptual("vgg16", None, tmp_path / "noise.pth")
    torch.save({"features.0.weight": torch.zeros(64, 1, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other.pth: features.0.weight: expected a tensor \[64, 3, 3, 3\]"):
        make_perceptual("vgg16", None, tmp_path / "other.pth")
