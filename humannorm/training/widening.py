"""A trained network made wider: at its finest level (Net2Net: Chen, Goodfellow and Shlens 2016, section 2.2), or where
latents and hints come in.

A Stable Diffusion-shaped network costs next to nothing there at a small model's widths, and small features such as
eyes are drawn there: widening it is how a trained small model gets more room for them.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from humannorm.checks import InputError

__all__ = ["widened", "with_hint_channels", "with_latents"]

BREAKING = 0.5  # how far copies of a channel are read differently, as a share of the spread of the weights that read it


def widened(network: Any, factor: int, generator: torch.Generator) -> Any:
    """A copy of a `UNet2DConditionModel` or `ControlNetModel` with `factor` times the channels at its finest level.

    Each channel there becomes `factor` copies beside each other, and what reads them shares its weights among them in
    unequal parts, so that the copies learn different things. The outputs stay but for the GroupNorms over the finest
    level and the next together, whose groups are other channels than before: a short training mends that.
    """
    if factor < 1:
        raise InputError(f"factor: expected at least 1, got {factor}")
    finest, *others = network.config.block_out_channels
    if others and factor * finest == others[0]:
        raise InputError(
            f"factor: expected a width at the finest level other than the next level's {others[0]}, got {factor} times "
            f"{finest}; between equal widths there is no shortcut to take the weights of"
        )
    wide = type(network).from_config({**network.config, "block_out_channels": [factor * finest, *others]})
    state = network.state_dict()
    copied = {}
    for name, place in wide.state_dict().items():
        value = state[name]
        if name == "time_embedding.linear_1.weight":
            value = _more_frequencies(value, factor)
        copied[name] = _grown(value, place.shape, factor, generator)
    wide.load_state_dict(copied)
    wide.to(network.device)
    return wide if network.dtype == wide.dtype else wide.to(network.dtype)


def with_latents(network: Any, channels: int) -> Any:
    """A copy of a `UNet2DConditionModel` or `ControlNetModel` for more latent channels, the first of them the old ones.

    It does not read the new channels yet and predicts 0 for them, as a network does that starts from nothing.
    """
    if channels < network.config.in_channels:
        raise InputError(f"channels: expected at least the network's {network.config.in_channels}, got {channels}")
    sizes = {"in_channels": channels}
    return _padded(network, sizes | ({"out_channels": channels} if "out_channels" in network.config else {}))


def with_hint_channels(controlnet: Any, channels: int) -> Any:
    """A copy of a `ControlNetModel` for hints of more channels: first the old ones, then some it does not read yet."""
    if channels < controlnet.config.conditioning_channels:
        raise InputError(
            f"channels: expected at least the ControlNet's {controlnet.config.conditioning_channels}, got {channels}"
        )
    return _padded(controlnet, {"conditioning_channels": channels})


def _padded(network: Any, sizes: dict[str, int]) -> Any:
    """A copy of another configuration; what its weights have more than the old ones is 0."""
    larger = type(network).from_config({**network.config, **sizes})
    state = network.state_dict()
    padded = {}
    for name, place in larger.state_dict().items():
        padded[name] = torch.zeros_like(place)
        padded[name][tuple(slice(size) for size in state[name].shape)] = state[name]
    larger.load_state_dict(padded)
    larger.to(network.device)
    return larger if network.dtype == larger.dtype else larger.to(network.dtype)


def _grown(value: Tensor, shape: torch.Size, factor: int, generator: torch.Generator) -> Tensor:
    """Copies along the dimensions that are to grow. The finest level's channels are the last ones of each."""
    if value.ndim > 1 and value.shape[1] != shape[1]:
        value = _shared(value, _finest(value.shape[1], shape[1], factor), factor, generator)
    if value.shape[0] != shape[0]:
        count = _finest(value.shape[0], shape[0], factor)
        value = torch.cat([value[:-count], value[-count:].repeat_interleave(factor, 0)])
    return value


def _finest(size: int, grown: int, factor: int) -> int:
    """How many of `size` channels are the finest level's, if that many more make `grown`."""
    return (grown - size) // (factor - 1)


def _shared(value: Tensor, count: int, factor: int, generator: torch.Generator) -> Tensor:
    """Weights that read `factor` copies of each of the last `count` inputs, and sum to those that read the one."""
    rest, finest = value[:, :-count], value[:, -count:]
    noise = torch.randn(factor, *finest.shape, generator=generator).to(finest)
    noise = BREAKING * finest.std() / factor * (noise - noise.mean(0))
    parts = finest / factor + noise  # [factor, out, count, ...]
    return torch.cat([rest, parts.movedim(0, 2).flatten(1, 2)], 1)


def _more_frequencies(weight: Tensor, factor: int) -> Tensor:
    """The timestep's layer for `factor` times the frequencies of its sinusoids: the new ones are not read yet.

    Frequency i of n is 10000^(-i/n), which is frequency `factor * i` of `factor * n`.
    """
    hidden, inputs = weight.shape
    grown = weight.new_zeros(hidden, 2, inputs // 2, factor)
    grown[..., 0] = weight.reshape(hidden, 2, inputs // 2)
    return grown.flatten(1)
