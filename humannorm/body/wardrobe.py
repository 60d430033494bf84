"""Clothes, shoes, hats and hair that fit every shape of the body and follow every pose.

Baked by tools/bake_outfits.py from CC0 data. A garment vertex hangs on three points of MakeHuman's base mesh, which are
baked over the body's own table of shapes:

    v = sum_k share_k point_k + offset * scale,    scale = lengths between pairs of points over the author's lengths

Letters: N vertices of a garment, F its faces, P points that garments hang on, V vertices of the body.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from humannorm.body.body import Body
from humannorm.body.linear_blend_skinning import limit_influences, linear_blend_skinning
from humannorm.body.shape import BodyShape, interpolate_table
from humannorm.checks import check_choice
from humannorm.mesh import Mesh

__all__ = ["GARMENTS", "Garment", "fitted", "garment_skin", "hidden_under", "rest_garment", "worn_inside"]

DATA = Path(__file__).parent / "data" / "wardrobe.npz"
OFFSET_STEP = 1e-5  # metres
WEIGHT_STEP = 2.0**-12


@dataclass(frozen=True)
class Garment:
    """One piece of the wardrobe."""

    label: str  # of `humannorm.labels.LABELS`
    source: str  # its key in the people maker's wardrobe


GARMENTS: Mapping[str, Garment] = {
    "t-shirt-1": Garment("top", "t-shirt-1"),
    "t-shirt-2": Garment("top", "t-shirt-2"),
    "t-shirt-3": Garment("top", "t-shirt-3"),
    "blouse": Garment("top", "blouse"),
    "crop-top": Garment("top", "crop-top"),
    "sweater": Garment("top", "sweater"),
    "shirt": Garment("top", "shirt"),
    "suit-jacket": Garment("outer", "suit-jacket"),
    "jeans-1": Garment("bottom", "jeans-1"),
    "jeans-2": Garment("bottom", "jeans-2"),
    "shorts": Garment("bottom", "shorts"),
    "skirt": Garment("bottom", "skirt"),
    "leggings": Garment("bottom", "leggings"),
    "trousers": Garment("bottom", "trousers"),
    "shoes-1": Garment("shoes", "shoes-1"),
    "shoes-2": Garment("shoes", "shoes-2"),
    "sneakers": Garment("shoes", "sneakers-1"),
    "hat-1": Garment("hat", "hat-1"),
    "hat-2": Garment("hat", "hat-2"),
    "afro": Garment("hair", "afro"),
    "bob-1": Garment("hair", "bob-1"),
    "bob-2": Garment("hair", "bob-2"),
    "braid": Garment("hair", "braid"),
    "long": Garment("hair", "long"),
    "ponytail": Garment("hair", "ponytail"),
    "short-1": Garment("hair", "short-1"),
    "short-2": Garment("hair", "short-2"),
    "short-3": Garment("hair", "short-3"),
    "short-4": Garment("hair", "short-4"),
}


def fitted(body: Body, name: str) -> Mesh:
    """A garment on a body, shaped and posed with it, in its frame. Open where cloth is open."""
    check_choice("name", name, tuple(GARMENTS))
    rest = rest_garment(body.shape, name) / body.metres_per_unit
    joints, weights = garment_skin(name)
    return Mesh(linear_blend_skinning(rest, body.transforms, joints, weights), _tensor(f"{name}/faces").long())


def rest_garment(shape: BodyShape, name: str) -> Float[Tensor, "N 3"]:
    """Vertices of a garment on a body at rest, metres, feet of the body on y = 0."""
    points = _points(shape)
    pairs, lengths = _tensor(f"{name}/scale_points").long(), _tensor(f"{name}/scale_lengths")
    scale = (points[pairs[:, 0]] - points[pairs[:, 1]]).diagonal().abs() / lengths
    anchors = (points[_tensor(f"{name}/references").long()] * _shares(name)[..., None]).sum(1)
    return anchors + OFFSET_STEP * _tensor(f"{name}/offsets").float() * scale


@functools.cache
def garment_skin(name: str) -> tuple[Int64[Tensor, "N 4"], Float[Tensor, "N 4"]]:
    """Joints of the body and their weights for each vertex: the mean of what its points have, the strongest four."""
    joints, weights = _tensor("weight_joints").long(), _tensor("weights").float()
    references, shares = _tensor(f"{name}/references").long(), _shares(name)
    dense = torch.zeros(len(references), int(joints.max()) + 1)
    for k in range(references.shape[1]):
        dense.scatter_add_(1, joints[references[:, k]], shares[:, k, None] * weights[references[:, k]])
    return limit_influences(dense.clamp_min(0))  # extrapolating shares give some negative


def hidden_under(names: Sequence[str], count: int) -> Bool[Tensor, " V"]:
    """Vertices of the body (`count` of them) that lie under any of these garments."""
    hidden = np.zeros(count, dtype=bool)
    for name in names:
        hidden |= np.unpackbits(_arrays()[f"{name}/hidden"], count=count).astype(bool)
    return torch.from_numpy(hidden)


def worn_inside(name: str) -> Bool[Tensor, " F"]:
    """Faces of a jacket that are of what is worn under it, such as the front of a shirt."""
    count = len(_arrays()[f"{name}/faces"])
    return torch.from_numpy(np.unpackbits(_arrays()[f"{name}/inside"], count=count).astype(bool))


def _points(shape: BodyShape) -> Float[Tensor, "P 3"]:
    """Points that garments hang on, metres, on the ground as the body is."""
    coefficients = interpolate_table(_tensor("points_coefficients"), shape)
    return _tensor("points_mean") + torch.tensordot(coefficients, _tensor("points_basis").float(), dims=1)


def _shares(name: str) -> Float[Tensor, "N 3"]:
    two = WEIGHT_STEP * _tensor(f"{name}/shares").float()
    return torch.cat([two, 1 - two.sum(1, keepdim=True)], 1)


def _tensor(field: str) -> Tensor:
    array = _arrays()[field]
    return torch.from_numpy(array.astype(np.int32) if array.dtype == np.uint16 else array)


@functools.cache
def _arrays() -> Mapping[str, np.ndarray]:
    with np.load(DATA, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
