"""Skin weights that tear nothing: smoothed on the mesh's own graph where a pose would stretch an edge too far.

Linear blend skinning stretches an edge by the change of the weights along it over its length, times how far the joints
part. Copied weights jump where cloth ends on skin or two limbs touch. There, and only there, weights are averaged over
neighbours until poses that bend all large joints no longer stretch the edges beyond a limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.sparse import coo_array, csr_array
from torch import Tensor

from humannorm.body.linear_blend_skinning import limit_influences
from humannorm.body.skin_binding import SkinBinding
from humannorm.checks import check_range
from humannorm.mesh import Mesh, unique_edges, weld

__all__ = ["RelaxationSettings", "relaxed_skin"]


@dataclass(frozen=True)
class RelaxationSettings:
    """All numbers are ours, found on dressed people."""

    poses: tuple[str, ...] = ("run", "sit", "fight")  # that the stretch is looked at in
    folds: float = 0.072  # heights around shoulders and hips, where skin has to fold, that are left alone
    limit: float = 2.6  # times its length that an edge may have
    rounds: int = 200  # at most
    reach: float = 0.029  # heights around a stretched edge that are smoothed with it
    widening: int = 40  # rounds after which twice as far is smoothed: what is held at the border stretches the inside
    spread: float = 0.0072  # heights that a round spreads a weight by
    sliver: float = 0.25  # median lengths below which an edge counts as so long

    def __post_init__(self) -> None:
        check_range("limit", self.limit, 1.1, 100.0)
        check_range("rounds", self.rounds, 0, 1000)


def relaxed_skin(
    mesh: Mesh,
    skin: SkinBinding,
    frames: Sequence[Float[Tensor, "J 4 4"]],
    folds: Bool[Tensor, " V"],
    settings: RelaxationSettings,
) -> SkinBinding:
    """The skin with weights that stretch no edge beyond the limit in any frame, as far as the rounds allow.

    frames: matrices that carry the bind pose into poses. folds: vertices whose edges may stretch. Vertices at one place
    (seams) keep the same weights; four influences a vertex, heaviest first.
    """
    kept, inverse = torch.unique(weld(mesh.vertices).cpu(), return_inverse=True)
    thin = dataclasses.replace(skin, weight_joints=skin.weight_joints[kept], weights=skin.weights[kept])
    vertices = mesh.vertices.detach().float().cpu()[kept]
    edges = unique_edges(inverse[mesh.faces.cpu()])
    length = (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=1)
    length = length.clamp_min(settings.sliver * float(length.median()))
    free = ~folds.cpu()[kept][edges].any(1)
    average = _neighbour_average(edges, length, len(vertices))
    edge = float(length.median()) / float(vertices[:, 1].max() - vertices[:, 1].min())
    sweeps = max(1, round((settings.spread / edge) ** 2))
    stretch = _stretch(thin, vertices, edges, length, frames)
    for number in range(settings.rounds):
        torn = free & (stretch > settings.limit)
        if not bool(torn.any()):
            break
        reach = settings.reach * (1 + number / settings.widening)
        changed = _around(edges[torn], average, max(1, round(reach / edge)))
        thin = _smoothed(thin, average, torch.where(changed)[0], sweeps)
        near = changed[edges].any(1)
        stretch[near] = _stretch(thin, vertices, edges[near], length[near], frames)
    return dataclasses.replace(skin, weight_joints=thin.weight_joints[inverse], weights=thin.weights[inverse])


def _stretch(
    skin: SkinBinding,
    vertices: Tensor,
    edges: Int64[Tensor, "E 2"],
    length: Float[Tensor, " E"],
    frames: Sequence[Tensor],
) -> Float[Tensor, " E"]:
    """The most that any of the frames stretches each edge."""
    used, ends = torch.unique(edges, return_inverse=True)
    part = dataclasses.replace(skin, weight_joints=skin.weight_joints[used], weights=skin.weights[used])
    worst = torch.zeros_like(length)
    for frame in frames:
        posed = part.moved(vertices[used], frame)
        worst = torch.maximum(worst, (posed[ends[:, 0]] - posed[ends[:, 1]]).norm(dim=1) / length)
    return worst


def _neighbour_average(edges: Int64[Tensor, "E 2"], length: Float[Tensor, " E"], count: int) -> csr_array:
    """Rows of sum 1: a vertex and its neighbours, nearer ones weighing more, since short edges tear first."""
    low, high = edges.numpy().T
    near = (1 / length).double().numpy()
    own = np.bincount(low, near, count) + np.bincount(high, near, count)
    row, column = np.concatenate([low, high, np.arange(count)]), np.concatenate([high, low, np.arange(count)])
    values = np.concatenate([near, near, np.maximum(own, 1e-12)])
    total = np.bincount(row, values, count)
    return coo_array((values / total[row], (row, column)), shape=(count, count)).tocsr()


def _around(torn: Int64[Tensor, "T 2"], average: csr_array, rings: int) -> Bool[Tensor, " V"]:
    """Whether vertices are within so many edges of the torn ones."""
    marked = np.zeros(average.shape[0])
    marked[torn.flatten().numpy()] = 1
    for _ in range(rings):
        marked = average @ marked
    return torch.from_numpy(marked > 0)


def _smoothed(skin: SkinBinding, average: csr_array, rows: Int64[Tensor, " R"], sweeps: int) -> SkinBinding:
    """The skin with the weights of some vertices averaged with their neighbours', as often as there are sweeps."""
    chosen = average[rows.numpy()]
    needed = np.unique(np.concatenate([chosen.indices, rows.numpy()]))
    own = np.searchsorted(needed, rows.numpy())
    dense = torch.zeros(len(needed), len(skin.joint_names), dtype=torch.float64)
    dense.scatter_add_(1, skin.weight_joints[needed], skin.weights[needed].double())
    used = dense.any(0)
    local, mixed = chosen[:, needed], dense[:, used].numpy()
    for _ in range(sweeps):
        mixed[own] = local @ mixed
    dense[:, used] = torch.from_numpy(mixed)
    joints, weights = _four_influences(dense[own].float())
    return dataclasses.replace(
        skin,
        weight_joints=skin.weight_joints.index_copy(0, rows, joints),
        weights=skin.weights.index_copy(0, rows, weights),
    )


def _four_influences(weights: Float[Tensor, "V J"]) -> tuple[Int64[Tensor, "V 4"], Float[Tensor, "V 4"]]:
    """The four largest less the fifth: where a joint takes another's place it weighs nothing, so neighbours agree.

    Plain cutting would tear edges again, where five joints weigh about the same.
    """
    fifth = weights.topk(5, dim=-1).values[:, 4:]
    left = (weights - fifth).clamp_min(0)
    equal = left.sum(-1, keepdim=True) < 1e-6
    return limit_influences(torch.where(equal, weights, left))
