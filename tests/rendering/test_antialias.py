from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.rendering import Fragments, antialias, interpolate, rasterize

ENGINES = ("torch", "warp")


def flat(points: Tensor, depth: float = 0.0) -> Tensor:
    """Clip positions [1, V, 4] of points given in normalised device coordinates."""
    return torch.cat((points, torch.full_like(points[:, :1], depth), torch.ones_like(points[:, :1])), dim=1)[None]


def perspective(points: Tensor) -> Tensor:
    x, y, z = points.unbind(-1)
    return torch.stack((2 * x, 2 * y, -1.002 * z - 0.2002, -z), dim=-1)


def mask_of(clip: Tensor, faces: Tensor, resolution: tuple[int, int], engine: str) -> Tensor:
    fragments = rasterize(clip, faces, resolution, engine=engine)
    covered = fragments.covered[..., None].to(clip.dtype)
    return antialias(covered, fragments, clip, faces)[..., 0]


def by_engines(clip: Tensor, faces: Tensor, resolution: tuple[int, int]) -> list[Fragments]:
    """The same fragments for every engine's antialiasing (`test_rasterize` tells that they are the same)."""
    fragments = rasterize(clip.detach(), faces, resolution, engine="warp")
    return [replace(fragments, engine=engine) for engine in ENGINES]


QUAD = torch.tensor([[0, 1, 2], [0, 2, 3]])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("edge", [3.02, 3.3, 3.5, 3.75, 3.98])
@pytest.mark.parametrize("turned", [False, True])
def test_an_upright_edge_covers_its_pixel_by_the_exact_area(
    engine: str, edge: float, turned: bool, device: torch.device
) -> None:
    size = 8
    right = torch.tensor(edge * 2 / size - 1, requires_grad=True)
    low, high = torch.tensor(-2.0), torch.tensor(2.0)
    x, y = torch.stack((low, right, right, low)), torch.stack((low, low, high, high))
    corners = torch.stack((-y, -x) if turned else (x, y), dim=1)  # turned: the lower edge of the upper part
    mask = mask_of(flat(corners).to(device), QUAD.to(device), (size, size), engine)[0].cpu()
    line = mask[:, 4].flip(0).flip(0) if turned else mask[4]
    expected = (edge - torch.arange(size)).clamp(0, 1)
    torch.testing.assert_close(line, expected, atol=1e-5, rtol=0)
    (gradient,) = torch.autograd.grad(line.sum(), right)
    assert gradient == pytest.approx(size / 2, rel=1e-5)  # pixels per unit of the edge's place


@pytest.mark.parametrize("engine", ENGINES)
def test_the_area_of_a_disc_and_its_growth(engine: str) -> None:
    angle = torch.arange(48) * (2 * torch.pi / 48)
    size, radius = 64, torch.tensor(0.7, requires_grad=True)
    rim = radius * torch.stack((angle.cos(), angle.sin()), dim=1)
    faces = torch.stack((torch.full((48,), 48), torch.arange(48), (torch.arange(48) + 1) % 48), dim=1)
    mask = mask_of(flat(torch.cat((rim, torch.zeros(1, 2)))), faces, (size, size), engine)
    area = 24 * torch.sin(torch.tensor(2 * torch.pi / 48)) * (size / 2) ** 2  # of the polygon with radius 1, in pixels
    assert float(mask.detach().sum()) == pytest.approx(float(area * 0.49), rel=3e-3)
    (growth,) = torch.autograd.grad(mask.sum(), radius)
    assert float(growth) == pytest.approx(float(area * 1.4), rel=3e-2)


