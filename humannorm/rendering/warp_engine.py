"""The default engine: NVIDIA Warp kernels, single precision, on the device of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from humannorm.checks import InputError
from humannorm.rendering import warp_engine_antialias, warp_engine_interpolate, warp_engine_raster
from humannorm.rendering.clipping import clipped_triangles, half_size
from humannorm.rendering.fragments import Fragments
from humannorm.warp_runtime import wp

__all__ = ["antialias", "interpolate", "rasterize"]


@dataclass(frozen=True)
class Scratch:
    """What `rasterize` keeps for the operations that follow."""

    faces: Tensor
    faces32: Tensor


def rasterize(
    clip: Float[Tensor, "B V 4"],
    faces: Int[Tensor, "F 3"],
    resolution: tuple[int, int],
    behind: Float[Tensor, "B H W"] | None = None,
) -> Fragments:
    """Visible triangle, barycentrics and depth of every pixel; see `humannorm.rendering.rasterize`."""
    check_single_precision("clip", clip)
    faces32 = faces.to(torch.int32).contiguous()
    triangle, barycentric, depth = _Rasterize.apply(clip, faces32, resolution, behind)
    return Fragments(triangle, barycentric, depth, "warp", Scratch(faces, faces32))


def interpolate(
    attributes: Float[Tensor, "V C"] | Float[Tensor, "B V C"], fragments: Fragments, faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Vertex attributes at the visible points, 0 on the background; see `humannorm.rendering.interpolate`."""
    check_single_precision("attributes", attributes)
    return _Interpolate.apply(attributes, fragments.barycentric, fragments.triangle, int32_faces(faces, fragments))


def antialias(
    color: Float[Tensor, "B H W C"], fragments: Fragments, clip: Float[Tensor, "B V 4"], faces: Int[Tensor, "F 3"]
) -> Float[Tensor, "B H W C"]:
    """Blends colours across silhouettes; see `humannorm.rendering.antialias`."""
    check_single_precision("color", color)
    check_single_precision("clip", clip)
    return _Antialias.apply(color, clip, fragments.triangle, fragments.depth, int32_faces(faces, fragments))


def check_single_precision(name: str, value: Tensor) -> None:
    """The kernels take float32 only."""
    if value.dtype != torch.float32:
        raise InputError(f'{name}: expected float32 for engine "warp" (engine "torch" takes any), got {value.dtype}')


def int32_faces(faces: Int[Tensor, "F 3"], fragments: Fragments) -> Int[Tensor, "F 3"]:
    """Faces as the kernels read them; those the fragments were made from are kept converted."""
    scratch = fragments.scratch
    if isinstance(scratch, Scratch) and scratch.faces is faces:
        return scratch.faces32
    return faces.to(torch.int32).contiguous()


def launch(kernel: Any, dim: int | tuple[int, ...], *arguments: Any, device: torch.device) -> None:
    """Runs a kernel on the device of its tensors and in torch's stream; tensors are passed without a copy."""
    types = [argument.type for argument in kernel.adj.args]
    inputs = [
        as_array(value, kind.dtype) if isinstance(kind, wp.array) else value
        for value, kind in zip(arguments, types, strict=True)
    ]
    stream = wp.stream_from_torch(torch.cuda.current_stream(device)) if device.type == "cuda" else None
    wp.launch(kernel, dim, inputs, device=wp.device_from_torch(device), stream=stream)


def as_array(value: Tensor | None, dtype: Any) -> Any:
    """A tensor as a Warp kernel argument; None as an empty array."""
    return None if value is None else wp.from_torch(value.detach(), dtype=dtype, return_ctype=True)


def chunks(count: int, device: torch.device) -> tuple[int, int]:
    """Number of threads and items per thread: a CPU runs all in one thread, without a call for every item."""
    return (count, 1) if device.type == "cuda" else (1, count)


