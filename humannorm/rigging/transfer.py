"""Skin weights from the fitted body to a human's surface.

After Abdrashitov et al. 2023, "Robust Skin Weights Transfer via Weight Inpainting": weights are copied where the body
is close and faces the same way, and filled in smoothly elsewhere. Here both in one linear system: copied weights are
trusted less the farther they come from, so that a sleeve follows its arm and a skirt bridges two legs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.sparse import diags_array
from scipy.sparse.linalg import splu
from scipy.spatial import cKDTree
from torch import Tensor

from humannorm.body import Body
from humannorm.body.linear_blend_skinning import limit_influences
from humannorm.body.rigs import Rig
from humannorm.export.flattening import Flattening
from humannorm.export.topology import Array
from humannorm.mesh import Mesh, face_normals, vertex_normals, weld

__all__ = ["TransferSettings", "smoothed_weights", "transfer_weights"]


@dataclass(frozen=True)
class TransferSettings:
    """Lengths are in heights of the body."""

    normal_length: float = 0.04  # distance that counts as much as normals of opposite directions differ
    trusted: float = 0.009  # distance at which a copied weight is trusted a quarter
    smoothing: float = 0.008  # length over which trusted weights are smoothed
    least_trust: float = 3e-4  # of weights from afar; they are smoothed over smoothing / sqrt(least_trust)
    hand_reach: float = 0.02  # what is farther from a hand than this does not follow it
    arm_reach: float = 0.06  # ... from an arm


HAND = ("wrist", "metacarpal", "finger")
ARM = ("upperarm", "lowerarm")


def transfer_weights(
    mesh: Mesh, body: Body, rig: Rig, settings: TransferSettings | None = None
) -> tuple[Int64[Tensor, "V 4"], Float[Tensor, "V 4"]]:
    """Joints of the rig and their weights for every vertex of `mesh`, in which the body lies fitted.

    Heaviest first, of sum 1; an empty slot has joint 0. Vertices at one place (seams) get the same.
    """
    settings = settings or TransferSettings()
    kept, inverse = torch.unique(weld(mesh.vertices).cpu(), return_inverse=True)
    vertices, faces = mesh.vertices.detach().float().cpu()[kept], inverse[mesh.faces.cpu()]
    height = body.height_m / body.metres_per_unit
    copied, distance = _copied_weights(vertices, vertex_normals(vertices, faces), body, rig, settings)
    trust = (1 + (distance / height / settings.trusted) ** 2) ** -2
    trust = np.maximum(trust, settings.least_trust)
    dense = smoothed_weights(copied, trust, vertices.numpy(), faces.numpy(), settings.smoothing * height)
    joints, weights = limit_influences(torch.from_numpy(dense).float())
    return joints[inverse], weights[inverse]


def _copied_weights(
    points: Float[Tensor, "N 3"], normals: Float[Tensor, "N 3"], body: Body, rig: Rig, settings: TransferSettings
) -> tuple[Array, Array]:
    """Dense weights [N, J] of the closest place on the body that faces the same way, and its distance [N]."""
    height = body.height_m / body.metres_per_unit
    vertices, faces = body.vertices, body.faces
    centres = vertices[faces].mean(1)
    length = settings.normal_length * height
    places = torch.cat([centres, length * face_normals(vertices, faces)], 1).numpy()
    wanted = torch.cat([points, length * normals], 1).numpy()
    region = _regions(body)[faces].amax(1).numpy()  # 0, 1 arm, 2 hand
    found = np.full(len(points), -1)
    open_ = np.arange(len(points))
    for allowed, reach in ((2, settings.hand_reach), (1, settings.arm_reach), (0, np.inf)):
        donors = np.flatnonzero(region <= allowed)
        closest = donors[cKDTree(places[donors]).query(wanted[open_])[1]]
        away = np.linalg.norm(points.numpy()[open_] - centres.numpy()[closest], axis=1)
        taken = (away < reach * height) | (region[closest] < allowed)
        found[open_[taken]] = closest[taken]
        open_ = open_[~taken]
    corners = faces[torch.from_numpy(found)]
    barycentric = _barycentric(points, vertices[corners])
    distance = (torch.einsum("nk,nkc->nc", barycentric, vertices[corners]) - points).norm(dim=1)
    dense = torch.zeros(len(vertices), len(rig.parents)).scatter_add(1, rig.weight_joints, rig.weights)
    copied = sum(barycentric[:, k, None] * dense[corners[:, k]] for k in range(3))
    assert isinstance(copied, Tensor)
    return copied.numpy(), distance.numpy()


def _regions(body: Body) -> Int64[Tensor, " V"]:
    """2 for vertices of the hands, 1 for those of the arms, 0 for the rest, by their heaviest joint."""
    of_joint = torch.tensor([2 if n.startswith(HAND) else int(n.startswith(ARM)) for n in body.joint_names])
    return of_joint[body.weight_joints[:, 0]]


def _barycentric(points: Float[Tensor, "N 3"], corners: Float[Tensor, "N 3 3"]) -> Float[Tensor, "N 3"]:
    """Coordinates of the points' feet on the triangles' planes, drawn into the triangle where they lie outside."""
    a, b, c = corners.unbind(1)
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    wu, wv = (w * u).sum(1), (w * v).sum(1)
    area = (uu * vv - uv * uv).clamp_min(torch.finfo(uu.dtype).tiny)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    inside = torch.stack([1 - second - third, second, third], 1).clamp(0, 1)
    return inside / inside.sum(1, keepdim=True)


def smoothed_weights(copied: Array, trust: Array, vertices: Array, faces: Array, length: float) -> Array:
    """The weights w that make the sum over the surface of trust |w - copied|^2 + length^2 |grad w|^2 least.

    Linear finite elements with bounded positive cotangents, so that weights stay in 0..1 and keep their sum.
    """
    surface = Flattening(vertices.astype(np.float64), faces, np.zeros(len(vertices), dtype=np.int64))
    share = np.bincount(faces.ravel(), np.repeat(surface.areas / 3, 3), minlength=len(vertices))
    share = np.maximum(share, 1e-12 * share.sum())
    data = trust * share
    system = diags_array(data) + length**2 * surface.laplacian(surface.weights)
    solver = splu(system.tocsc(), permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True})
    used = np.flatnonzero(copied.any(axis=0))
    dense = np.zeros(copied.shape)
    dense[:, used] = solver.solve(data[:, None] * copied[:, used].astype(np.float64))
    return dense.clip(0)
