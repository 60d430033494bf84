"""Perceptual distance of two pictures: how far apart the features of a frozen network are.

After Zhang et al. 2018 (LPIPS, equation 1) with every channel weighing the same: features are normalised to unit length
at each place, their squared differences summed over channels, averaged over places and summed over layers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from humannorm.checks import InputError, check_choice, check_range
from humannorm.images import to_network

__all__ = ["PERCEPTUAL_ENGINES", "FeatureDistance", "Perceptual", "VaeFeatures", "VggFeatures", "make_perceptual"]

Perceptual = Callable[[Tensor, Tensor], Tensor]
"""Distance (a scalar) of pictures [B, H, W, 3] in 0..1, differentiable to the first."""

# The mean and spread of ImageNet's pictures, which torchvision's networks were trained with (images in 0..1).
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Channels of VGG16's convolutions, block by block; max pooling between blocks (Simonyan and Zisserman 2015, column D).
VGG16_BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VggFeatures(nn.Module):
    """relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3 of VGG16, or the first `layers` of them."""

    def __init__(self, weights: Mapping[str, Tensor], layers: int = 5) -> None:
        """weights: torchvision's `vgg16` state dict, by its names `features.N.weight` and `features.N.bias`."""
        super().__init__()
        check_range("layers", layers, 1, len(VGG16_BLOCKS))
        self.blocks = nn.ModuleList()
        number, inputs = 0, 3  # of torchvision's layers: convolution, relu, ..., pooling
        for channels in VGG16_BLOCKS[:layers]:
            block = nn.Sequential()
            for outputs in channels:
                block.extend([_convolution(weights, number, inputs, outputs), nn.ReLU()])
                number, inputs = number + 2, outputs
            self.blocks.append(block)
            number += 1
        self.requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path, layers: int = 5) -> VggFeatures:
        """From a file of torchvision's weights (.safetensors, .pth); nothing is fetched or unpickled."""
        path = Path(path)
        try:
            if path.suffix == ".safetensors":
                from safetensors.torch import load_file

                weights = load_file(path)
            else:
                weights = torch.load(path, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise
        except Exception as error:  # torch and safetensors raise whatever a broken file leads them to
            raise InputError(f"{path}: expected torchvision's VGG16 weights, got a file that fails: {error}") from error
        if not isinstance(weights, Mapping):
            raise InputError(f"{path}: expected torchvision's VGG16 weights, got {type(weights).__name__}")
        try:
            return cls(weights, layers)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def forward(self, images: Float[Tensor, "B H W 3"]) -> list[Tensor]:
        """Features [B, C, h, w] of each layer; images in 0..1."""
        x = (images - images.new_tensor(IMAGENET_MEAN)) / images.new_tensor(IMAGENET_STD)
        x = x.permute(0, 3, 1, 2).to(next(self.parameters()).device)
        features: list[Tensor] = []
        for number, block in enumerate(self.blocks):
            x = block(nn.functional.max_pool2d(x, 2) if number else x)
            features.append(x)
        return features


def _convolution(weights: Mapping[str, Tensor], number: int, inputs: int, outputs: int) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    for name, expected in (("weight", (outputs, inputs, 3, 3)), ("bias", (outputs,))):
        found = weights.get(f"features.{number}.{name}")
        if not isinstance(found, Tensor) or tuple(found.shape) != expected:
            got = list(found.shape) if isinstance(found, Tensor) else "none"
            raise InputError(f"features.{number}.{name}: expected a tensor {list(expected)} as in VGG16, got {got}")
        getattr(layer, name).data.copy_(found)
    return layer


class VaeFeatures(nn.Module):
    """What a guide's own VAE encoder sees: its first convolution and the blocks on the way down (diffusers' layout)."""

    def __init__(self, vae: Any, layers: int | None = None) -> None:
        """layers: how many, from the first (None: all)."""
        super().__init__()
        encoder: Any = getattr(vae, "encoder", None)
        if not hasattr(encoder, "conv_in") or not hasattr(encoder, "down_blocks"):
            raise InputError("guide: expected a VAE with a diffusers encoder for the engine vae, got none")
        blocks = [encoder.conv_in, *encoder.down_blocks]
        check_range("layers", len(blocks) if layers is None else layers, 1, len(blocks))
        self.blocks = nn.ModuleList(blocks[:layers])

    def forward(self, images: Float[Tensor, "B H W 3"]) -> list[Tensor]:
        """Features [B, C, h, w] of each layer; images in 0..1 (the encoder gets -1..1)."""
        parameter = next(self.blocks.parameters())
        x = to_network(images).to(parameter.device, parameter.dtype)
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(x)
            features.append(x.float())
        return features


class FeatureDistance:
    """The distance above, on the features of any network."""

    def __init__(self, features: Callable[[Tensor], list[Tensor]]) -> None:
        self.features = features

    def __call__(self, images: Float[Tensor, "B H W 3"], targets: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
        with torch.no_grad():
            wanted = self.features(targets)
        layers = [
            (_unit(mine) - _unit(theirs)).square().sum(1).mean()
            for mine, theirs in zip(self.features(images), wanted, strict=True)
        ]
        return torch.stack(layers).sum().to(images.dtype)


def _unit(features: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """Unit length at each place; the epsilon under the root keeps the gradient finite where all channels are 0."""
    return features * (features.square().sum(1, keepdim=True) + 1e-10).rsqrt()


@dataclass(frozen=True)
class PerceptualEngine:
    """A kind of features and what it needs."""

    make: Callable[[Any, str | Path | None], Callable[[Tensor], list[Tensor]]]  # of guide and weights file
    needs: str


def _vgg16(guide: Any, weights: str | Path | None) -> Callable[[Tensor], list[Tensor]]:
    if weights is None:
        raise InputError(
            "perceptual weights: expected the path of torchvision's vgg16 weights for the engine vgg16 (nothing is"
            " downloaded; the engine vae needs no file), got none"
        )
    return VggFeatures.load(weights).to(getattr(guide, "device", "cpu"))


def _vae(guide: Any, weights: str | Path | None) -> Callable[[Tensor], list[Tensor]]:
    return VaeFeatures(getattr(guide, "vae", None))


PERCEPTUAL_ENGINES: Mapping[str, PerceptualEngine] = {
    "vae": PerceptualEngine(_vae, "the guide's own VAE"),
    "vgg16": PerceptualEngine(_vgg16, "a file of torchvision's weights"),
}
"""Name -> engine. `vae` is the default, as it needs no file."""


def make_perceptual(name: str, guide: Any, weights: str | Path | None = None) -> FeatureDistance:
    """The engine of that name. guide: whose VAE is used, and on whose device the work is done."""
    check_choice("perceptual", name, PERCEPTUAL_ENGINES)
    return FeatureDistance(PERCEPTUAL_ENGINES[name].make(guide, weights))