class _Rasterize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, clip: Tensor, faces: Tensor, resolution: tuple[int, int], behind: Tensor | None) -> Any:
        device, (batch, vertices), (height, width) = clip.device, clip.shape[:2], resolution
        clip = clip.contiguous()
        points = clip.reshape(-1, 4)
        screen = torch.empty(len(points), 2, dtype=torch.int32, device=device)
        vertex_depth = torch.empty(len(points), device=device)
        keys = torch.full((batch * height * width,), -1, dtype=torch.int64, device=device)
        count = batch * len(faces)
        clipped, large = torch.empty(2, count, dtype=torch.int32, device=device)
        lengths = torch.zeros(2, dtype=torch.int32, device=device)
        if behind is not None:
            behind = behind.float().contiguous().reshape(-1)

        kernels = warp_engine_raster
        launch(kernels.project, len(points), points, *half_size(resolution), screen, vertex_depth, device=device)
        threads, chunk = chunks(count, device)
        launch(
            kernels.draw,
            threads,
            screen,
            vertex_depth,
            faces,
            vertices,
            height,
            width,
            count,
            chunk,
            behind,
            keys,
            clipped,
            large,
            lengths,
            device=device,
        )
        num_clipped, num_large = lengths.tolist()
        if num_large:
            view, index = (large[:num_large] // len(faces)).int(), (large[:num_large] % len(faces)).int()
            corner = faces[index.long()].long() + view[:, None].long() * vertices
            launch(
                kernels.draw_rows,
                (num_large, height),
                screen[corner],
                vertex_depth[corner],
                index,
                view,
                height,
                width,
                behind,
                keys,
                device=device,
            )
        if num_clipped:
            listed = clipped[:num_clipped].long()
            for view in range(batch):
                here = listed[listed // len(faces) == view] % len(faces)
                parts = clipped_triangles(clip[view], faces.long(), here, resolution)
                if len(parts.triangle):
                    index = parts.triangle.int()
                    launch(
                        kernels.draw_rows,
                        (len(index), height),
                        parts.corners.int(),
                        parts.depth.contiguous(),
                        index,
                        torch.full_like(index, view),
                        height,
                        width,
                        behind,
                        keys,
                        device=device,
                    )

        triangle = torch.empty(batch, height, width, dtype=torch.int32, device=device)
        barycentric = torch.empty(batch, height, width, 2, device=device)
        depth = torch.empty(batch, height, width, device=device)
        threads, chunk = chunks(len(keys), device)
        launch(
            kernels.resolve,
            threads,
            points,
            faces,
            vertices,
            height,
            width,
            len(keys),
            chunk,
            keys,
            triangle.view(-1),
            barycentric.view(-1, 2),
            depth.view(-1),
            device=device,
        )
        ctx.save_for_backward(clip, faces, triangle)
        ctx.mark_non_differentiable(triangle, depth)
        return triangle, barycentric, depth

    @staticmethod
    def backward(ctx: Any, _triangle: Tensor, grad: Tensor, _depth: Tensor) -> Any:
        clip, faces, triangle = ctx.saved_tensors
        _, height, width = triangle.shape
        result = torch.zeros_like(clip)
        threads, chunk = chunks(triangle.numel(), clip.device)
        launch(
            warp_engine_raster.barycentric_gradient,
            threads,
            clip.view(-1, 4),
            faces,
            triangle.view(-1),
            clip.shape[1],
            height,
            width,
            triangle.numel(),
            chunk,
            grad.contiguous().view(-1, 2),
            result.view(-1, 4),
            device=clip.device,
        )
        return result, None, None, None


class _Interpolate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, attributes: Tensor, barycentric: Tensor, triangle: Tensor, faces: Tensor) -> Tensor:
        attributes, barycentric = attributes.contiguous(), barycentric.contiguous()
        channels = attributes.shape[-1]
        image = torch.zeros(*triangle.shape, channels, device=triangle.device)
        _run_interpolate(
            warp_engine_interpolate.interpolate, attributes, barycentric, triangle, faces, image.view(-1, channels)
        )
        ctx.save_for_backward(attributes, barycentric, triangle, faces)
        return image

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        attributes, barycentric, triangle, faces = ctx.saved_tensors
        channels = attributes.shape[-1]
        grad_attributes = torch.zeros_like(attributes) if ctx.needs_input_grad[0] else None
        grad_barycentric = torch.zeros_like(barycentric) if ctx.needs_input_grad[1] else None
        _run_interpolate(
            warp_engine_interpolate.interpolate_gradient,
            attributes,
            barycentric,
            triangle,
            faces,
            grad.contiguous().view(-1, channels),
            None if grad_attributes is None else grad_attributes.view(-1, channels),
            None if grad_barycentric is None else grad_barycentric.view(-1, 2),
        )
        return grad_attributes, grad_barycentric, None, None


def _run_interpolate(
    kernel: Any, attributes: Tensor, barycentric: Tensor, triangle: Tensor, faces: Tensor, *images: Tensor | None
) -> None:
    batch, height, width = triangle.shape
    threads, chunk = chunks(triangle.numel(), triangle.device)
    launch(
        kernel,
        threads,
        attributes.view(-1, attributes.shape[-1]),
        faces,
        triangle.view(-1),
        barycentric.view(-1, 2),
        attributes.shape[1] if attributes.ndim == 3 else 0,
        height * width,
        triangle.numel(),
        chunk,
        *images,
        device=triangle.device,
    )


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, color: Tensor, clip: Tensor, triangle: Tensor, depth: Tensor, faces: Tensor) -> Tensor:
        color, clip = color.contiguous(), clip.contiguous()
        records, sides = silhouette_crossings(clip, triangle, depth, faces)
        blended = color.clone()
        if len(records):
            _, height, width, channels = color.shape
            launch(
                warp_engine_antialias.blend,
                len(records),
                clip.view(-1, 4),
                records,
                sides,
                height,
                width,
                color.view(-1, channels),
                blended.view(-1, channels),
                device=color.device,
            )
        ctx.save_for_backward(color, clip, records, sides)
        return blended

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        color, clip, records, sides = ctx.saved_tensors
        grad = grad.contiguous()
        grad_color = grad.clone() if ctx.needs_input_grad[0] else None
        grad_clip = torch.zeros_like(clip) if ctx.needs_input_grad[1] else None
        if len(records):
            _, height, width, channels = color.shape
            launch(
                warp_engine_antialias.blend_gradient,
                len(records),
                clip.view(-1, 4),
                records,
                sides,
                height,
                width,
                color.view(-1, channels),
                grad.view(-1, channels),
                None if grad_color is None else grad_color.view(-1, channels),
                None if grad_clip is None else grad_clip.view(-1, 4),
                device=color.device,
            )
        return grad_color, grad_clip, None, None, None


