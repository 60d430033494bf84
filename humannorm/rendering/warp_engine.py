"""The default engine: NVIDIA Warp kernels, single precision, on the device of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor

from humannorm.checks import InputError
from humannorm.rendering import warp_engine_antialias as silhouettes
from humannorm.rendering import warp_engine_interpolate as attributes_kernels
from humannorm.rendering import warp_engine_raster as raster
from humannorm.rendering.clipping import clipped_triangles, half_size
from humannorm.rendering.fragments import Fragments
from humannorm.warp_runtime import wp

__all__ = ["antialias", "interpolate", "rasterize"]


@dataclass(frozen=True)
class Scratch:
    """What `rasterize` keeps for the operations that follow."""

    faces: Tensor
    kernel_faces: Tensor


def rasterize(
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "B H W"] | None = None,
) -> Fragments:
    """Visible triangle, barycentrics and depth of every pixel; see `humannorm.rendering.rasterize`."""
    check_single_precision("clip", clip)
    kernel_faces = faces.to(torch.int32).contiguous()
    triangle, barycentric, depth = _Rasterize.apply(clip, kernel_faces, resolution, behind)
    return Fragments(triangle, barycentric, depth, "warp", Scratch(faces, kernel_faces))


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"], fragments: Fragments, faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Vertex attributes at the visible points, 0 on the background; see `humannorm.rendering.interpolate`."""
    check_single_precision("attributes", attributes)
    values = attributes[None] if attributes.ndim == 2 else attributes
    return _Interpolate.apply(values, fragments.barycentric, fragments.triangle, faces_for_kernels(faces, fragments))


