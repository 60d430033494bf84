"""Other libraries' signed distances. Each entry gets a mesh and returns a function of points; imports happen inside."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.human import human, query_points
from humannorm.mesh import Mesh

Distance = Callable[[np.ndarray], np.ndarray]


def open3d(mesh: Mesh) -> Distance:
    """Embree closest points; sign by the parity of the crossings of one ray."""
    import open3d as o3d

    scene = o3d.t.geometry.RaycastingScene()
    vertices, faces = mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32)
    scene.add_triangles(o3d.core.Tensor(vertices), o3d.core.Tensor(faces))
    scene.compute_distance(o3d.core.Tensor(vertices[:1]))  # builds the tree
    return lambda points: scene.compute_signed_distance(o3d.core.Tensor(points)).numpy()


def libigl(mesh: Mesh) -> Distance:
    """AABB tree closest points; sign by the fast winding number. Both trees are kept between calls."""
    import igl

    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    tree, winding = igl.AABB(), igl.FastWindingNumberBVH()
    tree.init(vertices, faces)
    winding.init(vertices, faces, 2)

    def distance(points: np.ndarray) -> np.ndarray:
        exact = points.astype(np.float64)
        squared = tree.squared_distance(vertices, faces, exact)
        squared = squared[0] if isinstance(squared, tuple) else squared
        inside = winding.winding_number(exact, 2.0) > 0.5
        return np.where(inside, -1.0, 1.0) * np.sqrt(squared)

    return distance


def libigl_pseudonormal(mesh: Mesh) -> Distance:
    """`igl.signed_distance` with the sign of the pseudo-normal; its trees are built in every call."""
    import igl

    vertices, faces = mesh.vertices.double().numpy(), mesh.faces.numpy()
    kind = igl.SignedDistanceType.SIGNED_DISTANCE_TYPE_PSEUDONORMAL
    return lambda points: igl.signed_distance(points.astype(np.float64), vertices, faces, sign_type=kind)[0]


def pysdf(mesh: Mesh) -> Distance:
    import pysdf as library

    function = library.SDF(mesh.vertices.numpy(), mesh.faces.numpy().astype(np.uint32))
    return lambda points: -function(points)  # positive inside there


def trimesh(mesh: Mesh) -> Distance:
    """`trimesh.proximity.signed_distance` with rtree and embreex."""
    import embreex  # noqa: F401
    import rtree  # noqa: F401
    import trimesh as library

    solid = library.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy(), process=False)
    return lambda points: -library.proximity.signed_distance(solid, points)  # positive inside there


PEERS: dict[str, tuple[str, Callable[[Mesh], Distance]]] = {
    "Open3D RaycastingScene": ("open3d", open3d),
    "libigl, fast winding number": ("libigl", libigl),
    "libigl, pseudo-normal": ("libigl", libigl_pseudonormal),
    "pysdf": ("pysdf", pysdf),
    "trimesh": ("trimesh", trimesh),
}
"""Name -> (package, builder)."""


def _try(name: str) -> Any:
    mesh = human(0)
    points = query_points(mesh, 10, "box", torch.Generator().manual_seed(0)).numpy()
    return PEERS[name][1](mesh)(points)


if __name__ == "__main__":
    _try(sys.argv[1])
