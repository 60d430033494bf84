"""The geometry optimiser (paper section 3.3): normal and depth guidance shape the field, one state to the next."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from humannorm.cameras import sample_cameras, target_cameras
from humannorm.geometry.band import (
    Band,
    band_at_points,
    box_field,
    crossing_points,
    cut_to_box,
    evaluate,
    is_torn,
    settle_band,
)
from humannorm.geometry.fields import DeformationField, SdfField
from humannorm.geometry.guides import GuideSource, TargetGuide, View, make_guide
from humannorm.geometry.holding import RememberedHold
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.losses import SdfRecord, progressive_sdf_loss, record_sdf
from humannorm.geometry.marching import interpolate_crossings, marching_topology
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.state import LOSS_NAMES, GeometryState, held_field, moved_positions, save_state
from humannorm.guidance.targets import TargetCache
from humannorm.mesh import Mesh, laplacian_smoothness, normal_consistency
from humannorm.optimisation import Callback, GuardedAdamW, OptimiserProgress, OptimiserRun
from humannorm.rendering.passes import render

__all__ = ["GuideSource", "sculpt"]

# field: evaluation, re-banding, marching; gradient: from the pictures back to the field's parameters.
STAGES = ("networks", "field", "render", "regularisers", "gradient", "update")

TARGET_SEED = 0  # of the elevations of the cameras that keep targets
MARGIN = 0.01  # share of a lattice edge that a vertex of the surface keeps from its ends while it is optimised


def sculpt(
    state: GeometryState,
    prompt: str,
    settings: GeometrySettings,
    *,
    normal: GuideSource,
    depth: GuideSource | None,
    generator: torch.Generator,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
) -> GeometryState:
    """Go on from a state to `settings.steps`; the state handed in is left as it was.

    normal, depth: the adapted networks (one and the same will do); without a depth network there is no depth guidance.
    generator: a CPU generator, the source of every draw. checkpoint: a file that is kept up to date, see `save_state`.
    The callback's False ends the run after the step; an exception from anywhere undoes the step it falls in. Either way
    the checkpoint is written, and a run resumed from it with the same settings ends in the same bytes on a CPU.
    """
    return _Run(state, prompt, settings, normal, depth, generator).finish(callback, checkpoint)


class _Run(OptimiserRun[GeometryState]):
    """The moving parts of one call of `sculpt`."""

    def __init__(
        self,
        state: GeometryState,
        prompt: str,
        settings: GeometrySettings,
        normal: GuideSource,
        depth: GuideSource | None,
        generator: torch.Generator,
    ) -> None:
        self.settings = settings
        self.field: SdfField = copy.deepcopy(state.field)
        self.deformation = copy.deepcopy(state.deformation)
        self.device = next(self.field.parameters()).device
        self.active_levels, self.band, self.record = state.active_levels, state.band, state.record
        self.hold, self.labelled = state.hold, state.labelled
        self._kept_on_band, self._kept_on_record = RememberedHold(state.hold), RememberedHold(state.hold)
        rate = settings.learning_rate(state.step)
        parameters = _named_parameters(self.field, self.deformation)
        super().__init__(
            state,
            settings,
            GuardedAdamW([(parameters, rate)], settings, state.moments, state.gradient_scale),
            generator,
            device=self.device,
            stages=STAGES,
            loss_names=LOSS_NAMES,
        )
        self.fixed = None
        if settings.targets is not None:  # the same for every run with these settings
            self.fixed = target_cameras(
                settings.plan, settings.targets.views, torch.Generator().manual_seed(TARGET_SEED)
            )
        count = 0 if self.fixed is None else len(self.fixed)
        self.guides = {"normal": make_guide(normal, prompt, "normal", settings, count)}
        if depth is not None:
            self.guides["depth"] = make_guide(depth, prompt, "depth", settings, count)
        self.targets: dict[str, TargetCache] = {kind: cache.clone() for kind, cache in state.targets.items()}
        self._before: tuple[Band, int, SdfRecord | None] | None = None  # the surface before an unfinished step

    def undo(self) -> None:
        if self._before is not None:
            self.band, self.active_levels, self.record = self._before
            self._before = None

    def save(self, path: Path) -> None:
        save_state(self.state(), path, self.generator)

    def state(self) -> GeometryState:
        """The run so far as a payload of its own."""
        return GeometryState(
            field=copy.deepcopy(self.field),
            active_levels=self.active_levels,
            band=self.band,
            step=self.step,
            deformation=copy.deepcopy(self.deformation),
            record=self.record,
            moments=self.optimizer.moments(),
            gradient_scale=self.optimizer.scale,
            history=self.stacked_history,
            hold=self.hold,
            targets={kind: cache.clone() for kind, cache in self.targets.items()},
            labelled=self.labelled,
        )

    def learned(self, points: Tensor) -> Tensor:
        return self.field(points, self.active_levels)

    def raw_distance(self, points: Tensor) -> Tensor:
        return held_field(self.field, self.active_levels, self.hold)(points)

    def distance(self, points: Tensor) -> Tensor:
        return box_field(self.raw_distance)(points)

    def distance_on_band(self) -> Tensor:
        """`distance` at all vertices of the band, without gradients."""
        positions = self.band.positions
        learned = evaluate(self.learned, positions)
        return cut_to_box(self._kept_on_band.blended(learned, positions), positions)

    def distance_at_vertices(self, index: Tensor) -> Tensor:
        """`distance` at these vertices of the band."""
        positions = self.band.positions
        learned = self.learned(positions[index])
        return cut_to_box(self._kept_on_band.blended(learned, positions, index), positions[index])

    def recorded_loss(self, record: SdfRecord) -> Tensor:
        """Equation 7 at some of the recorded points."""
        count = len(record.points)
        chosen = torch.randint(count, (self.settings.sdf_points,), generator=self.generator).to(self.device)
        learned = self.learned(record.points[chosen])
        return progressive_sdf_loss(self._kept_on_record.blended(learned, record.points, chosen), record.values[chosen])

    def advance(self) -> OptimiserProgress:
        """One step of the optimiser."""
        settings, step = self.settings, self.step
        self._before = (self.band, self.active_levels, self.record)
        with self.times.measure("field"):
            sdf = self._follow_schedules_and_surface()
            mesh = self._differentiable_surface(sdf)
        view = dataclasses.replace(self._view(), mesh=mesh, size=settings.render_size)
        losses = dict.fromkeys(LOSS_NAMES, 0.0)

        wanted = {name: guide for name, guide in self.guides.items() if guide.weight(step) > 0}
        with self.times.measure("render"):
            side = settings.render_size
            passes = render(mesh, view.cameras, (side, side), tuple(wanted) or ("normal",))  # type: ignore[arg-type]
        pictures: list[Tensor] = []
        gradients: list[Tensor | None] = []
        targets = dict(self.targets)
        for name, guide in wanted.items():
            picture = getattr(passes, name)
            with self.times.measure("networks"):
                guided = guide.gradient(picture, view, targets.get(name), self.generator)
            losses[f"{name}_sds"] = guided.loss
            if guided.targets is not None:
                targets[name] = guided.targets
            pictures.append(picture)
            gradients.append(guided.gradient)

        with self.times.measure("regularisers"):
            total = self._regularisers(mesh, losses)
        if total is not None:
            pictures.append(total)
            gradients.append(None)
        with self.times.measure("gradient"):
            self.optimizer.zero_grad()
            torch.autograd.backward(pictures, gradients)
        with self.completing(losses, settings.learning_rate(step)) as rejected:
            self._before = None
            self.targets = targets

        for name in [name for name, guide in self.guides.items() if guide.is_over(self.step)]:
            del self.guides[name]  # lets a network go that was loaded here
            self.targets.pop(name, None)
        preview = passes.normal if passes.normal is not None else passes.depth
        assert preview is not None
        return OptimiserProgress(
            stage="sculpt",
            step=self.step,
            steps=settings.steps,
            losses=losses,
            picture=preview[0].detach(),
            target=None,
            faces=mesh.num_faces,
            times=self.times,
            rejected=rejected,
            seconds_left=self.seconds_left,
        )

    def _follow_schedules_and_surface(self) -> Tensor:
        """Levels, lattice and band for this step, and the field's values on the band."""
        settings, step = self.settings, self.step
        if step == settings.sdf_record_step:
            points = crossing_points(self.band, self.distance_on_band())
            self.record = record_sdf(self.raw_distance, points, self.generator)
        self.active_levels = min(int(settings.active_levels(step)), self.field.levels)
        resolution = int(settings.resolution(step))
        sdf = self.distance_on_band()
        if resolution != self.band.lattice.resolution:
            points = crossing_points(self.band, sdf)
            self.band, sdf = band_at_points(Lattice(resolution), points, self.distance, settings.band_rings)
        elif is_torn(self.band, sdf):
            self.band, sdf = settle_band(self.band, self.distance, settings.band_rings)
        return sdf

    def _differentiable_surface(self, sdf: Tensor) -> Mesh:
        """Marching tetrahedra; only the ends of sign-changing edges are evaluated with gradients."""
        topology = marching_topology(self.band, sdf)
        used = torch.zeros(self.band.num_vertices, dtype=torch.bool, device=sdf.device)
        used[topology.edges] = True
        index = used.nonzero()[:, 0]
        edges = (used.cumsum(0) - 1)[topology.edges]
        positions = self.band.positions[index]
        moved = moved_positions(positions, self.deformation, self.band.lattice, self.active_levels)
        return Mesh(interpolate_crossings(edges, self.distance_at_vertices(index), moved, MARGIN), topology.faces)

    def _view(self) -> View:
        """This step's cameras: drawn from the plan, or some of those that keep targets."""
        settings = self.settings
        lead = next(iter(self.guides.items()), None)
        if self.fixed is not None and lead is not None and isinstance(lead[1], TargetGuide):
            index = lead[1].choose(self.targets.get(lead[0]), self.step, settings.views, self.generator)
            return View(self.step, self.fixed.select(index).to(self.device), index)
        iteration = settings.plan_iteration(self.step)
        cameras = sample_cameras(settings.plan, iteration, settings.views, self.generator)
        return View(self.step, cameras.to(self.device), [])

    def _regularisers(self, mesh: Mesh, losses: dict[str, float]) -> Tensor | None:
        """The weighted sum of the terms whose weight is above zero; `losses` gets them unweighted."""
        settings, step = self.settings, self.step
        terms: list[Tensor] = []

        def add(name: str, weight: float, loss: Callable[[], Tensor]) -> None:
            if weight > 0:
                value = loss()
                losses[name] = float(value.detach())
                terms.append(weight * value)

        record = self.record
        if record is not None:
            add("sdf", settings.sdf_weight(step), lambda: self.recorded_loss(record))
        add("laplacian", settings.laplacian_weight(step), lambda: laplacian_smoothness(mesh.vertices, mesh.faces))
        add(
            "normal_consistency",
            settings.normal_consistency_weight(step),
            lambda: normal_consistency(mesh.vertices, mesh.faces),
        )
        return torch.stack(terms).sum() if terms else None


def _named_parameters(field: SdfField, deformation: DeformationField | None) -> dict[str, torch.nn.Parameter]:
    parameters = dict(field.named_parameters(prefix="field"))
    return parameters if deformation is None else parameters | dict(deformation.named_parameters(prefix="deformation"))
