"""The rendered passes against closed forms: spheres, boxes, planes and textured quads, in every view."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
import trimesh
from torch import Tensor

from humannorm.cameras import Cameras, orbit
from humannorm.checks import InputError
from humannorm.mesh import Mesh
from humannorm.rendering.passes import PASSES, PassEncoding, RenderedPasses, encode_depth, render

FOUR_VIEWS = (0.0, 90.0, 180.0, -90.0)


def from_arrays(source: trimesh.Trimesh, dtype: torch.dtype = torch.float32) -> Mesh:
    return Mesh(torch.tensor(source.vertices, dtype=dtype), torch.tensor(source.faces, dtype=torch.int64))


def sphere(radius: float, subdivisions: int = 6) -> Mesh:
    return from_arrays(trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius))


def quad(width: float, height: float, dtype: torch.dtype = torch.float32) -> Mesh:
    """A rectangle in the plane z = 0 that faces +Z, texture upright as seen from the front."""
    x, y = width / 2, height / 2
    vertices = torch.tensor([[-x, y, 0.0], [-x, -y, 0.0], [x, -y, 0.0], [x, y, 0.0]], dtype=dtype)
    uvs = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]], dtype=dtype)
    return Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]), uvs=uvs)


def pixel_rays(cameras: Cameras, view: int, size: int) -> tuple[Tensor, Tensor]:
    """Camera centre [3] and directions [size, size, 3] through the pixel centres, camera axes, unit depth; float64."""
    one = cameras.select([view])
    half = math.tan(math.radians(float(one.fov_y)) / 2) / float(one.zoom)
    steps = ((torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1) * half
    y, x = torch.meshgrid(-steps, steps, indexing="ij")
    return one.position()[0].double(), torch.stack([x, y, -torch.ones_like(x)], dim=-1)


def erode(mask: Tensor, pixels: int) -> Tensor:
    """True where all pixels within a square around are true."""
    outside = (~mask).float()[None, None]
    return torch.nn.functional.max_pool2d(outside, 2 * pixels + 1, 1, pixels)[0, 0] == 0


def camera_axes(cameras: Cameras, view: int) -> Tensor:
    return cameras.world_to_camera()[view, :3, :3].double()


@pytest.mark.parametrize("elevation", [0.0, 25.0])
def test_sphere_normals_match_the_closed_form_in_all_four_views(elevation: float) -> None:
    """On a sphere the normal is the surface point over the radius: here that of the pixel's ray, in camera axes."""
    radius, size = 0.8, 256
    cameras = orbit(FOUR_VIEWS, elevation=elevation)
    rendered = render(sphere(radius, 7), cameras, (size, size), ("normal",))
    for view in range(4):
        center, rays = pixel_rays(cameras, view, size)
        eye = camera_axes(cameras, view) @ center  # the sphere's centre is the origin
        a, b, c = rays.square().sum(-1), (rays * eye).sum(-1), eye.square().sum() - radius**2
        discriminant = b.square() - a * c
        inside = erode(discriminant > 0, 2)
        distance = (-b - discriminant.clamp_min(0).sqrt()) / a
        expected = (eye + distance[..., None] * rays) / radius
        got = rendered.normal[view].double() * 2 - 1
        assert (got - expected)[inside].abs().max() < 1e-3
        assert inside.sum() > 0.3 * size**2
        outside = erode(discriminant < 0, 2)
        assert torch.equal(rendered.normal[view][outside], torch.zeros(int(outside.sum()), 3))


def test_sphere_mask_area_is_that_of_its_outline() -> None:
    """A sphere of radius r at distance d is seen as a disc of radius f * r / sqrt(d^2 - r^2)."""
    radius, size = 0.8, 512
    mask = render(sphere(radius, 5), orbit(FOUR_VIEWS), (size, size), ("mask",)).mask
    focal = size / 2 / math.tan(math.radians(22.5))
    disc = math.pi * (focal * radius) ** 2 / (9 - radius**2)
    torch.testing.assert_close(mask.sum((1, 2)), torch.full((4,), disc), rtol=1e-3, atol=0)
    assert mask.min() >= 0 and mask.max() <= 1


