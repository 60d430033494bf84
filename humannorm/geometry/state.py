"""The geometry state: what an optimiser returns, takes again, and writes to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body import BodyShape
from humannorm.checks import reading
from humannorm.fields.hash_grid import GridLayout
from humannorm.geometry.band import (
    Band,
    SignedField,
    band_at_points,
    band_from_keys,
    box_field,
    crossing_points,
    settle_band,
)
from humannorm.geometry.fields import (
    DeformationField,
    HashFieldSettings,
    SdfField,
    field_settings_from_dict,
    field_settings_to_dict,
    make_field,
)
from humannorm.geometry.fitting import FitReport, fit_field
from humannorm.geometry.holding import Hold
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.losses import SdfRecord
from humannorm.geometry.marching import marching_tetrahedra
from humannorm.geometry.settings import GeometrySettings
from humannorm.geometry.start import StartMesh
from humannorm.guidance.targets import TargetCache
from humannorm.mesh import Mesh, check_mesh, connected_components, face_areas, unique_edges
from humannorm.optimisation import load_optimiser_state, save_optimiser_state, tensors_below, whole_number
from humannorm.working_box import BOX

__all__ = ["LOSS_NAMES", "GeometryState", "extract_mesh", "load_state", "save_state", "start_state"]

# With multi-step targets the first two are the root mean square difference of the pixels to their targets.
LOSS_NAMES = ("normal_sds", "depth_sds", "sdf", "laplacian", "normal_consistency", "gradient_norm")
FORMAT = "humannorm geometry 1"
SMOOTHING_ROUNDS = 30  # takes away waves of a few cells and leaves folds


@dataclass(frozen=True, eq=False)
class GeometryState:
    """A surface on its way: the field with its grid, and what the next step needs to go on as if never stopped."""

    field: SdfField
    active_levels: int  # of the field
    band: Band  # around the field's surface
    step: int  # steps done
    deformation: DeformationField | None = None  # of the lattice's vertices; None: they stay
    record: SdfRecord | None = None  # equation 7
    moments: dict[str, Tensor] | None = None  # of AdamW: `<parameter>.<moment>`; None before the first step
    gradient_scale: float = 0.0  # running mean of the gradient norm, 0 before the first step
    history: Float[Tensor, "S L"] | None = None  # losses of every step so far, columns `LOSS_NAMES`
    hold: Hold | None = None  # what the optimiser must not touch
    targets: Mapping[str, TargetCache] = dataclasses.field(default_factory=dict)
    """Multi-step targets of "normal" and "depth", where they are in use."""
    labelled: LabelledSurface | None = None  # the dressed surface: as it began, or as sampled views have drawn it
    untouched: bool = False  # `labelled` is the surface itself; no step of a distillation has moved the field since

    def signed_distance(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """The field in the working box at the current levels, negative inside."""
        return box_field(held_field(self.field, self.active_levels, self.hold))(points)

    def edited(self, hold: Hold | None) -> GeometryState:
        """The finished surface as the start of an edit: no step done, nothing remembered, `hold` kept as it is.

        A hold that the surface was made with stays where all may change, and as fine as it was where regions may.
        """
        fine = 0 if self.hold is None else self.hold.resolution
        if hold is None:
            hold = self.hold if fine else None
        else:
            hold = dataclasses.replace(hold, resolution=max(fine, hold.resolution))
        return GeometryState(
            self.field,
            self.active_levels,
            self.band,
            step=0,
            deformation=self.deformation,
            hold=hold,
            labelled=self.labelled,
            untouched=self.untouched,
        )

    def moved(self, band: Band) -> Float[Tensor, "V 3"]:
        """Where the band's vertices stand."""
        return moved_positions(band.positions, self.deformation, band.lattice, self.active_levels)