def silhouette_crossings(clip: Tensor, triangle: Tensor, depth: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Records (near pixel, far pixel, edge's two vertices) [N, 4] and on which sides of the edges triangles lie [N, 2]."""
    kernels, device = warp_engine_antialias, clip.device
    batch, height, width = triangle.shape
    vertices, points = clip.shape[1], clip.view(-1, 4)
    fan = torch.zeros(vertices, dtype=torch.int32, device=device)
    threads, chunk = chunks(len(faces), device)
    launch(kernels.fan_sums, threads, faces, chunk, fan, device=device)
    seen = torch.zeros(len(points), 2, dtype=torch.uint8, device=device)
    face_threads, face_chunk = chunks(batch * len(faces), device)
    launch(kernels.facing, face_threads, points, faces, vertices, batch * len(faces), face_chunk, seen, device=device)

    count = triangle.numel()
    threads, chunk = chunks(count, device)
    capacity = 4096 + count // 16
    while True:
        records = torch.empty(capacity, 4, dtype=torch.int32, device=device)
        length = torch.zeros(1, dtype=torch.int32, device=device)
        launch(
            kernels.find_crossings,
            threads,
            points,
            faces,
            triangle.view(-1),
            depth.view(-1),
            fan,
            seen,
            vertices,
            height,
            width,
            count,
            chunk,
            records,
            length,
            device=device,
        )
        found = int(length)
        if found <= capacity:
            break
        capacity = found
    records = records[:found].clone()
    sides = torch.zeros(found, 2, dtype=torch.uint8, device=device)
    if found:
        head = torch.full((len(points),), -1, dtype=torch.int32, device=device)
        following = torch.empty(found, dtype=torch.int32, device=device)
        launch(kernels.link_crossings, found, records, head, following, device=device)
        launch(
            kernels.mark_sides,
            face_threads,
            points,
            faces,
            vertices,
            batch * len(faces),
            face_chunk,
            head,
            following,
            records,
            sides,
            device=device,
        )
    return records, sides
