"""The baked adult: a closed mannequin with skeleton, skin weights and texture coordinates, shaped and posed.

Baked by tools/bake_body.py from CC0 data. Vertices and faces are in the order of MakeHuman's hm08 body. Letters: V
vertices, F faces, J joints, U texture vertices (one for each vertex and side of a seam).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.body.shape import BodyShape, interpolate_table
from humannorm.body.skeleton import axis_angle_to_matrix, forward_kinematics, quaternion_to_matrix, transform_points
from humannorm.cameras import CameraPlan, Part
from humannorm.checks import InputError, check_choice, check_tensor
from humannorm.mesh import Mesh
from humannorm.working_box import BODY_HEIGHT

__all__ = ["POSES", "Body", "load_body", "named_pose", "plan_for_body", "shaped_points"]

DATA = Path(__file__).parent / "data" / "body.npz"

# "rest" is MakeHuman's own; "a-pose" is ours (see `_a_pose`); the others are MakeHuman community's CC0 files.
POSES = ("a-pose", "rest", "t-pose", "standing", "run", "sit", "fight")


@dataclass(frozen=True, eq=False)
class Body:
    """A shaped and posed body with its skeleton.

    Axes as everywhere (+Y up, +Z the front, +X the subject's left). As loaded, lengths are metres and the lowest point
    stands on y = 0; `in_working_box` gives the copy that the optimisers see.
    """

    shape: BodyShape
    pose: str
    vertices: Float[Tensor, "V 3"]  # posed
    faces: Int64[Tensor, "F 3"]
    joints: Float[Tensor, "J 3"]  # posed joint heads
    joint_names: tuple[str, ...]  # MakeHuman's 163
    parents: tuple[int, ...]  # -1 for the root, else an earlier joint
    weight_joints: Int64[Tensor, "V 4"]
    weights: Float[Tensor, "V 4"]  # sum to 1, heaviest first
    rest_vertices: Float[Tensor, "V 3"]
    rest_joints: Float[Tensor, "J 3"]
    transforms: Float[Tensor, "J 4 4"]  # rest -> posed, for `linear_blend_skinning`
    uvs: Float[Tensor, "U 2"]  # MakeHuman's layout, v = 0 at the top
    uv_vertices: Int64[Tensor, " U"]  # vertex of each texture vertex
    uv_faces: Int64[Tensor, "F 3"]  # `faces` in texture vertices
    metres_per_unit: float = 1.0

    @property
    def height_m(self) -> float:
        """Standing (rest) height in metres."""
        heights = self.rest_vertices[:, 1]
        return float(heights.max() - heights.min()) * self.metres_per_unit

    def joint(self, name: str) -> Float[Tensor, "3"]:
        """Posed position of one joint."""
        check_choice("name", name, self.joint_names)
        return self.joints[self.joint_names.index(name)]

    def in_working_box(self) -> Body:
        """A copy whose standing height is 1.8 units, its bounding box centred; `metres_per_unit` keeps the scale."""
        scale = BODY_HEIGHT * self.metres_per_unit / self.height_m
        low, high = self.vertices.amin(0), self.vertices.amax(0)
        return self.moved(scale, -scale * (low + high) / 2)

    def moved(self, scale: float, shift: Float[Tensor, "3"]) -> Body:
        """A copy whose every point x is at scale x + shift; `metres_per_unit` keeps the scale."""
        transforms = self.transforms.clone()
        # x' = s G(x) + shift for rest points that are scaled too: the rotation stays, the translation is scaled.
        transforms[:, :3, 3] = scale * transforms[:, :3, 3] + shift
        return dataclasses.replace(
            self,
            vertices=scale * self.vertices + shift,
            joints=scale * self.joints + shift,
            rest_vertices=scale * self.rest_vertices,
            rest_joints=scale * self.rest_joints,
            transforms=transforms,
            metres_per_unit=self.metres_per_unit / scale,
        )

    def to_mesh(self, *, normalized: bool = True, uvs: bool = False) -> Mesh:
        """The surface: closed, one piece, outward. `normalized` puts it into the working box (1.8 tall, centred).

        With `uvs` the vertices are split along the seams (`uv_vertices` tells from where), so that texture coordinates
        are one to one; the surface is then cut open along them.
        """
        body = self.in_working_box() if normalized else self
        if not uvs:
            return Mesh(body.vertices, body.faces)
        return Mesh(body.vertices[body.uv_vertices], body.uv_faces, uvs=body.uvs)

    def posed(self, rotations: Float[Tensor, "J 3 3"], name: str = "custom", *, grounded: bool = True) -> Body:
        """The same shape in another pose (rotations in world axes at rest).

        `grounded` sets its lowest point on y = 0; else the root joint stays where it is. Lengths are those of the rest.
        """
        check_tensor("rotations", rotations, f"{len(self.parents)} 3 3")
        transforms = forward_kinematics(rotations.to(self.rest_joints), self.rest_joints, self.parents)
        vertices = linear_blend_skinning(self.rest_vertices, transforms, self.weight_joints, self.weights)
        joints = transform_points(transforms, self.rest_joints)
        if grounded:
            drop = torch.zeros_like(vertices[0])
            drop[1] = vertices[:, 1].min()
            vertices, joints = vertices - drop, joints - drop
            transforms = transforms.clone()
            transforms[:, :3, 3] -= drop
        return dataclasses.replace(self, pose=name, vertices=vertices, joints=joints, transforms=transforms)


# The bones that carry what a camera's crop shows.
_CROP_JOINTS: dict[Part, tuple[str, ...]] = {
    "head": ("head",),
    "upper": ("spine02",),
    "lower": ("lowerleg01.L", "lowerleg01.R"),
}


def plan_for_body(plan: CameraPlan, body: Body) -> CameraPlan:
    """A plan whose head, upper and lower crops follow a posed body (in the working box); the full crop stays.

    A crop's look-at point hangs on its bones as it does in the standing A-pose, for which the plans are written; the
    published code looks where a standing body would have its head.
    """
    standing = load_body(body.shape).in_working_box()

    def move(part: Part, target: tuple[float, float, float]) -> tuple[float, float, float]:
        if part not in _CROP_JOINTS:
            return target
        point = standing.vertices.new_tensor(target)
        places = []
        for name in _CROP_JOINTS[part]:
            joint = body.joint_names.index(name)
            carried = body.transforms[joint] @ torch.linalg.inv(standing.transforms[joint])
            places.append(transform_points(carried, point))
        x, y, z = torch.stack(places).mean(0).tolist()
        return x, y, z

    return plan.aimed(move)


def load_body(shape: BodyShape | None = None, pose: str = "a-pose") -> Body:
    """The baked adult in metres with the given sliders (default: the neutral adult), in one of `POSES`."""
    shape = BodyShape() if shape is None else shape
    if not isinstance(shape, BodyShape):
        raise InputError(f"shape: expected a BodyShape, got {type(shape).__name__}")
    check_choice("pose", pose, POSES)
    data = _baked()
    count = data["weights"].shape[0]
    points = shaped_points(shape)
    vertices, joints = points[:count], points[count:]
    rest = Body(
        shape=shape,
        pose="rest",
        vertices=vertices,
        faces=data["faces"],
        joints=joints,
        joint_names=_names("joint_names"),
        parents=tuple(data["parents"].tolist()),
        weight_joints=data["weight_joints"],
        weights=data["weights"],
        rest_vertices=vertices,
        rest_joints=joints,
        transforms=torch.eye(4).repeat(len(joints), 1, 1),
        uvs=data["uvs"],
        uv_vertices=data["uv_vertices"],
        uv_faces=data["uv_faces"],
    )
    return rest if pose == "rest" else rest.posed(named_pose(pose), pose)


def named_pose(pose: str) -> Float[Tensor, "J 3 3"]:
    """Rotations of one of `POSES`, in world axes at rest."""
    check_choice("pose", pose, POSES)
    names = _names("joint_names")
    if pose == "rest":
        return torch.eye(3).repeat(len(names), 1, 1)
    if pose == "a-pose":
        return _a_pose(names)
    return quaternion_to_matrix(_baked()["pose_quaternions"][_names("pose_names").index(pose)])


# MakeHuman's rest holds the arms 45 degrees off the body, elbows and hands forward. Rotation vectors in degrees, left
# side (the right is its mirror image): arms lowered to some 30 degrees and elbows straighter, so that the hands hang
# beside the hips, nine cells of a 128 grid clear of them.
_A_POSE: dict[str, tuple[float, float, float]] = {
    "upperarm01": (0.0, 0.0, -11.0),
    "lowerarm01": (20.0, 0.0, 0.0),
}


def _a_pose(names: tuple[str, ...]) -> Tensor:
    turns = torch.zeros(len(names), 3)
    for joint, (x, y, z) in _A_POSE.items():
        turns[names.index(f"{joint}.L")] = torch.tensor((x, y, z))
        turns[names.index(f"{joint}.R")] = torch.tensor((x, -y, -z))
    return axis_angle_to_matrix(torch.deg2rad(turns))


def shaped_points(shape: BodyShape | Sequence[float | Tensor]) -> Float[Tensor, "P 3"]:
    """Rest vertices, then joints, in metres: mean + coefficients . basis on the left half, mirrored to the right.

    Sliders as in `interpolate_table`; the points carry their gradient.
    """
    data = _baked()
    coefficients = interpolate_table(data["shape_coefficients"], shape)
    half = data["shape_mean"] + torch.tensordot(coefficients, data["shape_basis"], dims=1)
    points = half.new_zeros(data["mirror"].shape[0], 3)
    points[data["mirror"][data["half"]]] = half * half.new_tensor((-1.0, 1.0, 1.0))
    points[data["half"]] = half
    drop = torch.zeros_like(half[0])
    drop[1] = points[: data["weights"].shape[0], 1].min()
    return points - drop


@functools.cache
def _arrays() -> Mapping[str, np.ndarray]:
    with np.load(DATA, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


@functools.cache
def _baked() -> Mapping[str, Tensor]:
    """The numbers of the file as tensors: indices int64, the rest float32; weights summed to 1 again after rounding."""
    tensors = {}
    for name, array in _arrays().items():
        if array.dtype.kind in "iu":
            tensors[name] = torch.from_numpy(array.astype(np.int64))
        elif array.dtype.kind == "f":
            tensors[name] = torch.from_numpy(array.astype(np.float32))
    tensors["weights"] = tensors["weights"] / tensors["weights"].sum(-1, keepdim=True)
    return tensors


def _names(field: str) -> tuple[str, ...]:
    return tuple(_arrays()[field].tolist())
