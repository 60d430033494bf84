"""One picture of each kind of ControlNet, of the same surface in the same views."""

from __future__ import annotations

from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body import Body
from humannorm.body.regions import region_vertices
from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_choice
from humannorm.controls.edges import canny
from humannorm.controls.openpose import body_keypoints, draw_openpose, hidden_left_out
from humannorm.labels import SKIN, label_number, label_picture
from humannorm.mesh import Mesh
from humannorm.rendering import render

__all__ = ["CONTROL_KINDS", "ControlKind", "control_picture", "more_controls"]

ControlKind = Literal["normal", "normal_directx", "normal_bae", "depth", "canny", "openpose", "labels"]
CONTROL_KINDS: tuple[ControlKind, ...] = get_args(ControlKind)
AT_ONCE = 1024  # faces that are compared with all of a body's vertices


@torch.no_grad()
def control_picture(
    kind: ControlKind,
    mesh: Mesh,
    cameras: Cameras,
    size: int,
    *,
    body: Body | None = None,
    labels: Int64[Tensor, " F"] | None = None,
    engine: str = "auto",
) -> Float[Tensor, "B S S 3"]:
    """Pictures 0..1 on black.

    normal: camera-space, red to the right, green up, blue toward the viewer (OpenGL; the published ControlNet's).
    normal_directx: green down. normal_bae: red to the left, as ControlNet 1.1's normal model was trained.
    depth: inverse depth, near white. canny: white edges of the normal map. openpose: a stick figure of `body`, which
    stands in the mesh's frame, without what the surface hides. labels: what each face is (`humannorm.labels`) in the
    table's colours: by `labels`, else by the part of `body` that is nearest, else all skin.
    """
    check_choice("kind", kind, CONTROL_KINDS)
    if kind == "openpose":
        if body is None:
            raise InputError("body: expected a posed body, for the stick figure of its skeleton, got none")
        points = body_keypoints(body, cameras, size)
        return draw_openpose(hidden_left_out(points, body, mesh, cameras, size, engine), size)
    if kind == "labels":
        given = _labels_by_body(mesh, body) if labels is None else labels
        seen = render(mesh, cameras, (size, size), ("label",), engine=engine, labels=given).label
        assert seen is not None
        return label_picture(seen)
    if kind == "depth":
        depth = render(mesh, cameras, (size, size), ("depth",), engine=engine).depth
        assert depth is not None
        return depth
    normal = render(mesh, cameras, (size, size), ("normal",), engine=engine).normal
    assert normal is not None
    if kind == "canny":
        return canny(normal)[..., None].expand(-1, -1, -1, 3).to(normal)
    return _in_convention(normal, kind)


def _labels_by_body(mesh: Mesh, body: Body | None) -> Int64[Tensor, " F"]:
    """What would be worn there by somebody in top, bottom and shoes; skin where nobody knows."""
    skin = torch.full((len(mesh.faces),), SKIN, dtype=torch.int64, device=mesh.device)
    if body is None:
        return skin
    of_vertex = torch.full((len(body.vertices),), SKIN, dtype=torch.int64)
    for part in ("top", "bottom", "shoes"):
        of_vertex[region_vertices(body, [part])] = label_number(part)
    of_vertex[region_vertices(body, ["hands"])] = SKIN
    centres = mesh.vertices[mesh.faces].mean(1)
    nearest = [torch.cdist(some, body.vertices.to(some)).argmin(1) for some in centres.split(AT_ONCE)]
    return of_vertex.to(mesh.device)[torch.cat(nearest)]


def more_controls(guide: object, mesh: Mesh, cameras: Cameras, size: int) -> dict[str, Any]:
    """`more_controls=` for `guide.condition`, of a surface in the working box; nothing for a guide without any."""
    kinds = tuple(getattr(guide, "control_kinds", ()))
    body = getattr(guide, "body", None)
    shown = {kind: control_picture(kind, mesh, cameras, size, body=body) for kind in kinds}
    return {"more_controls": shown} if shown else {}


def _in_convention(normal: Float[Tensor, "B H W 3"], kind: ControlKind) -> Float[Tensor, "B H W 3"]:
    """A normal map with an axis turned round; what is black stays black, and so do edges in proportion."""
    if kind == "normal":
        return normal
    channel = 0 if kind == "normal_bae" else 1
    covered = _coverage(normal)
    turned = normal.clone()
    turned[..., channel] = covered - normal[..., channel]
    return turned.clamp(0, 1)


def _coverage(normal: Float[Tensor, "B H W 3"]) -> Float[Tensor, "B H W"]:
    """How much of each pixel is surface: c of v = c (n + 1) / 2 with a unit normal n, for which |v - c / 2| = c / 2, so
    that c^2 / 2 - c (v_r + v_g + v_b) + |v|^2 = 0; the smaller root."""
    squared, total = normal.square().sum(-1), normal.sum(-1)
    return (total - (total.square() - 2 * squared).clamp_min(0).sqrt()).clamp(0, 1)
