"""The small model's VAE: training on normals, depth and colour, and the folding of its latents' mean and spread."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from humannorm.images import contact_sheet, from_network, save_png, to_network
from humannorm.training.config import PictureLossConfig, VaeConfig
from humannorm.training.detail import DetailEncoder
from humannorm.training.loop import Task
from humannorm.training.shards import HEAD_SHARE, KINDS, Shards, at_size, uppermost

__all__ = [
    "ROUND_OFF",
    "VaeTask",
    "build_vae",
    "crop_around",
    "cut_out",
    "derivative_l1",
    "encode_shards",
    "latent_statistics",
    "normalise_latents",
    "picture_loss",
    "psnr_inside",
    "soft_magnitude",
    "structural_similarity",
    "weighted_mean",
]

KIND_SHARES = (0.4, 0.2, 0.4)
"""How often normal, depth and colour are drawn: depth is the easiest."""

ROUND_OFF = 0.01
"""Errors below this, in -1..1, count as squares: a little more than one step of the pictures' 8 bits."""


def build_vae(config: VaeConfig, resolution: int) -> Any:
    """A fresh diffusers `AutoencoderKL`."""
    from diffusers import AutoencoderKL

    levels = len(config.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        latent_channels=config.latent_channels,
        norm_num_groups=config.norm_groups,
        sample_size=resolution,
        scaling_factor=config.scaling_factor,
    )


