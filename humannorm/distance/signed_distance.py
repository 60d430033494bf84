"""Signed distance to any triangle mesh: how far a point is from the surface, negative inside."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, Literal, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_same_device, check_tensor
from humannorm.distance.distance_reference import ClosestPoints, closest_points, winding_number
from humannorm.distance.sign_regions import (
    Holes,
    Topology,
    caps_of_holes,
    face_regions,
    is_inside_out,
    region_seeds,
    topology_of,
    vertex_regions,
)

__all__ = ["ClosestPoints", "SignedDistance"]

WINDING_ACCURACY = 3.0
"""A node of the winding-number tree is taken whole beyond this many radii (Barill et al. 2018, who use 2)."""
SORTED_FROM = 4096
"""Fewer points than this are not worth sorting or sharing among threads."""
RELATIVE_SLACK = 1e-6
"""Rounding of a float32 distance, relative to the mesh's diagonal."""


class DistanceEngine(Protocol):
    """Distances to one mesh; points are float32 or float64, centred like the mesh."""

    def distance(self, points: Tensor) -> Tensor: ...

    def closest(self, points: Tensor) -> ClosestPoints: ...


class SignedDistance:
    """Signed distance to a triangle mesh, to be called with points [N, 3] -> [N], negative inside.

    The size is the distance to the nearest triangle (of any part, also one inside another part). The sign comes from
    the generalised winding number (Jacobson et al. 2013): inside is where it exceeds 1/2. So small holes are bridged,
    parts that overlap are united, and parts need not be joined. The result carries no gradient.

    ``inside_out`` is the rule for a mesh whose faces wind clockwise seen from outside, told by a negative signed volume
    (its holes closed by cones): "error" refuses it, "flip" measures the mesh with every face turned round.

    Engines: "warp" (BVH queries; threads as ``torch.get_num_threads()`` says) and "torch" (brute force in float64, the
    reference); "auto" is "warp". The mesh's device is where points must be, and where the work is done.
    """

    def __init__(
        self,
        vertices: Float[Tensor, "V 3"],
        faces: Int[Tensor, "F 3"],
        *,
        inside_out: Literal["error", "flip"] = "error",
        engine: str = "auto",
    ) -> None:
        _check_mesh(vertices, faces)
        check_choice("inside_out", inside_out, ("error", "flip"))
        check_choice("engine", engine, ("auto", *ENGINES))
        self.device = vertices.device
        exact = vertices.detach().double()
        self._centre = (exact.amin(0) + exact.amax(0)) / 2
        centred = (exact - self._centre).float()  # what every engine and the topology see, bit for bit
        faces = faces.long()
        topology, holes = _closed(centred, faces)
        self._flipped = is_inside_out(topology, holes)
        if self._flipped:
            if inside_out == "error":
                raise InputError(
                    "faces: expected counter-clockwise seen from outside, got an inside-out mesh (negative volume); "
                    'turn them with faces[:, [0, 2, 1]] or ask for inside_out="flip"'
                )
            faces = faces[:, [0, 2, 1]]
            topology, holes = _closed(centred, faces)
        self._engine = ENGINES["warp" if engine == "auto" else engine](centred, faces, topology, holes)

    @torch.no_grad()
    def __call__(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Signed distance of each point, in the points' dtype (computed in float32 by "warp")."""
        return self._engine.distance(self._centred(points)).to(points.dtype)

    @torch.no_grad()
    def closest(self, points: Float[Tensor, "N 3"]) -> ClosestPoints:
        """The surface point closest to each point: (point [N, 3], face [N], barycentric [N, 3])."""
        point, face, barycentric = self._engine.closest(self._centred(points))
        if self._flipped:
            barycentric = barycentric[:, [0, 2, 1]]
        return ClosestPoints((point.double() + self._centre).to(points.dtype), face, barycentric.to(points.dtype))

    def _centred(self, points: Tensor) -> Tensor:
        check_tensor("points", points, "N 3")
        check_same_device(points=points, mesh=self._centre)
        check_tensor("points", points, "N 3", finite=True)
        return points.detach().double() - self._centre


class TorchDistance:
    """The reference: every point against every triangle, in float64."""

    def __init__(self, vertices: Tensor, faces: Tensor, topology: Topology, holes: Holes) -> None:
        self._vertices = vertices.double()
        self._faces = faces

    def distance(self, points: Tensor) -> Tensor:
        away = (self.closest(points).point - points).norm(dim=1)
        return torch.where(winding_number(points, self._vertices, self._faces) > 0.5, -away, away)

    def closest(self, points: Tensor) -> ClosestPoints:
        return closest_points(points, self._vertices, self._faces)


class WarpDistance:
    """BVH queries; the sign is read off the surface where that is sure, and is the winding number's elsewhere."""

    def __init__(self, vertices: Tensor, faces: Tensor, topology: Topology, holes: Holes) -> None:
        from humannorm.distance import warp_signed_distance as kernels
        from humannorm.warp_runtime import device_of, wp

        self._wp, self._kernels = wp, kernels
        self._device = device_of(vertices)
        self._topology, self._holes = topology, holes
        self._low, high = vertices.amin(0), vertices.amax(0)
        self._extent = float((high - self._low).max())
        self._slack = RELATIVE_SLACK * float((high - self._low).norm())
        self._vertices = wp.from_torch(vertices.contiguous(), dtype=wp.vec3)
        self._faces = wp.from_torch(faces.int().flatten().contiguous())
        self._mesh = wp.Mesh(self._vertices, self._faces, support_winding_number=True)
        wp.load_module(kernels, device=self._device)  # before threads launch from it

    def distance(self, points: Tensor) -> Tensor:
        wp = self._wp
        signs = self._signs
        points = points.float().contiguous()
        distance = torch.empty(len(points), device=points.device)
        shared, order = wp.from_torch(points, dtype=wp.vec3), self._order(points)
        out = wp.from_torch(distance)
        self._launch(
            self._kernels.signed_distance, len(points), lambda begin: [self._mesh.id, signs, shared, order, begin, out]
        )
        return distance

    def closest(self, points: Tensor) -> ClosestPoints:
        wp = self._wp
        points = points.float().contiguous()
        point, barycentric = torch.empty_like(points), torch.empty_like(points)
        face = torch.empty(len(points), dtype=torch.int64, device=points.device)
        shared, order = wp.from_torch(points, dtype=wp.vec3), self._order(points)
        out = [wp.from_torch(point, dtype=wp.vec3), wp.from_torch(face), wp.from_torch(barycentric, dtype=wp.vec3)]
        self._launch(self._kernels.closest, len(points), lambda begin: [self._mesh.id, shared, order, begin, *out])
        return ClosestPoints(point, face, barycentric)

    @cached_property
    def _signs(self) -> Any:
        """What the signs need besides the tree, found when the first sign is needed."""
        wp, kernels, topology, holes = self._wp, self._kernels, self._topology, self._holes
        welded = self._upload(topology.faces.ravel(), wp.int32)
        crossed = wp.zeros(len(topology.faces), dtype=wp.int32, device=self._device)
        self._launch(
            kernels.mark_crossed_faces,
            len(topology.faces),
            lambda begin: [self._mesh.id, self._vertices, self._faces, welded, begin, self._slack, crossed],
        )
        region = face_regions(topology, crossed.numpy() != 0, holes)
        seeds = region_seeds(topology, region)
        winding = wp.empty(len(seeds), dtype=wp.float64, device=self._device)
        closed = np.concatenate([topology.corners, holes.triangles]).reshape(-1, 3)
        wp.launch(
            kernels.winding_in_front_of_faces,
            dim=len(seeds),
            inputs=[self._upload(closed, wp.vec3d), self._upload(seeds, wp.int32), winding],
            device=self._device,
        )
        vertex_normal, vertex_region = vertex_regions(topology, region)

        signs = kernels.Signs()
        signs.faces = welded
        signs.twin = self._upload(topology.twin.ravel(), wp.int32)
        signs.region = self._upload(region, wp.int32)
        signs.normal = self._upload(topology.unit_normals, wp.vec3)
        signs.vertex_region = self._upload(vertex_region, wp.int32)
        signs.vertex_normal = self._upload(vertex_normal, wp.vec3)
        signs.winding_in_front = self._upload(np.rint(winding.numpy()), wp.int32)
        signs.hole_centre = self._upload(holes.centres, wp.vec3)
        signs.hole_radius = self._upload(holes.radii * 1.001, wp.float32)
        signs.hole_area = self._upload(holes.areas, wp.float32)
        signs.accuracy = WINDING_ACCURACY
        signs.slack = self._slack
        return signs

    def _order(self, points: Tensor) -> Any:
        """Indices of the points along a space-filling curve, so that neighbours in time are neighbours in space."""
        wp, count = self._wp, len(points)
        if count < SORTED_FROM:
            return wp.from_torch(torch.arange(count, dtype=torch.int32, device=points.device))
        codes = wp.empty(2 * count, dtype=wp.int32, device=self._device)  # radix sort wants room for both copies
        order = wp.empty(2 * count, dtype=wp.int32, device=self._device)
        low = torch.minimum(points.amin(0), self._low)
        extent = max(float((points.amax(0) - low).max()), self._extent)
        wp.launch(
            self._kernels.morton_codes,
            dim=count,
            inputs=[wp.from_torch(points, dtype=wp.vec3), wp.vec3(*low.tolist()), 1024 / extent, codes, order],
            device=self._device,
        )
        wp.utils.radix_sort_pairs(codes, order, count)
        return order

    def _launch(self, kernel: Any, count: int, inputs: Callable[[int], list]) -> None:
        """Launch over ``count`` items; on a CPU in pieces on torch's number of threads (a launch releases the GIL)."""
        wp = self._wp
        threads = torch.get_num_threads() if self._device.is_cpu and count >= SORTED_FROM else 1
        pieces = 4 * threads if threads > 1 else 1  # more pieces than threads, so that none waits long for the last
        bounds = [count * piece // pieces for piece in range(pieces + 1)]

        def run(begin: int, end: int) -> None:
            wp.launch(kernel, dim=end - begin, inputs=inputs(begin), device=self._device)

        if threads == 1:
            run(0, count)
            return
        with ThreadPoolExecutor(threads) as pool:
            for _ in pool.map(run, bounds[:-1], bounds[1:]):
                pass

    def _upload(self, array: np.ndarray, dtype: Any) -> Any:
        return self._wp.array(array, dtype=dtype, device=self._device)


ENGINES: dict[str, Callable[[Tensor, Tensor, Topology, Holes], DistanceEngine]] = {
    "warp": WarpDistance,
    "torch": TorchDistance,
}


def _check_mesh(vertices: Tensor, faces: Tensor) -> None:
    check_tensor("vertices", vertices, "V 3")
    check_tensor("faces", faces, "F 3", dtype="int")
    check_same_device(vertices=vertices, faces=faces)
    check_tensor("vertices", vertices, "V 3", finite=True)
    if not len(vertices) or not len(faces):
        raise InputError(
            f"mesh: expected at least one vertex and one face, got {len(vertices)} vertices and {len(faces)} faces"
        )
    low, high = int(faces.min()), int(faces.max())
    if low < 0 or high >= len(vertices):
        raise InputError(f"faces: expected indices in 0..{len(vertices) - 1}, got {low}..{high}")
    a, b, c = (vertices.detach().double()[faces[:, k].long()] for k in range(3))
    if not bool((torch.linalg.cross(b - a, c - a).norm(dim=1) > 0).any()):
        raise InputError(f"mesh: expected a surface, got {len(faces)} faces that all have zero area")


def _closed(vertices: Tensor, faces: Tensor) -> tuple[Topology, Holes]:
    """How the faces hang together, and the cones that close the mesh."""
    topology = topology_of(vertices.double().cpu().numpy(), faces.cpu().numpy())
    return topology, caps_of_holes(topology)
