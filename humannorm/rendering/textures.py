"""Looking up colours in a texture: bilinear, and trilinear in a mip pyramid.

Textures are [H, W, C] with row 0 at the top; `uv` is (u, v) with (0, 0) the top left corner of the image and (1, 1) its
bottom right corner, texel centres at half-integers; coordinates outside [0, 1] take the colour of the nearest edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError, check_choice, check_same_device, check_tensor

__all__ = ["TextureLookup", "mip_level", "sample_texture", "uv_screen_derivatives"]

TextureLookup = Literal["bilinear", "mip"]
TEXTURE_LOOKUPS: tuple[TextureLookup, ...] = ("bilinear", "mip")


def sample_texture(
    texture: Float[Tensor, "H W C"] | Float[Tensor, "B H W C"],
    uv: Float[Tensor, "B h w 2"],
    mode: TextureLookup = "bilinear",
    uv_derivatives: Float[Tensor, "B h w 4"] | None = None,
) -> Float[Tensor, "B h w C"]:
    """Colours of `texture` at `uv`; differentiable to both.

    texture: one image for all views [H, W, C], or one per view [B, H, W, C].
    uv: where to look, (0, 0) = top left corner, (1, 1) = bottom right corner.
    mode: "bilinear" blends the four nearest texels. "mip" blends bilinear lookups in the two levels of a box-filtered
        pyramid whose texels come closest to the size of the pixel (trilinear, Williams 1983), so that minified textures
        do not shimmer; it needs `uv_derivatives`.
    uv_derivatives: change of uv from one pixel to the next, (du/dx, du/dy, dv/dx, dv/dy), x to the right and y down, as
        `uv_screen_derivatives` returns them. They choose the level only: no gradient flows to them.
    """
    check_choice("mode", mode, TEXTURE_LOOKUPS)
    check_tensor("uv", uv, "B h w 2")
    check_tensor("texture", texture, "H W C" if texture.dim() == 3 else "B H W C")
    check_same_device(texture=texture, uv=uv)
    if 0 in texture.shape:
        raise InputError(f"texture: expected at least one texel and one channel, got shape {list(texture.shape)}")
    if texture.dim() == 4 and len(texture) != len(uv):
        raise InputError(f"texture: expected one image or {len(uv)}, one for each view of uv, got {len(texture)}")
    if mode == "mip":
        if uv_derivatives is None:
            raise InputError(
                'uv_derivatives: expected [B, h, w, 4] with mode "mip" (see uv_screen_derivatives), got None'
            )
        check_tensor("uv_derivatives", uv_derivatives, "B h w 4")
        if uv_derivatives.shape[:-1] != uv.shape[:-1]:
            expected, got = [*uv.shape[:-1], 4], list(uv_derivatives.shape)
            raise InputError(f"uv_derivatives: expected shape {expected} to go with uv, got {got}")
    shape = uv.shape[:-1]
    if texture.dim() == 3:  # one image: look up all views in it as one tall view
        texture, uv = texture[None], uv.flatten(0, 1)[None]
        uv_derivatives = None if uv_derivatives is None else uv_derivatives.flatten(0, 1)[None]
    images = texture.movedim(-1, 1)
    if uv_derivatives is None or mode == "bilinear":
        colors = _bilinear(images, uv)
    else:
        colors = _trilinear(images, uv, mip_level(uv_derivatives, images.shape[-2:]))
    return colors.reshape(*shape, colors.shape[-1])


def uv_screen_derivatives(
    triangle_clip: Float[Tensor, "*N 3 4"],
    triangle_uvs: Float[Tensor, "*N 3 2"],
    pixel: Int[Tensor, "*N 2"],
    resolution: tuple[int, int],
) -> Float[Tensor, "*N 4"]:
    """Exact change of the interpolated uv per pixel, (du/dx, du/dy, dv/dx, dv/dy), x to the right and y down.

    triangle_clip: clip coordinates of the corners of the triangle seen in each pixel; corners behind the eye are fine.
    triangle_uvs: their texture coordinates. pixel: (column, row). resolution: (height, width) of the image.

    With homogeneous edge functions e_i, linear in the pixel's position (Olano and Greer 1997, "Triangle scan conversion
    using 2D homogeneous coordinates"), the perspective-correct weights are b_i = e_i / sum(e), hence
    db_i = (de_i - b_i * sum(de)) / sum(e). Triangles that are seen edge-on give zero.
    """
    height, width = resolution
    size = triangle_clip.new_tensor([width, height])
    flip = triangle_clip.new_tensor([1.0, -1.0])  # rows go down, NDC y goes up
    ndc = ((pixel + 0.5) / size * 2 - 1) * flip
    corners = triangle_clip[..., [0, 1, 3]]  # (x, y, w)
    edges = torch.linalg.cross(corners.roll(-1, dims=-2), corners.roll(-2, dims=-2), dim=-1)  # [*N, 3, (x, y, 1)]
    step = edges[..., :2] * (2 / size * flip)  # de_i per pixel [*N, 3, 2]
    value = (edges[..., :2] * ndc[..., None, :]).sum(-1) + edges[..., 2]  # e_i at the pixel's centre [*N, 3]
    total = value.sum(-1, keepdim=True)[..., None]
    safe = torch.where(total == 0, torch.ones_like(total), total)
    weights = value[..., None] / safe
    weight_steps = (step - weights * step.sum(-2, keepdim=True)) / safe * (total != 0)
    return (triangle_uvs[..., :, None] * weight_steps[..., None, :]).sum(-3).flatten(-2)


def mip_level(uv_derivatives: Float[Tensor, "*N 4"], texture_size: Sequence[int]) -> Float[Tensor, "*N"]:
    """Pyramid level whose texel is as long as the pixel's footprint; 0 where the texture is magnified.

    It is log2 of the longer axis, in texels, of the ellipse that a pixel covers in the texture: of the largest singular
    value of d(texel)/d(pixel). texture_size: (height, width).
    """
    height, width = texture_size
    rows = uv_derivatives.detach().unflatten(-1, (2, 2)) * uv_derivatives.new_tensor([[width], [height]])
    # Largest eigenvalue of the symmetric 2x2 matrix rows^T rows, in closed form.
    squared = rows.square().sum((-2, -1))
    determinant = rows[..., 0, 0] * rows[..., 1, 1] - rows[..., 0, 1] * rows[..., 1, 0]
    longest_squared = 0.5 * (squared + (squared.square() - 4 * determinant.square()).clamp_min(0).sqrt())
    return 0.5 * torch.log2(longest_squared.clamp_min(1.0))


def _bilinear(images: Float[Tensor, "B C H W"], uv: Float[Tensor, "B h w 2"]) -> Float[Tensor, "B h w C"]:
    grid = uv * 2 - 1
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False).movedim(1, -1)


def _trilinear(
    images: Float[Tensor, "B C H W"], uv: Float[Tensor, "B h w 2"], level: Float[Tensor, "B h w"]
) -> Float[Tensor, "B h w C"]:
    """Sum over levels l of hat(level - l) * bilinear(image l): at most two neighbouring levels count at each point."""
    top = max(images.shape[-2:]).bit_length() - 1
    level = level.clamp(max=top)
    colors = uv.new_zeros(*uv.shape[:-1], images.shape[1])
    deepest = int(level.max().ceil()) if level.numel() else 0
    for index in range(deepest + 1):
        if index > 0:  # half the size, rounded down; an odd size is split into overlapping boxes that cover every texel
            images = F.adaptive_avg_pool2d(images, (max(1, images.shape[-2] // 2), max(1, images.shape[-1] // 2)))
        weight = (1 - (level - index).abs()).clamp_min(0)
        if weight.any():
            colors = colors + weight[..., None] * _bilinear(images, uv)
    return colors
