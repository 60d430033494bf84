from __future__ import annotations

import dataclasses
from fractions import Fraction

import pytest
import torch
import trimesh
from scipy.spatial import Delaunay
from torch import Tensor

from humannorm.rendering import Fragments, rasterize

ENGINES = ("torch", "warp")


def perspective(points: Tensor, near: float = 0.1, far: float = 100.0, focal: float = 2.0) -> Tensor:
    """Clip positions of camera-space points (x right, y up, z toward the viewer)."""
    x, y, z = points.unbind(-1)
    depth = -(far + near) / (far - near) * z - 2 * far * near / (far - near)
    return torch.stack((focal * x, focal * y, depth, -z), dim=-1)


def flat(points: Tensor, depth: float | Tensor = 0.0) -> Tensor:
    """Clip positions of points given in normalised device coordinates."""
    depth = torch.as_tensor(depth, dtype=points.dtype).expand(points.shape[:-1])
    return torch.cat((points, depth[..., None], torch.ones_like(points[..., :1])), dim=-1)


def sphere(subdivisions: int, radius: float = 1.0) -> tuple[Tensor, Tensor]:
    mesh = trimesh.creation.icosphere(subdivisions, radius)
    return torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)


def soup(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random triangles of all sizes; some cross the near or far plane, the eye's plane, or leave the guard band."""
    size = 10.0 ** torch.empty(count, 1, 1).uniform_(-2.5, 1.0, generator=generator)
    centre = torch.randn(count, 1, 3, generator=generator) + torch.tensor([0.0, 0.0, -3.0])
    points = centre + size * torch.randn(count, 3, 3, generator=generator)
    points[0] *= 1e7
    return perspective(points.reshape(1, -1, 3), far=8.0), torch.arange(3 * count).reshape(-1, 3)


def fragments_on(fragments: Fragments, device: torch.device | str) -> Fragments:
    tensors = {name: value.to(device) for name, value in vars(fragments).items() if isinstance(value, Tensor)}
    return dataclasses.replace(fragments, **tensors)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("on_centres", [False, True])
def test_a_tessellation_covers_every_pixel_exactly_once(
    engine: str, on_centres: bool, generator: torch.Generator, device: torch.device
) -> None:
    height, width = 16, 24
    inner = torch.rand(25, 2, generator=generator) * torch.tensor([width, height])
    if on_centres:  # corners and edges run through pixel centres: the fill rule alone decides
        inner = inner.floor() + 0.5
    border = torch.tensor([[-3.0, -3.0], [width + 3, -3.0], [-3.0, height + 3], [width + 3, height + 3]])
    pixels = torch.cat((border, inner.unique(dim=0)))
    faces = torch.tensor(Delaunay(pixels.numpy()).simplices).long()
    flipped = torch.rand(len(faces), generator=generator) < 0.5
    faces[flipped] = faces[flipped].flip(1)
    clip, faces = flat(pixels * 2 / torch.tensor([width, height]) - 1)[None].to(device), faces.to(device)
    layers = sum(rasterize(clip, face[None], (height, width), engine=engine).covered.int() for face in faces)
    assert torch.equal(layers, torch.ones_like(layers))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_closed_surface_has_an_even_number_of_layers_everywhere(engine: str, generator: torch.Generator) -> None:
    vertices, faces = sphere(2)
    vertices = vertices * (1 + 0.3 * torch.rand(len(vertices), 1, generator=generator)) + torch.tensor([0.0, 0.0, -3.0])
    clip = perspective(vertices)[None]
    layers, behind = torch.zeros(1, 50, 40, dtype=torch.int), None
    while (fragments := rasterize(clip, faces, (50, 40), behind=behind, engine=engine)).covered.any():
        layers += fragments.covered
        behind = fragments.depth
    assert layers.max() >= 2
    assert (layers % 2 == 0).all()


def covered_exactly(corners: list[list[int]], x: int, y: int) -> bool:
    """Coverage of a pixel's centre by the definition of the top-left rule, in integers, for one triangle."""
    (ax, ay), (bx, by), (cx, cy) = corners
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    if area < 0:
        return covered_exactly([corners[0], corners[2], corners[1]], x, y)
    px, py = 256 * x + 128, 256 * y + 128
    for (sx, sy), (ex, ey) in (
        (corners[0], corners[1]),
        (corners[1], corners[2]),
        (corners[2], corners[0]),
    ):
        value = (ex - sx) * (py - sy) - (ey - sy) * (px - sx)
        is_top, is_left = ey == sy and ex > sx, ey < sy
        if value < 0 or (value == 0 and not (is_top or is_left)):
            return False
    return area > 0


@pytest.mark.parametrize("engine", ENGINES)
def test_ids_and_depths_against_a_naive_loop_in_exact_arithmetic(engine: str, generator: torch.Generator) -> None:
    height, width = 9, 12
    points = torch.rand(60, 2, generator=generator) * 3 - 1.5
    points[:20] = ((points[:20] + 1) * 6).round() / 6 - 1  # corners on pixel borders
    depth = torch.rand(60, generator=generator) * 1.6 - 0.8
    faces = torch.randint(0, 60, (30, 3), generator=generator)
    fragments = rasterize(flat(points, depth)[None], faces, (height, width), engine=engine)

    half = [Fraction(width * 128), Fraction(height * 128)]
    screen = [
        [
            ((Fraction(x) + 1) * half[0] + Fraction(1, 2)).__floor__(),
            ((1 - Fraction(y)) * half[1] + Fraction(1, 2)).__floor__(),
        ]
        for x, y in points.tolist()
    ]
    for y in range(height):
        for x in range(width):
            hits = []
            for index, face in enumerate(faces.tolist()):
                corners = [screen[i] for i in face]
                if covered_exactly(corners, x, y):
                    hits.append((naive_depth(corners, depth[face].tolist(), x, y), index))
            seen = int(fragments.triangle[0, y, x])
            if not hits:
                assert seen == -1
                assert fragments.depth[0, y, x] == 1
            else:
                assert seen == min(hits)[1]
                assert fragments.depth[0, y, x] == pytest.approx(float(min(hits)[0]), abs=1e-6)


def naive_depth(corners: list[list[int]], depth: list[float], x: int, y: int) -> Fraction:
    """Depth at a pixel's centre of the plane through three snapped corners."""
    (ax, ay), (bx, by), (cx, cy) = corners
    px, py = 256 * x + 128, 256 * y + 128
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    weight_b = Fraction((px - ax) * (cy - ay) - (py - ay) * (cx - ax), area)
    weight_c = Fraction((bx - ax) * (py - ay) - (by - ay) * (px - ax), area)
    a, b, c = (Fraction(z) for z in depth)
    return a + weight_b * (b - a) + weight_c * (c - a)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [(64, 64), (37, 91), (1, 50), (50, 1), (150, 200)])
