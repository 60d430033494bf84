"""All numbers of the texture stage, with unit and source, and the presets `paper`, `standard` and `quick`.

Sources: [C] the published code, configs/humannorm-texture-{coarse,fine}.yaml; [P] the paper; "ours" where we chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from humannorm.cameras import TEXTURE_CAMERA_PLANS
from humannorm.checks import check_choice, check_range
from humannorm.fields.hash_grid import GridLayout
from humannorm.optimiser_settings import LevelRange, OptimiserSettings, annealed, levels_at, noise_free
from humannorm.schedules import Schedule, constant, ramp
from humannorm.texture.fields import ColorFieldSettings, HashColorSettings

__all__ = [
    "FINE_LOSSES",
    "PAPER_DEPARTURES",
    "PRESETS",
    "FineLoss",
    "TextureSettings",
    "coarse_only",
    "edit_settings",
    "fine_only",
    "preset",
    "single_looks",
]

FineLoss = Literal["published", "paper"]
FINE_LOSSES: tuple[FineLoss, ...] = ("published", "paper")


@dataclass(frozen=True, kw_only=True)
class TextureSettings(OptimiserSettings):
    """One run of the texture stage: coarse steps (equation 9), then fine ones (equation 10). `steps` counts both."""

    coarse_steps: int
    encoding_rate: float  # AdamW's learning rate of hash table or texels
    network_rate: float  # AdamW's learning rate of the small network

    field: ColorFieldSettings

    control_scale: float  # of the normal ControlNet's residuals
    coarse_t_range: LevelRange

    fine_loss: FineLoss  # which reading of equation 10, see `humannorm.texture.fine`
    fine_views: int  # cameras of the fine steps, each with one target
    fine_t_range: tuple[Schedule, Schedule]  # to which targets are noised, fractions; over the fine steps, from 0
    target_stride: int  # timesteps between two of a target's DDIM steps
    refresh_every: int  # steps between two renewals of a target that already exists
    fidelity_weight: float  # of the pixels' L1 ("published") or of the latents' squares ("paper")
    perceptual_weight: float  # lambda_p

    def __post_init__(self) -> None:
        super().__post_init__()
        check_range("coarse_steps", self.coarse_steps, 0, self.steps)
        check_range("control_scale", self.control_scale, 0.0, 10.0)
        check_choice("fine_loss", self.fine_loss, FINE_LOSSES)
        check_range("fine_views", self.fine_views, 1, 10_000)
        low, high = self.fine_t_range
        for at in (0, *(at for schedule in self.fine_t_range for at, _ in schedule.points)):
            check_range("fine_t_range[0]", low(at), 0.0, 1.0)
            check_range("fine_t_range[1]", high(at), low(at), 1.0)
        check_range("target_stride", self.target_stride, 1, 1000)
        check_range("refresh_every", self.refresh_every, 1, 1_000_000)
        for name in ("fidelity_weight", "perceptual_weight"):
            check_range(name, getattr(self, name), 0.0, 1e6)

    def with_steps(self, steps: int) -> TextureSettings:
        """As `OptimiserSettings.with_steps`; the coarse steps keep their share, and a run of two stages both."""
        coarse = round(self.coarse_steps * steps / self.steps)
        if self.coarse_steps and steps > 1:
            coarse = max(coarse, 1)
        whole = OptimiserSettings.with_steps(replace(self, coarse_steps=0), steps)
        return replace(whole, coarse_steps=coarse)


# The published configuration to the letter, [C] throughout, but for `PAPER_DEPARTURES`.
PAPER = TextureSettings(
    coarse_steps=2000,
    steps=10000,  # the fine stage resumes at 2000
    encoding_rate=1e-2,  # never lowered
    network_rate=1e-3,
    betas=(0.9, 0.99),
    epsilon=1e-15,
    weight_decay=0.01,  # torch's default, left on
    plan=TEXTURE_CAMERA_PLANS["full_body"],
    plan_pace=1.0,
    text_rule="published",
    views=1,
    render_size=512,
    field=HashColorSettings(),
    guidance_scale=7.5,
    control_scale=1.0,
    coarse_t_range=(0.02, constant(0.98)),
    fine_loss="published",
    fine_views=120,
    fine_t_range=(constant(0.50), constant(0.51)),
    target_stride=25,
    refresh_every=30,  # per_editing_step
    fidelity_weight=1.0,  # lambda_l1
    perceptual_weight=1.0,  # lambda_p
)

PAPER_DEPARTURES: Mapping[str, str] = {
    "cameras": "crops and test set are repaired, see humannorm.cameras; every fine camera's text names its own part "
    "where the rule names parts at all (the published code said full body to all)",
    "precision": "32 bits outside the guide instead of 16-bit mixed",
    "posterior": "the VAE's mean instead of a sample from its posterior",
    "targets": "denoised from the very level they were noised to (the published code began 20 to 40 timesteps below) "
    "and kept in 8 bits",
    "perceptual": "LPIPS with all layers weighing the same instead of learned heads, images in the range the network "
    "expects, no dropout",
    "bad gradients": "a step with NaN or exploding gradients is rejected; the published code set NaN to zero",
}

# The published run in a fifth of the steps for SD1.5-class weights on a graphics card (ours, not yet tuned on one):
# four coarse views a step in place of one, half the targets, parts named in the texts as the weights were trained.
STANDARD = replace(PAPER, coarse_steps=400, steps=2000, views=4, plan_pace=5.0, text_rule="paper", fine_views=60)

# The bundled small model on a CPU (ours, tuned by looking at results): targets from the first step to the last but one.
# Twenty coarse steps drive the sigmoid into pure red for good. Targets that begin near pure noise, one for each side,
# paint the named colours under the normal map; later ones agree with what is there.
QUICK = TextureSettings(
    coarse_steps=1,
    steps=121,
    encoding_rate=3e-2,  # at the published rates a field is still grey after 32 steps
    network_rate=1e-2,
    betas=(0.9, 0.99),
    epsilon=1e-15,
    weight_decay=0.0,
    plan=TEXTURE_CAMERA_PLANS["full_body"],
    plan_pace=10000 / 121,
    text_rule="paper",
    views=4,
    render_size=128,
    field=HashColorSettings(GridLayout(levels=10, log2_table=16)),
    guidance_scale=3.0,  # at 4 the top's colour ran over the head
    control_scale=1.0,
    coarse_t_range=(0.02, constant(0.98)),
    fine_loss="published",
    fine_views=32,
    fine_t_range=(ramp(30, 0.98, 100, 0.50), ramp(30, 0.98, 100, 0.50)),
    target_stride=90,
    refresh_every=4,
    fidelity_weight=1.0,
    perceptual_weight=0.0,  # for time: it runs the encoder at every step
)

PRESETS: Mapping[str, TextureSettings] = {"paper": PAPER, "standard": STANDARD, "quick": QUICK}


def preset(name: str) -> TextureSettings:
    """The settings of a preset."""
    check_choice("preset", name, PRESETS)
    return PRESETS[name]


def fine_only(settings: TextureSettings) -> TextureSettings:
    """The run's fine steps alone, for a field that has its colours already."""
    return replace(settings, coarse_steps=0, steps=settings.steps - settings.coarse_steps)


def edit_settings(settings: TextureSettings, strength: float = 0.5) -> TextureSettings:
    """A schedule for a finished painting under another prompt: coarse steps from moderate noise down.

    strength: where the noise begins, a fraction of the schedule.
    """
    low, _ = levels_at(settings.coarse_t_range, settings.steps)
    check_range("strength", strength, low, 1.0)
    return replace(settings, coarse_t_range=(low, constant(strength)))


def single_looks(settings: TextureSettings, *, nfsd: bool = False, falling: bool = False) -> TextureSettings:
    """The same run with coarse steps by NFSD in place of SDS, and at levels that fall with them."""
    settings = noise_free(settings) if nfsd else settings
    return annealed(settings, ("coarse_t_range",), settings.coarse_steps) if falling else settings


def coarse_only(settings: TextureSettings) -> TextureSettings:
    """The run's coarse steps alone; going on with the whole run gives what one unbroken run gives."""
    return replace(settings, steps=settings.coarse_steps)