def test_normal_colours_red_right_green_up_blue_toward_the_viewer() -> None:
    normal = render(sphere(0.8), orbit(FOUR_VIEWS), (65, 65), ("normal",)).normal
    for view in normal:
        torch.testing.assert_close(view[32, 32], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=5e-3)
        assert view[32, 52, 0] > 0.8 > 0.2 > view[32, 12, 0]
        assert view[12, 32, 1] > 0.8 > 0.2 > view[52, 32, 1]


def test_the_front_view_sees_plus_z_with_the_subjects_left_on_the_images_right() -> None:
    marks = {"front": (0.0, 0.0, 0.5), "left": (0.5, 0.0, 0.0), "top": (0.0, 0.5, 0.0)}
    pieces = [trimesh.creation.box(extents=(0.1, 0.1, 0.1)).apply_translation(place) for place in marks.values()]
    colors = torch.eye(3).repeat_interleave(8, dim=0)  # front red, left green, top blue
    mesh = from_arrays(trimesh.util.concatenate(pieces)).replace(colors=colors)
    color = render(mesh, orbit((0.0, 90.0)), (64, 64), ("color",), background=(0, 0, 0)).color
    rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")

    def place(view: int, channel: int) -> tuple[float, float]:
        weight = color[view, ..., channel]
        return float((weight * rows).sum() / weight.sum()), float((weight * columns).sum() / weight.sum())

    assert place(0, 1)[1] > 40  # the subject's left, on the right of the front view
    assert place(0, 2)[0] < 24  # the top
    assert place(0, 0) == pytest.approx((31.5, 31.5), abs=0.1)
    assert place(1, 0)[1] < 24  # from the subject's left, the front points to the image's left
    assert place(1, 1) == pytest.approx((31.5, 31.5), abs=0.1)


def box_depth_along(rays: Tensor, eye: Tensor, half: float) -> Tensor:
    """Distance along the view axis to a cube of half side `half` around the origin, inf if missed (slab test)."""
    low, high = (-half - eye) / rays, (half - eye) / rays
    enter, leave = torch.minimum(low, high).amax(-1), torch.maximum(low, high).amin(-1)
    return torch.where(enter < leave, enter, math.inf)


@pytest.mark.parametrize(("azimuth", "elevation"), [(30.0, 20.0), (-120.0, -35.0)])
def test_cube_depth_matches_the_closed_form(azimuth: float, elevation: float) -> None:
    """1 / (distance along the axis - 0.2), as near 0.1 and far 1000 give, stretched over the foreground."""
    size = 128
    cameras = orbit((azimuth,), elevation=elevation)
    box = from_arrays(trimesh.creation.box(extents=(1.2, 1.2, 1.2)))
    rendered = render(box, cameras, (size, size), ("depth", "mask"))
    center, rays = pixel_rays(cameras, 0, size)
    along = box_depth_along(rays @ camera_axes(cameras, 0), center, 0.6)
    seen = along < math.inf
    clip_z = along * (1000.1 / 999.9) - 200 / 999.9
    inverse = 1 / (clip_z + 1e-7)
    low, high = inverse[seen].min(), inverse[seen].max()
    expected = (inverse - low) / (high - low)
    inside, outside = erode(seen, 2), erode(~seen, 2)
    depth = rendered.depth[0].double()
    assert (depth[inside] - expected[inside][:, None]).abs().max() < 2e-3
    assert depth.max() <= 1 and depth.min() >= 0
    assert (depth[outside] == 0).all()
    assert torch.equal(depth[..., 0], depth[..., 1]) and torch.equal(depth[..., 0], depth[..., 2])
    torch.testing.assert_close(1 / (along[seen] - 0.2), inverse[seen], rtol=3e-4, atol=0)