def held_field(field: SdfField, active_levels: int, hold: Hold | None) -> SignedField:
    """The learned field at these levels, with what is kept blended in."""

    def learned(points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        return field(points, active_levels)

    return learned if hold is None else hold.applied(learned)


def moved_positions(
    positions: Float[Tensor, "N 3"], deformation: DeformationField | None, lattice: Lattice, active_levels: int
) -> Float[Tensor, "N 3"]:
    """Lattice vertices with their offsets, by at most a quarter of the cubic cell along each axis.

    The shortest edge is 0.866 cells long and an offset 0.433 at most, so no edge can be turned round; vertices of the
    box stay in it.
    """
    if deformation is None:
        return positions
    moved = positions + deformation(positions, 0.25 * lattice.cell_size, active_levels)
    return torch.where(positions.abs() <= BOX, moved.clamp(-BOX, BOX), positions)


def start_state(
    start: StartMesh, settings: GeometrySettings, generator: torch.Generator
) -> tuple[GeometryState, FitReport]:
    """A field fitted to a start mesh, on the mesh's device, and how well it fits."""
    active = min(int(settings.active_levels(0)), _levels(settings))
    field = make_field(settings.field, generator).to(start.mesh.device)
    report = fit_field(field, start, generator, active, settings.fit)
    lattice = Lattice(int(settings.resolution(0)))
    band, _ = band_at_points(
        lattice,
        start.mesh.vertices,
        box_field(lambda points: field(points, active)),
        settings.band_rings,
    )
    deformation = _deformation(settings, generator, start.mesh.device)
    return GeometryState(
        field,
        active,
        band,
        step=0,
        deformation=deformation,
        labelled=start.labelled,
        untouched=start.labelled is not None,
    ), report


def _deformation(
    settings: GeometrySettings, generator: torch.Generator, device: torch.device
) -> DeformationField | None:
    if not settings.deformable:
        return None
    shape = settings.field if isinstance(settings.field, HashFieldSettings) else HashFieldSettings()
    return DeformationField(shape.layout, shape.hidden, generator).to(device)


def _levels(settings: GeometrySettings) -> int:
    if isinstance(settings.field, HashFieldSettings):
        return settings.field.layout.levels
    return len(settings.field.resolutions)


@dataclass(frozen=True, eq=False)
class ExtractedMesh:
    """A closed surface, and how many connected pieces there were and were left out as too small."""

    mesh: Mesh
    pieces: int
    dropped: int
    labels: Int64[Tensor, " F"] | None = None  # of its faces, where the start was dressed


@torch.no_grad()
def extract_mesh(state: GeometryState, resolution: int | None = None, smallest_piece: float = 0.01) -> ExtractedMesh:
    """The state's surface, at another lattice resolution if given; otherwise as fine as it is, or finer where a
    held region needs it.

    Pieces with less than `smallest_piece` of the largest one's area are left out; a closed surface stays closed. A
    labelled surface that no distillation has moved is given as it is, finer at the face than any lattice.
    """
    if state.labelled is not None and state.untouched and resolution is None:
        return ExtractedMesh(state.labelled.mesh, 1, 0, state.labelled.labels)
    band, sdf = settle_band(state.band, state.signed_distance)
    coarse, hold = band.lattice.resolution, state.hold
    if hold is not None and not hold.resolution:
        hold = None
    if resolution is None and hold is not None:
        resolution = max(coarse, hold.resolution)
    if resolution is not None and (hold is not None or resolution != coarse):
        points = crossing_points(band, sdf)
        if hold is not None:
            points = torch.cat([points, hold.kept_points()])
        band, sdf = band_at_points(Lattice(resolution), points, state.signed_distance)
    vertices, faces = marching_tetrahedra(band, sdf, state.moved(band))
    piece = connected_components(faces, len(vertices))[faces[:, 0]]
    areas = vertices.new_zeros(int(piece.max()) + 1).index_add(0, piece, face_areas(vertices, faces))
    kept = areas >= smallest_piece * areas.max()
    faces = faces[kept[piece]]
    used, compact = torch.unique(faces, return_inverse=True)
    vertices = vertices[used]
    if hold is not None and band.lattice.resolution > coarse:
        vertices = _smoothed(vertices, compact, 1 - hold.share_at(vertices))
    mesh = Mesh(vertices, compact)
    labels = None if state.labelled is None else state.labelled.labels_of(mesh)
    return ExtractedMesh(mesh, len(areas), int((~kept).sum()), labels)


def _smoothed(
    vertices: Float[Tensor, "V 3"], faces: Int64[Tensor, "F 3"], free: Float[Tensor, " V"]
) -> Float[Tensor, "V 3"]:
    """Taubin's lambda-mu smoothing ("A signal processing approach to fair surface design", 1995) where free is 1.

    The guidance never saw the field between the vertices of its own lattice; a finer one shows the noise there.
    """
    low, high = unique_edges(faces).unbind(1)
    degree = torch.bincount(torch.cat([low, high]), minlength=len(vertices))
    step = (free / degree.clamp_min(1))[:, None]
    for _ in range(SMOOTHING_ROUNDS):
        for factor in (0.5, -0.53):
            toward = vertices[high] - vertices[low]
            mean = torch.zeros_like(vertices).index_add(0, low, toward).index_add(0, high, -toward)
            vertices = vertices + factor * step * mean
    return vertices


def save_state(state: GeometryState, path: str | Path, generator: torch.Generator | None = None) -> None:
    """Write a state to one safetensors file, whole or not at all; its numbers are JSON in the file's header.

    generator: its state is kept too, so that a resumed run draws what the unbroken one would have drawn.
    """
    tensors = {f"field.{name}": value for name, value in state.field.state_dict().items()}
    tensors["band.keys"] = state.band.keys
    if state.deformation is not None:
        tensors |= {f"deformation.{name}": value for name, value in state.deformation.state_dict().items()}
    if state.record is not None:
        tensors |= {"record.points": state.record.points, "record.values": state.record.values}
    if state.hold is not None:
        tensors |= {"hold.share": state.hold.share, "hold.faces": state.hold.mesh.faces}
        tensors["hold.vertices"] = state.hold.mesh.vertices
        if state.hold.core is not None:
            tensors["hold.core"] = state.hold.core
        if state.hold.worn is not None and not _keeps_outfit(state):
            tensors |= {"hold.worn_vertices": state.hold.worn.vertices, "hold.worn_faces": state.hold.worn.faces}
    if state.labelled is not None:
        surface = state.labelled.mesh
        tensors |= {"labelled.vertices": surface.vertices, "labelled.faces": surface.faces}
        tensors["labelled.labels"] = state.labelled.labels
    for kind, cache in state.targets.items():
        tensors |= {f"targets.{kind}.{name}": value for name, value in cache.tensors.items()}
    numbers = {
        "field": field_settings_to_dict(state.field.settings),
        "active_levels": state.active_levels,
        "resolution": state.band.lattice.resolution,
        "step": state.step,
        "untouched": state.untouched,
        "deformation": None if state.deformation is None else _deformation_to_dict(state.deformation),
        "gradient_scale": state.gradient_scale,
        "hold_keeps_outfit": _keeps_outfit(state),
        "hold_resolution": 0 if state.hold is None else state.hold.resolution,
        "hold_shape": None if state.hold is None or state.hold.shape is None else dataclasses.asdict(state.hold.shape),
        "target_prompts": {kind: cache.prompt for kind, cache in state.targets.items()},
    }
    save_optimiser_state(path, FORMAT, state, tensors, numbers, generator)


def _keeps_outfit(state: GeometryState) -> bool:
    """Whether what is kept of the outfit is the whole labelled surface, which then is written once."""
    return state.hold is not None and state.labelled is not None and state.hold.worn is state.labelled.mesh


def _deformation_to_dict(deformation: DeformationField) -> dict[str, Any]:
    return {"layout": asdict(deformation.layout), "hidden": deformation.hidden.out_features}


def load_state(
    path: str | Path, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> GeometryState:
    """Read what `save_state` wrote; the generator is set to where it was, if the file knows."""
    with reading(path, "a geometry state"):
        return _load_state(path, generator, device)


def _load_state(path: str | Path, generator: torch.Generator | None, device: torch.device | str) -> GeometryState:
    tensors, numbers, carried = load_optimiser_state(path, "geometry", FORMAT, generator, device)
    field = make_field(field_settings_from_dict(numbers["field"]), torch.Generator(device))
    field.load_state_dict(tensors_below("field.", tensors))
    deformation = None
    if numbers["deformation"] is not None:
        layout, hidden = GridLayout(**numbers["deformation"]["layout"]), numbers["deformation"]["hidden"]
        deformation = DeformationField(layout, hidden, torch.Generator(device))
        deformation.load_state_dict(tensors_below("deformation.", tensors))
    record = tensors_below("record.", tensors)
    hold, labelled = tensors_below("hold.", tensors), tensors_below("labelled.", tensors)
    # States from before holds were drawn finer, could be painted or worn do not say these.
    numbers = {"hold_resolution": 0, "hold_shape": None, **numbers}
    fineness, shape = whole_number(numbers, "hold_resolution"), numbers["hold_shape"]
    outfit = Mesh(labelled["vertices"], labelled["faces"]) if labelled else None
    worn = outfit if numbers.get("hold_keeps_outfit") else None
    if "worn_vertices" in hold:
        worn = Mesh(hold["worn_vertices"], hold["worn_faces"])
    kept = Mesh(hold["vertices"], hold["faces"]) if hold else None
    for mesh in (outfit, worn, kept):
        if mesh is not None:
            check_mesh(mesh)
    return GeometryState(
        field=field,
        active_levels=whole_number(numbers, "active_levels", 1, field.levels),
        band=band_from_keys(Lattice(numbers["resolution"]), tensors["band.keys"]),
        deformation=deformation,
        record=SdfRecord(record["points"], record["values"]) if record else None,
        hold=Hold(
            kept,
            hold["share"],
            fineness,
            hold.get("core"),
            None if shape is None else BodyShape(**shape),
            worn,
        )
        if kept is not None
        else None,
        targets={
            kind: TargetCache(prompt, **tensors_below(f"targets.{kind}.", tensors))
            for kind, prompt in numbers.get("target_prompts", {}).items()
        },
        untouched=numbers.get("untouched", False),
        labelled=None if outfit is None else LabelledSurface(outfit, labelled["labels"]),
        **carried,
    )
