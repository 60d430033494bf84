"""Pictures brought together on a surface and shown again: the Warp kernels against plain torch, and closed forms."""

from __future__ import annotations

import pytest
import torch
import trimesh

from humannorm.cameras import Cameras, orbit
from humannorm.checks import InputError
from humannorm.mesh import Mesh, vertex_normals
from humannorm.rendering.fusing import SurfacePoints, SurfaceViews, observe

SIZE = 40
AZIMUTHS = [0.0, 90.0, 180.0, 270.0]


def ball(radius: float = 0.7, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    shape = trimesh.creation.icosphere(5, radius)
    vertices = torch.tensor(shape.vertices, dtype=torch.float32) + torch.tensor(centre)
    return Mesh(vertices, torch.tensor(shape.faces, dtype=torch.int64))


def at_vertices(mesh: Mesh, labels: torch.Tensor | None = None) -> SurfacePoints:
    """The mesh's own vertices as the points."""
    if labels is None:
        labels = torch.zeros(mesh.num_vertices, dtype=torch.int32, device=mesh.device)

    def nearest(face: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return mesh.faces[face].gather(1, weights.argmax(1, keepdim=True))[:, 0]

    return SurfacePoints(mesh.vertices, vertex_normals(mesh.vertices, mesh.faces), labels, nearest)


def views_of(mesh: Mesh, points: SurfacePoints, cameras: Cameras | None = None, **options) -> SurfaceViews:
    return observe(mesh, points, cameras or orbit(AZIMUTHS, elevation=10.0), SIZE, **options)


def halves(mesh: Mesh) -> torch.Tensor:
    return (mesh.vertices[:, 1] > 0.1).int()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_kernels_compute_what_plain_torch_does(generator, channels, device):
    mesh = ball().to(device)
    points = at_vertices(mesh, halves(mesh))
    cameras = Cameras.concatenate([orbit(AZIMUTHS), orbit([20.0, 200.0], part="head")])
    fast, plain = (views_of(mesh, points, cameras, engine=engine) for engine in ("warp", "torch"))
    assert float((fast.seen != plain.seen).float().mean()) < 1e-3  # rounded numbers are compared
    pictures = torch.rand(6, SIZE, SIZE, channels, generator=generator).to(device)
    weights = torch.rand(6, generator=generator).to(device)
    for first, second in zip(
        fast.fuse(pictures, power=3.0, detail=2.0, view_weights=weights),
        type(fast).fuse(
            SurfaceViews(**{**vars(fast), "engine": "torch"}), pictures, power=3.0, detail=2.0, view_weights=weights
        ),
        strict=True,
    ):
        assert torch.allclose(first, second, atol=2e-5)
    values = torch.rand(len(points.points), channels, generator=generator).to(device)
    assert torch.allclose(fast.show(values, pictures), plain.show(values, pictures), atol=1e-6)


def test_colours_of_a_surface_come_back_from_its_pictures():
    mesh = ball()
    views = views_of(mesh, at_vertices(mesh), oversampling=4)
    truth = mesh.vertices / 2 + 0.5
    pictures = views.show(truth, torch.ones(4, SIZE, SIZE, 3))
    found, sight = views.fuse(pictures, power=4.0)
    well = sight > 0.3
    assert float(well.float().mean()) > 0.5
    # A pixel is 0.06 wide, half of that in colour: what is found is within a fraction of one.
    assert float((found - truth)[well].abs().max()) < 0.02


def test_one_camera_sees_the_half_that_is_turned_to_it():
    mesh = ball()
    views = views_of(mesh, at_vertices(mesh), orbit([0.0]))
    _, sight = views.fuse(torch.zeros(1, SIZE, SIZE, 1), power=1.0)
    behind = mesh.vertices[:, 2] < 0
    assert float(sight[behind].max()) == 0
    in_front = mesh.vertices[:, 2] > 0.55  # of 0.7: away from the outline
    assert bool((sight[in_front] > 0.3).all())


def test_what_stands_in_front_hides():
    small, large = ball(0.2, (0.0, 0.0, 0.75)), ball(0.5)
    mesh = Mesh(torch.cat([small.vertices, large.vertices]), torch.cat([small.faces, large.faces + small.num_vertices]))
    seen = views_of(mesh, at_vertices(mesh), orbit([0.0]), oversampling=6).seen[:, 0].bool()
    away = mesh.vertices[:, :2].norm(dim=1)
    large_front = (torch.arange(mesh.num_vertices) >= small.num_vertices) & (mesh.vertices[:, 2] > 0.3)
    assert not bool(seen[large_front & (away < 0.15)].any())
    assert bool(seen[large_front & (away > 0.3)].all())


def test_labels_are_never_mixed():
    mesh = ball()
    labels = halves(mesh)
    views = views_of(mesh, at_vertices(mesh, labels))
    palette = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    pictures = palette[views.pixel_label.clamp_min(0).long()]
    found, sight = views.fuse(pictures, power=1.0)
    seen = sight > 0
    assert torch.allclose(found[seen], palette[labels[seen].long()], atol=1e-5)


def test_the_background_of_a_picture_stays(generator):
    mesh = ball()
    views = views_of(mesh, at_vertices(mesh))
    pictures = torch.rand(4, SIZE, SIZE, 3, generator=generator)
    shown = views.show(torch.zeros(mesh.num_vertices, 3), pictures)
    free = views.coverage == 0
    assert torch.allclose(shown[free], pictures[free], atol=1e-6)
    assert float(shown[views.coverage == 1].abs().max()) == 0


def test_pixels_at_an_outline_and_at_the_edge_of_a_picture_weigh_little():
    mesh = ball(1.4)  # larger than the picture
    views = views_of(mesh, at_vertices(mesh), orbit([0.0]))
    assert float(views.pixel_weight[0, 0].max()) < 0.05
    assert float(views.pixel_weight[0, SIZE // 2, SIZE // 2]) == 1
    small = views_of(ball(0.4), at_vertices(ball(0.4)), orbit([0.0]))
    partly = (small.coverage > 0) & (small.coverage < 1)
    assert float(small.pixel_weight[partly].max()) <= 0.01


@pytest.mark.usefixtures("as_user")
def test_bad_input_is_refused():
    mesh = ball()
    views = views_of(mesh, at_vertices(mesh))
    with pytest.raises(InputError, match="pictures: expected float tensor"):
        views.fuse(torch.zeros(4, SIZE, SIZE + 1, 3), power=1.0)
    with pytest.raises(InputError, match="channels: expected 1 to 4, got 5"):
        views.fuse(torch.zeros(4, SIZE, SIZE, 5), power=1.0)
    with pytest.raises(InputError, match="finite"):
        views.fuse(torch.full((4, SIZE, SIZE, 3), torch.nan), power=1.0)
    with pytest.raises(InputError, match="values"):
        views.show(torch.zeros(7, 3), torch.zeros(4, SIZE, SIZE, 3))
    with pytest.raises(InputError, match="engine"):
        views_of(mesh, at_vertices(mesh), engine="opengl")