def test_warp_equals_the_reference_on_any_soup(
    resolution: tuple[int, int], generator: torch.Generator, device: torch.device
) -> None:
    clip, faces = soup(200, generator)
    clip = torch.cat((clip, clip.roll(3, dims=1)))
    reference = rasterize(clip, faces, resolution, engine="torch")
    there = rasterize(clip.to(device), faces.to(device), resolution, engine="warp")
    fast = fragments_on(there, "cpu")
    assert torch.equal(reference.triangle, fast.triangle)
    assert torch.equal(reference.depth, fast.depth)
    torch.testing.assert_close(reference.barycentric, fast.barycentric, atol=1e-5, rtol=0)
    peeled = rasterize(clip.to(device), faces.to(device), resolution, behind=there.depth, engine="warp")
    behind = [rasterize(clip, faces, resolution, behind=reference.depth, engine="torch"), fragments_on(peeled, "cpu")]
    assert torch.equal(behind[0].triangle, behind[1].triangle)
    assert (behind[0].depth[behind[0].covered] > reference.depth[behind[0].covered]).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_barycentrics_are_where_the_ray_meets_the_triangle(engine: str, generator: torch.Generator) -> None:
    points = torch.tensor([[-2.0, -1.5, -2.0], [2.5, -1.0, -6.0], [0.0, 3.0, -4.0]])
    fragments = rasterize(perspective(points)[None], torch.tensor([[0, 1, 2]]), (40, 30), engine=engine)
    _, row, column = torch.nonzero(fragments.covered, as_tuple=True)
    ray = torch.stack(  # focal length 2
        ((column + 0.5) / 15 - 1, 1 - (row + 0.5) / 20, torch.full(row.shape, -2.0)), dim=1
    ).double()
    # ray * t = a + u' (b - a) + v' (c - a)
    a, b, c = points.double()
    system = torch.stack((ray, (a - b).expand_as(ray), (a - c).expand_as(ray)), dim=2)
    _, weight_b, weight_c = torch.linalg.solve(system, a.expand_as(ray)).unbind(1)
    expected = torch.stack((1 - weight_b - weight_c, weight_b), dim=1).float()
    assert len(row) > 300
    # The cut to the triangle moves centres that snapping let in from outside, by less than one step.
    torch.testing.assert_close(fragments.barycentric[fragments.covered], expected, atol=1e-4, rtol=0)
    inside = (expected > 0).all(1) & (expected.sum(1) < 1)
    torch.testing.assert_close(fragments.barycentric[fragments.covered][inside], expected[inside], atol=2e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_floor_under_the_camera_is_clipped_at_the_near_and_far_plane(engine: str) -> None:
    near, far, size = 0.5, 20.0, 64
    corners = torch.tensor([[-90.0, -1.0, 50.0], [90.0, -1.0, 50.0], [90.0, -1.0, -50.0], [-90.0, -1.0, -50.0]])
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    clip = perspective(corners, near, far, focal=1.0)[None]
    fragments = rasterize(clip, faces, (size, size), engine=engine)

    row = torch.arange(size, dtype=torch.float64)
    down = -(1 - (row + 0.5) * 2 / size)  # slope of the ray per unit of depth
    distance = 1 / down
    expected = (down > 0) & (distance > near) & (distance < far)
    assert torch.equal(fragments.covered[0], expected[:, None].expand(size, size))
    weights = torch.cat((fragments.barycentric, 1 - fragments.barycentric.sum(-1, keepdim=True)), dim=-1)
    hit = (weights[0].double()[..., None] * corners.double()[faces[fragments.triangle[0].long()]]).sum(-2)
    seen = fragments.covered[0]
    torch.testing.assert_close(-hit[..., 2][seen], distance[:, None].expand(size, size)[seen], atol=2e-4, rtol=2e-5)
    ndc = (far + near) / (far - near) - 2 * far * near / (far - near) / distance
    torch.testing.assert_close(
        fragments.depth[0].double()[seen], ndc[:, None].expand(size, size)[seen], atol=2e-4, rtol=0
    )


def part_before(triangle: list[Tensor], z: float) -> list[Tensor]:
    """The polygon that remains of a triangle on the side of smaller z."""
    polygon: list[Tensor] = []
    for start, end in zip(triangle, [*triangle[1:], triangle[0]], strict=True):
        if start[2] <= z:
            polygon.append(start)
        if (start[2] <= z) != (end[2] <= z):
            polygon.append(start + (z - start[2]) / (end[2] - start[2]) * (end - start))
    return polygon


@pytest.mark.parametrize("engine", ENGINES)
def test_clipping_equals_drawing_geometry_that_was_cut_before(engine: str, generator: torch.Generator) -> None:
    points = torch.randn(40, 3, 3, generator=generator) * 2 + torch.tensor([0.0, 0.0, -2.0])
    parts, owners = [], []
    for owner, triangle in enumerate(points.double()):
        polygon = part_before(list(triangle), -0.1)
        parts += [torch.stack((polygon[0], polygon[i], polygon[i + 1])) for i in range(1, len(polygon) - 1)]
        owners += [owner] * max(len(polygon) - 2, 0)
    whole, cut = (
        rasterize(
            perspective(mesh.reshape(1, -1, 3)), torch.arange(3 * len(mesh)).reshape(-1, 3), (60, 60), engine=engine
        )
        for mesh in (points, torch.stack(parts).float())
    )
    assert len(owners) > 45  # many were cut in two
    assert whole.covered.float().mean() > 0.5
    owner = torch.where(cut.covered, torch.tensor(owners)[cut.triangle.long()], -1)
    # The single-precision corners of what was cut before may snap to the next step.
    assert (owner != whole.triangle).float().mean() < 0.002
    assert (whole.depth - cut.depth)[owner == whole.triangle].abs().max() < 1e-4


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("reach", [1e3, 1e5, 1e8, 1e15])
def test_coordinates_beyond_the_guard_band(engine: str, reach: float) -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * reach
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    layers = [rasterize(flat(corners, 0.25)[None], face[None], (33, 47), engine=engine) for face in faces]
    count = layers[0].covered.int() + layers[1].covered.int()
    # A cut in double precision is rounded: neighbouring triangles share its corners, so there is still no crack.
    assert torch.equal(count, torch.ones_like(count))
    assert (layers[0].depth[layers[0].covered] == 0.25).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_degenerate_triangles_are_harmless(engine: str) -> None:
    points = torch.tensor([[-0.5, -0.5], [0.5, 0.5], [0.0, 0.0], [0.5, -0.5], [0.3, 0.3]])
    degenerate = torch.tensor([[0, 0, 1], [0, 1, 2], [2, 2, 2], [4, 1, 0]])
    empty = rasterize(flat(points)[None], degenerate, (20, 20), engine=engine)
    assert not empty.covered.any()
    assert (empty.depth == 1).all() and (empty.barycentric == 0).all()
    alone = rasterize(flat(points)[None], torch.tensor([[0, 3, 1]]), (20, 20), engine=engine)
    among = rasterize(flat(points)[None], torch.cat((degenerate, torch.tensor([[0, 3, 1]]))), (20, 20), engine=engine)
    assert torch.equal(alone.covered, among.covered) and alone.covered.any()
    assert (among.triangle[among.covered] == 4).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tie_in_depth_goes_to_the_lowest_triangle_and_windings_are_equal(engine: str) -> None:
    points = torch.tensor([[-0.9, -0.8], [0.8, -0.5], [0.1, 0.9]])
    faces = torch.tensor([[0, 1, 2], [2, 1, 0], [1, 2, 0]])
    fragments = rasterize(flat(points, torch.tensor([-0.3, 0.2, 0.4]))[None], faces, (30, 30), engine=engine)
    assert (fragments.triangle[fragments.covered] == 0).all()
    other = rasterize(flat(points, torch.tensor([-0.3, 0.2, 0.4]))[None], faces[[1, 2, 0]], (30, 30), engine=engine)
    assert torch.equal(fragments.covered, other.covered) and torch.equal(fragments.depth, other.depth)
    assert (other.triangle[other.covered] == 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_row_0_is_the_top_and_centres_lie_at_half_integers(engine: str) -> None:
    corners = torch.tensor([[0.0, 0.5], [2.0, 0.5], [0.0, 2.0]])  # reaches only the top right
    fragments = rasterize(flat(corners)[None], torch.tensor([[0, 1, 2]]), (4, 4), engine=engine)
    expected = torch.zeros(1, 4, 4, dtype=torch.bool)
    expected[0, 0, 2:] = True
    assert torch.equal(fragments.covered, expected)


@pytest.mark.parametrize("engine", ENGINES)
def test_peeling_of_nested_spheres(engine: str) -> None:
    vertices, faces = sphere(2)
    move = torch.tensor([0.0, 0.0, -3.0])
    both = perspective(torch.cat((vertices + move, 0.5 * vertices + move)))[None]
    faces = torch.cat((faces, faces + len(vertices)))
    inner, behind, depths = [], None, []
    for _ in range(4):
        fragments = rasterize(both, faces, (31, 31), behind=behind, engine=engine)
        behind = fragments.depth
        inner.append(bool(fragments.triangle[0, 15, 15] >= len(faces) // 2))
        depths.append(float(behind[0, 15, 15]))
    assert inner == [False, True, True, False]
    assert depths == sorted(depths)
    assert not rasterize(both, faces, (31, 31), behind=behind, engine=engine).covered[0, 15, 15]


def test_a_batch_is_its_views(generator: torch.Generator) -> None:
    clip, faces = soup(60, generator)
    clips = torch.cat((clip, clip * torch.tensor([-1.0, 1.0, 1.0, 1.0]), clip.roll(6, dims=1)))
    together = rasterize(clips, faces, (70, 50), engine="warp")
    for view, single in enumerate(clips):
        alone = rasterize(single[None], faces, (70, 50), engine="warp")
        assert torch.equal(together.triangle[view], alone.triangle[0])
        assert torch.equal(together.barycentric[view], alone.barycentric[0])


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [(1, 1), (8192, 8192), (1, 8192), (8192, 3)])
def test_smallest_and_largest_targets(resolution: tuple[int, int]) -> None:
    corners = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    fragments = rasterize(flat(corners)[None], torch.tensor([[0, 1, 2], [0, 2, 3]]), resolution, engine="warp")
    assert fragments.triangle.shape == (1, *resolution)
    assert fragments.covered.all()
    assert (fragments.depth == 0).all()


def test_two_million_faces(device: torch.device) -> None:
    side = 1001
    line = torch.linspace(-1, 1, side)
    points = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    corner = (torch.arange(side - 1)[:, None] * side + torch.arange(side - 1)).reshape(-1)
    faces = torch.cat(
        (
            torch.stack((corner, corner + 1, corner + side), dim=1),
            torch.stack((corner + 1, corner + side + 1, corner + side), dim=1),
        )
    )
    assert len(faces) == 2_000_000
    assert rasterize(flat(points)[None].to(device), faces.to(device), (128, 128), engine="warp").covered.all()


def test_gradient_of_the_reference() -> None:
    points = torch.tensor(
        [[-1.4, -1.2, -2.0], [1.5, -0.9, -4.0], [0.2, 1.7, -3.0], [1.1, 1.4, 0.3]], dtype=torch.float64
    )
    faces = torch.tensor([[0, 1, 2], [1, 3, 2]])  # the second crosses the near plane and the eye's plane
    clip = perspective(points)[None].requires_grad_()

    def barycentric(clip: Tensor) -> Tensor:
        fragments = rasterize(clip, faces, (5, 6), engine="torch")
        return fragments.barycentric[fragments.covered]

    assert len(barycentric(clip)) > 10
    assert torch.autograd.gradcheck(barycentric, (clip,), eps=1e-7, atol=1e-4)


@pytest.mark.slow
def test_gradient_of_warp_is_that_of_the_reference(generator: torch.Generator, device: torch.device) -> None:
    vertices, faces = sphere(3)
    clips = torch.stack([perspective(vertices + torch.tensor([0.0, 0.1, -z])) for z in (2.5, 0.8)])
    weight = torch.randn(2, 60, 80, 2, generator=generator)
    gradients = []
    for engine, at in (("torch", torch.device("cpu")), ("warp", device)):
        clip = clips.clone().to(at).requires_grad_()
        (rasterize(clip, faces.to(at), (60, 80), engine=engine).barycentric * weight.to(at)).sum().backward()
        assert clip.grad is not None
        gradients.append(clip.grad.cpu())
    assert gradients[0].abs().max() > 1
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-5 * float(gradients[0].abs().max()), rtol=1e-5)
    assert (gradients[0][..., 2] == 0).all() and (gradients[1][..., 2] == 0).all()  # weights do not depend on z


def test_depth_carries_no_gradient_and_inputs_are_left_alone() -> None:
    vertices, faces = sphere(1)
    clip = perspective(vertices + torch.tensor([0.0, 0.0, -3.0]))[None].requires_grad_()
    before, faces_before = clip.detach().clone(), faces.clone()
    for engine in ENGINES:
        fragments = rasterize(clip, faces, (16, 16), engine=engine)
        assert not fragments.depth.requires_grad and fragments.barycentric.requires_grad
    assert torch.equal(clip, before) and torch.equal(faces, faces_before)
