"""The texture optimiser (paper section 3.4): coarse by SDS of the normal-aligned model, fine by multi-step targets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import CAMERA_PLANS, Cameras, sample_cameras
from humannorm.checks import InputError
from humannorm.guidance import Denoiser, sds_gradient
from humannorm.prompts import Prompts
from humannorm.texture.fields import ColorField
from humannorm.texture.fine import TargetCache, fine_loss, make_targets
from humannorm.texture.perceptual import Perceptual
from humannorm.texture.saturation import mean_chroma
from humannorm.texture.settings import TextureSettings
from humannorm.texture.state import LOSS_NAMES, TextureState, copy_field, save_state

__all__ = ["PaintError", "PaintProgress", "StageTimes", "color_prompts", "paint"]

CHECKPOINT_SECONDS = 45.0  # at most this long between two checkpoints
SCALE_MEMORY = 0.95  # of the running mean of the gradient norm


class PaintError(RuntimeError):
    """The run could not go on; `state` is the last good one."""

    def __init__(self, message: str, state: TextureState) -> None:
        super().__init__(message)
        self.state = state


@dataclass
class StageTimes:
    """Seconds spent so far. `networks` are text encoder, denoiser, VAE and perceptual features with their gradients."""

    networks: float = 0.0
    render: float = 0.0  # rasterisation and the field at visible points
    gradient: float = 0.0  # from the pictures back to the field's parameters
    update: float = 0.0  # guard and AdamW

    @contextmanager
    def measure(self, stage: str, device: torch.device) -> Iterator[None]:
        begin = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        setattr(self, stage, getattr(self, stage) + time.perf_counter() - begin)

    @property
    def overhead(self) -> float:
        """Time of all stages over the time of the networks alone."""
        return (self.networks + self.render + self.gradient + self.update) / max(self.networks, 1e-9)


@dataclass(frozen=True, eq=False)
class PaintProgress:
    """What the callback sees after every step. Returning False from the callback ends the run there."""

    step: int  # steps done
    steps: int
    stage: str  # "coarse" or "fine"
    losses: dict[str, float]  # by `LOSS_NAMES`
    picture: Float[Tensor, "H W 3"]  # first view of the step, 0..1
    target: Float[Tensor, "H W 3"] | None  # of that view, in fine steps
    times: StageTimes
    rejected: str | None  # why this step's update was not taken
    seconds_left: float


Callback = Callable[[PaintProgress], bool | None]


def paint(
    state: TextureState,
    prompt: str,
    settings: TextureSettings,
    *,
    guide: Denoiser,
    perceptual: Perceptual,
    generator: torch.Generator,
    negative: str = "",
    callback: Callback | None = None,
    checkpoint: Path | None = None,
) -> TextureState:
    """Go on from a state to `settings.steps`; the state handed in is left as it was.

    guide: the normal-aligned model with its ControlNet. perceptual: see `make_perceptual`. generator: a CPU generator,
    the source of every draw. checkpoint: a file that is kept up to date, see `save_state`. Targets of another prompt or
    size than asked for are made anew.

    The callback's False ends the run after its step, with the checkpoint written. An exception (KeyboardInterrupt, the
    host's interruption) leaves at once; the checkpoint is then of the last whole step. In both cases a run resumed from
    it with the same settings ends in the same bytes on a CPU.
    """
    if state.step >= settings.steps:
        raise InputError(f"settings.steps: expected more than the {state.step} steps done, got {settings.steps}")
    run = _Run(state, color_prompts(prompt, settings, negative), settings, guide, perceptual, generator)
    saved = time.monotonic()
    try:
        while run.step < settings.steps:
            progress = run.advance()
            stop = callback is not None and callback(progress) is False
            if checkpoint is not None and time.monotonic() - saved > CHECKPOINT_SECONDS:
                save_state(run.state(), checkpoint, run.drawn)
                saved = time.monotonic()
            if stop:
                break
            if run.rejections >= settings.max_rejections:
                raise PaintError(f"{run.rejections} steps in a row were rejected: {progress.rejected}", run.state())
    finally:
        if checkpoint is not None and run.is_whole:
            save_state(run.state(), checkpoint, run.drawn)
    return run.state()


def color_prompts(prompt: str, settings: TextureSettings, negative: str = "") -> Prompts:
    """The texts for the colour model. A model's own camera plan frames whole bodies, as the full-body plan does."""
    plan = settings.plan.name if settings.plan.name in CAMERA_PLANS else "full_body"
    return Prompts(prompt, "color", plan=plan, rule=settings.text_rule, negative=negative)