def antialias(
    color: Float[Tensor, "B H W C"], fragments: Fragments, clip: Float[Tensor, "B V 4"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Blends colours across silhouettes; see `humannorm.rendering.antialias`."""
    check_single_precision("color", color)
    check_single_precision("clip", clip)
    return _Antialias.apply(color, clip, fragments.triangle, fragments.depth, faces_for_kernels(faces, fragments))


def check_single_precision(name: str, value: Tensor) -> None:
    """The kernels take float32 only."""
    if value.dtype != torch.float32:
        raise InputError(f'{name}: expected float32 for engine "warp" (engine "torch" takes any), got {value.dtype}')


def faces_for_kernels(faces: Int[Tensor, "F 3"], fragments: Fragments) -> Int32[Tensor, "F 3"]:
    """Faces as the kernels read them; those the fragments were made from are kept converted."""
    scratch = fragments.scratch
    if isinstance(scratch, Scratch) and scratch.faces is faces:
        return scratch.kernel_faces
    return faces.to(torch.int32).contiguous()


def launch(kernel: Any, dim: int | tuple[int, ...], *arguments: Any, device: torch.device) -> None:
    """Runs a kernel on the device of its tensors, in torch's stream; tensors are passed without a copy, None as
    empty."""
    inputs = [
        wp.from_torch(value.detach(), dtype=parameter.type.dtype, return_ctype=True)
        if isinstance(value, Tensor)
        else value
        for value, parameter in zip(arguments, kernel.adj.args, strict=True)
    ]
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    wp.launch(kernel, dim, inputs, device=wp.device_from_torch(device), stream=stream)


def item_blocks(count: int, device: torch.device) -> tuple[int, int]:
    """Number of threads for a list, and items for each: on a CPU one thread does all, in a loop the compiler sees."""
    return (count, 1) if device.type == "cuda" else (1, count)


def pixel_blocks(image: Tensor) -> tuple[tuple[int, int, int], Any]:
    """Number of threads for an image [B, H, W, ...], and (rows, columns) for each: on a CPU one thread for each
    view."""
    batch, height, width = image.shape[:3]
    if image.device.type == "cuda":
        return (batch, height, width), wp.vec2i(1, 1)
    return (batch, 1, 1), wp.vec2i(height, width)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clip: Tensor, faces: Tensor, resolution: tuple[int, int], behind: Tensor | None) -> Any:
        clip = clip.contiguous()
        keys = nearest_keys(clip, faces, resolution, None if behind is None else behind.float().reshape(-1))
        triangle = torch.empty(keys.shape, dtype=torch.int32, device=clip.device)
        barycentric = torch.empty(*keys.shape, 2, device=clip.device)
        depth = torch.empty(keys.shape, device=clip.device)
        threads, block = pixel_blocks(keys)
        launch(raster.resolve, threads, clip, faces, keys, block, triangle, barycentric, depth, device=clip.device)
        ctx.save_for_backward(clip, faces, triangle)
        ctx.mark_non_differentiable(triangle, depth)
        return triangle, barycentric, depth

    @staticmethod
    def backward(ctx: Any, _triangle: Tensor, grad: Tensor, _depth: Tensor) -> Any:
        clip, faces, triangle = ctx.saved_tensors
        result = torch.zeros_like(clip)
        threads, block = pixel_blocks(triangle)
        grad = grad.contiguous()
        launch(raster.barycentric_gradient, threads, clip, faces, triangle, block, grad, result, device=clip.device)
        return result, None, None, None


def nearest_keys(
    clip: Float[Tensor, "B V 4"],
    faces: Int32[Tensor, "F 3"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "P"] | None,
) -> Tensor:
    """The 64-bit key of every pixel's nearest fragment [B, H, W], all bits set where there is none."""
    device, (batch, vertices), (height, width) = clip.device, clip.shape[:2], resolution
    screen = torch.empty(batch, vertices, 2, dtype=torch.int32, device=device)
    depth = torch.empty(batch, vertices, device=device)
    launch(
        raster.project,
        batch * vertices,
        clip.view(-1, 4),
        *half_size(resolution),
        screen.view(-1, 2),
        depth.view(-1),
        device=device,
    )

    keys = torch.full((batch, height, width), -1, dtype=torch.int64, device=device)
    clipped, large = torch.empty(2, batch * len(faces), 2, dtype=torch.int32, device=device)
    lengths = torch.zeros(2, dtype=torch.int32, device=device)
    threads, block = item_blocks(len(faces), device)
    launch(
        raster.draw,
        (batch, threads),
        screen,
        depth,
        faces,
        height,
        width,
        block,
        behind,
        keys.view(-1),
        clipped,
        large,
        lengths,
        device=device,
    )
    num_clipped, num_large = lengths.tolist()

    if num_large:
        owner = large[:num_large]
        view, corner = owner[:, :1].long(), faces[owner[:, 1].long()].long()
        draw_rows(screen[view, corner], depth[view, corner], owner, resolution, behind, keys)
    if num_clipped:
        owner = clipped[:num_clipped]
        for view in range(batch):
            index = owner[owner[:, 0] == view, 1].long()
            parts = clipped_triangles(clip[view], faces.long(), index, resolution)
            owners = torch.stack((torch.full_like(parts.triangle, view), parts.triangle), dim=1)
            draw_rows(parts.corners, parts.depth, owners, resolution, behind, keys)
    return keys


def draw_rows(
    corners: Int[Tensor, "N 3 2"],
    depth: Float[Tensor, "N 3"],
    owner: Int[Tensor, "N 2"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "P"] | None,
    keys: Tensor,
) -> None:
    """Draws screen triangles of the given (view, triangle) row by row."""
    if len(corners):
        launch(
            raster.draw_rows,
            (len(corners), resolution[0]),
            corners.int().contiguous(),
            depth.contiguous(),
            owner.int().contiguous(),
            *resolution,
            behind,
            keys.view(-1),
            device=keys.device,
        )


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attributes: Tensor, barycentric: Tensor, triangle: Tensor, faces: Tensor) -> Tensor:
        attributes, barycentric = attributes.contiguous(), barycentric.contiguous()
        size = group_size(attributes)
        image = torch.zeros(*triangle.shape, attributes.shape[2], device=triangle.device)
        threads, block = pixel_blocks(triangle)
        launch(
            attributes_kernels.INTERPOLATE[size],
            threads,
            grouped(attributes, size),
            faces,
            triangle,
            barycentric,
            block,
            grouped(image, size),
            device=triangle.device,
        )
        ctx.save_for_backward(attributes, barycentric, triangle, faces)
        return image

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        attributes, barycentric, triangle, faces = ctx.saved_tensors
        size = group_size(attributes)
        grad_attributes = torch.zeros_like(attributes) if ctx.needs_input_grad[0] else None
        grad_barycentric = torch.zeros_like(barycentric) if ctx.needs_input_grad[1] else None
        threads, block = pixel_blocks(triangle)
        launch(
            attributes_kernels.INTERPOLATE_GRADIENT[size],
            threads,
            grouped(attributes, size),
            faces,
            triangle,
            barycentric,
            block,
            grouped(grad.contiguous(), size),
            None if grad_attributes is None else grouped(grad_attributes, size),
            grad_barycentric,
            device=triangle.device,
        )
        return grad_attributes, grad_barycentric, None, None


def group_size(attributes: Tensor) -> int:
    """How many channels the kernels take at once."""
    return next(size for size in (4, 3, 2, 1) if attributes.shape[-1] % size == 0)


def grouped(values: Tensor, size: int) -> Tensor:
    """Channels [..., C] as groups [..., C/size, size], or as they are for size 1."""
    return values if size == 1 else values.view(*values.shape[:-1], -1, size)


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, color: Tensor, clip: Tensor, triangle: Tensor, depth: Tensor, faces: Tensor) -> Tensor:
        color, clip = color.contiguous(), clip.contiguous()
        records = silhouette_crossings(clip, triangle, depth, faces)
        blended = color.clone()
        taken = torch.zeros(triangle.numel() if len(records) else 0, 2, device=color.device)
        if len(records):
            _, height, width, channels = color.shape
            shared = len(records), clip, records, height, width, taken
            launch(silhouettes.sum_shares, *shared, device=color.device)
            launch(
                silhouettes.blend, *shared, color.view(-1, channels), blended.view(-1, channels), device=color.device
            )
        ctx.save_for_backward(color, clip, records, taken)
        return blended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        color, clip, records, taken = ctx.saved_tensors
        grad = grad.contiguous()
        grad_color = grad.clone() if ctx.needs_input_grad[0] else None
        grad_clip = torch.zeros_like(clip) if ctx.needs_input_grad[1] else None
        if len(records):
            _, height, width, channels = color.shape
            launch(
                silhouettes.blend_gradient,
                len(records),
                clip,
                records,
                height,
                width,
                taken,
                color.view(-1, channels),
                grad.view(-1, channels),
                None if grad_color is None else grad_color.view(-1, channels),
                grad_clip,
                device=color.device,
            )
        return grad_color, grad_clip, None, None, None


