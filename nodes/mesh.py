"""Meshes from outside: files, and the community's TRIMESH socket."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from comfy_api.v0_0_2 import io

from humannorm.body import load_body
from humannorm.checks import InputError
from humannorm.export import BakedMesh, load_baked
from humannorm.mesh import check_mesh, to_trimesh, welded_vertex_normals
from humannorm.mesh_io import MESH_SUFFIXES, convert_trimesh
from humannorm.mesh_standing import UPS, stood_up, turn_to_stand
from humannorm.rigging.standing import doubt_of_standing

from .files import existing_file, file_fingerprint, pickable_files
from .host_denoiser import ordinary_tensors
from .host_mesh import baked_to_host, description_of, file_content, from_host, is_file, to_host
from .long_work import say
from .schema import CATEGORY, Trimesh, advanced, mesh_input, picked_file_input, schema

__all__ = ["HumanNormLoadMesh", "HumanNormMeshToTrimesh", "HumanNormTrimeshToMesh"]

MANNEQUIN = "mannequin (comes with the pack)"


class HumanNormLoadMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormLoadMesh",
            display_name="HumanNorm Load Mesh",
            category=f"{CATEGORY}/mesh",
            description="A GLB, glTF, OBJ, PLY or STL file as native MESH, with its UVs, colours, texture and the maps"
            " of its material.",
            essentials_category="3D",
            search_aliases=["load glb", "load obj", "load stl", "import mesh", "file3d to mesh"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                picked_file_input(
                    MANNEQUIN,
                    pickable_files(MESH_SUFFIXES, "input"),
                    "A file of the input or output folder. A wire brings a 3D file, such as model_3d of Load 3D, or a"
                    " path, such as its mesh_path. The mannequin comes with the pack.",
                    files=True,
                ),
                advanced(
                    io.Combo,
                    "up",
                    options=list(UPS),
                    default="y",
                    tooltip="Axis of the file that points up: y as glTF has it, z in Blender and of most scanners.",
                ),
                advanced(
                    io.Float,
                    "front",
                    default=0.0,
                    min=-360.0,
                    max=360.0,
                    step=90.0,
                    tooltip="Degrees: where the file's human faces. 0 is +Z (with z up: -Y), 90 is +X.",
                ),
                advanced(
                    io.Float,
                    "scale",
                    default=1.0,
                    min=0.0001,
                    max=10000.0,
                    step=0.01,
                    tooltip="Of all lengths, such as 0.01 from centimetres to metres.",
                ),
            ],
            outputs=[
                io.Mesh.Output("mesh", display_name="mesh", tooltip="A native MESH."),
                io.String.Output("about", display_name="about", tooltip="What it has: counts, size and maps."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: Any, **_: Any) -> str:
        return file_fingerprint(file, MESH_SUFFIXES, "input") if isinstance(file, str) else ""

    @classmethod
    def execute(cls, file: Any, up: str = "y", front: float = 0.0, scale: float = 1.0) -> io.NodeOutput:
        with ordinary_tensors():
            if is_file(file):
                baked = file_content(file, "file")
            elif file == MANNEQUIN:
                mesh = load_body().to_mesh(uvs=True)
                baked = BakedMesh(mesh.replace(normals=welded_vertex_normals(mesh.vertices, mesh.faces)))
            else:
                baked = load_baked(existing_file(file, MESH_SUFFIXES, "input"))
            doubt = doubt_of_standing(baked.mesh) if up == "y" and front == 0 and file != MANNEQUIN else None
            baked = _stood_up(baked, up, front, scale)
            about = description_of(baked)
            if doubt is not None:
                about += f"\n{doubt.said}; the inputs up and front turn it"
            say(cls.hidden.unique_id, about)
            return io.NodeOutput(baked_to_host(baked), about)


def _stood_up(baked: BakedMesh, up: str, front: float, scale: float) -> BakedMesh:
    """Turned and scaled, with the tangents of its normal map."""
    mesh = stood_up(baked.mesh, up, front, scale)
    if mesh is baked.mesh or baked.tangents is None:
        return dataclasses.replace(baked, mesh=mesh)
    along = baked.tangents[:, :3] @ turn_to_stand(up, front).T
    return dataclasses.replace(baked, mesh=mesh, tangents=torch.cat([along, baked.tangents[:, 3:]], 1))


class HumanNormMeshToTrimesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormMeshToTrimesh",
            display_name="HumanNorm Mesh to Trimesh",
            category=f"{CATEGORY}/mesh",
            description="The native MESH as the TRIMESH of the 3D packs, with its UVs, texture and colours.",
            search_aliases=["convert mesh", "trimesh"],
            inputs=[mesh_input("mesh", "A native MESH or a 3D file.")],
            outputs=[Trimesh.Output("trimesh", display_name="trimesh", tooltip="A trimesh.Trimesh.")],
        )

    @classmethod
    def execute(cls, mesh: Any) -> io.NodeOutput:
        with ordinary_tensors():
            return io.NodeOutput(to_trimesh(from_host(mesh)))


class HumanNormTrimeshToMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormTrimeshToMesh",
            display_name="HumanNorm Trimesh to Mesh",
            category=f"{CATEGORY}/mesh",
            description="The TRIMESH of the 3D packs as native MESH, with its UVs, texture and colours.",
            search_aliases=["convert mesh", "trimesh"],
            inputs=[Trimesh.Input("trimesh", tooltip="A trimesh.Trimesh, or a scene of them.")],
            outputs=[io.Mesh.Output("mesh", display_name="mesh", tooltip="A native MESH.")],
        )

    @classmethod
    def execute(cls, trimesh: Any) -> io.NodeOutput:
        import trimesh as library

        if isinstance(trimesh, library.Scene):
            trimesh = trimesh.to_geometry()
        if not isinstance(trimesh, library.Trimesh):
            raise InputError(
                f"trimesh: expected a trimesh.Trimesh, got {type(trimesh).__module__}.{type(trimesh).__name__}"
            )
        with ordinary_tensors():
            mesh = convert_trimesh(trimesh)
            check_mesh(mesh)
            return io.NodeOutput(to_host(mesh))
