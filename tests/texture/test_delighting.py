"""Taking light out of painted colours: a human of known albedo under a known light, and what must stay as it is."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from humannorm.body import load_body
from humannorm.body.regions import region_vertices
from humannorm.cameras import Cameras, orbit
from humannorm.checks import InputError
from humannorm.images import linear_from_srgb, srgb_from_linear
from humannorm.labels import label_number
from humannorm.rendering import render
from humannorm.texture.agreement import ColorAgreement, FusingSettings, TexelSurface, texel_surface
from humannorm.texture.delighting import DelightSettings, delit, estimate_lights, harmonics

SIZE = 72
PALETTE = {
    "skin": (0.75, 0.52, 0.42),
    "top": (0.20, 0.35, 0.65),
    "bottom": (0.12, 0.11, 0.13),
    "shoes": (0.85, 0.85, 0.8),
}
LAMP = F.normalize(torch.tensor([-0.6, 0.7, 0.7]), dim=0)
Scene = tuple[TexelSurface, Cameras, ColorAgreement]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """The adult that comes along, in labels, seen from eight sides and from above."""
    body = load_body().in_working_box()
    mesh = body.to_mesh(uvs=True)
    of = torch.full((len(body.vertices),), label_number("skin"), dtype=torch.int64)
    for part in ("top", "bottom", "shoes"):
        of[region_vertices(body, [part])] = label_number(part)
    of[region_vertices(body, ["hands"])] = label_number("skin")

    tree = cKDTree(body.vertices.numpy())

    def labels_at(points: Tensor) -> Tensor:
        return of[torch.from_numpy(tree.query(points.numpy())[1])]

    surface = texel_surface(mesh, 144, labels_at)
    cameras = Cameras.concatenate([orbit(range(0, 360, 45), elevation=5.0), orbit([20, 200], elevation=40.0)])
    return surface, cameras, ColorAgreement.of(surface, cameras, SIZE, FusingSettings())


def albedo_of(surface: TexelSurface) -> Tensor:
    """sRGB of the texels: flat by label, a striped top, and a fine grain everywhere."""
    points, labels = surface.points.points, surface.points.labels
    colors = torch.zeros(len(points), 3)
    for label, color in PALETTE.items():
        colors[labels == label_number(label)] = torch.tensor(color)
    stripe = ((points[:, 1] * 60).sin() > 0.6) & (labels == label_number("top"))
    colors[stripe] = torch.tensor([0.8, 0.75, 0.3])
    return (colors * (1 + 0.05 * (points * 90).sin().prod(1, keepdim=True))).clamp(0, 1)


def pictures_of(scene: Scene, lit: str) -> Tensor:
    """What a painter that lights its pictures would draw: a lamp with a sky, at the camera or in the world."""
    surface, cameras, _ = scene
    mesh = surface.mesh.replace(texture=surface.texture(albedo_of(surface)))
    passes = render(mesh, cameras, (SIZE, SIZE), ("color", "normal", "mask"))
    assert passes.color is not None and passes.normal is not None and passes.mask is not None
    if lit == "not":
        return passes.color
    normal = F.normalize(passes.normal * 2 - 1, dim=-1)
    if lit == "in the world":
        normal = torch.einsum("bij,bhwi->bhwj", cameras.world_to_camera()[:, :3, :3], normal)
    light = 0.35 + 0.15 * normal[..., 1:2] + 0.8 * (normal @ LAMP).clamp_min(0)[..., None]
    shown = srgb_from_linear(linear_from_srgb(passes.color) * light).clamp(0, 1)
    return torch.where(passes.mask[..., None] > 0.99, shown, passes.color)


def error(agreement: ColorAgreement, pictures: Tensor, truth: Tensor) -> float:
    """Mean difference of the fused linear albedo from the truth, at the brightness that suits best."""
    found, wanted = (linear_from_srgb(agreement.fused(each, 6.0).clamp(0, 1)) for each in (pictures, truth))
    scales = torch.linspace(0.3, 3.0, 271)
    return min(float((found * scale - wanted).abs().mean() / wanted.mean()) for scale in scales)


@pytest.mark.parametrize("lit", ["at the camera", "in the world"])
def test_two_thirds_of_the_light_and_more_are_gone(scene: Scene, lit: str) -> None:
    _, cameras, agreement = scene
    truth, pictures = pictures_of(scene, "not"), pictures_of(scene, lit)
    result, light = delit(agreement.views, cameras, pictures)
    before, after = error(agreement, pictures, truth), error(agreement, result, truth)
    assert before > 0.1 and after < before / 3 and light > 0.1


def test_colours_without_light_stay(scene: Scene) -> None:
    _, cameras, agreement = scene
    truth = pictures_of(scene, "not")
    result, light = delit(agreement.views, cameras, truth)
    assert error(agreement, result, truth) < 0.03 and light < 0.05


def test_without_labels_hue_tells_the_parts_apart(scene: Scene) -> None:
    surface, cameras, _ = scene
    bare = texel_surface(surface.mesh, 144)
    agreement = ColorAgreement.of(bare, cameras, SIZE, FusingSettings())
    truth, pictures = pictures_of(scene, "not"), pictures_of(scene, "at the camera")
    result, _ = delit(agreement.views, cameras, pictures)
    assert error(agreement, result, truth) < error(agreement, pictures, truth) / 3


def test_given_pictures_stay_and_held_colours_say_nothing(scene: Scene) -> None:
    surface, cameras, agreement = scene
    pictures = pictures_of(scene, "at the camera")
    result, _ = delit(agreement.views, cameras, pictures, given=(0, 3))
    assert torch.equal(result[[0, 3]], pictures[[0, 3]]) and not torch.equal(result[1], pictures[1])
    everything = torch.ones(len(surface.points.points))
    same, light = delit(agreement.views, cameras, pictures, held=everything)
    assert same is pictures and light == 0


def test_a_light_of_nine_harmonics_is_found_through_a_tenth_of_nonsense() -> None:
    generator = torch.Generator().manual_seed(0)
    normals = F.normalize(torch.randn(3000, 3, generator=generator), dim=1)
    groups, parts = torch.arange(3000) % 2, torch.arange(3000) % 5
    lights = torch.tensor(
        [[1.0, 0.1, 0.2, 0.3, 0.05, 0.0, 0.05, 0.1, 0.1], [0.7, -0.2, 0.1, 0.1, 0.0, 0.05, 0.0, -0.05, 0.05]]
    )
    brightness = (harmonics(normals) * lights[groups]).sum(1) * torch.tensor([0.1, 0.3, 0.5, 0.7, 0.9])[parts]
    brightness[::10] = torch.rand(300, generator=generator)
    found = estimate_lights(brightness, normals, parts, groups, DelightSettings(together=0.0, rounds=20))
    expected = lights / lights[:, :1].mean()
    torch.testing.assert_close(found.coefficients / found.coefficients[:, :1].mean(), expected, atol=0.02, rtol=0)
    mean = found.at(normals, groups).mean()
    assert float(mean) == pytest.approx(1.0, abs=0.04)


def test_harmonics_are_orthogonal_over_the_sphere() -> None:
    count = 20_000
    z = (torch.arange(count, dtype=torch.float64) + 0.5) / count * 2 - 1
    turn = math.pi * (1 + math.sqrt(5)) * torch.arange(count, dtype=torch.float64)
    around = torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z], 1)
    product = harmonics(around).T @ harmonics(around) / count
    assert float((product - torch.diag(product.diagonal())).abs().max()) < 1e-3


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"delight\.spread: expected"):
        DelightSettings(spread=0.0)
    nothing = torch.zeros(0, dtype=torch.int64)
    with pytest.raises(InputError, match="brightness: expected pixels"):
        estimate_lights(torch.zeros(0), torch.zeros(0, 3), nothing, nothing)