@pytest.mark.parametrize("engine", ENGINES)
def test_edges_inside_a_surface_are_left_alone_whatever_their_winding(engine: str, generator: torch.Generator) -> None:
    mesh = trimesh.creation.box()
    vertices = torch.tensor(mesh.subdivide().subdivide().vertices, dtype=torch.float32)
    faces = torch.tensor(mesh.subdivide().subdivide().faces)
    mixed = faces.clone()
    flipped = torch.rand(len(faces), generator=generator) < 0.4
    mixed[flipped] = mixed[flipped].flip(1)
    clip = perspective(vertices * torch.tensor([1.0, 1.4, 0.3]) + torch.tensor([0.05, 0.02, -2.0]))[None]
    pictures = []
    for order in (faces, mixed):
        fragments = rasterize(clip, order, (50, 50), engine=engine)
        noise = torch.rand(1, 50, 50, 2, generator=torch.Generator().manual_seed(1))
        pictures.append(antialias(noise, fragments, clip, order) - noise)
    inner = torch.nn.functional.max_pool2d((~fragments.covered).float(), 5, 1, 2)[0] == 0
    assert inner.sum() > 100
    assert (pictures[0][0][inner] == 0).all() and (pictures[1][0][inner] == 0).all()
    assert (pictures[0] != 0).any()
    torch.testing.assert_close(pictures[0], pictures[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("engine", ENGINES)
def test_only_the_nearer_surface_has_a_silhouette(engine: str) -> None:
    # A small square before a large one that is cut by a border behind it: the border must not show through.
    small = torch.tensor([[-0.5, -0.5], [0.53, -0.5], [0.53, 0.5], [-0.5, 0.5]])
    large = torch.tensor([[-2.0, -2.0], [0.1, -2.0], [0.1, 2.0], [-2.0, 2.0]])
    clip = torch.cat((flat(small, -0.5), flat(large, 0.5)), dim=1)
    faces = torch.cat((QUAD, QUAD + 4))
    fragments = rasterize(clip, faces, (16, 16), engine=engine)
    color = torch.tensor([0.0, 1.0, 0.5])[(fragments.triangle // 2 + 1).long()][..., None]
    picture = antialias(color, fragments, clip, faces)
    row = picture[0, 8, :, 0]
    assert (row[4:12] == 1).all()  # inside the small square
    assert row[12] == pytest.approx(0.24, abs=1e-5)  # 0.53 * 8 + 8 = 12.24: its share of the background's pixel
    changed = (picture != color)[0, :, :, 0]
    assert not changed[5:11, 5:11].any()


@pytest.mark.parametrize("resolution", [(64, 48), (1, 40), (40, 1), (200, 200)])
@pytest.mark.parametrize("closed", [True, False])
def test_warp_equals_the_reference(
    resolution: tuple[int, int], closed: bool, generator: torch.Generator, device: torch.device
) -> None:
    mesh = trimesh.creation.icosphere(3)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    if not closed:  # holes, a wrong winding, an edge with three triangles
        faces = torch.cat((faces[:900], faces[1000:], torch.tensor([[int(faces[0, 0]), int(faces[0, 1]), 500]])))
        faces[5] = faces[5].flip(0)
    bumpy = vertices * (1 + 0.3 * torch.sin(6 * vertices[:, :1]))
    clips = torch.stack(
        [
            perspective(bumpy * scale + torch.tensor([0.0, 0.1, z]))
            for scale, z in ((1.0, -3.0), (0.5, -2.0), (1.5, -1.0))
        ]
    )
    color = torch.rand(3, *resolution, 5, generator=generator)
    weight = torch.randn(3, *resolution, 5, generator=generator)
    results = []
    for fragments, at in zip(by_engines(clips, faces, resolution), (torch.device("cpu"), device), strict=True):
        clip, image = clips.clone().to(at).requires_grad_(), color.clone().to(at).requires_grad_()
        tensors = {name: value.to(at) for name, value in vars(fragments).items() if isinstance(value, Tensor)}
        blended = antialias(image, replace(fragments, **tensors), clip, faces.to(at))
        (blended * weight.to(at)).sum().backward()
        assert clip.grad is not None and image.grad is not None
        results.append((blended.detach().cpu(), clip.grad.cpu(), image.grad.cpu()))
    if min(resolution) > 1:
        assert (results[0][0] != color).any(-1).sum() > 100
        assert results[0][1].abs().max() > 1
    for reference, fast in zip(*results, strict=True):
        torch.testing.assert_close(fast, reference, atol=2e-5 * max(1.0, float(reference.abs().max())), rtol=1e-5)


def test_more_crossings_than_the_first_guess_has_room_for(generator: torch.Generator) -> None:
    corners = torch.rand(4000, 1, 2, generator=generator) * 2 - 1 + 0.1 * torch.randn(4000, 3, 2, generator=generator)
    clip = flat(corners.reshape(-1, 2))
    clip[..., 2] = (torch.rand(4000, 1, generator=generator) - 0.5).expand(-1, 3).reshape(1, -1)
    faces = torch.arange(12000).reshape(-1, 3)
    pictures = []
    color = torch.rand(1, 128, 128, 1, generator=generator)
    for fragments in by_engines(clip, faces, (128, 128)):
        pictures.append(antialias(color, fragments, clip, faces))
    assert (pictures[0] != color).sum() > 4096 + 128 * 128 // 16
    torch.testing.assert_close(pictures[1], pictures[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [0.05, 0.3, 0.45])
def test_specks_smaller_than_a_pixel_cover_their_area(size: float) -> None:
    speck = torch.tensor([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]]) * size / 9
    masks = []
    for fragments in by_engines(flat(speck), QUAD, (9, 9)):
        clip = flat(speck).requires_grad_()
        mask = antialias(fragments.covered[..., None].float(), fragments, clip, QUAD)
        # Narrower than a pixel: exactly its area.
        assert mask.detach().sum() == pytest.approx(size**2, rel=1e-4)
        (gradient,) = torch.autograd.grad(mask.sum(), clip)
        assert (gradient[0, :, 0] * speck[:, 0].sign() > 0).all()  # growing makes it more
        masks.append((mask.detach(), gradient))
    torch.testing.assert_close(masks[0], masks[1], atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_gradcheck_of_the_reference(generator: torch.Generator) -> None:
    points = torch.tensor([[-0.9, -0.71], [0.83, -0.6], [0.42, 0.77], [-0.52, 0.6]], dtype=torch.float64)
    w = 1 + torch.rand(4, 1, dtype=torch.float64, generator=generator)
    clip = (flat(points) * w).requires_grad_()
    color = torch.rand(1, 6, 7, 2, dtype=torch.float64, generator=generator).requires_grad_()

    def picture(color: Tensor, clip: Tensor) -> Tensor:
        return antialias(color, rasterize(clip, QUAD, (6, 7), engine="torch"), clip, QUAD)

    assert (picture(color, clip) != color).any(-1).sum() > 8
    assert torch.autograd.gradcheck(picture, (color, clip), eps=1e-7, atol=1e-5)


def test_the_gradient_predicts_a_finite_step() -> None:
    mesh = trimesh.creation.icosphere(4)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    x = torch.linspace(-1, 1, 128)
    weight = (2 * x[:, None]).sin() * (3 * x).cos() + x  # a smooth picture to compare with

    def loss(shift: Tensor) -> Tensor:
        clip = perspective(vertices + torch.cat((shift, torch.tensor([-3.0]))))[None]
        return (mask_of(clip, faces, (128, 128), "warp")[0] * weight).sum()

    place = torch.tensor([0.13, -0.07], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(place), place)
    step = 0.05
    for axis in torch.eye(2):
        with torch.no_grad():
            expected = (loss(place + step * axis) - loss(place - step * axis)) / (2 * step)
        assert float(gradient @ axis) == pytest.approx(float(expected), rel=0.05)


def test_a_sphere_moves_and_scales_onto_its_target_by_its_mask_alone() -> None:
    mesh = trimesh.creation.icosphere(3)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    truth = torch.tensor([0.25, -0.15, 0.65])  # x, y, radius

    def mask(parameters: Tensor) -> Tensor:
        move = torch.cat((parameters[:2], torch.tensor([-3.0])))
        return mask_of(perspective(vertices * parameters[2] + move)[None], faces, (64, 64), "warp")

    target = mask(truth)
    parameters = torch.tensor([-0.2, 0.2, 0.4], requires_grad=True)
    optimizer = torch.optim.Adam([parameters], lr=0.03)
    for step in range(80):
        optimizer.param_groups[0]["lr"] = 0.03 * (1 - step / 80)
        optimizer.zero_grad()
        (mask(parameters) - target).square().mean().backward()
        optimizer.step()
    torch.testing.assert_close(parameters.detach(), truth, atol=5e-3, rtol=0)


def test_antialiased_attributes_move_vertices_by_both_ways() -> None:
    """Interior and outline gradients add up; the chain rasterize -> interpolate -> antialias runs end to end."""
    mesh = trimesh.creation.icosphere(2)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    gradients = []
    for engine in ENGINES:
        moving = vertices.clone().requires_grad_()
        clip = perspective(moving + torch.tensor([0.0, 0.0, -3.0]))[None]
        fragments = rasterize(clip, faces, (48, 48), engine=engine)
        image = interpolate(vertices, fragments, faces)
        antialias(image, fragments, clip, faces).square().sum().backward()
        assert moving.grad is not None
        gradients.append(moving.grad)
    cosine = torch.nn.functional.cosine_similarity(gradients[0].flatten(), gradients[1].flatten(), dim=0)
    assert cosine > 0.999999
    assert float(gradients[1].norm() / gradients[0].norm()) == pytest.approx(1, abs=1e-5)
