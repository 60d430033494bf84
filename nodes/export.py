"""The finished human as a file."""

from __future__ import annotations

import json
from typing import Any

from comfy.cli_args import args
from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from humannorm.checks import InputError
from humannorm.export import (
    FORMATS,
    BakedMesh,
    ExportSettings,
    bake_for,
    with_maps,
    with_materials,
    write_baked,
    write_levels,
)
from humannorm.export.showing import response_of
from humannorm.geometry.state import GeometryState
from humannorm.mesh import Mesh
from humannorm.stages import painted_surface, textured_mesh
from humannorm.texture.fields import UvColorField, UvColorSettings
from humannorm.texture.state import TextureState

from .files import next_output_file, refused, relative_to_output, shown_file
from .host_denoiser import ordinary_tensors
from .host_mesh import baked_from_host, baked_to_host, description_of, file_to_host
from .long_work import Progress, say
from .schema import CATEGORY, File3D, advanced, levels_input, schema
from .subjects import check_one_connected, sculpted_mesh, subject_inputs

__all__ = ["SHARES", "HumanNormMeshExporter", "workflow_notes"]

SHARES = 1000  # of the progress bar


class HumanNormMeshExporter(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormMeshExporter",
            display_name="HumanNorm Mesh Exporter",
            category=f"{CATEGORY}/export",
            description="Writes a GLB, OBJ or PLY that opens anywhere: reduced, unwrapped, with baked colours and"
            " normal map. A GLB keeps the workflow: drop it on the canvas to have the graph back. Connect the path to"
            " Preview 3D to turn the human round.",
            essentials_category="3D",
            search_aliases=["save mesh", "export glb", "bake texture", "save 3d"],
            is_output_node=True,
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                *subject_inputs("texture", "geometry", "mesh"),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default="glb",
                    tooltip="glb: one file with everything. obj: with MTL and PNG beside it. ply: colours at vertices.",
                ),
                io.Int.Input(
                    "faces", default=100_000, min=100, max=2_000_000, tooltip="Most faces; a finer mesh is reduced."
                ),
                io.Int.Input(
                    "texture_size", default=2048, min=64, max=8192, step=64, tooltip="Texels a side of the textures."
                ),
                io.Float.Input(
                    "height_m",
                    default=1.75,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    tooltip="Height in metres, standing on y = 0; 0 leaves size and place as they are.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="humannorm/human",
                    tooltip="Place and name in the output folder; %year% and the like work.",
                ),
                advanced(io.Boolean, "normal_map", default=True, tooltip="Bake the fine surface's normals into a map."),
                advanced(io.Boolean, "occlusion", default=False, tooltip="Bake ambient occlusion."),
                levels_input(),
            ],
            outputs=[
                io.Mesh.Output("exported", display_name="mesh", tooltip="What was written, with UVs and texture."),
                io.String.Output("path", display_name="path", tooltip="From the output folder, for Preview 3D."),
                File3D.Output("model_3d", display_name="model_3d", tooltip="The file, for newer 3D nodes."),
                io.Image.Output("base_color", display_name="base color", tooltip="The colours' texture."),
                io.Image.Output("normal_image", display_name="normal map", tooltip="Tangent space, green up."),
                io.Image.Output(
                    "orm",
                    display_name="ORM",
                    tooltip="Occlusion in red, roughness in green, metalness in blue.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        format: str,
        faces: int,
        texture_size: int,
        height_m: float,
        filename_prefix: str,
        texture: TextureState | None = None,
        geometry: GeometryState | None = None,
        mesh: Any | None = None,
        normal_map: bool = True,
        occlusion: bool = False,
        levels_of_detail: int = 0,
    ) -> io.NodeOutput:
        check_one_connected(texture=texture, geometry=geometry, mesh=mesh)
        if levels_of_detail and format != "glb":
            raise InputError(f"levels_of_detail: expected 0 beside the format {format}, got {levels_of_detail}")
        settings = ExportSettings(
            faces=faces,
            texture_size=texture_size,
            normal_map=normal_map,
            occlusion=occlusion,
            height_m=height_m or None,
        )
        target = next_output_file(filename_prefix, f".{format}")  # before the long work
        progress = Progress(cls.hidden.unique_id, SHARES, "Export")

        def tell(step: str, share: float) -> None:
            progress.update(round(SHARES * share))

        with ordinary_tensors():
            if texture is not None and format != "ply" and _is_finished(texture, settings):
                baked = with_maps(textured_mesh(texture), settings, progress=tell, slopes=texture.folds)
                baked = with_materials(baked, texture.labels, texture.materials) if format == "glb" else baked
            else:
                surface, field = _subject(texture, geometry, mesh, format)
                baked = bake_for(format, surface, settings, field, tell)
            try:
                write_baked(target, baked, extras=workflow_notes(cls.hidden))
                levels = write_levels(target, baked, levels_of_detail)
            except OSError as error:
                raise refused(target, error) from error
            path = relative_to_output(target)
            paths = [path, *map(relative_to_output, levels)]
            preview = {"3d": [shown_file(target)], "result": [path, None], "text": paths}
            say(cls.hidden.unique_id, description_of(baked))
            return io.NodeOutput(baked_to_host(baked), path, file_to_host(target), *_maps_of(baked), ui=preview)


def _maps_of(baked: BakedMesh) -> list[Any]:
    """The textures as pictures of the host's; what was not written blocks what hangs on it."""
    found = {"texture": baked.mesh.texture, "normal map": baked.normal_map, "roughness map": response_of(baked)}
    return [
        ExecutionBlocker(f"HumanNorm Mesh Exporter wrote no {name}") if picture is None else picture[None].cpu()
        for name, picture in found.items()
    ]


def _is_finished(texture: TextureState, settings: ExportSettings) -> bool:
    """Whether a painting is a texture of the wanted size on few enough faces: baked anew it would lose sharpness."""
    colors = texture.field.settings
    return (
        isinstance(colors, UvColorSettings)
        and colors.size == settings.texture_size
        and texture.mesh.num_faces <= settings.faces
    )


def _subject(
    texture: TextureState | None, geometry: GeometryState | None, mesh: Any | None, format: str
) -> tuple[Mesh | BakedMesh, Any]:
    """The surface to write, with materials where the format can say them, and for a painting of the optimiser its
    colours as a field in the same frame."""
    if texture is not None and isinstance(texture.field, UvColorField):
        surface = BakedMesh(textured_mesh(texture))
        return with_materials(surface, texture.labels, texture.materials) if format == "glb" else surface, None
    if texture is not None:
        painted = painted_surface(texture)
        return painted.mesh, painted.field
    if geometry is not None:
        return sculpted_mesh(geometry), None
    return baked_from_host(mesh), None


def workflow_notes(hidden: Any) -> dict[str, str] | None:
    """What lets a GLB that is dropped on the canvas restore its graph, unless the host keeps it out."""
    if args.disable_metadata:
        return None
    extras = {} if hidden.prompt is None else {"prompt": json.dumps(hidden.prompt)}
    for name, value in (hidden.extra_pnginfo or {}).items():
        extras[name] = json.dumps(value)
    return extras or None
