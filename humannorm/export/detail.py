"""Levels of detail: the same surface on few faces with small textures, as engines want it for what is far away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.export.baked import BakedMesh
from humannorm.export.baking import locate
from humannorm.export.exporting import ExportSettings, bake
from humannorm.export.skinned import write_skinned_glb
from humannorm.export.writers import write_glb
from humannorm.mesh import Mesh

__all__ = ["LEVELS", "DetailLevel", "level_of_detail", "level_path", "skin_on", "write_levels"]


@dataclass(frozen=True)
class DetailLevel:
    """How coarse one level is."""

    faces: int  # at most
    texture_size: int  # texels a side of each map


# Ours: with a skeleton of 163 joints and a clip of a few seconds each is a file under 500 kB.
LEVELS = (DetailLevel(4000, 512), DetailLevel(1500, 256), DetailLevel(600, 128))


def level_of_detail(surface: Mesh | BakedMesh, level: DetailLevel) -> BakedMesh:
    """The surface decimated, unwrapped and baked anew, in its own frame; not closed everywhere, and without a normal
    map, which would be the largest part of the file."""
    baked = bake(surface, ExportSettings(level.faces, level.texture_size, normal_map=False, whole=False))
    return replace(baked, tangents=None)


def skin_on(low: Mesh, full: Mesh, skin: SkinBinding) -> SkinBinding:
    """The full surface's skin on a coarser one in the same pose: at each vertex the weights of the closest place of the
    full surface, of which the four heaviest stay."""
    places = locate(SignedDistance(full.vertices, full.faces, inside_out="flip"), low.vertices)
    corners = full.faces[places.face.long()].cpu()  # [N, 3]
    shares = skin.weights[corners] * places.barycentric.cpu()[..., None]  # [N, 3, 4]
    dense = torch.zeros(len(corners), max(4, len(skin.joint_names)))
    dense.scatter_add_(1, skin.weight_joints[corners].flatten(1), shares.flatten(1).float())
    weights, joints = dense.topk(4, dim=1)
    return replace(skin, weight_joints=joints.where(weights > 0, 0), weights=weights / weights.sum(1, keepdim=True))


def level_path(target: Path, number: int) -> Path:
    """The file of a level, counted from 1, beside the whole one."""
    return target.with_name(f"{target.stem}_lod{number}.glb")


def write_levels(
    target: Path,
    surface: Mesh | BakedMesh,
    count: int,
    skin: SkinBinding | None = None,
    motions: Sequence[JointMotion] = (),
    *,
    extras: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """`count` of `LEVELS` as GLB files beside `target`, with skeleton and clips where there is a skin."""
    check_range("levels_of_detail", count, 0, len(LEVELS))
    full = surface.mesh if isinstance(surface, BakedMesh) else surface
    written = []
    for number, level in enumerate(LEVELS[:count], start=1):
        low, path = level_of_detail(surface, level), level_path(target, number)
        more = {"extras": extras, "image_format": "jpeg", "overwrite": overwrite}
        if skin is None:
            written.append(write_glb(path, low, **more))  # type: ignore[arg-type]
        else:
            written.append(write_skinned_glb(path, low, skin_on(low.mesh, full, skin), motions, **more))  # type: ignore[arg-type]
    return written