def test_a_plane_seen_head_on_is_near_everywhere() -> None:
    depth = render(quad(1.0, 1.0), orbit((0.0,)), (64, 64), ("depth",)).depth
    assert torch.equal(depth[0, 24:40, 24:40], torch.ones(16, 16, 3))
    assert torch.equal(depth[0, 0], torch.zeros(64, 3))


def test_a_foreground_of_one_pixel_and_one_of_none() -> None:
    speck = quad(0.01, 0.01)
    rendered = render(speck, orbit((0.0, 90.0)), (33, 33), ("normal", "depth", "mask"))  # seen edge-on in the second
    assert float((rendered.depth[0, 16, 16, 0] > 0) + 0) == 1 and torch.isfinite(rendered.depth).all()
    assert torch.equal(rendered.mask[1], torch.zeros(33, 33))
    assert torch.equal(rendered.depth[1], torch.zeros(33, 33, 3))
    assert torch.equal(rendered.normal[1], torch.zeros(33, 33, 3))


def test_one_pixel_image() -> None:
    rendered = render(sphere(0.8, 2).replace(colors=torch.rand(162, 3)), orbit((0.0,)), (1, 1))
    torch.testing.assert_close(rendered.normal[0, 0, 0], torch.tensor([0.5, 0.5, 1.0]), rtol=0, atol=0.05)
    assert torch.equal(rendered.depth, torch.ones(1, 1, 1, 3)) and torch.equal(rendered.mask, torch.ones(1, 1, 1))


def test_depth_extremes_detached_or_not() -> None:
    clip_z = torch.tensor([2.0, 2.5, 4.0], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([0.3, 1.0, -0.7], dtype=torch.float64)

    def gradient(detach: bool) -> Tensor:
        return torch.autograd.grad((encode_depth(clip_z, [3], detach) * weight).sum(), clip_z)[0]

    inverse_slope = -1 / (clip_z.detach() + 1e-7).square()
    span = 1 / 2.0 - 1 / 4.0
    torch.testing.assert_close(gradient(True), weight * inverse_slope / span)
    assert torch.autograd.gradcheck(lambda z: encode_depth(z, [3], False), (clip_z,))
    middle = (1 / 2.5 - 1 / 4.0) / span  # with moving extremes their own value stays 1 and 0
    expected = torch.tensor([-middle, 1.0, middle - 1.0], dtype=torch.float64) * inverse_slope / span
    torch.testing.assert_close(gradient(False), expected, rtol=1e-5, atol=1e-9)


def textured_quad_color(lookup: str, texture: Tensor, size: int, width: float = 1.8) -> Tensor:
    mesh = quad(width, width).replace(texture=texture)
    return render(mesh, orbit((0.0,)), (size, size), ("color",), encoding=PassEncoding(texture_lookup=lookup)).color[0]


def test_textured_quad_shows_the_texture_upright() -> None:
    """A quad that fills the picture, with as many texels as pixels, is the picture."""
    texture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0))
    fills = 2 * 3 * math.tan(math.radians(22.5))
    for lookup in ("bilinear", "mip"):
        torch.testing.assert_close(textured_quad_color(lookup, texture, 32, fills), texture, rtol=0, atol=2e-4)


def test_mip_lookup_averages_a_fine_texture_and_bilinear_does_not() -> None:
    checkers = ((torch.arange(512)[:, None] + torch.arange(512)) % 2).float()[..., None].expand(-1, -1, 3)
    inside = slice(8, 24)
    assert (textured_quad_color("mip", checkers, 32)[inside, inside] - 0.5).abs().max() < 1e-5
    assert textured_quad_color("bilinear", checkers, 32)[inside, inside].std() > 0.1


