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

from humannorm.body.linear_blend_skinning import limit_influences, linear_blend_skinning
from humannorm.body.skeleton import forward_kinematics, quaternion_to_matrix
from humannorm.checks import InputError

__all__ = [
    "ADULT_AGE",
    "SKIN_VERTICES",
    "BodyModel",
    "Phenotype",
    "Skeleton",
    "SkinWeights",
    "pose_transforms",
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


def pose_transforms(skeleton: Skeleton, pose: dict[str, list[float]]) -> Float[np.ndarray, "J 4 4"]:
    """What carries each bone into a pose given as bone -> quaternion (x, y, z, w) in the world's axes at rest.

    Bones that the pose does not name keep their rest rotation.
    """
    rotations = torch.eye(3, dtype=torch.float64).repeat(len(skeleton.names), 1, 1)
    for bone, name in enumerate(skeleton.names):
        if name in pose:
            x, y, z, w = pose[name]
            rotations[bone] = quaternion_to_matrix(torch.tensor([w, x, y, z], dtype=torch.float64))
    heads = torch.from_numpy(skeleton.heads).double()
    return forward_kinematics(rotations, heads, skeleton.parents).float().numpy()


def strongest(dense: Float[np.ndarray, "V J"]) -> SkinWeights:
    """Keep each vertex's strongest bones; negative shares (extrapolating references give some) count as none."""
    bones, shares = limit_influences(torch.from_numpy(dense).clamp_min(0.0), INFLUENCES)
    return SkinWeights(bones.numpy(), shares.float().numpy())


def skin_vertices(
    vertices: Float[np.ndarray, "V 3"], weights: SkinWeights, transforms: Float[np.ndarray, "J 4 4"]
) -> Float[np.ndarray, "V 3"]:
    """The vertices in a pose, by linear blend skinning."""
    rest, carried = torch.from_numpy(vertices), torch.from_numpy(transforms)
    bones, shares = torch.from_numpy(weights.bones), torch.from_numpy(weights.shares)
    return linear_blend_skinning(rest, carried, bones, shares).numpy()


def _dense_weights(
    bones: Int[np.ndarray, "V K"], shares: Float[np.ndarray, "V K"], count: int
) -> Float[np.ndarray, "V J"]:
    dense = np.zeros((len(bones), count), dtype=np.float32)
    np.add.at(dense, (np.arange(len(bones))[:, None], bones), shares)
    return dense