def silhouette_crossings(
    clip: Float[Tensor, "B V 4"],
    triangle: Int32[Tensor, "B H W"],
    depth: Float[Tensor, "B H W"],
    faces: Int32[Tensor, "F 3"],
) -> Int32[Tensor, "N 4"]:
    """Records (near pixel, way to the far one, edge's vertices) of the nearest silhouette between neighbouring
    pixels."""
    device, candidates = clip.device, silhouette_candidates(clip, faces)
    if len(candidates) == 0:
        return candidates.new_empty(0, 4)
    buckets = 1 << (4 * len(candidates)).bit_length()
    head = torch.full((buckets,), -1, dtype=torch.int32, device=device)
    following = torch.empty(3 * len(candidates), dtype=torch.int32, device=device)
    launch(silhouettes.link_edges, len(candidates), faces, candidates, buckets - 1, head, following, device=device)

    room = 4096 + triangle.numel() // 16
    while True:
        records = torch.empty(room, 4, dtype=torch.int32, device=device)
        keys = torch.empty(room, dtype=torch.int64, device=device)
        length = torch.zeros(1, dtype=torch.int32, device=device)
        launch(
            silhouettes.find_crossings,
            3 * len(candidates),
            clip,
            faces,
            triangle,
            depth,
            candidates,
            buckets - 1,
            head,
            following,
            records,
            keys,
            length,
            device=device,
        )
        found = int(length)
        if found <= room:
            break
        room = found  # the first guess was too low: a second run has room for all

    keys, order = torch.sort(keys[:found])
    pair = (keys + 2**31) >> 32  # below are 32 signed bits of depth
    nearest = torch.ones_like(pair, dtype=torch.bool)
    nearest[1:] = pair[1:] != pair[:-1]
    records = records[order]
    return records[nearest & (records[:, 1] != 0)]


def silhouette_candidates(clip: Float[Tensor, "B V 4"], faces: Int32[Tensor, "F 3"]) -> Int32[Tensor, "N 3"]:
    """Triangles with an edge that can be a silhouette, as `list_candidates` packs them."""
    device, (batch, vertices) = clip.device, clip.shape[:2]
    fan = torch.zeros(vertices, dtype=torch.int32, device=device)
    seen = torch.zeros(batch, vertices, 2, dtype=torch.uint8, device=device)
    candidates = torch.empty(batch * len(faces), 3, dtype=torch.int32, device=device)
    length = torch.zeros(1, dtype=torch.int32, device=device)
    threads, block = item_blocks(len(faces), device)
    launch(silhouettes.fan_sums, threads, faces, block, fan, device=device)
    launch(silhouettes.facing, (batch, threads), clip, faces, block, seen, device=device)
    launch(
        silhouettes.list_candidates,
        (batch, threads),
        clip,
        faces,
        block,
        fan,
        seen,
        candidates,
        length,
        device=device,
    )
    return candidates[: int(length)]
