"""The texture optimiser (paper section 3.4): coarse by SDS of the normal-aligned model, fine by multi-step targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from humannorm.cameras import Cameras, sample_cameras
from humannorm.controls import more_controls
from humannorm.guidance import Denoiser, portions, sds_at_pictures
from humannorm.guidance.distillation import asked
from humannorm.guidance.targets import TargetCache, renew_targets
from humannorm.optimisation import Callback, GuardedAdamW, OptimiserProgress, OptimiserRun
from humannorm.optimiser_settings import levels_at
from humannorm.prompts import Prompts
from humannorm.texture.fields import ColorField
from humannorm.texture.fine import fine_loss
from humannorm.texture.perceptual import Perceptual
from humannorm.texture.saturation import mean_chroma
from humannorm.texture.settings import TextureSettings
from humannorm.texture.state import LOSS_NAMES, TextureState, copy_field, save_state

__all__ = ["color_prompts", "paint"]

# networks: perceptual features too; render: the field at visible points too; gradient: back to the field's parameters.
STAGES = ("networks", "render", "gradient", "update")


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
    size than requested are made anew.

    The callback's False ends the run after its step, with the checkpoint written. An exception (KeyboardInterrupt, the
    host's interruption) leaves at once; the checkpoint is then of the last whole step. In both cases a run resumed from
    it with the same settings ends in the same bytes on a CPU.
    """
    prompts = color_prompts(prompt, settings, negative)
    return _Run(state, prompts, settings, guide, perceptual, generator).finish(callback, checkpoint)


def color_prompts(prompt: str, settings: TextureSettings, negative: str = "") -> Prompts:
    """The texts for the colour model."""
    return Prompts(prompt, "color", plan=settings.text_plan, rule=settings.text_rule, negative=negative)


