from __future__ import annotations

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.rendering import interpolate, rasterize

ENGINES = ("torch", "warp")


def ball(subdivisions: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces and clip positions of a sphere before a camera."""
    mesh = trimesh.creation.icosphere(subdivisions)
    vertices, faces = torch.tensor(mesh.vertices, dtype=torch.float32), torch.tensor(mesh.faces)
    x, y, depth = (vertices + torch.tensor([0.1, 0.0, -2.5])).unbind(1)
    return vertices, faces, torch.stack((1.7 * x, 1.7 * y, -depth - 1, -depth), dim=1)


@pytest.mark.parametrize("engine", ENGINES)
def test_positions_on_a_tilted_plane_are_where_the_rays_hit(engine: str) -> None:
    # Plane z = -4 - x, seen with focal length 1: a linear function in space comes out exactly under perspective.
    corners = torch.tensor([[-3.0, -9.0], [5.0, -9.0], [5.0, 9.0], [-3.0, 9.0]])
    positions = torch.cat((corners, -4 - corners[:, :1]), dim=1)
    depth = -positions[:, 2]
    clip = torch.cat((positions[:, :2], (depth - 1)[:, None], depth[:, None]), dim=1)[None]
    faces = torch.tensor([[0, 1, 2], [0, 2, 3]])
    fragments = rasterize(clip, faces, (20, 20), engine=engine)
    image = interpolate(positions, fragments, faces)[0]
    line = (torch.arange(20) + 0.5) / 10 - 1
    distance = 4 / (1 - line)  # x = line * distance, and distance = 4 + x
    expected = torch.stack(torch.broadcast_tensors(line * distance, -line[:, None] * distance, -distance), dim=-1)
    seen = fragments.covered[0]
    assert seen.sum() > 100
    torch.testing.assert_close(image[seen], expected[seen], atol=2e-5, rtol=1e-5)
    assert (image[~seen] == 0).all()


@pytest.mark.few(6)
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("shared", [True, False])
def test_warp_equals_the_reference_in_values_and_gradients(
    channels: int, shared: bool, generator: torch.Generator, device: torch.device
) -> None:
    vertices, faces, clip = ball()
    clips = torch.stack((clip, clip * torch.tensor([0.7, 1.1, 1.0, 1.0])))
    shape = (len(vertices), channels) if shared else (2, len(vertices), channels)
    values = torch.randn(shape, generator=generator)
    weight = torch.randn(2, 33, 41, channels, generator=generator)
    results = []
    for engine, at in (("torch", torch.device("cpu")), ("warp", device)):
        attributes = values.clone().to(at).requires_grad_()
        moving = clips.clone().to(at).requires_grad_()
        image = interpolate(attributes, rasterize(moving, faces.to(at), (33, 41), engine=engine), faces.to(at))
        (image * weight.to(at)).sum().backward()
        assert attributes.grad is not None and moving.grad is not None
        results.append((image.detach().cpu(), attributes.grad.cpu(), moving.grad.cpu()))
    for reference, fast in zip(*results, strict=True):
        scale = float(reference.abs().max())
        torch.testing.assert_close(fast, reference, atol=1e-5 * scale, rtol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_constant_is_its_mask_and_its_gradient_the_covered_area(engine: str) -> None:
    vertices, faces, clip = ball()
    ones = torch.ones(len(vertices), 1, requires_grad=True)
    fragments = rasterize(clip[None].requires_grad_(), faces, (40, 30), engine=engine)
    image = interpolate(ones, fragments, faces)
    torch.testing.assert_close(image[..., 0], fragments.covered.float())
    (gradient,) = torch.autograd.grad(image.sum(), ones, retain_graph=True)
    assert gradient.sum() == pytest.approx(int(fragments.covered.sum()), rel=1e-5)
    (still,) = torch.autograd.grad(image.sum(), fragments.barycentric)
    assert still.abs().max() < 1e-6  # a constant does not depend on the place


@pytest.mark.slow
def test_gradcheck_of_the_reference(generator: torch.Generator) -> None:
    _, faces, clip = ball(subdivisions=0)
    clip = clip.double()[None].requires_grad_()
    attributes = torch.randn(clip.shape[1], 2, dtype=torch.float64, generator=generator).requires_grad_()

    def picture(attributes: Tensor, clip: Tensor) -> Tensor:
        return interpolate(attributes, rasterize(clip, faces, (6, 5), engine="torch"), faces)

    assert (picture(attributes, clip) != 0).sum() > 6
    assert torch.autograd.gradcheck(picture, (attributes, clip), eps=1e-7, atol=1e-4)


def test_any_layout_of_memory() -> None:
    vertices, faces, clip = ball()
    wide = torch.randn(3, len(vertices))
    fragments = rasterize(clip[None].repeat(1, 1, 2)[..., :4], faces, (30, 30), engine="warp")
    expected = interpolate(wide.T.contiguous(), fragments, faces)
    assert torch.equal(interpolate(wide.T, fragments, faces), expected)
    assert torch.equal(interpolate(wide.T, fragments, faces.T.contiguous().T), expected)
    assert torch.equal(interpolate(wide.T, fragments, faces.int()), expected)


def test_the_same_bytes_every_time() -> None:
    vertices, faces, clip = ball()
    pictures = []
    for _ in range(2):
        moving, attributes = clip[None].clone().requires_grad_(), vertices.clone().requires_grad_()
        image = interpolate(attributes, rasterize(moving, faces, (64, 64)), faces)
        image.square().sum().backward()
        pictures.append((image, moving.grad, attributes.grad))
    for first, second in zip(*pictures, strict=True):
        assert torch.equal(first, second)
