"""A trained UNet or ControlNet with more channels where latents and hints come in: it goes on from what it knows."""

from __future__ import annotations

from typing import Any

import torch

from humannorm.checks import InputError

__all__ = ["with_hint_channels", "with_latents"]


def with_latents(network: Any, channels: int) -> Any:
    """A copy of a `UNet2DConditionModel` or `ControlNetModel` for more latent channels, the first of them the old ones.

    It does not read the new channels yet and predicts 0 for them, as a network does that starts from nothing.
    """
    if channels < network.config.in_channels:
        raise InputError(f"channels: expected at least the network's {network.config.in_channels}, got {channels}")
    sizes = {"in_channels": channels}
    return _padded(network, sizes | ({"out_channels": channels} if "out_channels" in network.config else {}))


def with_hint_channels(controlnet: Any, channels: int) -> Any:
    """A copy of a `ControlNetModel` for hints of more channels: first the old ones, then some it does not heed yet.

    Its hint embedding becomes half as wide again, with random weights where it reads the new channels, and zeros where
    the rest reads these: a gradient tells from the first step on what to make of them. Channels of zero weights in
    the embedding that there is reached a quarter of the old ones' size in 1,900 steps, and were hardly followed.
    """
    old = controlnet.config.conditioning_channels
    if channels < old:
        raise InputError(f"channels: expected at least the ControlNet's {old}, got {channels}")
    if channels == old:
        return _padded(controlnet, {})
    widths = controlnet.config.conditioning_embedding_out_channels
    wider = tuple(width + width // 2 for width in widths)
    sizes: dict[str, Any] = {"conditioning_channels": channels, "conditioning_embedding_out_channels": wider}
    larger = _padded(controlnet, sizes)
    before, after = controlnet.controlnet_cond_embedding, larger.controlnet_cond_embedding
    with torch.no_grad():
        for narrow, wide in zip((before.conv_in, *before.blocks), (after.conv_in, *after.blocks), strict=True):
            rows, columns = narrow.weight.shape[:2]
            fresh = torch.empty_like(wide.weight[rows:, columns:])
            wide.weight[rows:, columns:] = torch.nn.init.kaiming_normal_(fresh)
    return larger


def _padded(network: Any, sizes: dict[str, Any]) -> Any:
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
