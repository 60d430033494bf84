"""Texture lookups against torch's grid_sample, a loop over texels, and closed forms of the pyramid."""

from __future__ import annotations

import math

import pytest
import torch

from humannorm.checks import InputError
from humannorm.rendering.textures import mip_level, sample_texture, uv_screen_derivatives


def uniform(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def bilinear_by_loop(texture: torch.Tensor, u: float, v: float) -> torch.Tensor:
    """Blend of the four texels around (u, v), texel centres at half-integers, edge texels repeated outwards."""
    height, width, _ = texture.shape
    x, y = u * width - 0.5, v * height - 0.5
    color = torch.zeros(texture.shape[-1], dtype=texture.dtype)
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            weight = (1 - abs(x - column)) * (1 - abs(y - row))
            color += weight * texture[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
    return color


def constant_derivatives(uv: torch.Tensor, du_dx: float, dv_dy: float) -> torch.Tensor:
    return uv.new_tensor([du_dx, 0.0, 0.0, dv_dy]).expand(*uv.shape[:-1], 4)


def test_bilinear_equals_a_loop_over_texels_also_outside_the_image() -> None:
    texture = uniform(5, 7, 3, dtype=torch.float64)
    uv = uniform(1, 6, 9, 2, seed=1, dtype=torch.float64) * 1.4 - 0.2
    expected = torch.stack([bilinear_by_loop(texture, u, v) for u, v in uv.reshape(-1, 2).tolist()])
    torch.testing.assert_close(sample_texture(texture, uv).reshape(-1, 3), expected)


def test_texel_centres_return_the_texel_and_row_zero_is_the_top() -> None:
    texture = uniform(4, 6, 3)
    v, u = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(6) + 0.5) / 6, indexing="ij")
    torch.testing.assert_close(sample_texture(texture, torch.stack([u, v], dim=-1)[None])[0], texture)


def test_one_texture_per_view_equals_views_looked_up_alone() -> None:
    textures, uv = uniform(3, 8, 8, 2), uniform(3, 4, 5, 2, seed=1)
    derivatives = uniform(3, 4, 5, 4, seed=2)
    for mode in ("bilinear", "mip"):
        together = sample_texture(textures, uv, mode, derivatives)
        for view in range(3):
            alone = sample_texture(textures[view], uv[view : view + 1], mode, derivatives[view : view + 1])
            torch.testing.assert_close(together[view : view + 1], alone)


def test_one_texture_for_all_views() -> None:
    texture, uv, derivatives = uniform(8, 8, 2), uniform(3, 4, 5, 2, seed=1), uniform(3, 4, 5, 4, seed=2)
    for mode in ("bilinear", "mip"):
        expected = sample_texture(texture.expand(3, -1, -1, -1), uv, mode, derivatives)
        torch.testing.assert_close(sample_texture(texture, uv, mode, derivatives), expected)


def test_bilinear_and_its_gradients_equal_grid_sample() -> None:
    texture, uv = uniform(9, 6, 3).requires_grad_(), uniform(2, 5, 4, 2, seed=1).requires_grad_()
    weight = uniform(2, 5, 4, 3, seed=2)
    oracle = torch.nn.functional.grid_sample(
        texture.permute(2, 0, 1).expand(2, -1, -1, -1), uv * 2 - 1, padding_mode="border", align_corners=False
    ).permute(0, 2, 3, 1)
    expected = torch.autograd.grad((oracle * weight).sum(), (texture, uv))
    got = torch.autograd.grad((sample_texture(texture, uv) * weight).sum(), (texture, uv))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("mode", ["bilinear", "mip"])
