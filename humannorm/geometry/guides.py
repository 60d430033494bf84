"""The gradient that a network gives at the pixels of drawn views: one look (equation 6), or a multi-step target."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from humannorm.cameras import Cameras
from humannorm.controls import more_controls
from humannorm.geometry.settings import GeometrySettings, TargetSettings
from humannorm.guidance import Denoiser, sds_at_pictures
from humannorm.guidance.distillation import asked
from humannorm.guidance.targets import TargetCache, renew_targets
from humannorm.mesh import Mesh
from humannorm.optimiser_settings import levels_at
from humannorm.prompts import Modality, Prompts

__all__ = ["GuideGradient", "GuideSource", "SdsGuide", "TargetGuide", "View", "make_guide"]

Pictures = Float[Tensor, "B S S 3"]
GuideSource = Denoiser | Callable[[], Denoiser]
"""A network, or how to load it: what is loaded here is also let go here when it is no longer needed."""


@dataclass(frozen=True, eq=False)
class View:
    """What a step looks from."""

    step: int  # steps done
    cameras: Cameras
    index: list[int]  # places of the cameras among those that keep a target, if any do
    mesh: Mesh | None = None  # the surface as it is, for guides with ControlNets
    size: int = 512  # pixels a side of the pictures


@dataclass(frozen=True, eq=False)
class GuideGradient:
    """What a guide returns for a step's pictures."""

    gradient: Pictures  # at the pictures, weighted, of the mean over the views
    loss: float  # for the history, see `LOSS_NAMES`
    targets: TargetCache | None = None  # to be kept when the step is done


class _Guide(ABC):
    """One network with its texts."""

    def __init__(self, source: GuideSource, prompt: str, modality: Modality, settings: GeometrySettings) -> None:
        is_normal = modality == "normal"
        text: Modality = settings.normal_text if is_normal else "depth"
        self.prompts = Prompts(prompt, text, plan=settings.text_plan, rule=settings.text_rule)
        self.schedule = settings.normal_weight if is_normal else settings.depth_weight
        self.guidance_scale, self.distillation = settings.guidance_scale, settings.distillation
        self._source = source
        self._network: Denoiser | None = None

    @property
    def network(self) -> Denoiser:
        if self._network is None:
            self._network = self._source if isinstance(self._source, Denoiser) else self._source()
        return self._network

    def weight(self, step: int) -> float:
        return self.schedule(step)

    def is_over(self, step: int) -> bool:
        """Whether the weight is zero now and ever after."""
        return self.schedule(step) == 0 and all(value == 0 for at, value in self.schedule.points if at > step)

    def condition(self, view: View, chosen: list[int]) -> Any:
        """Of some of the view's cameras."""
        return self._conditions(view, chosen)(self._texts(view, chosen), self.guidance_scale)

    def looking(self, view: View, chosen: list[int]) -> Any:
        """The same for a single look, as the settings distil."""
        return asked(self.distillation, self._conditions(view, chosen), self._texts(view, chosen), self.guidance_scale)

    def _texts(self, view: View, chosen: list[int]) -> Sequence[str]:
        return self.prompts.for_cameras(view.cameras.select(chosen))

    def _conditions(self, view: View, chosen: list[int]) -> Callable[[Sequence[str], float], Any]:
        cameras = view.cameras.select(chosen)
        more = {} if view.mesh is None else more_controls(self.network, view.mesh, cameras, view.size)
        return lambda prompts, scale: self.network.condition(prompts, guidance_scale=scale, **more)

    @abstractmethod
    def gradient(
        self, pictures: Pictures, view: View, targets: TargetCache | None, generator: Generator
    ) -> GuideGradient:
        """Of these renders, 0..1 on black. targets: what the last call returned."""


class SdsGuide(_Guide):
    """Equation 6; the loss is the root mean square of the gradient per latent number."""

    def __init__(self, source: GuideSource, prompt: str, modality: Modality, settings: GeometrySettings) -> None:
        super().__init__(source, prompt, modality, settings)
        self.t_range = settings.normal_t_range if modality == "normal" else settings.depth_t_range

    def gradient(
        self, pictures: Pictures, view: View, targets: TargetCache | None, generator: Generator
    ) -> GuideGradient:
        gradient, size = sds_at_pictures(
            self.network,
            pictures,
            lambda numbers: self.looking(view, numbers),
            t_range=levels_at(self.t_range, view.step),
            generator=generator,
        )
        return GuideGradient(gradient * self.weight(view.step), size)


class TargetGuide(_Guide):
    """The pull of each view to its camera's multi-step target, which is made anew when it is too old.

    A step renews one target at most: so each walk begins at a surface that has already followed the one before, and the
    views agree on one person instead of each dreaming of its own.
    """

    def __init__(
        self,
        source: GuideSource,
        prompt: str,
        modality: Modality,
        settings: GeometrySettings,
        targets: TargetSettings,
        count: int,
    ) -> None:
        super().__init__(source, prompt, modality, settings)
        self.settings, self.count, self.size = targets, count, settings.render_size

    def gradient(
        self, pictures: Pictures, view: View, targets: TargetCache | None, generator: Generator
    ) -> GuideGradient:
        pictures, targets = pictures.detach(), self._suiting(targets)
        level = self.settings.level(view.step)
        targets, is_finite = renew_targets(
            targets,
            self.network,
            pictures,
            view.index,
            [place for place, at in enumerate(view.index) if self._is_due(targets, at, view.step)],
            lambda places: self.condition(view, places),
            prompt=self.prompts.prompt,
            count=self.count,
            step=view.step,
            t_range=(level, level),
            stride=self.settings.stride,
            generator=generator,
        )
        if not is_finite:
            return GuideGradient(torch.full_like(pictures, torch.nan), float("nan"), targets)
        assert targets is not None
        difference = pictures - targets.get(view.index).images
        weight = self.weight(view.step) * self.settings.weight
        return GuideGradient(
            difference * (2 * weight / difference.numel()), float(difference.square().mean().sqrt()), targets
        )

    def choose(self, targets: TargetCache | None, step: int, views: int, generator: Generator) -> list[int]:
        """Cameras of a step: the one whose target is due longest, if any is, and random ones whose targets are not."""
        targets = self._suiting(targets)
        order = torch.randperm(self.count, generator=generator).tolist()
        due = [at for at in order if self._is_due(targets, at, step)]
        oldest = [due[0] if targets is None else min(due, key=lambda at: int(targets.step[at]))] if due else []
        others = [at for at in order if at not in due]
        return oldest + others[: views - len(oldest)]

    def _suiting(self, targets: TargetCache | None) -> TargetCache | None:
        """The targets if they are of this prompt and these cameras."""
        return targets if targets is not None and targets.suits(self.prompts.prompt, self.count, self.size) else None

    def _is_due(self, targets: TargetCache | None, at: int, step: int) -> bool:
        if targets is None or int(targets.step[at]) < 0:
            return True
        return step - int(targets.step[at]) >= self.settings.refresh_every


def make_guide(
    source: GuideSource, prompt: str, modality: Modality, settings: GeometrySettings, count: int
) -> SdsGuide | TargetGuide:
    """The kind of guide of the settings. count: of the cameras that keep a target."""
    if settings.targets is None:
        return SdsGuide(source, prompt, modality, settings)
    return TargetGuide(source, prompt, modality, settings, settings.targets, count)