class _Run:
    """The moving parts of one call of `paint`."""

    def __init__(
        self,
        state: TextureState,
        prompts: Prompts,
        settings: TextureSettings,
        guide: Denoiser,
        perceptual: Perceptual,
        generator: torch.Generator,
    ) -> None:
        self.prompts, self.settings, self.guide, self.perceptual = prompts, settings, guide, perceptual
        self.generator = generator
        self.drawn = generator.get_state()  # as it was at the end of the last whole step
        self.is_whole = True  # False while a step's results are being taken over
        self.start = state
        self.field: ColorField = copy_field(state.field, state.mesh)
        self.device = state.mesh.device
        self.step, self.first_step = state.step, state.step
        self.gradient_scale = state.gradient_scale
        self.targets = None if state.targets is None else state.targets.clone()
        if self.targets is not None and not self.targets.suits(
            prompts.prompt, len(state.cameras), settings.render_size
        ):
            self.targets = None
        self.history: list[Tensor] = [] if state.history is None else list(state.history)
        self.parameters = dict(self.field.named_parameters())
        self.optimizer = _make_optimizer(self.field, settings, self.parameters, state.moments)
        self.times, self.begin, self.rejections = StageTimes(), time.monotonic(), 0

    def state(self) -> TextureState:
        """The run so far as a payload of its own."""
        return TextureState(
            mesh=self.start.mesh,
            placement=self.start.placement,
            field=copy_field(self.field, self.start.mesh),
            cameras=self.start.cameras,
            step=self.step,
            targets=None if self.targets is None else self.targets.clone(),
            moments=_moments(self.optimizer, self.parameters),
            gradient_scale=self.gradient_scale,
            history=torch.stack(self.history) if self.history else None,
        )

    def advance(self) -> PaintProgress:
        """One step of the optimiser. What it changes, it changes at its end."""
        coarse = self.step < self.settings.coarse_steps
        losses = dict.fromkeys(LOSS_NAMES, 0.0)
        index = [] if coarse else self._chosen_targets()
        cameras = self._coarse_cameras() if coarse else self.start.cameras.select(index)
        with self.times.measure("render", self.device):
            passes = self.field.pictures(
                self.start.mesh, cameras, self.settings.render_size, ("normal", "mask", "color")
            )
        picture, normal, mask = passes.color, passes.normal, passes.mask
        assert picture is not None and normal is not None and mask is not None
        losses["chroma"] = mean_chroma(picture.detach(), mask)
        target: Tensor | None = None
        targets = self.targets
        with self.times.measure("networks", self.device):
            if coarse:
                gradient, losses["sds"] = self._coarse_gradient(picture, normal.detach(), cameras)
            else:
                gradient, target, targets = self._fine_gradient(picture, normal.detach(), cameras, index, losses)
        with self.times.measure("gradient", self.device):
            self.optimizer.zero_grad()
            picture.backward(gradient)
        self.is_whole = False
        with self.times.measure("update", self.device):
            rejected = self._update(losses)
        self.targets = targets
        self.step += 1
        self.history.append(torch.tensor([losses[name] for name in LOSS_NAMES]))
        self.drawn = self.generator.get_state()
        self.is_whole = True
        pace = (time.monotonic() - self.begin) / (self.step - self.first_step)
        return PaintProgress(
            step=self.step,
            steps=self.settings.steps,
            stage="coarse" if coarse else "fine",
            losses=losses,
            picture=picture[0].detach(),
            target=target,
            times=self.times,
            rejected=rejected,
            seconds_left=pace * (self.settings.steps - self.step),
        )

    def _coarse_cameras(self) -> Cameras:
        settings = self.settings
        iteration = self.step * settings.plan_pace
        return sample_cameras(settings.plan, iteration, settings.views, self.generator).to(self.device)

    def _chosen_targets(self) -> list[int]:
        """Cameras of a fine step: `views` different ones at random."""
        count = min(self.settings.views, len(self.start.cameras))
        order = torch.randperm(len(self.start.cameras), generator=self.generator)
        return [int(at) for at in order[:count]]

    def _condition(self, normal: Tensor, cameras: Cameras) -> Any:
        return self.guide.condition(
            self.prompts.for_cameras(cameras),
            guidance_scale=self.settings.guidance_scale,
            negative=self.prompts.negative,
            control=normal,
            control_scale=self.settings.control_scale,
        )

    def _coarse_gradient(self, picture: Tensor, normal: Tensor, cameras: Cameras) -> tuple[Tensor, float]:
        """Equation 9 at the pictures, and the gradient's root mean square per latent number."""
        low, high = self.settings.coarse_t_range
        leaf = picture.detach().requires_grad_()
        latents = self.guide.encode_images(leaf)
        result = sds_gradient(
            self.guide,
            latents,
            self._condition(normal, cameras),
            t_range=(low, high(self.step)),
            generator=self.generator,
        )
        (gradient,) = torch.autograd.grad(latents, leaf, result.gradient / len(latents))
        return gradient, float(result.gradient.square().mean().sqrt())

    def _fine_gradient(
        self, picture: Tensor, normal: Tensor, cameras: Cameras, index: list[int], losses: dict[str, float]
    ) -> tuple[Tensor, Tensor, TargetCache | None]:
        """Equation 10 at the pictures, the first target's image, and the targets with those made that were due."""
        settings = self.settings
        due = self.step % settings.refresh_every == 0
        targets = self.targets
        missing = [place for place, at in enumerate(index) if due or targets is None or int(targets.step[at]) < 0]
        if missing:
            made = make_targets(
                self.guide,
                picture.detach()[missing],
                self._condition(normal[missing], cameras.select(missing)),
                t_range=settings.fine_t_range,
                stride=settings.target_stride,
                generator=self.generator,
            )
            if not bool(made.images.isfinite().all() and made.latents.isfinite().all()):
                return torch.full_like(picture, torch.nan), made.images[0], targets  # not kept; the step is rejected
            if targets is None:
                count, size = len(self.start.cameras), settings.render_size
                targets = TargetCache.empty(self.prompts.prompt, count, size, made.latents[0])
            else:
                targets = targets.clone()
            targets.put([index[place] for place in missing], made, self.step)
        assert targets is not None
        target = targets.get(index)
        leaf = picture.detach().requires_grad_()
        total, terms = fine_loss(
            settings.fine_loss,
            self.guide,
            leaf,
            target,
            self.perceptual,
            fidelity_weight=settings.fidelity_weight,
            perceptual_weight=settings.perceptual_weight,
        )
        losses.update(terms)
        (gradient,) = torch.autograd.grad(total, leaf)
        return gradient, target.images[0], targets

    def _update(self, losses: dict[str, float]) -> str | None:
        """AdamW, unless the gradient is not to be trusted; why not, if so."""
        if self.step == self.settings.coarse_steps:
            self.gradient_scale = 0.0  # the fine loss has a scale of its own
        gradients = [parameter.grad for parameter in self.parameters.values() if parameter.grad is not None]
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
        losses["gradient_norm"] = norm
        limit = self.settings.max_gradient_growth * self.gradient_scale
        rejected = None
        if not norm < float("inf"):
            rejected = f"the gradient at step {self.step} is not finite"
        elif 0 < limit < norm:
            rejected = f"the gradient norm {norm:.3g} at step {self.step} is over {limit:.3g}"
        if rejected is not None:
            self.rejections += 1
            return rejected
        self.rejections = 0
        memory = SCALE_MEMORY if self.gradient_scale else 0.0
        self.gradient_scale = memory * self.gradient_scale + (1 - memory) * norm
        self.optimizer.step()
        return None


def _make_optimizer(
    field: ColorField,
    settings: TextureSettings,
    parameters: dict[str, torch.nn.Parameter],
    moments: dict[str, Tensor] | None,
) -> torch.optim.AdamW:
    fast = field.fast_parameters()
    slow = [parameter for parameter in parameters.values() if all(parameter is not other for other in fast)]
    groups = [{"params": fast, "lr": settings.encoding_rate}, {"params": slow, "lr": settings.network_rate}]
    optimizer = torch.optim.AdamW(
        [group for group in groups if group["params"]],
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )
    if moments is not None:
        for name, parameter in parameters.items():
            kept = {key.removeprefix(f"{name}."): value for key, value in moments.items() if key.startswith(f"{name}.")}
            optimizer.state[parameter] = {key: value.clone() for key, value in kept.items()}
    return optimizer


def _moments(optimizer: torch.optim.AdamW, parameters: dict[str, torch.nn.Parameter]) -> dict[str, Tensor] | None:
    moments = {
        f"{name}.{key}": value.clone()
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }
    return moments or None