def test_gradients_to_texture_and_uv(mode: str) -> None:
    texture = uniform(8, 4, 2, dtype=torch.float64).requires_grad_()
    uv = (uniform(1, 3, 4, 2, seed=3, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    derivatives = uniform(1, 3, 4, 4, seed=4, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda t, p: sample_texture(t, p, mode, derivatives), (texture, uv))


def test_level_is_the_log_of_the_longer_axis_of_the_footprint_in_texels() -> None:
    four_by_one = torch.tensor([4 / 64, 0.0, 0.0, 1 / 32])
    turned = torch.tensor([[0.6, -0.8], [0.8, 0.6]])  # turning the screen does not change the footprint
    rotated = (torch.tensor([[4 / 64, 0.0], [0.0, 1 / 32]]) @ turned).flatten()
    magnified = torch.tensor([0.5 / 64, 0.0, 0.0, 0.25 / 32])
    levels = mip_level(torch.stack([four_by_one, rotated, magnified, torch.zeros(4)]), (32, 64))
    torch.testing.assert_close(levels, torch.tensor([2.0, 2.0, 0.0, 0.0]))


def test_mip_of_a_magnified_texture_is_bilinear() -> None:
    texture, uv = uniform(16, 16, 3), uniform(1, 5, 5, 2, seed=1)
    magnified = sample_texture(texture, uv, "mip", constant_derivatives(uv, 1 / 16, 1 / 20))
    torch.testing.assert_close(magnified, sample_texture(texture, uv))


@pytest.mark.parametrize("level", [1, 2, 3])
def test_whole_levels_look_up_box_averages(level: int) -> None:
    texture, uv = uniform(16, 16, 3), uniform(1, 5, 5, 2, seed=1)
    boxes = texture.reshape(16 >> level, 1 << level, 16 >> level, 1 << level, 3).mean((1, 3))
    pixel = 2.0**level / 16
    torch.testing.assert_close(
        sample_texture(texture, uv, "mip", constant_derivatives(uv, pixel, pixel)), sample_texture(boxes, uv)
    )


def test_between_levels_the_two_are_blended() -> None:
    texture, uv = uniform(16, 16, 3), uniform(1, 5, 5, 2, seed=1)
    fine, coarse = (sample_texture(texture, uv, "mip", constant_derivatives(uv, p / 16, p / 16)) for p in (2.0, 4.0))
    halfway = 2**1.25 / 16
    blended = sample_texture(texture, uv, "mip", constant_derivatives(uv, halfway, halfway))
    torch.testing.assert_close(blended, 0.75 * fine + 0.25 * coarse)


def test_fine_checkerboard_seen_from_afar_is_grey() -> None:
    checkers = ((torch.arange(64)[:, None] + torch.arange(64)) % 2).float()[..., None]
    uv = uniform(1, 10, 10, 2)
    seen = sample_texture(checkers, uv, "mip", constant_derivatives(uv, 0.1, 0.1))
    torch.testing.assert_close(seen, torch.full_like(seen, 0.5))


@pytest.mark.parametrize("size", [(1, 1), (5, 3), (1, 9), (7, 7)])
def test_pyramids_of_any_size_keep_a_constant_colour(size: tuple[int, int]) -> None:
    texture, uv = torch.full((*size, 3), 0.3), uniform(1, 4, 4, 2)
    for pixel in (0.01, 0.3, 1.0, 50.0):
        seen = sample_texture(texture, uv, "mip", constant_derivatives(uv, pixel, pixel))
        torch.testing.assert_close(seen, torch.full_like(seen, 0.3))


def perspective_uv(clip: torch.Tensor, uvs: torch.Tensor, x: float, y: float, size: tuple[int, int]) -> torch.Tensor:
    """uv at (x, y) in pixels of the image by solving sum(b_i * clip_i) ~ (ndc_x, ndc_y, 1) for the weights b."""
    height, width = size
    ndc = clip.new_tensor([2 * x / width - 1, 1 - 2 * y / height, 1.0])
    weights = torch.linalg.solve(clip[:, [0, 1, 3]].T, ndc)
    return (weights / weights.sum()) @ uvs


@pytest.mark.parametrize("behind", [False, True])
def test_screen_derivatives_equal_finite_differences(behind: bool) -> None:
    size, step = (48, 64), 1e-5
    clip = torch.tensor([[-0.5, -0.4, 0.0, 1.0], [1.8, -0.2, 0.0, 3.0], [0.1, 1.2, 0.0, 2.0]], dtype=torch.float64)
    if behind:
        clip[1] = torch.tensor([2.0, -0.2, 0.0, -0.5])  # a corner behind the eye
    uvs = torch.tensor([[0.1, 0.9], [0.8, 0.7], [0.3, 0.2]], dtype=torch.float64)
    column, row = 30, 22
    got = uv_screen_derivatives(clip[None], uvs[None], torch.tensor([[column, row]]), size)[0]
    x, y = column + 0.5, row + 0.5
    along_x = (perspective_uv(clip, uvs, x + step, y, size) - perspective_uv(clip, uvs, x - step, y, size)) / (2 * step)
    along_y = (perspective_uv(clip, uvs, x, y + step, size) - perspective_uv(clip, uvs, x, y - step, size)) / (2 * step)
    torch.testing.assert_close(got, torch.stack([along_x, along_y], dim=-1).flatten(), rtol=1e-6, atol=1e-9)


def test_screen_derivatives_of_a_triangle_seen_edge_on_are_zero() -> None:
    clip = torch.tensor([[[0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0], [2.0, 2.0, 0.0, 1.0]]])
    got = uv_screen_derivatives(clip, torch.rand(1, 3, 2), torch.tensor([[3, 4]]), (8, 8))
    assert torch.equal(got, torch.zeros(1, 4))


@pytest.mark.usefixtures("as_user")
def test_unusable_input_is_named() -> None:
    texture, uv = torch.rand(4, 4, 3), torch.rand(1, 2, 2, 2)
    with pytest.raises(InputError, match="mode"):
        sample_texture(texture, uv, "nearest")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="uv_derivatives: expected"):
        sample_texture(texture, uv, "mip")
    with pytest.raises(InputError, match="uv_derivatives: expected shape"):
        sample_texture(texture, uv, "mip", torch.zeros(1, 3, 2, 4))
    with pytest.raises(InputError, match="texture: expected one image or 1"):
        sample_texture(torch.rand(2, 4, 4, 3), uv)
    with pytest.raises(InputError, match="at least one texel"):
        sample_texture(torch.rand(0, 4, 3), uv)