def test_vertex_colours_and_background() -> None:
    mesh = quad(1.0, 1.0).replace(uvs=None, colors=torch.tensor([[0.2, 0.4, 0.6]]).expand(4, 3))
    color = render(mesh, orbit((0.0,)), (32, 32), ("color",), background=(0.1, 0.2, 0.3)).color[0]
    torch.testing.assert_close(color[16, 16], torch.tensor([0.2, 0.4, 0.6]))
    torch.testing.assert_close(color[0, 0], torch.tensor([0.1, 0.2, 0.3]))


def test_field_is_asked_once_at_the_covered_surface_points_only() -> None:
    asked: list[Tensor] = []

    def position_as_color(points: Tensor) -> Tensor:
        asked.append(points)
        return points * 0.5 + 0.5

    cameras = orbit((0.0, 90.0))
    rendered = render(sphere(0.7, 5), cameras, (64, 64), ("color", "mask"), field=position_as_color)
    assert len(asked) == 1
    covered = rendered.mask > 0.99
    assert covered.sum() <= len(asked[0]) < covered.sum() * 1.1
    torch.testing.assert_close(asked[0].norm(dim=-1), torch.full((len(asked[0]),), 0.7), rtol=1e-3, atol=0)
    torch.testing.assert_close(rendered.color[0, 32, 32], torch.tensor([0.5, 0.5, 0.85]), rtol=0, atol=0.02)
    torch.testing.assert_close(rendered.color[1, 32, 32], torch.tensor([0.85, 0.5, 0.5]), rtol=0, atol=0.02)


def test_normals_of_the_mesh_win_over_its_shape() -> None:
    upwards = quad(1.0, 1.0).replace(normals=torch.tensor([[0.0, 1.0, 0.0]]).expand(4, 3))
    normal = render(upwards, orbit((0.0,)), (16, 16), ("normal",)).normal[0, 8, 8]
    torch.testing.assert_close(normal, torch.tensor([0.5, 1.0, 0.5]))


@pytest.mark.slow
def test_texture_seams_do_not_show_in_the_normals() -> None:
    """All triangles cut apart: smooth shading if the mesh has texture coordinates (the cuts are seams), flat if not."""
    whole = sphere(0.8, 2)
    split = Mesh(whole.vertices[whole.faces.flatten()], torch.arange(whole.num_faces * 3).reshape(-1, 3))
    seams = split.replace(uvs=torch.zeros(split.num_vertices, 2))
    smooth, flat, welded = (
        render(mesh, orbit((20.0,)), (64, 64), ("normal",), engine="torch").normal[0] for mesh in (whole, split, seams)
    )
    inside = erode(smooth[..., 2] > 0, 4)
    assert (welded - smooth)[inside].abs().max() < 1e-5
    assert (flat - smooth)[inside].abs().max() > 0.05


def everything() -> Mesh:
    mesh = from_arrays(trimesh.creation.box(extents=(0.9, 1.3, 0.6)).subdivide())
    generator = torch.Generator().manual_seed(1)
    return mesh.replace(colors=torch.rand(mesh.num_vertices, 3, generator=generator))


def test_a_batch_equals_its_views_rendered_alone() -> None:
    """Each view has its own rotation, depth range and background; the published code rotated only the first."""
    cameras = Cameras.concatenate([orbit((10.0, 100.0), elevation=15.0), orbit((-130.0,), part="head", distance=3.3)])
    together = render(everything(), cameras, (48, 40))
    for view in range(3):
        alone = render(everything(), cameras.select([view]), (48, 40))
        for name in PASSES:
            torch.testing.assert_close(
                getattr(together, name)[view : view + 1], getattr(alone, name), rtol=0, atol=2e-6
            )


def test_passes_asked_for_alone_equal_those_asked_for_together() -> None:
    cameras = orbit((35.0,), elevation=10.0)
    together = render(everything(), cameras, (40, 48))
    for name in PASSES:
        alone = render(everything(), cameras, (40, 48), (name,))
        torch.testing.assert_close(getattr(alone, name), getattr(together, name), rtol=0, atol=1e-6)
        assert [other for other in PASSES if getattr(alone, other) is None] == [p for p in PASSES if p != name]


