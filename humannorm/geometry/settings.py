"""All numbers of the geometry stage, with unit and source, and the presets `paper`, `standard` and `quick`.

Sources: [C] the published code, configs/humannorm-geometry-{full,half,head}.yaml; [P] the paper; "ours" where we chose.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from humannorm.cameras import CAMERA_PLANS
from humannorm.checks import check_choice, check_range
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.fields import FieldSettings, HashFieldSettings
from humannorm.geometry.fitting import FitSettings
from humannorm.optimiser_settings import LevelRange, OptimiserSettings, annealed, levels_at, noise_free
from humannorm.prompts import MODALITIES, Modality
from humannorm.schedules import Schedule, constant, ramp, step

__all__ = [
    "PAPER_DEPARTURES",
    "PRESETS",
    "GeometrySettings",
    "TargetSettings",
    "edit_settings",
    "preset",
    "single_looks",
]


@dataclass(frozen=True)
class TargetSettings:
    """Multi-step targets for the surface: equation 10 lent from the texture stage (ours, not in the paper).

    The renders of fixed cameras are noised and denoised in many steps; until a camera's target is renewed, the surface
    is drawn to it by pixels. A small network's single looks (equation 6) mostly say what is mean to all people; its
    whole walks end in one person, and cost nothing in the steps between.
    """

    views: int  # cameras around, each with targets of its own, in equal turns of each of the plan's crops
    refresh_every: int  # steps that a target serves before it is due; one is renewed a step
    level: Schedule  # to which renders are noised, fraction of the noise schedule
    stride: int  # timesteps between two of a target's DDIM steps
    weight: float  # of the mean squared difference of the pixels 0..1

    def __post_init__(self) -> None:
        check_range("targets.views", self.views, 1, 10_000)
        check_range("targets.refresh_every", self.refresh_every, 1, 1_000_000)
        check_range("targets.stride", self.stride, 1, 1000)
        check_range("targets.weight", self.weight, 0.0, 1e9)
        for _, value in self.level.points:
            check_range("targets.level", value, 0.0, 1.0)

    def stretched(self, factor: float) -> TargetSettings:
        """For a run of `factor` times as many steps."""
        refresh = max(1, round(self.refresh_every * factor))
        return replace(self, refresh_every=refresh, level=self.level.scaled_time(factor))


@dataclass(frozen=True, kw_only=True)
class GeometrySettings(OptimiserSettings):
    """One run of the geometry stage."""

    learning_rate: Schedule  # of AdamW, for tables and network

    field: FieldSettings
    fit: FitSettings
    active_levels: Schedule  # of the field: the progressive mask
    resolution: Schedule  # of the lattice

    normal_weight: Schedule  # of the SDS gradient, or of the pull to targets
    depth_weight: Schedule  # likewise; the depth network is let go when it stays 0
    normal_t_range: LevelRange  # of single looks (SDS, NFSD)
    depth_t_range: LevelRange

    sdf_record_step: int | None  # when the field is recorded for equation 7; None: never
    sdf_weight: Schedule  # of the sum of squares, from the recording on
    sdf_points: int  # per step
    laplacian_weight: Schedule  # of the mean length of the uniform Laplacian (world units)
    normal_consistency_weight: Schedule

    targets: TargetSettings | None = None  # multi-step targets in place of SDS; None: SDS
    normal_text: Modality = "normal"  # of the normal network's prompts; "color": as for plain text-to-image guidance
    deformable: bool = False  # move the lattice's vertices too, bounded as in DMTet; [C] does not
    band_rings: int = 1  # lattice rings kept ready around the surface

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("normal_text", self.normal_text, MODALITIES)
        check_range("sdf_points", self.sdf_points, 1, 10_000_000)

    def with_steps(self, steps: int) -> GeometrySettings:
        """As `OptimiserSettings.with_steps`; what is counted in steps is stretched too, and rounded."""
        factor, recorded = steps / self.steps, self.sdf_record_step
        return replace(
            super().with_steps(steps),
            targets=None if self.targets is None else self.targets.stretched(factor),
            sdf_record_step=None if recorded is None else round(recorded * factor),
        )


def _published_mask() -> Schedule:
    """Eight levels, one more at 1000, 1500, ... 4500."""
    points: list[tuple[float, float]] = [(0, 8)]
    for added in range(8):
        at = 1000 + 500 * added
        points += [(at, 8 + added), (at, 9 + added)]
    return Schedule(tuple(points))


# The published full-body configuration to the letter, [C] throughout, but for `PAPER_DEPARTURES`.
PAPER = GeometrySettings(
    steps=15000,
    learning_rate=constant(2e-5),  # never lowered
    betas=(0.9, 0.99),
    epsilon=1e-15,
    weight_decay=0.01,  # torch's default, left on
    plan=CAMERA_PLANS["full_body"],
    plan_pace=1.0,
    text_rule="published",
    views=1,
    render_size=512,
    field=HashFieldSettings(),
    fit=FitSettings(),  # ours
    active_levels=_published_mask(),
    resolution=Schedule(((0, 128), (3000, 128), (3000, 256), (6000, 256), (6000, 512))),
    guidance_scale=50.0,
    normal_weight=constant(1.0),  # lambda_sds
    depth_weight=ramp(6000, 1.0, 6001, 0.0),  # lambda_sds_add
    normal_t_range=(0.02, step(10000, 0.80, 0.21)),
    depth_t_range=(0.02, ramp(5000, 0.81, 8001, 0.11)),
    sdf_record_step=3000,
    sdf_weight=constant(1500.0),  # lambda_sdf
    sdf_points=100_000,
    laplacian_weight=ramp(5000, 0.0, 5001, 1000.0),
    normal_consistency_weight=constant(0.0),
)

PAPER_DEPARTURES: Mapping[str, str] = {
    "cameras": "the look-at shifts of head and lower-body crops are repaired, see humannorm.cameras",
    "batch": "every view is turned into its own camera's axes; the published renderer turned the first one only",
    "lattice": "body-centred cubic tetrahedra of the published size, made by code and evaluated near the surface only; "
    "the published grid files are larger than the stated cards' memory when built densely",
    "fit": "200 steps weighted by distance instead of 2000 steps of plain MSE: seconds, and closer at the surface",
    "sdf recording": "equation 7 compares with the field's own values, as the paper says; the published code wrote the "
    "extracted mesh to one global file and measured distances to that",
    "sdf points": "drawn near the surface and not from the whole box, where most points say nothing; the published "
    "weight and the sum over points are kept",
    "posterior": "the VAE's mean instead of a sample from its posterior",
    "bad gradients": "a step with NaN or exploding gradients is rejected; the published code set NaN to zero",
}


# The published run in a fifth of the steps for SD1.5-class weights on a graphics card (ours, not yet tuned on one):
# four views a step in place of one, and a learning rate that covers the same way.
STANDARD = replace(PAPER.with_steps(3000), views=4, learning_rate=constant(1e-4), text_rule="paper", sdf_points=20_000)

# The bundled small model on a CPU (ours, tuned by looking at results). Its maps have 128 pixels, so that detail beyond
# nine levels is noise. By SDS it gave a smooth mannequin whatever the prompt: its single looks say what is mean to all
# people. Drawn to its multi-step targets the same network gives clothes and builds, in less time. Normal consistency is
# what holds the surface smooth: the Laplacian eats hands and hems.
QUICK = GeometrySettings(
    steps=240,
    learning_rate=ramp(0, 1.5e-3, 240, 3e-4),
    betas=(0.9, 0.99),
    epsilon=1e-15,
    weight_decay=0.0,
    plan=CAMERA_PLANS["full_body"],
    plan_pace=15000 / 240,
    text_rule="paper",
    views=4,
    render_size=128,
    field=HashFieldSettings(GridLayout(levels=10, log2_table=16)),
    fit=FitSettings(),
    active_levels=Schedule(((0, 6), (50, 6), (50, 7), (100, 7), (100, 8), (170, 8), (170, 9))),
    resolution=Schedule(((0, 128), (80, 128), (80, 192), (170, 192), (170, 256))),
    guidance_scale=6.0,
    normal_weight=constant(1.0),
    depth_weight=step(32, 1.0, 0.0),  # while every camera gets its first target
    normal_t_range=(0.05, ramp(0, 0.60, 240, 0.30)),  # should the targets be switched off
    depth_t_range=(0.05, ramp(0, 0.60, 240, 0.30)),
    sdf_record_step=60,
    sdf_weight=constant(20.0),
    sdf_points=5000,
    laplacian_weight=constant(0.0),
    normal_consistency_weight=constant(60.0),
    targets=TargetSettings(
        views=32,  # eight sides of each of the small model's four crops
        refresh_every=48,
        level=ramp(0, 0.55, 200, 0.40),  # from more noise chests and backs swell, and the start says enough already
        stride=90,
        weight=15_000.0,
    ),
)

PRESETS: Mapping[str, GeometrySettings] = {"paper": PAPER, "standard": STANDARD, "quick": QUICK}


def single_looks(settings: GeometrySettings, *, nfsd: bool = False, falling: bool = False) -> GeometrySettings:
    """The same run without multi-step targets: by NFSD in place of SDS, and at levels that fall with the steps."""
    settings = replace(settings, targets=None)
    settings = noise_free(settings) if nfsd else settings
    return annealed(settings, ("normal_t_range", "depth_t_range"), settings.steps) if falling else settings


def preset(name: str) -> GeometrySettings:
    """The settings of a preset."""
    check_choice("preset", name, PRESETS)
    return PRESETS[name]


def edit_settings(settings: GeometrySettings, levels: int, resolution: int, strength: float = 0.5) -> GeometrySettings:
    """A schedule for a finished surface under another prompt: at the detail it has, from moderate noise down.

    levels, resolution: those of the state that is edited. strength: where the noise begins, a fraction of the schedule.
    """
    check_range("strength", strength, 0.02, 1.0)
    noise = constant(strength)
    targets = settings.targets
    return replace(
        settings,
        active_levels=constant(levels),
        resolution=constant(resolution),
        normal_t_range=(levels_at(settings.normal_t_range, settings.steps)[0], noise),
        depth_t_range=(levels_at(settings.depth_t_range, settings.steps)[0], noise),
        targets=None if targets is None else replace(targets, level=noise),
        sdf_record_step=0,
    )
