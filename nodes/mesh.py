"""Meshes from outside: files, and the community's TRIMESH socket."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from humannorm.checks import InputError
from humannorm.mesh import check_mesh, to_trimesh
from humannorm.mesh_io import MESH_SUFFIXES, convert_trimesh, load_mesh

from .files import existing_file, file_fingerprint
from .host_denoiser import ordinary_tensors
from .host_mesh import from_host, to_host
from .schema import CATEGORY, Trimesh, file_input, schema


class HumanNormLoadMesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormLoadMesh",
            display_name="HumanNorm Load Mesh",
            category=f"{CATEGORY}/mesh",
            description="A GLB, glTF, OBJ or PLY file as native MESH, with its UVs, texture and colours.",
            search_aliases=["load glb", "load obj", "import mesh"],
            inputs=[
                file_input(
                    "3d/person.glb", "A file of the input or output folder: its name, or the mesh_path of Load 3D."
                )
            ],
            outputs=[io.Mesh.Output("mesh", display_name="mesh", tooltip="A native MESH.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return file_fingerprint(file, MESH_SUFFIXES)

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        path = existing_file(file, MESH_SUFFIXES)
        with ordinary_tensors():
            return io.NodeOutput(to_host(load_mesh(path)))


class HumanNormMeshToTrimesh(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormMeshToTrimesh",
            display_name="HumanNorm Mesh to Trimesh",
            category=f"{CATEGORY}/mesh",
            description="The native MESH as the TRIMESH of the 3D packs, with its UVs, texture and colours.",
            search_aliases=["convert mesh", "trimesh"],
            inputs=[io.Mesh.Input("mesh", tooltip="A native MESH.")],
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
