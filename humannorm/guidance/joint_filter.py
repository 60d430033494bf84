"""Decoded pictures made sharp by what the ControlNet was shown: deep joint image filtering (Li et al. 2016).

A small VAE loses hems, collars, fingers and eyes: its latents have no room for them. Under control most of that is
known at full resolution, from the hint: where a surface turns and where a label ends. So a network that reads both
puts it back.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad, pixel_shuffle, pixel_unshuffle

from humannorm.checks import InputError, check_tensor
from humannorm.files import save_tensors
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.folders import read_weights

__all__ = ["WIDTHS", "JointFilter"]

WIDTHS = (32, 64, 128)
"""Channels at a half, a quarter and an eighth of the picture's side: a million weights, and half the time of the
bundled model's decoder (docs/training.md)."""
DIVISOR = 8
"""Of the sides of pictures."""


class JointFilter(nn.Module):
    """A picture and its hint to the picture as it should have been decoded; at first it changes nothing.

    It says for each pixel how much of the hint's normals and of its colours to take, and what to add. A U-Net of
    residual blocks on blocks of 2 x 2 pixels, without norms, which in restoring pictures do more harm than
    good (EDSR, Lim et al. 2017, section 3.1).
    """

    def __init__(self, widths: tuple[int, int, int] = WIDTHS) -> None:
        super().__init__()
        fine, middle, coarse = self.widths = widths
        self.first = _conv(4 * (3 + HINT_CHANNELS), fine)
        self.fine_down = nn.Sequential(_Residual(fine), _Residual(fine))
        self.to_middle = nn.Conv2d(fine, middle, 2, stride=2)
        self.middle_down = nn.Sequential(_Residual(middle), _Residual(middle))
        self.to_coarse = nn.Conv2d(middle, coarse, 2, stride=2)
        self.coarse = nn.Sequential(_Residual(coarse), _Residual(coarse))
        self.from_coarse = nn.Conv2d(coarse, middle, 1)
        self.middle_up = nn.Sequential(_Residual(middle), _Residual(middle))
        self.from_middle = nn.Conv2d(middle, fine, 1)
        self.fine_up = nn.Sequential(_Residual(fine), _Residual(fine))
        self.last = _conv(fine, 4 * (2 + 3))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]  # always there

    def forward(self, picture: Float[Tensor, "B 3 H W"], hint: Float[Tensor, "B 6 H W"]) -> Float[Tensor, "B 3 H W"]:
        """Pictures 0..1 by hints 0..1, see `sharpened`; sides are multiples of 8."""
        read = torch.cat([picture, hint], 1) * 2 - 1
        fine = self.fine_down(self.first(pixel_unshuffle(read, 2)))
        middle = self.middle_down(self.to_middle(fine))
        coarse = self.coarse(self.to_coarse(middle))
        middle = self.middle_up(middle + interpolate(self.from_coarse(coarse), scale_factor=2.0))
        fine = self.fine_up(fine + interpolate(self.from_middle(middle), scale_factor=2.0))
        shares, added = pixel_shuffle(self.last(fine), 2).split((2, 3), 1)
        normals, colours = hint.chunk(2, 1)
        return picture + shares[:, :1] * (normals - picture) + shares[:, 1:] * (colours - picture) + added

    @torch.no_grad()
    def sharpened(
        self, pictures: Float[Tensor, "B H W 3"], control: Float[Tensor, "B h w C"]
    ) -> Float[Tensor, "B H W 3"]:
        """Pictures 0..1 by what a ControlNet was shown, of the same size: normal maps and, in three further channels,
        flat colours by label, black where there are none."""
        check_tensor("pictures", pictures, "B H W 3")
        count, height, width = pictures.shape[:3]
        channels = control.shape[-1]
        if channels not in (3, HINT_CHANNELS) or height % DIVISOR or width % DIVISOR:
            raise InputError(
                f"control: expected {count} pictures of 3 or {HINT_CHANNELS} channels and sides that {DIVISOR} divides,"
                f" got {list(control.shape)}"
            )
        check_tensor("control", control, f"{count} {height} {width} {channels}")
        place = self.first.weight
        hint = pad(control, (0, HINT_CHANNELS - channels)).to(place).permute(0, 3, 1, 2)
        found = self(pictures.to(place).permute(0, 3, 1, 2), hint.contiguous(memory_format=torch.channels_last))
        return found.permute(0, 2, 3, 1).to(pictures).clamp(0, 1)

    def save(self, path: Path) -> None:
        """Half precision, one safetensors file."""
        tensors = {name: value.detach().half().contiguous() for name, value in self.state_dict().items()}
        save_tensors(path, tensors, {"format": "pt", "widths": " ".join(map(str, self.widths))})

    @classmethod
    def load(cls, path: Path, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32) -> JointFilter:
        """From what `save` wrote; `InputError` for another file."""
        weights = read_weights(path)
        try:
            widths = [len(weights[f"{name}.weight"]) for name in ("first", "to_middle", "to_coarse")]
            found = cls((widths[0], widths[1], widths[2]))
            found.load_state_dict(weights)
        except (KeyError, RuntimeError) as error:
            raise InputError(f"{path}: expected the weights of a JointFilter, got others: {error}") from error
        placed = found.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed.eval().requires_grad_(False)


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner, self.outer = _conv(width, width), _conv(width, width)
        with torch.no_grad():
            self.outer.weight *= 0.1

    def forward(self, x: Tensor) -> Tensor:
        return x + self.outer(nn.functional.silu(self.inner(x)))


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)
