"""A pack of nodes that hand on what ours must refuse, and what core nodes make meshes of that no model was at hand for.

The tests link it into their ComfyUI beside this pack.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import comfy.model_management
import comfy.model_patcher
import comfy.supported_models
import folder_paths
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))

import families


class _Maker:
    CATEGORY = "tests"
    FUNCTION = "make"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}


class EmptyMesh(_Maker):
    """A native MESH without vertices and faces."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MESH",)

    def make(self) -> tuple[Any]:
        try:
            from comfy_extras.nodes_hunyuan3d import MESH
        except ImportError:  # newer hosts have it with their types
            from comfy_api.latest import Types

            MESH = Types.MESH
        return (MESH(vertices=torch.zeros(1, 0, 3), faces=torch.zeros(1, 0, 3, dtype=torch.long)),)


class ForeignMesh(_Maker):
    """What a pack gives that uses the socket's name for a class of its own."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MESH",)

    def make(self) -> tuple[Any]:
        return (SimpleNamespace(v=torch.zeros(3, 3), f=torch.zeros(1, 3, dtype=torch.int32)),)


class SmallSDXL(_Maker):
    """A MODEL of the host's SDXL class with few channels."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MODEL",)

    def make(self) -> tuple[Any]:
        layout = {
            "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1, 1],
            "channel_mult": [1, 2], "transformer_depth": [0, 1], "transformer_depth_output": [0, 0, 1, 1],
            "transformer_depth_middle": 1, "context_dim": 2048, "adm_in_channels": 2816, "num_classes": "sequential",
            "use_spatial_transformer": True, "use_linear_in_transformer": True,
        }  # fmt: skip
        config = comfy.supported_models.SDXL(layout)
        config.set_inference_dtype(torch.float32, None)
        device = comfy.model_management.unet_offload_device()
        model = config.get_model({}, device=device)
        return (comfy.model_patcher.ModelPatcher(model, comfy.model_management.get_torch_device(), device),)


class FileInMemory(_Maker):
    """FILE_3D as newer hosts hand it on, with bytes in memory: a box, or whatever a file of the input folder has."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("FILE_3D",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"path": ("STRING", {"default": ""}), "format": ("STRING", {"default": "stl"})}}

    def make(self, path: str, format: str) -> tuple[Any]:
        content = Path(folder_paths.get_input_directory(), path).read_bytes() if path else _box(format)
        return (SimpleNamespace(format=format, get_source=lambda: io.BytesIO(content), get_bytes=lambda: content),)


def _box(format: str) -> bytes:
    import trimesh

    content = trimesh.creation.box((1, 2, 0.5)).export(file_type=format)
    return content.encode() if isinstance(content, str) else content


class TwoMeshes(_Maker):
    """A native MESH that is a batch of two."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MESH",)

    def make(self) -> tuple[Any]:
        (mesh,) = EmptyMesh().make()
        mesh.vertices = torch.rand(2, 6, 3)
        mesh.faces = torch.tensor([[[0, 1, 2], [3, 4, 5]]]).repeat(2, 1, 1)
        return (mesh,)


class Quad(_Maker):
    """A native MESH of two triangles."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MESH",)

    def make(self) -> tuple[Any]:
        (mesh,) = EmptyMesh().make()
        mesh.vertices = torch.tensor([[[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]])
        mesh.faces = torch.tensor([[[0, 1, 2], [0, 2, 3]]])
        return (mesh,)


def _ball(side: int) -> torch.Tensor:
    """A ball in a lattice: signed distance to its surface in half sides, larger inside."""
    axis = torch.linspace(-1, 1, side)
    return 0.7 - torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).norm(dim=-1)


class Voxels(_Maker):
    """A VOXEL as shape models give it: a lattice of one ball."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("VOXEL",)

    def make(self) -> tuple[Any]:
        return (SimpleNamespace(data=10 * _ball(24)[None]),)


class ColoredVoxels(_Maker):
    """A VOXEL as texture models give it: places in a lattice and base colour, metallic, roughness, alpha of each."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("VOXEL",)

    def make(self) -> tuple[Any]:
        places = (_ball(32).abs() < 0.9).nonzero()
        colors = torch.cat([places / 31, torch.ones(len(places), 3) * torch.tensor([0.2, 0.8, 1.0])], -1)
        return (SimpleNamespace(data=places, voxel_colors=colors, resolution=32),)


class Splats(_Maker):
    """A SPLAT: flat red gaussians on a ball."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("SPLAT",)

    def make(self) -> tuple[Any]:
        count = 4000
        places = torch.nn.functional.normalize(
            torch.randn(1, count, 3, generator=torch.Generator().manual_seed(0)), dim=-1
        )
        turned = torch.tensor([1.0, 0, 0, 0]).expand(1, count, 4)
        red = torch.tensor([1.7, -1.7, -1.7]).expand(1, count, 1, 3)
        return (
            SimpleNamespace(
                positions=places, scales=torch.full((1, count, 3), 0.05), rotations=turned,
                opacities=torch.full((1, count, 1), 0.9), sh=red, counts=None,
            ),
        )  # fmt: skip


class Seen(_Maker):
    """What models of depth give of one picture: DA3_GEOMETRY and MOGE_GEOMETRY of a bulge before a camera."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("DA3_GEOMETRY", "MOGE_GEOMETRY")

    def make(self) -> tuple[Any, Any]:
        y, x = torch.meshgrid(*[torch.linspace(-0.5, 0.5, 32)] * 2, indexing="ij")
        depth = (2 - 0.5 * torch.exp(-8 * (x**2 + y**2)))[None]
        points = torch.stack([x * depth, y * depth, depth], -1)
        image = torch.stack([x + 0.5, y + 0.5, torch.zeros_like(x)], -1)[None]
        inner = torch.tensor([[1.0, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])[None]
        moge = {"points": points, "depth": depth, "image": image, "intrinsics": inner}
        return ({"depth": depth, "image": image}, moge)


class Base(_Maker):
    """MODEL, CLIP and VAE of a family, small and random: what a loader gives of a checkpoint."""

    RETURN_TYPES: ClassVar[tuple[str, ...]] = ("MODEL", "CLIP", "VAE")

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {"family": (list(families.LATENTS),)}}

    def make(self, family: str) -> tuple[Any, Any, Any]:
        clip = SimpleNamespace(
            cond_stage_model=torch.nn.Module(),
            tokenize=lambda text: text,
            encode_from_tokens_scheduled=lambda text: families.encoded(family, text),
        )
        return (families.build_network(family), clip, families.build_vae(family))


NODE_CLASS_MAPPINGS = {
    "HostileEmptyMesh": EmptyMesh,
    "HostileForeignMesh": ForeignMesh,
    "HostileSDXL": SmallSDXL,
    "HostileFile": FileInMemory,
    "HostileTwoMeshes": TwoMeshes,
    "HostileQuad": Quad,
    "MadeBase": Base,
    "MadeVoxels": Voxels,
    "MadeColoredVoxels": ColoredVoxels,
    "MadeSplats": Splats,
    "MadeSeen": Seen,
}
