"""The mesh type that every stage hands on, and what can be said of a mesh with torch alone.

Letters: V vertices, F faces, E edges. World frame as in glTF: +Y up, +Z the subject's front, +X the subject's left.
Faces wind counter-clockwise seen from outside.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

from humannorm.checks import InputError, check_same_device, check_tensor

__all__ = [
    "Mesh",
    "check_mesh",
    "connected_components",
    "face_areas",
    "face_normals",
    "is_watertight",
    "laplacian_smoothness",
    "leaning",
    "mesh_volume",
    "normal_consistency",
    "to_trimesh",
    "uniform_laplacian",
    "unique_edges",
    "vertex_normals",
    "weld",
    "welded_vertex_normals",
]


# Of `weld`: odd multipliers, one per coordinate (fractional parts of the golden ratio, sqrt(2) and sqrt(3) in 63 bits).
_MULTIPLIERS = (0x4F1BBCDCBFA53E0B, 0x3504F333F9DE6485, 0x5DB3D742C265539D)


@dataclass(frozen=True, eq=False)
class Mesh:
    """An immutable triangle mesh. Shapes, kinds and devices are checked when it is made, values by `check_mesh`."""

    vertices: Float[Tensor, "V 3"]  # world units
    faces: Int64[Tensor, "F 3"]  # vertex indices, counter-clockwise from outside
    normals: Float[Tensor, "V 3"] | None = None  # unit length
    uvs: Float[Tensor, "V 2"] | None = None  # one pair per vertex (seams are split), v = 0 at the top of the texture
    colors: Float[Tensor, "V 3"] | None = None  # sRGB 0..1
    texture: Float[Tensor, "H W 3"] | None = None  # base colour, sRGB 0..1, row 0 at the top

    def __post_init__(self) -> None:
        check_tensor("vertices", self.vertices, "V 3")
        check_tensor("faces", self.faces, "F 3", dtype="int")
        if self.faces.dtype != torch.int64:
            raise InputError(f"faces: expected int64, got {self.faces.dtype}")
        count = self.num_vertices
        for name, width in (("normals", 3), ("uvs", 2), ("colors", 3)):
            if getattr(self, name) is not None:
                check_tensor(name, getattr(self, name), f"{count} {width}")
        if self.texture is not None:
            check_tensor("texture", self.texture, "H W 3")
        check_same_device(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})

    @property
    def num_vertices(self) -> int:
        return self.vertices.shape[0]

    @property
    def num_faces(self) -> int:
        return self.faces.shape[0]

    @property
    def device(self) -> torch.device:
        return self.vertices.device

    def replace(self, **changes: Any) -> Mesh:
        """A copy with some fields exchanged."""
        return dataclasses.replace(self, **changes)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Mesh:
        """A copy on another device; `dtype` is given to the floating-point fields only."""

        def move(tensor: Tensor | None) -> Tensor | None:
            if tensor is None:
                return None
            return tensor.to(device=device, dtype=dtype if tensor.is_floating_point() else None)

        return Mesh(**{field.name: move(getattr(self, field.name)) for field in dataclasses.fields(self)})  # type: ignore[arg-type]


def check_mesh(mesh: Mesh) -> None:
    """Raise `InputError` for a mesh without area: no vertices, no faces, NaN, indices out of range, all degenerate."""
    if mesh.num_vertices == 0 or mesh.num_faces == 0:
        raise InputError(f"mesh: expected vertices and faces, got {mesh.num_vertices} and {mesh.num_faces}")
    check_tensor("vertices", mesh.vertices, "V 3", finite=True)
    low, high = int(mesh.faces.min()), int(mesh.faces.max())
    if low < 0 or high >= mesh.num_vertices:
        raise InputError(f"faces: expected vertex indices 0 to {mesh.num_vertices - 1}, got {low} to {high}")
    for name in ("normals", "uvs", "colors", "texture"):
        if getattr(mesh, name) is not None:
            check_tensor(name, getattr(mesh, name), "*", finite=True)
    if not bool((face_areas(mesh.vertices.detach(), mesh.faces) > 0).any()):
        raise InputError(f"mesh: expected some triangle with an area, got {mesh.num_faces} of zero area")


def _face_crosses(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3"]:
    """Per face (b - a) x (c - a): along the outward normal, twice the area long."""
    a, b, c = vertices[faces].unbind(1)
    return torch.linalg.cross(b - a, c - a)


def face_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "F 3"]:
    """Unit outward normals; zero for a degenerate face."""
    return torch.nn.functional.normalize(_face_crosses(vertices, faces), dim=-1, eps=torch.finfo(vertices.dtype).tiny)


def face_areas(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, " F"]:
    """Area of each face in squared world units."""
    return 0.5 * torch.linalg.vector_norm(_face_crosses(vertices, faces), dim=-1)


def vertex_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """Area-weighted vertex normals: the normalised sum of (b - a) x (c - a) over the faces around a vertex.

    Unit length, pointing outwards; zero for a vertex without faces or with faces that cancel.
    """
    sums = _sum_at_corners(_face_crosses(vertices, faces), faces, vertices.shape[0])
    return torch.nn.functional.normalize(sums, dim=-1, eps=torch.finfo(vertices.dtype).tiny)


def weld(vertices: Float[Tensor, "V 3"]) -> Int64[Tensor, " V"]:
    """For every vertex the first one at exactly the same position.

    Where texture, normals or colours change abruptly, meshes split their vertices: `weld(vertices)[faces]` is the mesh
    without these seams.

    Positions are compared by a hash of their bits, much faster than `torch.unique` over rows; should two positions ever
    share a hash, the slow way is taken.
    """
    positions = vertices.detach() + 0.0  # turns -0 into 0
    bits = positions.view(torch.int64 if positions.dtype == torch.float64 else torch.int32).long()
    keys = torch.zeros_like(bits[:, 0])
    for coordinate, multiplier in zip(bits.unbind(1), _MULTIPLIERS, strict=True):
        keys = (keys ^ coordinate) * multiplier  # wraps around
        keys = keys ^ (keys >> 29)
    first = _first_of_each(torch.unique(keys, return_inverse=True)[1])
    if torch.equal(positions[first], positions):
        return first
    return _first_of_each(torch.unique(positions, dim=0, return_inverse=True)[1])


def _first_of_each(group: Int64[Tensor, " V"]) -> Int64[Tensor, " V"]:
    """Lowest index with the same group number."""
    index = torch.arange(len(group), device=group.device)
    return torch.full_like(group, len(group)).scatter_reduce(0, group, index, "amin")[group]


def welded_vertex_normals(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """`vertex_normals` as if vertices at the same position were one: texture seams do not show in the shading."""
    first = weld(vertices)
    return vertex_normals(vertices, first[faces])[first]


def _sum_at_corners(values: Float[Tensor, "F 3"], faces: Int[Tensor, "F 3"], count: int) -> Float[Tensor, "V 3"]:
    sums = values.new_zeros(count, values.shape[1])
    for corner in range(3):
        sums = sums.index_add(0, faces[:, corner], values)
    return sums


def _half_edges(faces: Int[Tensor, "F 3"]) -> tuple[Int[Tensor, " H"], Int[Tensor, " H"]]:
    """Start and end vertex of the 3F directed edges, in the faces' winding."""
    return faces.flatten(), faces[:, [1, 2, 0]].flatten()


