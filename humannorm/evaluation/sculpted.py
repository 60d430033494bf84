"""Judging sculpted surfaces: is a person seen from every side, and a face on the front of the head alone?

The judges see the bare shape, a matt grey surface under one light on a light ground.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from humannorm.cameras import Cameras, crop_cameras, orbit, wrap_degrees
from humannorm.checks import InputError
from humannorm.evaluation.gallery import Gallery, Judgements, Picture
from humannorm.mesh import Mesh, connected_components, is_watertight, weld
from humannorm.rendering.shaded import shaded_views
from humannorm.training.dataset import SMALL_MODEL_PLAN
from humannorm.working_box import place

__all__ = ["MeshFigures", "add_mesh", "add_views", "mesh_figures", "mesh_table", "seen_views"]

AZIMUTHS = tuple(range(0, 360, 30))  # degrees, of the full body
HEAD_VIEWS = {"front": 0.0, "back": 180.0}  # where a face must be, and where it must not
SIZE = 512  # pixels, as the judges look
ENOUGH = 10  # azimuths at which a human must be found


@dataclass(frozen=True)
class MeshFigures:
    """What a mesh is, and what the judges said of it."""

    name: str
    found: int  # azimuths of `AZIMUTHS` at which the pose judge sees a person
    turned_right: int  # those of them whose azimuth the judge gives within 45 degrees
    face_front: bool
    face_back: bool
    faces: int  # triangles
    pieces: int  # connected parts
    closed: bool

    @property
    def is_human(self) -> bool:
        return self.found >= ENOUGH and self.face_front and not self.face_back


def add_mesh(gallery: Gallery, name: str, mesh: Mesh) -> None:
    """The mesh's bare shape for the judges, see `add_views`."""
    add_views(gallery, name, mesh, "shading", lambda placed, camera: shaded_views(placed, camera, SIZE)[1][0])


def add_views(gallery: Gallery, name: str, mesh: Mesh, kind: str, draw: Callable[[Mesh, Cameras], Tensor]) -> None:
    """Pictures of a mesh for the judges: the body from all sides, its head from the front and from behind.

    name: of the mesh, new to the gallery. draw: the picture [SIZE, SIZE, 3] that one camera takes of the mesh in the
    working box. The head is sought where a standing body has it.
    """
    if gallery.select(source=name):
        raise InputError(f"meshes: expected each name once, got {name!r} twice")
    placed, _ = place(mesh)
    plan, views = SMALL_MODEL_PLAN, list(HEAD_VIEWS.values())
    body = orbit(AZIMUTHS, elevation=5.0).to(placed.device)
    heads = crop_cameras(plan, plan.crop("head"), views, distance=3.0, fov_y=45.0).to(placed.device)
    for part, judges, cameras in (("full", ("pose",), body), ("head", ("face",), heads)):
        for at, azimuth in enumerate(cameras.azimuth.tolist()):
            picture = Picture(
                id=f"{name}_{kind}_{part}_{round(azimuth % 360):03d}",
                source=name,
                kind=kind,
                part=part,
                azimuth=azimuth,
                judges=judges,
            )
            gallery.add(picture, draw(placed, cameras.select([at])).cpu())


@dataclass(frozen=True)
class SeenViews:
    """What the judges saw in the pictures of `add_views`."""

    poses: Mapping[str, Any]  # by the picture's id, where a person was found
    right: Sequence[str]  # ids of those whose azimuth the judge gives within 45 degrees
    face: Mapping[str, bool]  # by `HEAD_VIEWS`


def seen_views(gallery: Gallery, judged: Judgements, name: str) -> SeenViews:
    """What the judges saw of a mesh that was added by this name."""
    azimuth = {picture.id: picture.azimuth for picture in gallery.select(source=name, part="full")}
    poses = {id: pose for id in azimuth if (pose := judged.pose(id)) is not None}
    right = [id for id, pose in poses.items() if abs(wrap_degrees(pose["azimuth"] - azimuth[id])) <= 45]
    heads = {round(picture.azimuth): picture for picture in gallery.select(source=name, part="head")}
    face = {view: judged.face(heads[round(azimuth)].id) is not None for view, azimuth in HEAD_VIEWS.items()}
    return SeenViews(poses, right, face)


def mesh_figures(gallery: Gallery, judged: Judgements, name: str, mesh: Mesh) -> MeshFigures:
    """The figures of a mesh that `add_mesh` put into the judged gallery."""
    views = seen_views(gallery, judged, name)
    faces = weld(mesh.vertices)[mesh.faces]
    pieces = connected_components(faces, mesh.num_vertices)[faces.flatten()].unique()
    return MeshFigures(
        name=name,
        found=len(views.poses),
        turned_right=len(views.right),
        face_front=views.face["front"],
        face_back=views.face["back"],
        faces=mesh.num_faces,
        pieces=len(pieces),
        closed=is_watertight(faces),
    )


def mesh_table(figures: list[MeshFigures]) -> str:
    """Markdown, a row for a mesh."""
    lines = [
        f"| mesh | person found, of {len(AZIMUTHS)} | azimuth within 45 degrees, of those | face in front "
        "| face behind | closed | pieces | human |",
        "|---|---|---|---|---|---|---|---|",
    ]
    words = {True: "yes", False: "no"}
    for row in figures:
        cells = [row.name, row.found, row.turned_right, words[row.face_front], words[row.face_back]]
        cells += [words[row.closed], row.pieces, words[row.is_human]]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