class _Run(OptimiserRun[TextureState]):
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
        self.start = state
        self.field: ColorField = copy_field(state.field, state.mesh)
        self.device = state.mesh.device
        super().__init__(
            state,
            settings,
            GuardedAdamW(_groups(self.field, settings), settings, state.moments, state.gradient_scale),
            generator,
            device=self.device,
            stages=STAGES,
            loss_names=LOSS_NAMES,
        )
        self.targets = None if state.targets is None else state.targets.clone()
        if self.targets is not None and not self.targets.suits(
            prompts.prompt, len(state.cameras), settings.render_size
        ):
            self.targets = None

    def save(self, path: Path) -> None:
        save_state(self.state(), path, self.generator)

    def state(self) -> TextureState:
        """The run so far as a payload of its own."""
        state = TextureState(
            mesh=self.start.mesh,
            placement=self.start.placement,
            field=copy_field(self.field, self.start.mesh),
            cameras=self.start.cameras,
            step=self.step,
            targets=None if self.targets is None else self.targets.clone(),
            moments=self.optimizer.moments(),
            gradient_scale=self.optimizer.scale,
            history=self.stacked_history,
            plan=self.settings.plan,
        )
        return self.start.look_onto(state)

    def advance(self) -> OptimiserProgress:
        """One step of the optimiser. What it changes, it changes at its end."""
        coarse = self.step < self.settings.coarse_steps
        losses = dict.fromkeys(LOSS_NAMES, 0.0)
        index = [] if coarse else self._chosen_targets()
        cameras = self._coarse_cameras() if coarse else self.start.cameras.select(index)
        with self.times.measure("render"):
            passes = self.field.pictures(
                self.start.mesh, cameras, self.settings.render_size, ("normal", "mask", "color")
            )
        picture, normal, mask = passes.color, passes.normal, passes.mask
        assert picture is not None and normal is not None and mask is not None
        losses["chroma"] = mean_chroma(picture.detach(), mask)
        target: Tensor | None = None
        targets = self.targets
        with self.times.measure("networks"):
            if coarse:
                gradient, losses["sds"] = self._coarse_gradient(picture, normal.detach(), cameras)
            else:
                gradient, target, targets = self._fine_gradient(picture, normal.detach(), cameras, index, losses)
        with self.times.measure("gradient"):
            self.optimizer.zero_grad()
            picture.backward(gradient)
        if self.step == self.settings.coarse_steps:
            self.optimizer.scale = 0.0  # the fine loss has a scale of its own
        with self.completing(losses) as rejected:
            self.targets = targets
        return OptimiserProgress(
            step=self.step,
            steps=self.settings.steps,
            stage="coarse" if coarse else "fine",
            losses=losses,
            picture=picture[0].detach(),
            target=target,
            faces=self.start.mesh.num_faces,
            times=self.times,
            rejected=rejected,
            seconds_left=self.seconds_left,
        )

    def _coarse_cameras(self) -> Cameras:
        settings = self.settings
        iteration = settings.plan_iteration(self.step)
        return sample_cameras(settings.plan, iteration, settings.views, self.generator).to(self.device)

    def _chosen_targets(self) -> list[int]:
        """Cameras of a fine step: `views` different ones at random."""
        count = min(self.settings.views, len(self.start.cameras))
        order = torch.randperm(len(self.start.cameras), generator=self.generator)
        return [int(at) for at in order[:count]]

    def _condition(self, normal: Tensor, cameras: Cameras) -> Any:
        return self._conditions(normal, cameras)(self.prompts.for_cameras(cameras), self.settings.guidance_scale)

    def _conditions(self, normal: Tensor, cameras: Cameras) -> Callable[[Sequence[str], float], Any]:
        more = more_controls(self.guide, self.start.mesh, cameras, normal.shape[1])
        return lambda prompts, scale: self.guide.condition(
            prompts,
            guidance_scale=scale,
            negative=self.prompts.negative,
            control=normal,
            control_scale=self.settings.control_scale,
            **more,
        )

    def _coarse_gradient(self, picture: Tensor, normal: Tensor, cameras: Cameras) -> tuple[Tensor, float]:
        """Equation 9 at the pictures, and the gradient's root mean square per latent number."""
        settings = self.settings

        def condition(numbers: list[int]) -> Any:
            seen = cameras.select(numbers)
            make, texts = self._conditions(normal[numbers], seen), self.prompts.for_cameras(seen)
            return asked(settings.distillation, make, texts, settings.guidance_scale)

        return sds_at_pictures(
            self.guide,
            picture,
            condition,
            t_range=levels_at(settings.coarse_t_range, self.step),
            generator=self.generator,
        )

    def _fine_gradient(
        self, picture: Tensor, normal: Tensor, cameras: Cameras, index: list[int], losses: dict[str, float]
    ) -> tuple[Tensor, Tensor | None, TargetCache | None]:
        """Equation 10 at the pictures, the first target's image, and the targets with those made that were due."""
        settings = self.settings
        (low, high), fine_step = settings.fine_t_range, self.step - settings.coarse_steps
        due = self.step % settings.refresh_every == 0
        old = self.targets
        targets, is_finite = renew_targets(
            old,
            self.guide,
            picture,
            index,
            [place for place, at in enumerate(index) if due or old is None or int(old.step[at]) < 0],
            lambda places: self._condition(normal[places], cameras.select(places)),
            prompt=self.prompts.prompt,
            count=len(self.start.cameras),
            step=self.step,
            t_range=(low(fine_step), high(fine_step)),
            stride=settings.target_stride,
            generator=self.generator,
        )
        if not is_finite:
            return torch.full_like(picture, torch.nan), None, targets
        assert targets is not None
        gradient = torch.zeros_like(picture)
        for at in portions(len(picture), self.guide):
            share = len(at) / len(picture)
            leaf = picture.detach()[at].requires_grad_()
            total, terms = fine_loss(
                settings.fine_loss,
                self.guide,
                leaf,
                targets.get([index[number] for number in at]),
                self.perceptual,
                fidelity_weight=settings.fidelity_weight,
                perceptual_weight=settings.perceptual_weight,
            )
            for name, value in terms.items():
                losses[name] += share * value
            (gradient[at],) = torch.autograd.grad(share * total, leaf)
        return gradient, targets.get(index[:1]).images[0], targets


def _groups(field: ColorField, settings: TextureSettings) -> list[tuple[dict[str, torch.nn.Parameter], float]]:
    """The field's parameters by name, with AdamW's learning rate of each group."""
    fast_ones = {id(parameter) for parameter in field.fast_parameters()}
    fast: dict[str, torch.nn.Parameter] = {}
    slow: dict[str, torch.nn.Parameter] = {}
    for name, parameter in field.named_parameters():
        if parameter.requires_grad:
            (fast if id(parameter) in fast_ones else slow)[name] = parameter
    return [(fast, settings.encoding_rate), (slow, settings.network_rate)]
