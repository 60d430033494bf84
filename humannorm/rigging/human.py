"""A human with a skeleton: rigging, posing, moving."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from humannorm.body import Body, named_pose
from humannorm.body.clips import Clip, clip_transforms, still
from humannorm.body.rigs import Rig, load_rig
from humannorm.body.skeleton import local_rotations
from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.checks import InputError
from humannorm.mesh import Mesh, check_mesh, welded_vertex_normals
from humannorm.rigging.fitting import BodyFit, BodyFitSettings, fit_body
from humannorm.rigging.relaxation import RelaxationSettings, relaxed_skin
from humannorm.rigging.transfer import TransferSettings, transfer_weights

__all__ = ["RiggedHuman", "near_folds", "rig_human"]

FITTING = 0.6  # about the fit's share of the work


# What a standing human looks like, in shares of the height, for dresses, packs and outstretched arms alike.
MOST_WIDE = 1.5
FLATTEST = 0.05
HEAD = 0.06  # the part of the height that is certainly head, or hat
WIDEST_HEAD = 0.85  # of the whole width
# Of `BodyFit.apart`. People in clothes lie below 0.035, and below 0.06 in a pose that nobody stated; a chess pawn at
# 0.07, a dog at 0.08, a tree at 0.10.
FARTHEST = 0.065


@dataclass(frozen=True, eq=False)
class RiggedHuman:
    """A surface in its bind pose with joints and skin weights, and the body that lies in it."""

    mesh: Mesh
    fit: BodyFit
    rig: Rig
    skin: SkinBinding

    @property
    def body(self) -> Body:
        """In the mesh's frame and units, posed as the mesh."""
        return self.fit.body

    def motion(self, clip: Clip) -> JointMotion:
        """A clip of the body on this rig's joints."""
        posed = clip_transforms(clip, self.body)  # [T, B, 4, 4] from the body's rest
        turned = posed[..., :3, :3] @ self.body.transforms[:, :3, :3].mT  # from the bind pose
        rotations = local_rotations(turned[:, self.rig.follows], self.rig.parents)
        carrier = int(self.rig.follows[0])
        bind = self.body.transforms[carrier]
        at_rest = bind[:3, :3].mT @ (self.skin.joints[0] - bind[:3, 3])
        positions = posed[:, carrier, :3, :3] @ at_rest + posed[:, carrier, :3, 3]
        return JointMotion(clip.name, rotations, positions, clip.frame_time)

    def frames(self, motion: JointMotion, numbers: list[int] | None = None) -> list[Mesh]:
        """The surface in the numbered frames (default: all); uvs and colours stay, normals are left to be made anew."""
        transforms = self.skin.transforms(motion)
        chosen = range(len(transforms)) if numbers is None else numbers
        vertices = self.mesh.vertices
        return [
            self.mesh.replace(vertices=self.skin.moved(vertices, transforms[number]), normals=None) for number in chosen
        ]

    def posed(self, clip: Clip, frame: int = 0) -> Mesh:
        """The surface in one frame of a clip."""
        return self.frames(self.motion(clip), [frame])[0]

    def bound_in(self, pose: str) -> RiggedHuman:
        """The same human with a named pose as its bind pose, such as the t-pose that engines retarget from."""
        rotations = named_pose(pose)
        mesh = self.posed(still(pose, rotations, self.body))
        body = self.body.posed(rotations, pose)
        skin = dataclasses.replace(self.skin, joints=self.rig.heads(body))
        mesh = mesh.replace(normals=welded_vertex_normals(mesh.vertices, mesh.faces))
        return RiggedHuman(mesh, dataclasses.replace(self.fit, body=body), self.rig, skin)


def rig_human(
    mesh: Mesh,
    rig: str = "makehuman",
    start: Body | None = None,
    *,
    fit: BodyFitSettings | None = None,
    transfer: TransferSettings | None = None,
    relaxation: RelaxationSettings | None = None,
    tell: Callable[[float], None] | None = None,
) -> RiggedHuman:
    """Give a human a skeleton and skin weights.

    mesh: any humanoid, +Y up, facing +Z, any unit. rig: one of `RIGS`. start: the body it grew from, see `fit_body`.
    tell: called with how much of the work is done, 0..1, and may end it by an exception.
    """
    skeleton = load_rig(rig)
    check_mesh(mesh)
    _check_outline(mesh)
    found = fit_body(mesh, start, fit, None if tell is None else lambda share: tell(FITTING * share))
    if found.apart > FARTHEST:
        raise InputError(
            "mesh: expected a standing human, +Y up and facing +Z, got one that the body does not fit: they are"
            f" {found.apart:.1%} of the height apart; state the body and pose that it began as, if it is a human"
        )
    weight_joints, weights = transfer_weights(mesh, found.body, skeleton, transfer)
    skin = SkinBinding(skeleton.joint_names, skeleton.parents, skeleton.heads(found.body), weight_joints, weights)
    human = RiggedHuman(mesh, found, skeleton, skin)
    skin = _relaxed(human, relaxation or RelaxationSettings())
    if tell is not None:
        tell(1.0)
    return dataclasses.replace(human, skin=skin)


def _check_outline(mesh: Mesh) -> None:
    """Refuse what cannot be a standing human by its box and its top, before the long work."""
    used = mesh.vertices[mesh.faces.flatten()].detach()
    wide, tall, deep = (used.amax(0) - used.amin(0)).tolist()
    if not (MOST_WIDE * tall >= wide and FLATTEST * tall <= deep <= tall):
        raise InputError(
            f"mesh: expected a standing human, +Y up and facing +Z, got one {wide:.3g} wide, {tall:.3g} tall and"
            f" {deep:.3g} deep"
        )
    top = used[used[:, 1] > float(used[:, 1].max()) - HEAD * tall]
    crown = float(top[:, 0].max() - top[:, 0].min())
    if crown > WIDEST_HEAD * wide:
        raise InputError(
            f"mesh: expected a standing human, +Y up and facing +Z, got one whose top is {crown / wide:.0%} as wide as"
            " the whole"
        )


def _relaxed(human: RiggedHuman, settings: RelaxationSettings) -> SkinBinding:
    """The human's skin, smoothed where the settings' poses would tear it."""
    body = human.body
    clips = [still(pose, named_pose(pose), body) for pose in settings.poses]
    frames = [human.skin.transforms(human.motion(clip))[0] for clip in clips]
    return relaxed_skin(human.mesh, human.skin, frames, near_folds(human.mesh.vertices, body, settings.folds), settings)


def near_folds(points: Float[Tensor, "N 3"], body: Body, radius: float) -> Bool[Tensor, " N"]:
    """Whether points are within a radius (heights of the body) of a shoulder, a hip, or the crotch between the hips."""
    joints = [body.joint(f"{name}.{side}") for name in ("upperarm01", "upperleg01", "upperleg02") for side in "LR"]
    places = torch.stack([*joints[:4], (joints[4] + joints[5]) / 2])
    distance = torch.cdist(points, places.to(points))
    return (distance <= radius * body.height_m / body.metres_per_unit).any(1)
