"""Settings of a training. Every number carries its unit and where it comes from."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DiffusionConfig", "LoopConfig", "PictureLossConfig", "TextConfig", "UnetConfig", "VaeConfig"]


@dataclass(frozen=True)
class LoopConfig:
    """The one training loop (`loop.py`), whatever is trained."""

    steps: int
    """Optimiser steps of the whole run, resumed parts included."""
    batch_size: int
    """Samples per process and step."""
    learning_rate: float
    """After the warm-up."""
    optimizer: str = "adamw"
    """"adamw", or "muon" for the matrices with AdamW for the rest."""
    warmup_steps: int = 100
    """Linear from 0."""
    cooldown: float = 0.2
    """Share of the steps at the end over which the rate falls linearly to 0."""
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    clip_norm: float = 1.0
    """Largest gradient norm; larger ones are scaled down to it."""
    ema_decay: float = 0.999
    precision: str = "auto"
    """"no", "bf16" or "fp16" autocast, or "auto": bf16 where the device computes it natively, else no. A CPU without
    bf16 instructions emulates them some twenty times slower than fp32. The weights that are trained stay in fp32."""
    minutes: float = 0.0
    """Stop after so many minutes of this call, whatever step it is, with the rate cooled down by then and the weights
    written, but without a last sheet, which may take longer than it all; 0: no limit."""
    accumulate: int = 1
    """Backward passes per optimiser step."""
    average_every: int = 1
    """Of several processes. 1: they average gradients in every step. More: each goes its own way, and weights are
    averaged every so many steps (local SGD, Stich 2019), which pays where exchanging gradients takes long."""
    seed: int = 0
    checkpoint_seconds: float = 55.0
    """A killed run loses at most this (design section 7)."""
    sheet_steps: int = 1000
    """Steps between validation sheets and loss plots."""


@dataclass(frozen=True)
class PictureLossConfig:
    """How a picture's errors weigh, beside a mean L1 per pixel element in -1..1."""

    gradient_weight: float = 0.5
    """Of the L1 of image derivatives: edges and wrinkles are few pixels but carry the look."""
    block_mean_weight: float = 1.0
    """Of the L1 of means over 4 x 4 pixels: what a garment's named colour hangs on is its hue over an area."""
    square_weight: float = 4.0
    """Of the mean squared error per pixel element in -1..1, which is what a peak signal to noise ratio counts."""
    similarity_weight: float = 0.0
    """Of the structural dissimilarity, 1 - SSIM: an eye is a few pixels of little error, and all of a face's look."""
    background_weight: float = 0.15
    """Of a background pixel; one inside the silhouette weighs 1."""


@dataclass(frozen=True)
class VaeConfig(PictureLossConfig):
    """The small model's VAE: f=4, since a head in a full-body shot is only about 13 of 128 pixels wide.

    ComfyUI's own VAE class builds GroupNorms of 32 groups, so all widths are multiples of 32.
    """

    channels: tuple[int, ...] = (32, 32, 64)
    layers_per_block: int = 2
    latent_channels: int = 4
    norm_groups: int = 8
    """32 groups of so few channels would normalise each channel alone and lose how bright an image is."""
    kl_weight: float = 5e-4
    """Of the mean KL per latent element, beside a mean L1 per pixel element in -1..1."""
    head_weight: float = 0.0
    """What one in the head of a full body weighs more: a dozen pixels wide, it tells the front from the back."""
    crop: int = 64
    """Pixels: side of the square crops around the person that most steps train on; at a quarter of the cost of the
    whole picture nearly every pixel is of the person."""
    whole_every: int = 4
    """Every so-manyth step trains on whole pictures instead (a quarter as many), as the VAE will be used."""
    parts: tuple[tuple[str, float], ...] = ()
    """How often each body part is drawn, "full" included; empty: as often as the dataset shows it."""
    decoder_only: bool = False
    """Keep the encoder, and with it the latents that denoisers have learnt: a finished model's pictures get better."""
    kept_channels: int = 0
    """The first so many latent channels stay exactly as they are, for denoisers that have learnt them; the decoder and
    an encoder of the others' own (`detail.with_detail`) are trained. 0: everything is trained."""
    scaling_factor: float = 0.18215
    """Stable Diffusion 1.5's; at export the latents are normalised to fit it, by folding into the 1x1 convolutions."""


@dataclass(frozen=True)
class UnetConfig:
    """The small model's UNet: SD1.5's layout, thin, without attention at the finest level."""

    channels: tuple[int, ...] = (64, 96, 160, 224)
    layers_per_block: int = 1
    norm_groups: int = 8
    """As for the VAE."""
    head_channels: int = 32
    """Width of one attention head."""


@dataclass(frozen=True)
class TextConfig:
    """The small model's CLIP text encoder and its byte-level BPE vocabulary."""

    vocabulary: int = 2048
    """At most; 514 of them are the bytes and the two specials, so that no word is unknown."""
    hidden: int = 192
    layers: int = 3
    heads: int = 6
    length: int = 77
    """Tokens, fixed as in SD1.5."""


@dataclass(frozen=True)
class DiffusionConfig:
    """Training of a denoiser (eq. 5, and eq. 8 with ControlNet)."""

    prompt_dropout: float = 0.1
    """Share of samples trained with the empty prompt, for classifier-free guidance."""
    kinds: tuple[tuple[str, float], ...] = (("normal", 0.4), ("depth", 0.2), ("color", 0.4))
    """What is drawn, and how often."""
    parts: tuple[tuple[str, float], ...] = ()
    """How often each body part ("full", "head"), one side of it ("head front"), one pose ("full running") or one side
    in one skin ("head front dark") is drawn; empty: as often as the dataset shows it. Faces are learnt last, and only a
    twentieth of a dataset's pictures are heads from the front."""
    controlled_parts: tuple[tuple[str, float], ...] = ()
    """The same for the samples that are trained with the ControlNet; empty: as `parts`."""
    pure_noise: float = 0.0
    """Share of samples at the last timestep whose input is noise alone, as it is when sampling starts (v-prediction
    only). Stable Diffusion's schedule leaves a little signal there, and in a small picture its mean shows through 1000
    latent pixels of noise: the network would read kind and part off it and never off the prompt."""
    mask_weight: float = 2.0
    """A latent pixel inside the silhouette weighs 1 + this, one outside 1."""
    head_weight: float = 0.0
    """What one in the head of a full body weighs more: a head is a fiftieth of the body's pixels, and tells its front
    from its back."""
    controlled: float = 0.0
    """Share of the samples that are trained with the ControlNet, colours if not told otherwise; 1 in its own
    training."""
    controlled_normals: float = 0.0
    """Share of those that are normals and not colours, told apart by the prompt; only with hints of six channels."""
    crops: float = 0.0
    """Share of the steps that are taken on crops of larger pictures, as large as the network's own: what a network that
    draws beyond its own size will see there."""
    noise_bias: float = 0.0
    """Timesteps are drawn with a density that grows as (t / T) to this power: 0 is uniform, more looks longer at high
    noise, where pose and outline are decided."""
    sheet_prompts: int = 12
    """Pictures of each kind on a validation sheet; the held-out loss is the mean over four times as many samples."""
    sheet_denoising_steps: int = 16
    prediction_type: str = "v_prediction"
    """Of a model made from nothing; an existing model keeps its scheduler's."""
