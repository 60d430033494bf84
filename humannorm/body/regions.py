"""Regions of the body that an edit changes or a hold keeps, on its surface and in the space around it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.body.body import Body
from humannorm.checks import InputError, check_choice, check_range

__all__ = ["BODY_REGIONS", "HELD_REGIONS", "following_vertices", "region_vertices", "share_near", "share_of_regions"]

# Beginnings of the joint names that a region's vertices follow mostly. "face" is cut out of the head, "shins" are
# part of the bottom.
_JOINTS = {
    "shins": ("lowerleg",),
    "hands": ("wrist", "metacarpal", "finger"),
    "shoes": ("foot", "toe"),
    "bottom": ("root", "pelvis", "upperleg", "lowerleg", "spine05"),
    "top": ("spine01", "spine02", "spine03", "spine04", "breast", "clavicle", "shoulder", "upperarm", "lowerarm"),
}
BODY_REGIONS = ("head", "face", "top", "bottom", "shoes", "hands")
HELD_REGIONS = (*BODY_REGIONS, "shins")
TRANSITION = 0.06  # world units (working box) over which a region's share falls from 1 to 0 beyond its border


def following_vertices(body: Body, starts: str | tuple[str, ...]) -> Bool[Tensor, " V"]:
    """Vertices of the body that mostly follow a joint whose name begins so."""
    return torch.tensor([name.startswith(starts) for name in body.joint_names])[body.weight_joints[:, 0]]


def region_vertices(body: Body, regions: Sequence[str]) -> Bool[Tensor, " V"]:
    """Vertices of the body that belong to any of the regions (`HELD_REGIONS`). The face is part of the head."""
    if not regions:
        raise InputError("regions: expected at least one region of the body, got none")
    for region in regions:
        check_choice("region", region, HELD_REGIONS)
    named = {region: following_vertices(body, starts) for region, starts in _JOINTS.items()}
    named["head"] = ~torch.stack(list(named.values())).any(0)  # neck, skull and all joints of the face
    skull = body.rest_joints[body.joint_names.index("head")]
    eyes = (body.rest_joints[[body.joint_names.index(f"eye.{side}") for side in "LR"]]).mean(0)
    tall = eyes[1] - skull[1]
    rest = body.rest_vertices
    named["face"] = named["head"] & (rest[:, 2] > (skull[2] + eyes[2]) / 2) & (rest[:, 1] < eyes[1] + tall)
    return torch.stack([named[region] for region in regions]).any(0)


def share_of_regions(
    points: Float[Tensor, "N 3"], body: Body, regions: Sequence[str], reach: float | None = None
) -> Float[Tensor, " N"]:
    """How far points in space belong to the regions, 0..1: by the nearest vertices of the body, fading outside.

    The body stands in the working box. reach: world units from the region beyond which nothing belongs to it.
    """
    own, other = _distances(points, body.vertices, region_vertices(body, regions))
    # Whole on the region and a grid cell around it; what is sampled more coarsely must not lose the border.
    share = _smooth((other - own) / TRANSITION + 1.5)
    if reach is not None:
        check_range("reach", reach, 0.0, 2.0)
        share = share * _smooth((reach - own) / TRANSITION + 0.5)
    return share.to(points)


def share_near(
    points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], chosen: Bool[Tensor, " V"]
) -> Float[Tensor, " N"]:
    """How far points in space belong to the chosen vertices of a surface, 0..1: a half where the border is."""
    if not bool(chosen.any()) or bool(chosen.all()):
        return torch.full_like(points[:, 0], float(chosen.any()))
    own, other = _distances(points, vertices, chosen)
    return _smooth((other - own) / TRANSITION + 0.5).to(points)


def _distances(
    points: Float[Tensor, "N 3"], vertices: Float[Tensor, "V 3"], chosen: Bool[Tensor, " V"]
) -> tuple[Tensor, Tensor]:
    """From points to the next vertex that is chosen, and to the next that is not."""
    from scipy.spatial import cKDTree

    where, corners = points.detach().cpu().numpy(), vertices.detach().cpu().numpy()
    own, other = (torch.from_numpy(cKDTree(corners[side.numpy()]).query(where)[0]) for side in (chosen, ~chosen))
    return own, other


def _smooth(value: Tensor) -> Tensor:
    value = value.clamp(0, 1)
    return value * value * (3 - 2 * value)