def test_wide_and_tall_images_keep_the_vertical_field_of_view() -> None:
    square, wide = (
        render(sphere(0.8, 4), orbit((0.0,)), resolution, ("mask",)).mask[0] for resolution in ((64, 64), (64, 128))
    )
    torch.testing.assert_close(wide[:, 32:96], square, rtol=0, atol=1e-5)


def tetrahedron() -> Mesh:
    vertices = torch.tensor([[-0.7, -0.6, 0.3], [0.8, -0.5, 0.4], [0.1, 0.9, 0.05], [0.05, 0.1, -0.7]])
    mesh = Mesh(vertices.double(), torch.tensor([[0, 1, 2], [0, 3, 1], [1, 3, 2], [2, 3, 0]]))
    return mesh.replace(colors=torch.rand(4, 3, generator=torch.Generator().manual_seed(2)).double())


def all_values(rendered: RenderedPasses) -> Tensor:
    pictures = (rendered.normal, rendered.depth, rendered.mask, rendered.color)
    return torch.cat([picture.flatten() for picture in pictures if picture is not None])


def check_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    assert torch.autograd.gradcheck(function, [value.requires_grad_() for value in inputs], atol=1e-6, fast_mode=True)


def test_gradients_to_vertices_and_colours() -> None:
    mesh, cameras = tetrahedron(), orbit((20.0, 160.0), elevation=12.0)

    def pictures(vertices: Tensor, colors: Tensor) -> Tensor:
        return all_values(render(mesh.replace(vertices=vertices, colors=colors), cameras, (7, 6), engine="torch"))

    check_gradients(pictures, mesh.vertices, mesh.colors)


def test_gradients_to_texture_uvs_and_normals() -> None:
    generator = torch.Generator().manual_seed(3)
    mesh, cameras = quad(1.5, 1.6, torch.float64), orbit((25.0,))
    texture = torch.rand(3, 4, 3, generator=generator, dtype=torch.float64)
    normals = torch.nn.functional.normalize(torch.randn(4, 3, generator=generator, dtype=torch.float64), dim=1)
    bilinear = PassEncoding(texture_lookup="bilinear")

    def pictures(texture: Tensor, uvs: Tensor, normals: Tensor) -> Tensor:
        changed = mesh.replace(texture=texture, uvs=uvs, normals=normals)
        return all_values(render(changed, cameras, (6, 7), ("normal", "color"), encoding=bilinear, engine="torch"))

    check_gradients(pictures, texture, mesh.uvs * 0.9 + 0.05, normals)


