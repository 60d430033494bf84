"""A trained VAE with more latent channels: those it has stay exactly as they are, new ones carry the detail it loses.

The features that a trained encoder has just before its latents hold nothing more: a linear reading of them mends 0.2 dB
of what the bundled VAE of four channels loses, where four channels of their own mend 1.3 dB even linearly. So the new
channels get an encoder of their own. In the finished `AutoencoderKL` the two encoders are one of twice the width, whose
halves do not read each other.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from humannorm.checks import InputError, check_range

__all__ = ["DetailEncoder", "with_detail"]

LOG_VARIANCE = -6.0
"""Of new latent channels at first: more noise than signal in them would teach the decoder to leave them alone."""
SPREAD = 16.0
"""What a fresh encoder's means are multiplied by, so that the decoder hears them: old latents spread by 5."""


def with_detail(vae: Any, latent_channels: int) -> Any:
    """An `AutoencoderKL` twice as wide as the trained one with more latent channels, which draws the same pictures.

    Its first latent channels are the old ones; the others come from the fresh half of its encoder, which reads the
    picture alone. Its decoder holds the old one, and fresh channels that read everything and that nothing reads yet.
    It has twice the GroupNorm groups, so that old and fresh channels are normalised apart.
    """
    from diffusers import AutoencoderKL

    config, old = vae.config, vae.config.latent_channels
    check_range("latent_channels", latent_channels, old + 1, 64)
    if not (config.use_quant_conv and config.use_post_quant_conv and config.mid_block_add_attention):
        raise InputError("vae: expected one with 1x1 convolutions beside the latents and attention, got one without")
    wide = AutoencoderKL.from_config(
        {
            **config,
            "latent_channels": latent_channels,
            "norm_num_groups": 2 * config.norm_num_groups,
            "block_out_channels": [2 * width for width in config.block_out_channels],
        }
    )
    with torch.no_grad():
        kept = dict(vae.encoder.named_parameters())
        fresh = dict(DetailEncoder(wide, old).encoder.named_parameters())
        last = fresh["conv_out.weight"], fresh["conv_out.bias"]
        last[0][latent_channels - old :] = 0.0
        last[1][latent_channels - old :] = LOG_VARIANCE
        for name, value in wide.encoder.named_parameters():
            value.zero_()
            _half(name, value, 0, old).write(kept[name])
            if name in fresh:
                _half(name, value, 1, old).write(fresh[name])
        inner = dict(vae.decoder.named_parameters())
        for name, value in wide.decoder.named_parameters():
            _grow_decoder(name, value, inner[name])
        latents = torch.arange(old)
        for name, value in wide.quant_conv.named_parameters():
            _within_identity(value, dict(vae.quant_conv.named_parameters())[name], _both(latents, latent_channels))
        for name, value in wide.post_quant_conv.named_parameters():
            _within_identity(value, dict(vae.post_quant_conv.named_parameters())[name], latents)
    return nn.Module.to(wide, vae.device, vae.dtype)  # diffusers' own `to` warns of casts


