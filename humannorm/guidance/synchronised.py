"""Sampling many views of one thing at once, agreeing at every noise level on what it is.

Each level of the walk is three steps (SyncTweedies, arXiv 2403.14370, case 2: the clean estimates are synchronised in
view space; SyncMVD, arXiv 2311.12891):

1. every view's clean estimate, z = denoise(x, sigma), all views in batches;
2. the agreement z' = A(z): what all estimates would be if they showed one thing;
3. the next level, x <- z' + sigma_next / sigma * (x - z'), or, for few-step models at guidance 1, with fresh noise,
   x <- z' + sigma_next * eps.

Noise is x = z + sigma * eps, as everywhere in this project. In the papers' notation, with x_t = sqrt(a_t) x: sigma =
sqrt((1 - a_t) / a_t) and z = x_0|t. Step 3 is DDIM's equation 12 at eta 0 (Song et al. 2021, arXiv 2010.02502), the
other one algorithm 1 of consistency models (Song et al. 2023, arXiv 2303.01469).

This module knows nothing of meshes: an agreement is any function of pictures (or latents) to pictures.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_range, check_tensor, reading
from humannorm.guidance.denoiser import Denoiser
from humannorm.optimisation import RunError, StageTimes, read_state_file, whole_number, write_state_file

__all__ = [
    "PLACES",
    "WALKS",
    "Agreement",
    "SynchronisedProgress",
    "SynchronisedSettings",
    "Walk",
    "begin_walk",
    "levels",
    "load_walk",
    "sample_together",
    "save_walk",
]

WalkKind = Literal["ddim", "consistency"]
WALKS: tuple[WalkKind, ...] = ("ddim", "consistency")
Place = Literal["pictures", "latents"]
PLACES: tuple[Place, ...] = ("pictures", "latents")
STAGES = ("networks", "decode", "agreement", "encode")
FORMAT = "humannorm walk 1"


@runtime_checkable
class Agreement(Protocol):
    """What all views' clean estimates would be if they showed one thing."""

    def __call__(self, estimates: Float[Tensor, "B H W C"], share: float) -> Float[Tensor, "B H W C"]:
        """estimates: pictures 0..1, or latents with the channels last. share: of the walk that is done, 0..1."""


@dataclass(frozen=True)
class SynchronisedSettings:
    """How the walk goes. Ours where no source is named; `level` and `steps` as seen to suit the bundled model."""

    steps: int = 8  # noise levels
    level: float = 0.7  # where the walk enters, a fraction of the schedule; 1: pure noise
    free: float = 0.2  # share of the levels, the last ones, in which every view keeps its own detail
    agree_every: int = 1  # levels from one agreement to the next
    agree_on: Place = "pictures"  # latents of 32 x 32 are too coarse to fuse (MVPaint, arXiv 2411.02336)
    walk: WalkKind = "ddim"
    one_noise: bool = True  # all views begin from the same noise: what the text leaves open, they settle alike
    batch: int = 7  # views asked of the network at once

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, 1000)
        check_range("level", self.level, 0.01, 1.0)
        check_range("free", self.free, 0.0, 1.0)
        check_range("agree_every", self.agree_every, 1, 1000)
        check_choice("agree_on", self.agree_on, PLACES)
        check_choice("walk", self.walk, WALKS)
        check_range("batch", self.batch, 1, 1024)

    def from_noise(self) -> SynchronisedSettings:
        """The walk from pure noise at the same pace."""
        return replace(self, level=1.0, steps=math.ceil(self.steps / self.level))

    def agrees_at(self, step: int) -> bool:
        """Whether views agree at a level, counted from 0."""
        return step % self.agree_every == 0 and step < self.steps - round(self.free * self.steps)


@dataclass(frozen=True, eq=False)
class Walk:
    """All views between two levels."""

    x: Float[Tensor, "B C h w"]  # noisy latents; clean ones after the last level
    step: int = 0  # levels done

    def clean(
        self, denoiser: Denoiser, settings: SynchronisedSettings, finish: Finish | None = None
    ) -> Float[Tensor, "B H W 3"]:
        """The pictures, 0..1, of a walk that is done, finished as in `sample_together`."""
        return _decoded(denoiser, self.x, settings, finish)


@dataclass(frozen=True, eq=False)
class SynchronisedProgress:
    """What the callback sees after every batch. Returning False from the callback ends the run there."""

    step: int  # levels done
    steps: int
    batch: int  # batches of the next level done
    batches: int
    pictures: Float[Tensor, "B H W 3"] | None  # what the views agreed on, after a level that agreed on pictures
    times: StageTimes
    seconds_left: float


Callback = Callable[[SynchronisedProgress], bool | None]
Finish = Callable[[Tensor], Tensor]
Condition = Callable[[Sequence[int]], Any]


