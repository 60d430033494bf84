"""A human with a skeleton: rigging, posing, moving."""

from __future__ import annotations

from dataclasses import dataclass

from humannorm.body import Body
from humannorm.body.clips import Clip, clip_transforms
from humannorm.body.rigs import Rig, load_rig
from humannorm.body.skeleton import local_rotations
from humannorm.body.skin import JointMotion, Skin
from humannorm.mesh import Mesh

from .fitting import BodyFit, BodyFitSettings, fit_body
from .transfer import TransferSettings, transfer_weights

__all__ = ["RiggedHuman", "rig_human"]


@dataclass(frozen=True, eq=False)
class RiggedHuman:
    """A surface in its bind pose with joints and skin weights, and the body that lies in it."""

    mesh: Mesh
    fit: BodyFit
    rig: Rig
    skin: Skin

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


def rig_human(
    mesh: Mesh,
    rig: str = "makehuman",
    start: Body | None = None,
    *,
    fit: BodyFitSettings | None = None,
    transfer: TransferSettings | None = None,
) -> RiggedHuman:
    """Give a human a skeleton and skin weights.

    mesh: any humanoid, +Y up, facing +Z, any unit. rig: one of `RIGS`. start: the body it grew from, see `fit_body`.
    """
    skeleton = load_rig(rig)
    found = fit_body(mesh, start, fit)
    weight_joints, weights = transfer_weights(mesh, found.body, skeleton, transfer)
    skin = Skin(skeleton.joint_names, skeleton.parents, skeleton.heads(found.body), weight_joints, weights)
    return RiggedHuman(mesh, found, skeleton, skin)