class DetailEncoder(nn.Module):
    """The two halves of a wide VAE's encoder as encoders of their own: a quarter of the work in training.

    Only the one for the new channels is trained; `fold` writes it back into the wide VAE.
    """

    def __init__(self, wide: Any, kept_channels: int) -> None:
        from diffusers.models.autoencoders.vae import Encoder

        super().__init__()
        config, latents = wide.config, wide.config.latent_channels
        if not 0 < kept_channels < latents:
            raise InputError(f"kept_channels: expected 1 to {latents - 1} of {latents} channels, got {kept_channels}")
        self.kept_channels = kept_channels
        narrow: dict[str, Any] = {
            "down_block_types": config.down_block_types,
            "block_out_channels": [width // 2 for width in config.block_out_channels],
            "layers_per_block": config.layers_per_block,
            "norm_num_groups": config.norm_num_groups // 2,
        }
        self.kept = Encoder(out_channels=kept_channels, **narrow).requires_grad_(False)
        # One head of attention cannot look two ways, and the kept half needs it.
        self.encoder = Encoder(out_channels=latents - kept_channels, mid_block_add_attention=False, **narrow)

    @classmethod
    @torch.no_grad()
    def of(cls, wide: Any, kept_channels: int) -> DetailEncoder:
        """The two halves that a wide VAE has."""
        made = cls(wide, kept_channels)
        values = dict(wide.encoder.named_parameters())
        for half, encoder in enumerate((made.kept, made.encoder)):
            for name, value in encoder.named_parameters():
                value.copy_(_half(name, values[name], half, kept_channels).read())
        return made

    @torch.no_grad()
    def fold(self, wide: Any) -> None:
        """Write the trained half back."""
        values = dict(wide.encoder.named_parameters())
        for name, value in self.encoder.named_parameters():
            _half(name, values[name], 1, self.kept_channels).write(value)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B M h w"]:
        """What the wide encoder gives: means of all channels, then their log variances."""
        with torch.no_grad():
            means, variances = self.kept(images).chunk(2, dim=1)
        new_means, new_variances = self.encoder(images).chunk(2, dim=1)
        return torch.cat([means, SPREAD * new_means, variances, new_variances], dim=1)


class _half:
    """The places of the kept (0) or the new (1) half in one of the wide encoder's parameters."""

    def __init__(self, name: str, value: Tensor, half: int, kept: int) -> None:
        self.name, self.value, self.half = name, value, half
        rows, columns = len(value), value.shape[1] if value.ndim > 1 else 1
        if name.startswith("conv_out."):
            latents = rows // 2
            self.rows = _both(torch.arange(kept) if half == 0 else torch.arange(kept, latents), latents)
        else:
            self.rows = torch.arange(rows // 2) + half * (rows // 2)
        whole = name.startswith("conv_in.") or value.ndim == 1  # both halves read the picture
        self.columns = torch.arange(columns) if whole else torch.arange(columns // 2) + half * (columns // 2)
        # Attention divides by the root of its head's width, which has doubled.
        self.factor = 2**0.5 if ".to_q." in name else 1.0
        self.means = len(self.rows) // 2 if half == 1 and name.startswith("conv_out.") else 0

    def read(self) -> Tensor:
        part = self.value[self.rows] if self.value.ndim == 1 else self.value[self.rows[:, None], self.columns]
        part = part / self.factor
        part[: self.means] /= SPREAD
        return part

    def write(self, part: Tensor) -> None:
        part = part.to(self.value) * self.factor
        part[: self.means] *= SPREAD
        if self.value.ndim == 1:
            self.value[self.rows] = part
        else:
            self.value[self.rows[:, None], self.columns] = part


def _both(channels: Int[Tensor, " N"], latents: int) -> Int[Tensor, " 2*N"]:
    """Rows of some channels' means and log variances among those of all: means come first."""
    return torch.cat([channels, channels + latents])


def _grow_decoder(name: str, value: Tensor, old: Tensor) -> None:
    """Old weights in the first corner, whose outputs read no fresh inputs; fresh outputs keep their random weights."""
    rows = len(old)
    if value.ndim > 1:
        value[:rows, old.shape[1] :] = 0.0
        value[:rows, : old.shape[1]] = old * (2**0.5 if ".to_q." in name else 1.0)
        if ".to_k." in name:
            value[rows:] = 0.0
        return
    value[:rows] = old * (2**0.5 if ".to_q." in name else 1.0)
    if ".to_k." in name:
        value[rows:] = 0.0


def _within_identity(value: Tensor, old: Tensor, places: Int[Tensor, " N"]) -> None:
    """Fill a 1x1 convolution's weight or bias with the identity, and with the old one at some of its channels."""
    value.zero_()
    if value.ndim == 1:
        value[places] = old
        return
    value[:, :, 0, 0] = torch.eye(len(value))
    value[places[:, None], places] = old