def levels(denoiser: Denoiser, settings: SynchronisedSettings) -> Float[Tensor, " S"]:
    """Noise levels of the walk, even in timesteps from `level` down, and 0 behind them."""
    first = settings.level * (denoiser.timesteps - 1)
    timesteps = torch.linspace(first, 0, settings.steps + 1)[:-1]
    return torch.cat([denoiser.sigma(timesteps).float().cpu(), torch.zeros(1)])


@torch.no_grad()
def begin_walk(
    denoiser: Denoiser,
    settings: SynchronisedSettings,
    generator: torch.Generator,
    *,
    count: int,
    entry: Float[Tensor, "B H W 3"] | None = None,
    device: torch.device | str = "cpu",
) -> Walk:
    """Noise of the first level around the entry's latents, and without an entry around nothing.

    generator: a CPU generator. entry: what is there already, 0..1. device: of the walk without an entry.
    """
    if entry is None and settings.level < 1:
        raise InputError(f"level: expected 1 (pure noise) without pictures to enter from, got {settings.level:g}")
    sigma = levels(denoiser, settings)[0]
    if entry is None:
        blank = torch.full((1, denoiser.resolution, denoiser.resolution, 3), 0.5, device=device)
        shape = _encoded(denoiser, blank, settings).shape[1:]
        noise = _noise(torch.Size((count, *shape)), settings, generator)
        return Walk((noise * (1 + sigma.square()).sqrt()).to(device))
    check_tensor("entry", entry, f"{count} H W 3", finite=True)
    latents = _encoded(denoiser, entry, settings)
    return Walk(latents + sigma.to(latents) * _noise(latents.shape, settings, generator).to(latents))


def _noise(shape: torch.Size, settings: SynchronisedSettings, generator: torch.Generator) -> Float[Tensor, "B C h w"]:
    """Of all views; of one for all of them where the settings say so."""
    if settings.one_noise:
        return torch.randn(1, *shape[1:], generator=generator).repeat(shape[0], 1, 1, 1)
    return torch.randn(shape, generator=generator)


@torch.no_grad()
def sample_together(
    denoiser: Denoiser,
    condition: Condition,
    agree: Agreement,
    walk: Walk,
    settings: SynchronisedSettings,
    *,
    generator: torch.Generator,
    given: Mapping[int, Float[Tensor, "H W 3"]] | None = None,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
    request: Mapping[str, Any] | None = None,
    finish: Finish | None = None,
) -> Walk:
    """Walk on to the last level; the walk handed in is left as it was.

    condition: of the views with these numbers, for the denoiser. generator: a CPU generator, for a consistency walk.
    given: pictures of some views, 0..1, that are finished and stay as they are. checkpoint: a file that is kept up to
    date, with `request` in it, see `load_walk`. finish: what is done to all views' decoded pictures [B,H,W,3], 0..1,
    before they agree, such as sharpening them by what each was shown.

    The callback's False, or an exception from anywhere, ends the run; the checkpoint is then of the last whole level,
    and a run resumed from it ends in the same bytes on a CPU. Estimates that are not finite raise `RunError`.
    """
    return _Run(denoiser, condition, agree, walk, settings, generator, given or {}, finish).walked(
        callback, checkpoint, request or {}
    )


