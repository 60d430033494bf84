"""The ablations of the paper's figures 7 and 8: the geometry stage with one of its ideas left out at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from humannorm.cameras import crop_cameras, orbit
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.sculpt import GuideSource, sculpt
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.start import StartMesh
from humannorm.geometry.state import LOSS_NAMES, GeometryState, extract_mesh, start_state
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh, normal_consistency
from humannorm.optimisation import OptimiserProgress
from humannorm.rendering.shaded import shaded_views
from humannorm.schedules import constant
from humannorm.training.dataset import SMALL_MODEL_PLAN

__all__ = ["ABLATIONS", "Ablation", "AblationFigures", "ablation_table", "run_ablation", "save_ablation_sheet"]

SIDES = (0, 45, 90, 180)  # degrees, of the sheet
LAST = 0.1  # share of the steps over which losses are averaged


@dataclass(frozen=True)
class Ablation:
    """One idea left out."""

    title: str
    change: Callable[[GeometrySettings], GeometrySettings]
    plain: bool = False  # use a plain text-to-image model, where the models folder has one apart


def _unchanged(settings: GeometrySettings) -> GeometrySettings:
    return settings


def _without_depth(settings: GeometrySettings) -> GeometrySettings:
    """Figure 7: the normal network alone."""
    return replace(settings, depth_weight=constant(0.0))


def _without_progression(settings: GeometrySettings) -> GeometrySettings:
    """Figure 8: all levels and the final lattice from the first step on."""
    last = settings.steps
    return replace(
        settings,
        active_levels=constant(settings.active_levels(last)),
        resolution=constant(settings.resolution(last)),
    )


def _without_record(settings: GeometrySettings) -> GeometrySettings:
    """Figure 8: no progressive SDF loss (equation 7)."""
    return replace(settings, sdf_record_step=None)


def _plain(settings: GeometrySettings) -> GeometrySettings:
    """Figure 7: the renders are judged as pictures of the person, not as normal maps; such a model knows no depth."""
    return replace(_without_depth(settings), normal_text="color")


ABLATIONS: Mapping[str, Ablation] = {
    "full": Ablation("full method", _unchanged),
    "no_depth": Ablation("without depth guidance", _without_depth),
    "no_progression": Ablation("without progressive encoding", _without_progression),
    "no_sdf_loss": Ablation("without the progressive SDF loss", _without_record),
    "plain": Ablation("plain text-to-image guidance", _plain, plain=True),
}
"""By the name of their folder, in the order of the sheet."""


@dataclass(frozen=True)
class AblationFigures:
    """What can be measured of an ablated run without judges."""

    title: str
    mesh: Mesh
    seconds: float
    pieces: int
    normal_sds: float  # root mean square per latent number, mean over the last tenth of the steps
    roughness: float  # `normal_consistency` of the surface
    moved: float  # mean distance of the surface's vertices from the start mesh, world units


def run_ablation(
    ablation: Ablation,
    prompt: str,
    start: StartMesh,
    settings: GeometrySettings,
    *,
    normal: GuideSource,
    depth: GuideSource,
    seed: int,
    callback: Callable[[OptimiserProgress], None] | None = None,
) -> AblationFigures:
    """The whole geometry stage under an ablation. The same seed gives all of them the same start and cameras."""
    begin = time.monotonic()
    changed = ablation.change(settings)
    generator = torch.Generator().manual_seed(seed)
    state, _ = start_state(start, changed, generator)
    state = sculpt(state, prompt, changed, normal=normal, depth=depth, generator=generator, callback=callback)
    surface = extract_mesh(state)
    mesh = surface.mesh
    return AblationFigures(
        title=ablation.title,
        mesh=mesh,
        seconds=time.monotonic() - begin,
        pieces=surface.pieces,
        normal_sds=_last_loss(state, "normal_sds"),
        roughness=float(normal_consistency(mesh.vertices, mesh.faces)),
        moved=float(SignedDistance(start.mesh.vertices, start.mesh.faces)(mesh.vertices).abs().mean()),
    )


def _last_loss(state: GeometryState, name: str) -> float:
    assert state.history is not None
    curve = state.history[:, LOSS_NAMES.index(name)]
    return float(curve[-max(round(LAST * len(curve)), 1) :].mean())


def save_ablation_sheet(path: Path, figures: Sequence[AblationFigures], size: int = 256) -> None:
    """A row for each run: normals and shading of the body, then of the head from the front."""
    plan = SMALL_MODEL_PLAN
    tiles, labels = [], []
    for row in figures:
        body = orbit(SIDES, elevation=5.0).to(row.mesh.device)
        face = crop_cameras(plan, plan.crop("head"), [0.0], distance=3.0, fov_y=45.0).to(row.mesh.device)
        for place, cameras in (("", body), ("head ", face)):
            for kind, views in zip(("normals", "shading"), shaded_views(row.mesh, cameras, size), strict=True):
                tiles += list(views.cpu())
                labels += [f"{row.title}, {kind}, {place}{azimuth:.0f}" for azimuth in cameras.azimuth.tolist()]
    save_png(path, contact_sheet(tiles, labels, columns=2 * len(SIDES) + 2))


def ablation_table(figures: Sequence[AblationFigures]) -> str:
    """Markdown, a row for each run."""
    lines = [
        "| run | normal SDS, last tenth | roughness | moved from the body | pieces | faces | seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in figures:
        lines.append(
            f"| {row.title} | {row.normal_sds:.3f} | {row.roughness:.4f} | {row.moved:.4f} | {row.pieces} "
            f"| {row.mesh.num_faces:,} | {row.seconds:.0f} |"
        )
    return "\n".join(lines)