def unique_edges(faces: Int[Tensor, "F 3"]) -> Int64[Tensor, "E 2"]:
    """Every undirected edge once as (lower, higher) vertex index, sorted; without edges from a vertex to itself."""
    start, end = _half_edges(faces.long())
    low, high = torch.minimum(start, end), torch.maximum(start, end)
    stride = int(high.max()) + 1 if high.numel() else 1
    keys = torch.unique((low * stride + high)[low != high])
    return torch.stack([keys // stride, keys % stride], dim=1)


def uniform_laplacian(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "V 3"]:
    """The uniform graph Laplacian (D - A) v: per vertex the *sum* over its neighbours j of v_i - v_j.

    A is the 0/1 adjacency of `unique_edges` and D its degrees, as in large-steps and in the published HumanNorm code.
    (pytorch3d's is (D^-1 A - I) v: the opposite sign, divided by the degree.) Zero in the middle of a regular flat fan.
    """
    low, high = unique_edges(faces).unbind(1)
    difference = vertices[low] - vertices[high]
    return torch.zeros_like(vertices).index_add(0, low, difference).index_add(0, high, -difference)


def laplacian_smoothness(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, ""]:
    """Mean over vertices of the L2 norm of `uniform_laplacian` (world units), as the published code weighs it."""
    return torch.linalg.vector_norm(uniform_laplacian(vertices, faces), dim=-1).mean()


def normal_consistency(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, ""]:
    """Mean over `unique_edges` of 1 - cos(angle) between the *vertex* normals at the edge's ends, in [0, 2].

    This is the published code's definition (threestudio); pytorch3d compares the two *faces* at an edge instead.
    """
    normals = vertex_normals(vertices, faces)
    low, high = unique_edges(faces).unbind(1)
    return (1.0 - torch.nn.functional.cosine_similarity(normals[low], normals[high], dim=-1)).mean()


def is_watertight(faces: Int[Tensor, "F 3"]) -> bool:
    """Whether every directed edge occurs once and its opposite once: a closed surface with consistent winding."""
    if faces.shape[0] == 0:
        return False
    start, end = _half_edges(faces.long())
    stride = int(faces.max()) + 1
    forward, counts = torch.unique(start * stride + end, return_counts=True)
    backward = torch.sort(end * stride + start).values
    return bool((counts == 1).all()) and torch.equal(forward, backward)


def connected_components(faces: Int[Tensor, "F 3"], num_vertices: int) -> Int64[Tensor, " V"]:
    """Component label of each vertex, 0 upwards in order of the lowest vertex; a vertex without faces is its own."""
    import numpy as np
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components as label

    start, end = (half.cpu().numpy() for half in _half_edges(faces))
    graph = coo_array((np.ones(len(start), bool), (start, end)), shape=(num_vertices, num_vertices))
    return torch.as_tensor(label(graph.tocsr(), directed=False)[1], dtype=torch.int64, device=faces.device)


def mesh_volume(vertices: Float[Tensor, "V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, ""]:
    """Signed volume of a closed mesh by the divergence theorem: positive if faces wind outwards."""
    a, b, c = vertices[faces].unbind(1)
    return (a * torch.linalg.cross(b, c)).sum() / 6.0


def leaning(normals: Float[Tensor, "N 3"], slopes: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Unit normals turned by the tangential part of vectors: one of length s turns by arctan(s)."""
    unit = F.normalize(normals, dim=-1)
    return F.normalize(unit + slopes - (slopes * unit).sum(-1, keepdim=True) * unit, dim=-1)


def to_trimesh(mesh: Mesh) -> Any:
    """A `trimesh.Trimesh` with the same vertices, faces, normals, and texture (v flipped to trimesh's) or colours."""
    import trimesh

    def array(tensor: Tensor) -> Any:
        return tensor.detach().cpu().numpy()

    visual = None
    if mesh.uvs is not None and (mesh.texture is not None or mesh.colors is None):
        from humannorm.images import to_pil

        image = None if mesh.texture is None else to_pil(mesh.texture)
        material = trimesh.visual.material.PBRMaterial(baseColorTexture=image)
        visual = trimesh.visual.TextureVisuals(uv=array(mesh.uvs) * (1, -1) + (0, 1), material=material)
    elif mesh.colors is not None:
        rounded = (mesh.colors.clamp(0, 1) * 255).round().to(torch.uint8)
        visual = trimesh.visual.ColorVisuals(vertex_colors=array(rounded))
    return trimesh.Trimesh(
        vertices=array(mesh.vertices),
        faces=array(mesh.faces),
        vertex_normals=None if mesh.normals is None else array(mesh.normals),
        visual=visual,
        process=False,
    )
