"""What the settings of both optimisers have in common, and how a run is stretched to another number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeVar

from humannorm.cameras import CAMERA_PLANS, CameraPlan
from humannorm.checks import check_choice, check_range
from humannorm.prompts import TextRule
from humannorm.schedules import Schedule, ramp

__all__ = ["DISTILLATIONS", "Distillation", "LevelRange", "OptimiserSettings", "annealed", "levels_at", "noise_free"]

Distillation = Literal["sds", "nfsd"]
DISTILLATIONS: tuple[Distillation, ...] = ("sds", "nfsd")
NOISE_FREE_SCALE = 7.5  # as published: without the noise in it no large scale is needed
LevelRange = tuple[float | Schedule, Schedule]
"""Lower and upper end of the noise levels that single looks are drawn from, fractions of the noise schedule."""
Settings = TypeVar("Settings", bound="OptimiserSettings")


@dataclass(frozen=True, kw_only=True)
class OptimiserSettings:
    """One run of an optimiser. Schedules are over steps."""

    steps: int
    betas: tuple[float, float]  # of AdamW
    epsilon: float  # of AdamW
    weight_decay: float  # of AdamW

    plan: CameraPlan  # whose cameras are drawn: a published one, or a model's own (its card's)
    plan_pace: float  # iterations of the plan's own schedule per step
    text_plan: str = "full_body"  # name in `CAMERA_PLANS` whose texts the published text rule follows
    text_rule: TextRule  # where the texts name the body part
    views: int  # cameras per step
    render_size: int  # pixels; the guide resizes to its own resolution
    guidance_scale: float  # classifier-free guidance, uncond + s * (cond - uncond); NFSD's s
    distillation: Distillation = "sds"  # the gradient of single looks: equation 6 and 9, or noise-free (2310.17590)

    max_gradient_growth: float = 100.0  # a step whose gradient norm exceeds this many running means is rejected
    max_rejections: int = 8  # steps rejected in a row before the run stops

    def __post_init__(self) -> None:
        check_range("steps", self.steps, 1, 1_000_000)
        check_choice("text_plan", self.text_plan, CAMERA_PLANS)
        check_range("views", self.views, 1, 64)
        check_range("render_size", self.render_size, 16, 4096)
        check_range("guidance_scale", self.guidance_scale, 0.0, 1000.0)
        check_choice("distillation", self.distillation, DISTILLATIONS)

    def plan_iteration(self, step: int) -> float:
        """Where the camera plan's own schedule stands at a step; rounded, so that a jump falls on its step."""
        return round(step * self.plan_pace, 6)

    def with_steps(self: Settings, steps: int) -> Settings:
        """The same run in another number of steps: every schedule is stretched or pressed with it."""
        factor = steps / self.steps
        changed = {field.name: _stretched(getattr(self, field.name), factor) for field in fields(self)}
        return replace(self, **changed | {"steps": steps, "plan_pace": self.plan_pace / factor})


def levels_at(ends: LevelRange, step: float) -> tuple[float, float]:
    """Both ends of a range at a step."""
    low, high = ends
    return (low(step) if isinstance(low, Schedule) else low), high(step)


def noise_free(settings: Settings) -> Settings:
    """The same run by NFSD, at its published scale."""
    return replace(settings, distillation="nfsd", guidance_scale=NOISE_FREE_SCALE)


def annealed(settings: Settings, names: Sequence[str], steps: int) -> Settings:
    """The same run with one level a step in place of one drawn from a range: it falls evenly over `steps` steps.

    names: of the settings' ranges. Each level begins at the upper end that its range has at first and ends at the lower
    one: form first, then detail (arXiv 2306.12422; GaussianIP, 2503.11143, anneals too). The straight line is ours.
    """
    falling = {}
    for name in names:
        ends: LevelRange = getattr(settings, name)
        level = ramp(0, levels_at(ends, 0)[1], max(steps - 1, 1), levels_at(ends, steps)[0])
        falling[name] = (level, level)
    return replace(settings, **falling)  # type: ignore[arg-type]


def _stretched(value: Any, factor: float) -> Any:
    """A schedule, also inside of tuples, over `factor` times as many steps; anything else as it is."""
    if isinstance(value, Schedule):
        return value.scaled_time(factor)
    if type(value) is tuple:
        return tuple(_stretched(each, factor) for each in value)
    return value
