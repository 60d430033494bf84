"""The pictures that the networks see: camera-space normal map, depth map, mask and colour of a mesh, in many views.

All passes of one call share one rasterisation, one interpolation and one antialiasing. The encodings are those that the
published weights were trained on; each function below names its source.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Int64
from torch import Tensor

from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_choice, check_same_device, check_tensor
from humannorm.labels import BACKGROUND
from humannorm.mesh import Mesh, leaning, vertex_normals, weld
from humannorm.rendering.engines import antialias, interpolate, rasterize
from humannorm.rendering.fragments import Fragments
from humannorm.rendering.textures import TextureLookup, sample_texture, uv_screen_derivatives

__all__ = ["PASSES", "ColorField", "Pass", "PassEncoding", "RenderedPasses", "encode_depth", "render"]

Pass = Literal["normal", "depth", "mask", "color", "label"]
PASSES: tuple[Pass, ...] = ("normal", "depth", "mask", "color")
"""What any mesh can be drawn in; "label" needs labels."""
CHANNELS: dict[Pass, int] = {"normal": 3, "depth": 1, "mask": 1, "color": 3}  # of `PASSES`

ColorField = Callable[[Tensor], Tensor]
"""Colours in 0..1 [N, 3] of surface points in world space [N, 3]."""

# Added to clip z before the division, as in the published code.
DEPTH_EPSILON = 1e-7
NEAREST_CLIP_Z = 1e-2  # world units
# A foreground whose inverse depths differ by less than this fraction of the largest counts as equally far everywhere:
# in float32 the difference is rounding, and stretching it to 0..1 would paint noise.
FLAT_DEPTH = 1e-5


@dataclass(frozen=True)
class PassEncoding:
    """How surface values become colours. The defaults are what the published weights saw."""

    normal_background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """RGB in 0..1 behind the normal map. Black for guidance (paper's prompts say "black background"); the published
    validation images use white."""

    detach_depth_extremes: bool = False
    """False, as published: gradients of the depth map also flow through its nearest and farthest value, the exact
    derivative of the image. True: the extremes count as constants, so that no single pixel collects the gradients of
    the whole image."""

    texture_lookup: TextureLookup = "mip"
    """How a UV texture is read: "mip" (trilinear) or "bilinear"."""


@dataclass(frozen=True, eq=False)
class RenderedPasses:
    """Pictures in 0..1, row 0 on top, antialiased and differentiable; None for a pass that was not requested."""

    normal: Float[Tensor, "B H W 3"] | None = None
    """Camera-space normals, OpenGL axes (x right, y up, z toward the viewer), (n + 1) / 2."""
    depth: Float[Tensor, "B H W 3"] | None = None
    """Inverse depth, 1 at the nearest and 0 at the farthest point of the foreground, 0 behind; three equal channels."""
    mask: Float[Tensor, "B H W"] | None = None
    """Coverage: 1 inside, 0 outside."""
    color: Float[Tensor, "B H W 3"] | None = None
    """Unlit surface colour over the background."""
    label: Int64[Tensor, "B H W"] | None = None
    """Numbers of `humannorm.labels`: of the face that each pixel's centre sees, 0 behind; nearest, never blended."""


@dataclass(frozen=True, eq=False)
class _CoveredPixels:
    """The N pixels that show a surface, view after view."""

    index: Int[Tensor, " N"]
    """Position in the flattened [B * H * W] images."""
    view: Int[Tensor, " N"]
    counts: list[int]
    """Number of covered pixels of each view; sums to N."""


def render(
    mesh: Mesh,
    cameras: Cameras,
    resolution: tuple[int, int],
    passes: Sequence[Pass] = PASSES,
    *,
    field: ColorField | None = None,
    background: tuple[float, float, float] = (1.0, 1.0, 1.0),
    encoding: PassEncoding = PassEncoding(),
    engine: str = "auto",
    labels: Int64[Tensor, " F"] | None = None,
    slopes: Float[Tensor, "S S 3"] | None = None,
) -> RenderedPasses:
    """Render `mesh` from every camera, each view in its own camera's axes.

    resolution: (height, width) in pixels. passes: any of "normal", "depth", "mask", "color" and "label"; only those are
        computed.
    field: colours of surface points, field(points [N, 3]) -> [N, 3] in 0..1, evaluated at covered pixels. Without it
        the color pass takes the mesh's texture, else its vertex colours.
    background: RGB behind the color pass, white as published.
    engine: rasteriser, see `humannorm.rendering.available_engines`. labels: of the faces, for the label pass.
    slopes: folds too fine for the mesh, a picture on its uvs: what they add to unit world normals, see `mesh.leaning`.

    Gradients flow to vertices (through shading, perspective and silhouettes), normals, colours, texture and field; the
    choice of a mip level counts as a constant.
    The published renderer turned only the first view of a batch into camera space; here each is turned by its camera.

    >>> from humannorm.body import load_body
    >>> from humannorm.cameras import orbit
    >>> drawn = render(load_body().to_mesh(), orbit([0.0, 90.0]), (64, 48), ("normal", "mask"))
    >>> drawn.normal.shape, drawn.mask.shape, drawn.color
    (torch.Size([2, 64, 48, 3]), torch.Size([2, 64, 48]), None)
    """
    _check_request(mesh, cameras, resolution, passes, field, background)
    _check_labels(mesh, passes, labels)
    _check_slopes(mesh, slopes)

    # 1. Which triangle each pixel sees.
    height, width = resolution
    clip = cameras.clip_from_world(mesh.vertices, aspect=width / height)  # [B, V, 4]
    fragments = rasterize(clip, mesh.faces, resolution, engine=engine)  # of B x H x W pixels
    seen = None if labels is None or "label" not in passes else _seen_labels(fragments, labels)
    passes = [name for name in passes if name != "label"]
    if not passes:
        return RenderedPasses(label=seen)
    pixels = _covered_pixels(fragments)  # N of B * H * W

    # 2. Values of the surface there, and what each pass makes of them.
    welded = _welded(mesh)
    surface = _surface_values(mesh, welded, fragments, pixels, passes, field, slopes is not None)
    if slopes is not None and "normal" in passes:
        bent = _looked_up(slopes, mesh, clip, fragments, pixels, surface["uv"], encoding.texture_lookup)
        surface["normal"] = leaning(surface["normal"], bent)
    drawn = _pass_values(mesh, cameras, width / height, clip, fragments, pixels, surface, passes, field, encoding)

    # 3. On the backgrounds, all passes as channels of one image, and antialiased at once.
    behind = {"normal": encoding.normal_background, "depth": (0.0,), "mask": (0.0,), "color": background}
    outlines = mesh.faces if welded is None else welded[mesh.faces]
    pictures = _composed(drawn, {name: behind[name] for name in drawn}, pixels, fragments, clip, outlines)
    return dataclasses.replace(pictures, label=seen)


def _welded(mesh: Mesh) -> Int64[Tensor, " V"] | None:
    """The vertex that stands for each one that seams have split; None where none may be.

    Split vertices are no outline: without welding, antialiasing would blend across the seams inside the surface.
    """
    return weld(mesh.vertices) if mesh.uvs is not None or mesh.normals is not None else None


def _composed(
    drawn: dict[Pass, Float[Tensor, "N _"]],
    behind: dict[Pass, tuple[float, ...]],
    pixels: _CoveredPixels,
    fragments: Fragments,
    clip: Float[Tensor, "B V 4"],
    faces: Int64[Tensor, "F 3"],
) -> RenderedPasses:
    """Whole pictures of what the covered pixels show, over what is behind, with antialiased outlines."""
    canvas = clip.new_tensor([value for background in behind.values() for value in background])  # [K], of all passes
    values = torch.cat(list(drawn.values()), dim=-1)  # [N, K]
    images = canvas.repeat(fragments.triangle.numel(), 1).index_copy(0, pixels.index, values)  # [B * H * W, K]
    images = antialias(images.view(*fragments.triangle.shape, -1), fragments, clip, faces)
    pictures = dict(zip(drawn, images.split([CHANNELS[name] for name in drawn], dim=-1), strict=True))
    return RenderedPasses(
        normal=pictures.get("normal"),
        depth=pictures["depth"].expand(-1, -1, -1, 3) if "depth" in pictures else None,
        mask=pictures["mask"][..., 0] if "mask" in pictures else None,
        color=pictures.get("color"),
    )


def _pass_values(
    mesh: Mesh,
    cameras: Cameras,
    aspect: float,
    clip: Float[Tensor, "B V 4"],
    fragments: Fragments,
    pixels: _CoveredPixels,
    surface: dict[str, Tensor],
    passes: Sequence[Pass],
    field: ColorField | None,
    encoding: PassEncoding,
) -> dict[Pass, Float[Tensor, "N _"]]:
    """What each of the wanted passes shows at the covered pixels, in the order of `PASSES`."""
    values: dict[Pass, Tensor] = {}
    if "normal" in passes:
        rotation = cameras.world_to_camera()[:, :3, :3].to(clip.dtype)
        values["normal"] = encode_normals(surface["normal"], rotation, pixels.view)
    if "depth" in passes:
        clip_z = _clip_z(surface["position"], cameras, aspect, pixels.view)
        values["depth"] = encode_depth(clip_z, pixels.counts, encoding.detach_depth_extremes)[:, None]
    if "mask" in passes:
        values["mask"] = clip.new_ones(len(pixels.index), 1)
    if "color" in passes:
        values["color"] = _surface_colors(mesh, clip, fragments, pixels, surface, field, encoding.texture_lookup)
    return values


def _seen_labels(fragments: Fragments, labels: Int64[Tensor, " F"]) -> Int64[Tensor, "B H W"]:
    triangle = fragments.triangle.long()
    return torch.where(triangle >= 0, labels[triangle.clamp_min(0)], BACKGROUND)


def _check_slopes(mesh: Mesh, slopes: Tensor | None) -> None:
    if slopes is not None:
        check_tensor("slopes", slopes, "S S 3")
        if mesh.uvs is None:
            raise InputError("slopes: expected a mesh with texture coordinates, got one without")


def _check_labels(mesh: Mesh, passes: Sequence[Pass], labels: Tensor | None) -> None:
    if labels is not None:
        check_tensor("labels", labels, f"{mesh.num_faces}", dtype="int")
    elif "label" in passes:
        raise InputError("passes: label needs labels of the mesh's faces, got none")


def encode_normals(
    normals: Float[Tensor, "N 3"], world_to_camera: Float[Tensor, "B 3 3"], view: Int[Tensor, " N"]
) -> Float[Tensor, "N 3"]:
    """Normal map as in HumanNorm's code: interpolated world normals in OpenGL camera axes, normalised, (n + 1) / 2.

    x right -> R, y up -> G, toward the viewer -> B: a surface that faces the camera is (0.5, 0.5, 1).
    """
    if len(world_to_camera) == 1:
        turned = normals @ world_to_camera[0].T
    else:
        turned = (world_to_camera[view] @ normals[..., None])[..., 0]
    return F.normalize(turned, dim=-1, eps=1e-6) * 0.5 + 0.5


def encode_depth(clip_z: Float[Tensor, " N"], counts: list[int], detach_extremes: bool = False) -> Float[Tensor, " N"]:
    """Depth map as in HumanNorm's code: 1 / (clip z + 1e-7), per view stretched to 1 at the nearest, 0 at the farthest.

    With near 0.1 and far 1000, clip z is the distance along the view axis less 0.2. What is closer than that has no
    value in this encoding, therefore clip z is held at `NEAREST_CLIP_Z` and above. A view that is equally far
    everywhere is 1.

    clip_z: of the covered pixels, view after view; counts: number of pixels of each view.
    """
    inverse = 1 / (clip_z.clamp_min(NEAREST_CLIP_Z) + DEPTH_EPSILON)
    return torch.cat([_stretch(part, detach_extremes) for part in inverse.split(counts)])


def _stretch(inverse_depth: Float[Tensor, " N"], detach_extremes: bool) -> Float[Tensor, " N"]:
    if not len(inverse_depth):
        return inverse_depth
    farthest, nearest = inverse_depth.aminmax()
    if detach_extremes:
        farthest, nearest = farthest.detach(), nearest.detach()
    span = nearest - farthest
    if span <= FLAT_DEPTH * nearest:
        return torch.ones_like(inverse_depth)
    return (inverse_depth - farthest) / span


def _covered_pixels(fragments: Fragments) -> _CoveredPixels:
    covered = (fragments.triangle >= 0).flatten(1)
    counts = covered.sum(1)
    index = covered.flatten().nonzero()[:, 0]
    return _CoveredPixels(
        index, torch.arange(len(counts), device=index.device).repeat_interleave(counts), counts.tolist()
    )


def _surface_values(
    mesh: Mesh,
    welded: Int64[Tensor, " V"] | None,
    fragments: Fragments,
    pixels: _CoveredPixels,
    passes: Sequence[Pass],
    field: ColorField | None,
    has_slopes: bool = False,
) -> dict[str, Float[Tensor, "N _"]]:
    """World-space values of the surface at the covered pixels, all from one interpolation."""
    attributes: dict[str, Tensor] = {}
    if "normal" in passes:
        attributes["normal"] = _shading_normals(mesh, welded, fragments.engine)
    if "depth" in passes or ("color" in passes and field is not None):
        attributes["position"] = mesh.vertices
    if "color" in passes and field is None:
        if mesh.texture is not None and mesh.uvs is not None:
            attributes["uv"] = mesh.uvs
        elif mesh.colors is not None:
            attributes["color"] = mesh.colors
    if has_slopes and "normal" in passes and mesh.uvs is not None:
        attributes["uv"] = mesh.uvs
    if not attributes:
        return {}
    images = interpolate(torch.cat(list(attributes.values()), dim=-1), fragments, mesh.faces)
    values = images.flatten(0, 2).index_select(0, pixels.index)
    sizes = [attribute.shape[-1] for attribute in attributes.values()]
    return dict(zip(attributes, values.split(sizes, dim=-1), strict=True))


def _shading_normals(mesh: Mesh, welded: Int64[Tensor, " V"] | None, engine: str) -> Float[Tensor, "V 3"]:
    """The mesh's own normals, else area-weighted ones; vertices that a seam has split are smoothed as one."""
    if mesh.normals is not None:
        return mesh.normals
    average = vertex_normals
    if engine != "torch" and mesh.vertices.dtype == torch.float32:
        from humannorm.rendering.warp_normals import vertex_normals as average
    if welded is None:
        return average(mesh.vertices, mesh.faces)
    return average(mesh.vertices, welded[mesh.faces])[welded]


def _clip_z(
    points: Float[Tensor, "N 3"], cameras: Cameras, aspect: float, view: Int[Tensor, " N"]
) -> Float[Tensor, " N"]:
    """Clip-space z of surface points; affine in the point, so the same as interpolating the corners' clip z."""
    rows = (cameras.projection(aspect) @ cameras.world_to_camera())[:, 2].to(points.dtype)  # [B, 4]
    if len(rows) == 1:
        return points @ rows[0, :3] + rows[0, 3]
    rows = rows[view]
    return (points * rows[:, :3]).sum(-1) + rows[:, 3]


def _surface_colors(
    mesh: Mesh,
    clip: Float[Tensor, "B V 4"],
    fragments: Fragments,
    pixels: _CoveredPixels,
    surface: dict[str, Tensor],
    field: ColorField | None,
    lookup: TextureLookup,
) -> Float[Tensor, "N 3"]:
    if field is not None:
        points = surface["position"]
        colors = field(points)
        if not isinstance(colors, Tensor) or colors.shape != points.shape:
            got = list(colors.shape) if isinstance(colors, Tensor) else type(colors).__name__
            raise InputError(f"field: expected colours {list(points.shape)} for points {list(points.shape)}, got {got}")
        return colors
    if mesh.texture is None or mesh.uvs is None:
        return surface["color"]
    return _looked_up(mesh.texture, mesh, clip, fragments, pixels, surface["uv"], lookup)


def _looked_up(
    picture: Float[Tensor, "S T C"],
    mesh: Mesh,
    clip: Float[Tensor, "B V 4"],
    fragments: Fragments,
    pixels: _CoveredPixels,
    uv: Float[Tensor, "N 2"],
    lookup: TextureLookup,
) -> Float[Tensor, "N C"]:
    """A picture on the mesh's texture coordinates at the covered pixels."""
    derivatives = None
    if lookup == "mip":
        assert mesh.uvs is not None
        height, width = fragments.triangle.shape[1:]
        corners = mesh.faces[fragments.triangle.flatten()[pixels.index].long()]
        triangle_clip = clip.detach()[pixels.view[:, None], corners]
        place = pixels.index % (height * width)
        pixel = torch.stack([place % width, place // width], dim=-1)
        derivatives = uv_screen_derivatives(triangle_clip, mesh.uvs.detach()[corners], pixel, (height, width))[
            None, None
        ]
    return sample_texture(picture, uv[None, None], lookup, derivatives)[0, 0]


def _check_request(
    mesh: Mesh,
    cameras: Cameras,
    resolution: tuple[int, int],
    passes: Sequence[Pass],
    field: ColorField | None,
    background: tuple[float, float, float],
) -> None:
    if isinstance(passes, str) or not passes:
        raise InputError(f"passes: expected a sequence with at least one of {', '.join(PASSES)}, got {passes!r}")
    for name in passes:
        check_choice("passes", name, (*PASSES, "label"))
    sides = resolution if isinstance(resolution, Sequence) else ()
    if len(sides) != 2 or not all(isinstance(side, int) and side >= 1 for side in sides):
        raise InputError(f"resolution: expected (height, width), two positive integers, got {resolution!r}")
    if not len(cameras):
        raise InputError("cameras: expected at least one, got none")
    check_same_device(vertices=mesh.vertices, cameras=cameras.azimuth)
    check_tensor("vertices", mesh.vertices, "V 3", finite=True)
    if len(background) != 3:
        raise InputError(f"background: expected 3 values (red, green, blue in 0..1), got {len(background)}")
    has_texture = mesh.texture is not None and mesh.uvs is not None
    if "color" in passes and field is None and not has_texture and mesh.colors is None:
        raise InputError(
            "passes: color needs a field, a texture with uvs or vertex colours, and the mesh has none of them"
        )