def test_gradients_to_a_field_and_through_its_points() -> None:
    mesh, cameras = tetrahedron(), orbit((20.0,))

    def pictures(vertices: Tensor, weight: Tensor) -> Tensor:
        rendered = render(
            mesh.replace(vertices=vertices),
            cameras,
            (7, 7),
            ("color",),
            field=lambda points: torch.sigmoid(points @ weight),
            engine="torch",
        )
        return all_values(rendered)

    weight = torch.rand(3, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    check_gradients(pictures, mesh.vertices, weight)


def test_engines_agree_in_values_and_gradients() -> None:
    cameras = orbit((20.0, -75.0), elevation=12.0)
    source = everything()
    results = {}
    for engine in ("torch", "warp"):
        vertices, colors = source.vertices.clone().requires_grad_(), source.colors.clone().requires_grad_()
        rendered = render(source.replace(vertices=vertices, colors=colors), cameras, (40, 40), engine=engine)
        values = all_values(rendered)
        weight = torch.rand(len(values), generator=torch.Generator().manual_seed(5))
        results[engine] = (values.detach(), *torch.autograd.grad((values * weight).sum(), (vertices, colors)))
    for reference, fast in zip(results["torch"], results["warp"], strict=True):
        torch.testing.assert_close(fast, reference, rtol=1e-3, atol=1e-4)


@pytest.mark.usefixtures("as_user")
class TestUnusableInput:
    def refuse(self, match: str, mesh: Mesh | None = None, **changes: object) -> None:
        arguments: dict = {"cameras": orbit((0.0,)), "resolution": (8, 8), "passes": ("normal",), **changes}
        with pytest.raises(InputError, match=match):
            render(mesh or quad(1.0, 1.0), **arguments)

    def test_passes(self) -> None:
        self.refuse("passes: expected one of normal, depth, mask, color, label, got 'albedo'", passes=("albedo",))
        self.refuse("passes: expected a sequence with at least one", passes=())
        self.refuse("passes: expected a sequence", passes="normal")

    def test_resolution(self) -> None:
        for resolution in ((0, 8), (8, -1), (8,), (8.0, 8.0), 8):
            self.refuse("resolution: expected", resolution=resolution)
        self.refuse("resolution", resolution=(8193, 8))

    def test_color_without_colours(self) -> None:
        self.refuse("passes: color needs a field, a texture", passes=("color",))

    def test_no_cameras(self) -> None:
        self.refuse("cameras: expected at least one", cameras=orbit(()))

    def test_engine(self) -> None:
        self.refuse("engine: expected one of auto", engine="opengl")

    def test_background(self) -> None:
        self.refuse(
            "background: expected 3 values",
            quad(1, 1).replace(colors=torch.rand(4, 3)),
            passes=("color",),
            background=(1, 1),
        )

    def test_field_of_the_wrong_shape(self) -> None:
        for field in (lambda points: points[:, :2], lambda points: None):
            self.refuse("field: expected colours", passes=("color",), field=field)

    def test_meshes(self) -> None:
        flat = quad(1.0, 1.0)
        broken = flat.vertices.clone()
        broken[1, 2] = math.nan
        self.refuse("vertices: expected finite values, got 1", flat.replace(vertices=broken))
        self.refuse("faces: expected indices 0 to 3, got 0 to 4", flat.replace(faces=torch.tensor([[0, 1, 4]])))
        self.refuse("expected vertices and faces", flat.replace(faces=torch.zeros(0, 3, dtype=torch.int64)))


def test_a_mesh_without_area_renders_as_nothing() -> None:
    mesh = Mesh(torch.tensor([[0.1, 0.2, 0.0]]).repeat(3, 1).requires_grad_(), torch.tensor([[0, 1, 2]]))
    rendered = render(mesh, orbit((0.0,)), (16, 16), ("normal", "depth", "mask"))
    assert all_values(rendered).abs().max() == 0
    gradient = torch.autograd.grad(all_values(rendered).sum(), mesh.vertices)[0]
    assert torch.isfinite(gradient).all()


def test_labels_are_those_of_the_faces_that_are_seen_and_never_blended() -> None:
    vertices = torch.tensor([[-1.0, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]])
    mesh = Mesh(vertices, torch.tensor([[0, 1, 2], [0, 2, 3]]))
    labels = torch.tensor([3, 7])
    drawn = render(mesh, orbit([0.0, 180.0], distance=4.0), (65, 65), ("label", "mask"), labels=labels)
    assert drawn.label is not None and drawn.mask is not None
    assert set(drawn.label.unique().tolist()) == {0, 3, 7}
    assert drawn.label[0, 40, 40] == 3 and drawn.label[0, 24, 24] == 7  # below and above the diagonal
    assert drawn.label[1, 40, 24] == 3  # seen from behind
    whole = (drawn.mask == 1) & (drawn.label == 0)
    assert not bool(whole.any())
    alone = render(mesh, orbit([0.0], distance=4.0), (65, 65), ("label",), labels=labels)
    assert alone.mask is None and torch.equal(alone.label[0], drawn.label[0])
    for wrong in (None, torch.tensor([1])):
        with pytest.raises(InputError, match="label"):
            render(mesh, orbit([0.0]), (8, 8), ("label",), labels=wrong)