@dataclass(eq=False)
class _Run:
    """The moving parts of one call of `sample_together`."""

    denoiser: Denoiser
    condition: Condition
    agree: Agreement
    walk: Walk
    settings: SynchronisedSettings
    generator: torch.Generator
    given: Mapping[int, Tensor]
    finish: Finish | None
    times: StageTimes = field(init=False)

    def __post_init__(self) -> None:
        settings, count = self.settings, len(self.walk.x)
        if self.walk.step >= settings.steps:
            raise InputError(f"settings.steps: expected more than the {self.walk.step} levels done")
        asked = [view for view in range(count) if view not in self.given]
        self.batches = [asked[first : first + settings.batch] for first in range(0, len(asked), settings.batch)]
        self.conditions = [self.condition(batch) for batch in self.batches]
        self.sigmas = levels(self.denoiser, settings)
        self.times = StageTimes(STAGES, self.walk.x.device)
        self.fixed = {view: _encoded(self.denoiser, picture[None], settings)[0] for view, picture in self.given.items()}
        self._begin, self._asked = time.monotonic(), 0

    def walked(self, callback: Callback | None, checkpoint: Path | None, request: Mapping[str, Any]) -> Walk:
        while self.walk.step < self.settings.steps:
            estimates = self._estimates(callback)  # 1. z [B, C, h, w]
            if estimates is None:
                break
            agreed, pictures = self._agreed(estimates)  # 2. z' [B, C, h, w]
            self.walk = self._advanced(agreed)  # 3. x of the next level
            if checkpoint is not None:
                save_walk(checkpoint, self.walk, self.generator, request)
            if callback is not None and callback(self._progress(0, pictures)) is False:
                break
        return self.walk

    def _estimates(self, callback: Callback | None) -> Float[Tensor, "B C h w"] | None:
        """Clean latents of all views; None where the callback ended the run."""
        x, sigma = self.walk.x, self.sigmas[self.walk.step].to(self.walk.x)
        estimates = torch.empty_like(x)
        for view, latent in self.fixed.items():
            estimates[view] = latent
        for number, (batch, condition) in enumerate(zip(self.batches, self.conditions, strict=True)):
            with self.times.measure("networks"):
                estimates[batch] = self.denoiser.denoise(x[batch], sigma.expand(len(batch)), condition).to(x)
            self._asked += 1
            is_last = number + 1 == len(self.batches)
            if not is_last and callback is not None and callback(self._progress(number + 1, None)) is False:
                return None
        if not bool(estimates.isfinite().all()):
            raise RunError(f"the network's answer at level {self.walk.step} is not finite", self.walk)
        return estimates

    def _agreed(self, estimates: Float[Tensor, "B C h w"]) -> tuple[Float[Tensor, "B C h w"], Tensor | None]:
        """The estimates that go into the step, and the pictures that were agreed on, if any were."""
        settings, step = self.settings, self.walk.step
        if not settings.agrees_at(step):
            return estimates, None
        share = step / max(settings.steps - 1, 1)
        if settings.agree_on == "latents":
            with self.times.measure("agreement"):
                agreed = self.agree(estimates.permute(0, 2, 3, 1), share).permute(0, 3, 1, 2).to(estimates)
            return self._kept(agreed), None
        with self.times.measure("decode"):
            pictures = _decoded(self.denoiser, estimates, settings, self.finish)
        with self.times.measure("agreement"):
            pictures = self.agree(pictures, share)
        with self.times.measure("encode"):
            agreed = _encoded(self.denoiser, pictures, settings).to(estimates)
        return self._kept(agreed), pictures

    def _kept(self, agreed: Tensor) -> Tensor:
        """With the latents of the views that stay as they are."""
        for view, latent in self.fixed.items():
            agreed[view] = latent
        return agreed

    def _advanced(self, agreed: Tensor) -> Walk:
        """From here to the next level, where the noise is less; see the equations above."""
        x = self.walk.x
        sigma, following = self.sigmas[self.walk.step : self.walk.step + 2].to(x)
        if self.settings.walk == "consistency":
            noise = torch.randn(x.shape, generator=self.generator).to(x)
            return Walk(agreed + following * noise, self.walk.step + 1)
        return Walk(agreed + following / sigma * (x - agreed), self.walk.step + 1)

    def _progress(self, batch: int, pictures: Tensor | None) -> SynchronisedProgress:
        left = (self.settings.steps - self.walk.step) * len(self.batches) - batch
        pace = (time.monotonic() - self._begin) / max(self._asked, 1)
        return SynchronisedProgress(
            self.walk.step, self.settings.steps, batch, len(self.batches), pictures, self.times, pace * left
        )


def _decoded(
    denoiser: Denoiser, latents: Tensor, settings: SynchronisedSettings, finish: Finish | None
) -> Float[Tensor, "B H W 3"]:
    pictures = torch.cat([denoiser.decode(part).float() for part in latents.split(settings.batch)])
    return pictures if finish is None else finish(pictures)


def _encoded(denoiser: Denoiser, pictures: Tensor, settings: SynchronisedSettings) -> Float[Tensor, "B C h w"]:
    with torch.no_grad():
        return torch.cat([denoiser.encode_images(part).float() for part in pictures.split(settings.batch)])


def save_walk(path: Path, walk: Walk, generator: torch.Generator, request: Mapping[str, Any]) -> None:
    """Write a walk to one safetensors file, whole or not at all, with the generator's state and what was asked for."""
    tensors = {"x": walk.x, "generator": generator.get_state()}
    write_state_file(path, tensors, {"format": FORMAT, "step": walk.step, "request": dict(request)})


def load_walk(
    path: Path, generator: torch.Generator, request: Mapping[str, Any], device: torch.device | str = "cpu"
) -> Walk:
    """Read what `save_walk` wrote and set the generator; refused unless the same was asked for."""
    with reading(path, "a walk state"):
        tensors, numbers = read_state_file(path, "walk", FORMAT, device)
        for name, value in request.items():
            if numbers["request"].get(name) != value:
                raise InputError(f"expected a walk with {name} {value!r}, got {numbers['request'].get(name)!r}")
        generator.set_state(tensors["generator"].cpu())
        return Walk(tensors["x"], whole_number(numbers, "step"))