class VaeTask(Task):
    """Weighted L1 of image and image derivatives plus a light KL, mostly on crops around the person."""

    def __init__(self, vae: Any, shards: Shards, held_out: Shards, config: VaeConfig) -> None:
        super().__init__()
        self.vae = vae
        self.shards = shards
        self.held_out = held_out
        self.config = config
        if config.decoder_only:
            vae.encoder.requires_grad_(False)
            if vae.quant_conv is not None:
                vae.quant_conv.requires_grad_(False)
        self.detail = DetailEncoder.of(vae, config.kept_channels) if config.kept_channels else None
        if self.detail is not None:
            vae.encoder.requires_grad_(False)
            vae.quant_conv.requires_grad_(False)

    def draw(self, generator: torch.Generator, batch_size: int) -> dict[str, Any]:
        whole = int(torch.randint(self.config.whole_every, (), generator=generator)) == 0
        size = self.shards.resolution if whole else self.config.crop
        count = max(1, batch_size // (self.shards.resolution // self.config.crop) ** 2) if whole else batch_size
        kinds = torch.multinomial(torch.tensor(KIND_SHARES), count, replacement=True, generator=generator)
        images, weights = [], []
        indices = self.shards.draw(count, generator, self.config.parts)
        for index, kind in zip(indices, kinds.tolist(), strict=True):
            image, mask = self.shards.image(index, KINDS[kind]), self.shards.mask(index)
            weight = mask
            if self.config.head_weight and self.shards.shot(index)["part"] == "full":
                weight = mask + self.config.head_weight * uppermost(mask[None, None], HEAD_SHARE)[0, 0]
            top, left = (0, 0) if whole else crop_around(weight, size, generator)
            images.append(image[top : top + size, left : left + size])
            weights.append(weight[top : top + size, left : left + size])
        latent = (count, self.config.latent_channels, *[size // 2 ** (len(self.config.channels) - 1)] * 2)
        return {
            "image": to_network(torch.stack(images)),
            "weight": torch.stack(weights)[:, None],
            "noise": torch.randn(latent, generator=generator),
        }

    def forward(self, batch: dict[str, Any]) -> Tensor:
        image = batch["image"].contiguous(memory_format=torch.channels_last)
        mean, logvar = self.moments(image)
        decoded = self.vae.decode(mean + (0.5 * logvar).exp() * batch["noise"]).sample.float()
        kl = 0.5 * (mean.square() + logvar.exp() - 1.0 - logvar).mean()
        loss = picture_loss(decoded, image, batch["weight"], self.config)
        return loss + self.config.kl_weight * kl

    def moments(self, image: Float[Tensor, "B 3 H W"]) -> tuple[Float[Tensor, "B C h w"], Float[Tensor, "B C h w"]]:
        """Mean and log variance of the latents' distribution."""
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        if self.detail is None:
            posterior = self.vae.encode(image).latent_dist
        else:
            posterior = DiagonalGaussianDistribution(self.vae.quant_conv(self.detail(image)))
        return posterior.mean.float(), posterior.logvar.float()

    @torch.no_grad()
    def validate(self, folder: Path, step: int) -> Mapping[str, float]:
        """Reconstructions of held-out people, and their PSNR inside the silhouette per kind."""
        self.shards.refresh()
        if self.detail is not None:
            self.detail.fold(self.vae)
        device = next(self.vae.parameters()).device
        pictures, labels, figures = [], [], {}
        indices = torch.linspace(0, len(self.held_out) - 1, 12).round().long().tolist()
        mask = torch.stack([self.held_out.mask(index) for index in indices])[..., None]
        for kind in KINDS:
            images = torch.stack([self.held_out.image(index, kind) for index in indices])
            latents = self.vae.encode(to_network(images).to(device)).latent_dist.mode()
            decoded = from_network(self.vae.decode(latents).sample).cpu()
            figures[f"psnr_{kind}"] = psnr_inside(decoded, images, mask)
            for number in range(6):
                pictures += [images[number], decoded[number]]
                labels += [kind, "decoded"]
        save_png(folder / f"vae_{step:06d}.png", contact_sheet(pictures, labels, 12))
        return figures

    def save(self, folder: Path) -> None:
        if self.detail is not None:
            self.detail.fold(self.vae)
        self.vae.save_pretrained(folder)


def picture_loss(
    decoded: Float[Tensor, "B 3 H W"],
    image: Float[Tensor, "B 3 H W"],
    weight: Float[Tensor, "B 1 H W"],
    config: PictureLossConfig,
) -> Float[Tensor, ""]:
    """How far pictures -1..1 are from true ones; weight: 1 and more inside the silhouette, 0 outside."""
    everywhere = config.background_weight + (1.0 - config.background_weight) * weight
    error = decoded - image
    loss = weighted_mean(soft_magnitude(error), everywhere) + config.gradient_weight * derivative_l1(error, everywhere)
    loss = loss + config.block_mean_weight * block_mean_l1(error, everywhere)
    loss = loss + config.square_weight * weighted_mean(error.square(), everywhere)
    if config.similarity_weight:
        dissimilarity = 1.0 - structural_similarity((decoded + 1) / 2, (image + 1) / 2)
        # Only inside: next to black the brightness term is so steep that it would see nothing but rounding.
        loss = loss + config.similarity_weight * weighted_mean(dissimilarity, weight)
    return loss


def crop_around(weight: Float[Tensor, "R R"], size: int, generator: torch.Generator) -> tuple[int, int]:
    """Top and left of a crop with a random pixel of at least half a weight at a random place of its middle half.

    Pixels are drawn as they weigh; with a mask for the weight all those of the silhouette alike.
    """
    rows, columns = torch.nonzero(weight > 0.5, as_tuple=True)
    limit = weight.shape[0] - size
    if len(rows) == 0:
        return limit // 2, limit // 2
    chosen = int(torch.multinomial(weight[rows, columns], 1, generator=generator))
    shift = torch.randint(size // 4, 3 * size // 4, (2,), generator=generator)
    top = int(rows[chosen]) - int(shift[0])
    left = int(columns[chosen]) - int(shift[1])
    return min(max(top, 0), limit), min(max(left, 0), limit)


def cut_out(
    values: Shaped[Tensor, "B C H W"], corners: Sequence[tuple[int, int]], size: int
) -> Shaped[Tensor, "B C S S"]:
    """A square of each picture, by its top and left."""
    return torch.stack(
        [value[:, top : top + size, left : left + size] for value, (top, left) in zip(values, corners, strict=True)]
    )


def soft_magnitude(error: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The absolute error, rounded off near 0 (Charbonnier et al. 1994): sqrt(e^2 + d^2) - d.

    In bf16 a flat background is off by a random two or three thousandths all over. The sign of such errors, which is
    the gradient of a plain absolute value, would drown what there is to learn inside the silhouette.
    """
    return (error.square() + ROUND_OFF**2).sqrt() - ROUND_OFF


def weighted_mean(values: Float[Tensor, "B C H W"], weight: Float[Tensor, "B 1 H W"]) -> Tensor:
    """The mean over all elements, each weighted."""
    return (values * weight).sum() / (weight.sum() * values.shape[1])


def derivative_l1(error: Float[Tensor, "B C H W"], weight: Float[Tensor, "B 1 H W"]) -> Tensor:
    """Weighted mean absolute difference of the error between neighbours, along rows plus along columns."""
    across = soft_magnitude(error[..., 1:] - error[..., :-1])
    down = soft_magnitude(error[..., 1:, :] - error[..., :-1, :])
    return weighted_mean(across, weight[..., 1:]) + weighted_mean(down, weight[..., 1:, :])


def block_mean_l1(error: Float[Tensor, "B C H W"], weight: Float[Tensor, "B 1 H W"], side: int = 4) -> Tensor:
    """Weighted mean absolute error of the means over blocks of `side` x `side` pixels."""
    pool = torch.nn.functional.avg_pool2d
    return weighted_mean(soft_magnitude(pool(error, side)), pool(weight, side))


def structural_similarity(
    images: Float[Tensor, "B C H W"], truth: Float[Tensor, "B C H W"], side: int = 7
) -> Float[Tensor, "B C H W"]:
    """SSIM around each pixel, -1..1 (Wang et al. 2004, eq. 13); images 0..1.

    Windows are squares of `side` pixels, all of whose pixels count the same; at the border what lies outside does not.
    """

    def mean(values: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool2d(values, side, 1, side // 2, count_include_pad=False)

    mean_images, mean_truth = mean(images), mean(truth)
    variances = mean(images.square()) - mean_images.square() + mean(truth.square()) - mean_truth.square()
    covariance = mean(images * truth) - mean_images * mean_truth
    c1, c2 = 0.01**2, 0.03**2
    brightness = (2 * mean_images * mean_truth + c1) / (mean_images.square() + mean_truth.square() + c1)
    return brightness * (2 * covariance + c2) / (variances + c2)


def psnr_inside(
    images: Float[Tensor, "B H W 3"], truth: Float[Tensor, "B H W 3"], mask: Float[Tensor, "B H W 1"]
) -> float:
    """Peak signal to noise ratio in dB over the silhouettes' pixels; images 0..1."""
    error = ((images - truth).square() * mask).sum() / (mask.sum() * 3)
    return float(-10 * torch.log10(error.clamp(min=1e-10)))


@torch.no_grad()
def latent_statistics(
    vae: Any, shards: Shards, *, samples: int = 240, seed: int = 0
) -> tuple[Float[Tensor, "C"], Float[Tensor, "C"]]:
    """Mean and standard deviation of each latent channel over the silhouettes of all kinds."""
    generator = torch.Generator().manual_seed(seed)
    device = next(vae.parameters()).device
    inside = []
    for kind in KINDS:
        for index in torch.randint(len(shards), (samples // len(KINDS),), generator=generator).split(16):
            images = torch.stack([shards.image(i, kind) for i in index.tolist()])
            masks = torch.stack([shards.mask(i) for i in index.tolist()])[:, None]
            latents = vae.encode(to_network(images).to(device)).latent_dist.mode().float().cpu()
            masks = torch.nn.functional.interpolate(masks, latents.shape[-2:], mode="area")[:, 0] > 0.5
            inside.append(latents.movedim(1, -1)[masks])
    values = torch.cat(inside)
    return values.mean(0), values.std(0)


@torch.no_grad()
def normalise_latents(vae: Any, mean: Float[Tensor, "C"], std: Float[Tensor, "C"]) -> None:
    """Fold (z - mean) / (std * scaling_factor) into the VAE's 1x1 convolutions, in place.

    The new latents times `scaling_factor` have mean 0 and standard deviation 1 in each channel, so that one scaling
    number, and no shift, is all that anybody needs to know, as with Stable Diffusion. What is decoded stays the same.
    """
    spread = (std * vae.config.scaling_factor).to(vae.quant_conv.weight)
    mean = mean.to(spread)
    count = len(mean)
    quant, post = vae.quant_conv, vae.post_quant_conv
    quant.weight[:count] /= spread[:, None, None, None]
    quant.bias[:count] = (quant.bias[:count] - mean) / spread
    quant.bias[count:] -= 2 * spread.log()
    post.bias += (post.weight[:, :, 0, 0] * mean).sum(1)
    post.weight *= spread[None, :, None, None]


@torch.no_grad()
def encode_shards(
    vae: Any,
    folder: str | Path,
    cache: str | Path,
    *,
    kinds: Sequence[str] = KINDS,
    size: int | None = None,
    batch: int = 4,
    worker: int = 0,
    workers: int = 1,
    minutes: float = 0.0,
) -> int:
    """Write the scaled latents (means) of every shard that has none yet, as float16 `latent_<kind>_<shard>.npy`.

    `size` makes the pictures smaller first (`at_size`). Returns how many shards were encoded; a later call takes in
    only what is new. Of several workers each takes every so-manyth shard. With `minutes`, none is begun after them but
    the worker's first.
    """
    import numpy as np

    cache = Path(cache)
    cache.mkdir(parents=True, exist_ok=True)
    shards = Shards(folder, maps=(*kinds, "mask"))
    device = next(vae.parameters()).device
    encoded, started = 0, time.monotonic()
    mine = shards.shards[worker::workers]
    for shard in mine:
        if minutes and shard is not mine[0] and time.monotonic() - started > 60.0 * minutes:
            break
        paths = {kind: cache / f"latent_{kind}_{shard.name}.npy" for kind in kinds}
        if all(path.is_file() for path in paths.values()):
            continue
        for kind, path in paths.items():
            parts = []
            for first in range(0, len(shard.shots), batch):
                pixels = torch.from_numpy(np.array(shard.maps[kind][first : first + batch])).float().to(device) / 255.0
                images = to_network(pixels[..., None].expand(-1, -1, -1, 3) if pixels.ndim == 3 else pixels)
                if size is not None:
                    masks = torch.from_numpy(np.array(shard.maps["mask"][first : first + batch])).to(images) / 255.0
                    shots = shard.shots[first : first + batch]
                    images = at_size(images, masks, [shot["part"] for shot in shots], size)
                images = images.to(vae.dtype, memory_format=torch.channels_last)  # on a CPU half as fast again
                latents = vae.encode(images).latent_dist.mode().float() * vae.config.scaling_factor
                parts.append(latents.cpu())
            partial = path.with_name(path.name + f".{os.getpid()}.partial")
            with partial.open("wb") as file:
                np.save(file, torch.cat(parts).numpy().astype(np.float16))
            os.replace(partial, path)
        encoded += 1
    return encoded
