"""Signed distance: closed forms, the brute-force reference, the full winding-number sign, and hostile input."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.checks import InputError
from humannorm.distance.distance_reference import closest_points, winding_number
from humannorm.distance.signed_distance import SignedDistance

Surface = tuple[Tensor, Tensor]


def surface(mesh: trimesh.Trimesh) -> Surface:
    return torch.tensor(mesh.vertices, dtype=torch.float64), torch.tensor(mesh.faces, dtype=torch.int64)


def sphere(radius: float = 0.5, centre: tuple[float, float, float] = (0.0, 0.0, 0.0), subdivisions: int = 2) -> Surface:
    mesh = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    mesh.apply_translation(centre)
    return surface(mesh)


def joined(*parts: Surface) -> Surface:
    offsets = [0, *torch.tensor([len(v) for v, _ in parts]).cumsum(0).tolist()]
    return torch.cat([v for v, _ in parts]), torch.cat([f + o for (_, f), o in zip(parts, offsets, strict=False)])


def turned(part: Surface) -> Surface:
    return part[0], part[1][:, [0, 2, 1]]


def without(part: Surface, missing: Callable[[Tensor], Tensor]) -> Surface:
    """A surface less the faces whose centroid [F, 3] is ``missing``."""
    vertices, faces = part
    return vertices, faces[~missing(vertices[faces].mean(1))]


def box(extents: tuple[float, float, float] = (0.8, 0.6, 0.4), split: bool = False) -> Surface:
    mesh = trimesh.creation.box(extents=extents).subdivide().subdivide()
    vertices, faces = surface(mesh)
    if split:  # every face has vertices of its own, as along the seams of a textured mesh
        vertices, faces = vertices[faces].reshape(-1, 3), torch.arange(3 * len(faces)).reshape(-1, 3)
    return vertices, faces


def folded_tent() -> Surface:
    """Two tetrahedra that share only an apex vertex, and a third that shares an edge with the first."""
    vertices = torch.tensor(
        [[0, 0, 0], [1, 0, 0.2], [1, 0.6, 0], [1, 0.2, 0.8], [-1, 0, 0.1], [-1, 0.5, 0], [-1, 0.1, 0.7], [0.3, -1, 0.2]]
    )
    faces = torch.tensor(
        [
            *([0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]),
            *([0, 4, 5], [0, 6, 4], [0, 5, 6], [4, 6, 5]),
            *([0, 1, 7], [0, 4, 1], [1, 4, 7], [0, 7, 4]),
        ]
    )
    return 0.5 * vertices.double(), faces


def many_holes() -> Surface:
    """A sphere from which every third face is missing: more boundary curves than the sign takes one by one."""
    vertices, faces = sphere(subdivisions=3)
    return vertices, faces[torch.arange(len(faces)) % 3 != 0]


def with_slivers() -> Surface:
    """A sphere with one edge split for one of its faces only (the gap is filled by a sliver), and collapsed faces."""
    vertices, faces = sphere()
    a, b, c = faces[0].tolist()
    middle = len(vertices)
    vertices = torch.cat([vertices, (vertices[a] + vertices[b])[None] / 2])
    extra = torch.tensor([[a, middle, c], [middle, b, c], [a, b, middle], [5, 5, 9], [1, 2, 2]])
    return vertices, torch.cat([faces[1:], extra])


SURFACES: dict[str, Callable[[], Surface]] = {
    "sphere": sphere,
    "box with sharp edges": box,
    "box with split seams": lambda: box(split=True),
    "thin plate": lambda: box((1.0, 0.7, 0.01)),
    "torus": lambda: surface(trimesh.creation.torus(0.5, 0.15, major_sections=24, minor_sections=12)),
    "hollow sphere": lambda: joined(sphere(0.6), turned(sphere(0.4))),
    "two overlapping spheres": lambda: joined(sphere(0.4, (-0.2, 0, 0)), sphere(0.4, (0.2, 0.05, 0.03))),
    "sphere inside a sphere": lambda: joined(sphere(0.6), sphere(0.3, (0.1, 0, 0))),
    "two boxes that touch": lambda: joined(
        box((0.4, 0.4, 0.4)), (box((0.4,) * 3)[0] + torch.tensor([0.4, 0.0, 0.0]), box()[1])
    ),
    "one surface twice": lambda: joined(sphere(), sphere()),
    "parts that share vertices": folded_tent,
    "sphere with small holes": lambda: without(sphere(), lambda c: (c[:, 0].abs() > 0.475) | (c[:, 2] < -0.475)),
    "sphere with a large hole": lambda: without(sphere(), lambda c: c[:, 1] > 0.3),
    "open tube through a sphere": lambda: joined(
        sphere(0.35, subdivisions=2),
        without(surface(trimesh.creation.cylinder(0.15, 1.2, sections=24)), lambda c: c[:, 2].abs() > 0.59),
    ),
    "many holes": many_holes,
    "a part turned inside out": lambda: joined(sphere(0.5), turned(sphere(0.2, (0.55, 0, 0), 2))),
    "faces of mixed orientation": lambda: (lambda v, f: (v, torch.cat([f[:40].flip(1), f[40:]])))(
        *sphere(subdivisions=2)
    ),
    "slivers and collapsed faces": with_slivers,
}


def probes(vertices: Tensor, faces: Tensor, generator: torch.Generator, count: int = 600) -> Tensor:
    """Points all over and around the box, close to the surface, and close to its vertices and edges."""
    low, high = vertices.amin(0), vertices.amax(0)
    anywhere = low + (high - low) * (1.4 * torch.rand(count, 3, generator=generator, dtype=vertices.dtype) - 0.2)
    weights = torch.rand(2 * count, 3, generator=generator, dtype=vertices.dtype)
    weights[count : count + count // 2, 0] = 0.0  # on edges
    weights[count + count // 2 :, :2] = 0.0  # on vertices
    weights /= weights.sum(1, keepdim=True)
    face = torch.randint(len(faces), (2 * count,), generator=generator)
    on = (vertices[faces[face]] * weights[:, :, None]).sum(1)
    scale = (high - low).norm() * 10 ** (
        -3.5 * torch.rand(2 * count, 1, generator=generator, dtype=vertices.dtype) - 0.5
    )
    return torch.cat([anywhere, on + scale * torch.randn(2 * count, 3, generator=generator, dtype=vertices.dtype)])


@pytest.mark.slow
@pytest.mark.parametrize("name", SURFACES)
def test_equals_brute_force_and_full_winding_number(
    name: str, generator: torch.Generator, device: torch.device
) -> None:
    vertices, faces = SURFACES[name]()
    points = probes(vertices, faces, generator)
    measured = SignedDistance(vertices.to(device), faces.to(device))(points.to(device)).cpu()
    expected = (closest_points(points, vertices, faces).point - points).norm(dim=1)
    torch.testing.assert_close(measured.abs(), expected, atol=1e-6, rtol=1e-5)
    winding = winding_number(points, vertices, faces)
    # Float32 cannot tell the side of a point that lies on the surface, nor the tree a winding number of 1/2 in a hole.
    sure = (expected > 3e-6) & ((winding - 0.5).abs() > 0.02)
    assert sure.float().mean() > 0.9
    wrong = sure & ((measured < 0) != (winding > 0.5))
    assert not wrong.any(), f"{int(wrong.sum())} signs wrong, first at {points[wrong][0].tolist()}"


def test_torch_engine_is_the_same_function(generator: torch.Generator) -> None:
    vertices, faces = SURFACES["two overlapping spheres"]()
    points = probes(vertices, faces, generator, 200)
    fast, reference = (SignedDistance(vertices, faces, engine=engine)(points) for engine in ("warp", "torch"))
    torch.testing.assert_close(fast, reference, atol=1e-6, rtol=1e-5)


def test_sphere(generator: torch.Generator) -> None:
    vertices, faces = sphere(0.7, subdivisions=5)
    points = 2 * torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 1
    # A chord of an icosphere's edge e sags by at most e^2 / (8 r), the middle of a face by e^2 / (6 r).
    edge = (vertices[faces[:, 0]] - vertices[faces[:, 1]]).norm(dim=1).max()
    torch.testing.assert_close(
        SignedDistance(vertices, faces)(points), points.norm(dim=1) - 0.7, atol=float(edge**2 / (6 * 0.7)), rtol=0
    )


def test_box_is_exact(generator: torch.Generator) -> None:
    half = torch.tensor([0.4, 0.3, 0.2], dtype=torch.float64)
    points = 2 * torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 1
    beyond = points.abs() - half
    expected = beyond.clamp_min(0).norm(dim=1) + beyond.amax(1).clamp_max(0)
    torch.testing.assert_close(SignedDistance(*box())(points), expected, atol=1e-6, rtol=0)


def test_torus(generator: torch.Generator) -> None:
    major, minor, sections = 0.6, 0.2, 128
    mesh = surface(trimesh.creation.torus(major, minor, major_sections=sections, minor_sections=sections))
    points = 2 * torch.rand(2000, 3, generator=generator, dtype=torch.float64) - 1
    expected = torch.hypot(points[:, :2].norm(dim=1) - major, points[:, 2]) - minor
    sag = (major + 2 * minor) * (1 - math.cos(math.pi / sections))
    torch.testing.assert_close(SignedDistance(*mesh)(points), expected, atol=sag, rtol=0)


def test_a_small_hole_changes_no_sign_away_from_it(generator: torch.Generator) -> None:
    vertices, faces = sphere()
    points = probes(vertices, faces, generator)
    radius = points.norm(dim=1)
    points = points[((radius - 0.5).abs() > 0.02) & ((points - vertices[0]).norm(dim=1) > 0.15)]
    pierced = SignedDistance(vertices, faces[(faces != 0).all(1)])(points)
    assert torch.equal(pierced < 0, SignedDistance(vertices, faces)(points) < 0)


def test_closest(generator: torch.Generator) -> None:
    vertices, faces = SURFACES["two overlapping spheres"]()
    points = probes(vertices, faces, generator)
    distance = SignedDistance(vertices, faces)
    point, face, barycentric = distance.closest(points)
    torch.testing.assert_close((point - points).norm(dim=1), distance(points).abs(), atol=1e-6, rtol=0)
    torch.testing.assert_close((vertices[faces[face]] * barycentric[:, :, None]).sum(1), point, atol=1e-6, rtol=0)
    assert (barycentric >= -1e-6).all()
    torch.testing.assert_close(barycentric.sum(1), torch.ones(len(points), dtype=points.dtype))


def test_far_from_the_origin_nothing_is_lost(generator: torch.Generator) -> None:
    vertices, faces = sphere()
    points = probes(vertices, faces, generator)
    shift = torch.tensor([1e4, -3e3, 5e3], dtype=torch.float64)
    near, far = SignedDistance(vertices, faces)(points), SignedDistance(vertices + shift, faces)(points + shift)
    torch.testing.assert_close(near, far, atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ["warp", "torch"])
def test_inside_out_is_refused_or_flipped(engine: str, generator: torch.Generator) -> None:
    vertices, faces = sphere(subdivisions=2)
    vertices, wrong = turned((vertices, faces))
    with pytest.raises(InputError, match="inside-out"):
        SignedDistance(vertices, wrong, engine=engine)
    points = probes(vertices, faces, generator, 100)
    flipped = SignedDistance(vertices, wrong, inside_out="flip", engine=engine)
    torch.testing.assert_close(flipped(points), SignedDistance(vertices, faces, engine=engine)(points))
    point, face, barycentric = flipped.closest(points)
    torch.testing.assert_close((vertices[wrong[face]] * barycentric[:, :, None]).sum(1), point, atol=1e-6, rtol=0)


def test_an_open_sheet_has_no_inside() -> None:
    vertices = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]])
    distance = SignedDistance(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    torch.testing.assert_close(
        distance(torch.tensor([[0.5, 0.5, 0.25], [0.5, 0.5, -0.75]])), torch.tensor([0.25, 0.75])
    )


def test_result_does_not_depend_on_threads_or_company(generator: torch.Generator) -> None:
    """Neither the number of threads nor the other points of a call change one bit."""
    vertices, faces = SURFACES["two overlapping spheres"]()
    points = probes(vertices, faces, generator).float()
    distance = SignedDistance(vertices, faces)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = distance(points)
        torch.set_num_threads(2)
        together = distance(points)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(alone, together)
    assert torch.equal(alone[:100], distance(points[:100]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_keeps_dtype_and_takes_no_points(dtype: torch.dtype) -> None:
    distance = SignedDistance(*sphere(subdivisions=1))
    assert distance(torch.zeros(0, 3, dtype=dtype)).shape == (0,)
    assert distance(torch.zeros(2, 3, dtype=dtype)).dtype == dtype
    assert distance.closest(torch.zeros(0, 3, dtype=dtype)).point.shape == (0, 3)


def test_points_on_the_surface_are_at_zero() -> None:
    vertices, faces = sphere(subdivisions=2)
    torch.testing.assert_close(
        SignedDistance(vertices, faces)(vertices).abs(), torch.zeros(len(vertices)).double(), atol=1e-6, rtol=0
    )


@pytest.mark.usefixtures("as_user")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, f: (v[:, :2], f), r"vertices: expected float tensor \[V, 3\], got float64 \[162, 2\]"),
        (lambda v, f: (v.long(), f), "vertices: expected float tensor"),
        (lambda v, f: (v.numpy(), f), "vertices: expected float tensor .* got ndarray"),
        (lambda v, f: (v.where(v != v[3], math.nan), f), "vertices: expected finite values"),
        (lambda v, f: (v, f.double()), "faces: expected int tensor"),
        (lambda v, f: (v, f[:, :2]), r"faces: expected int tensor \[F, 3\]"),
        (lambda v, f: (v, f[:0]), "at least one vertex and one face"),
        (lambda v, f: (v[:0], f), "at least one vertex and one face"),
        (lambda v, f: (v, f + 1), r"faces: expected indices in 0\.\.161, got 1\.\.162"),
        (lambda v, f: (v, f - 1), "faces: expected indices in 0"),
        (lambda v, f: (0 * v, f), "zero area"),
        (
            lambda v, f: (v.to("meta"), f),
            "vertices, faces: expected all on one device, got vertices on meta, faces on cpu",
        ),
    ],
)
def test_refuses_bad_meshes(change: Callable[[Tensor, Tensor], tuple], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SignedDistance(*change(*sphere(subdivisions=2)))


@pytest.mark.usefixtures("as_user")
def test_refuses_bad_points_and_options() -> None:
    vertices, faces = sphere(subdivisions=1)
    distance = SignedDistance(vertices, faces)
    with pytest.raises(InputError, match=r"points: expected float tensor \[N, 3\], got float32 \[3\]"):
        distance(torch.zeros(3))
    with pytest.raises(InputError, match="points: expected finite values, got 1 "):
        distance(torch.tensor([[0.0, math.inf, 0.0]]))
    with pytest.raises(InputError, match="points: expected float tensor"):
        distance.closest(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(InputError, match="points, mesh: expected all on one device"):
        distance(torch.zeros(2, 3, device="meta"))
    with pytest.raises(InputError, match="engine: expected one of auto, warp, torch"):
        SignedDistance(vertices, faces, engine="cuda")
    with pytest.raises(InputError, match="inside_out: expected one of error, flip"):
        SignedDistance(vertices, faces, inside_out="ignore")
