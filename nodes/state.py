"""Sculptures and paintings on disk, to resume or to share."""

from __future__ import annotations

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from humannorm.checks import InputError
from humannorm.geometry import state as geometry_state
from humannorm.texture import state as texture_state

from .devices import rest_device
from .files import (
    existing_file,
    file_fingerprint,
    next_output_file,
    pickable_files,
    refused,
    relative_to_output,
)
from .host_denoiser import ordinary_tensors
from .schema import CATEGORY, Geometry, Texture, picked_file_input, schema
from .subjects import check_one_connected

__all__ = ["HumanNormLoadState", "HumanNormSaveState"]

SUFFIX = ".safetensors"


class HumanNormSaveState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormSaveState",
            display_name="HumanNorm Save State",
            category=f"{CATEGORY}/state",
            description="Writes a sculpture or a painting with everything that is needed to go on with it later.",
            search_aliases=["save geometry", "save texture", "checkpoint"],
            is_output_node=True,
            inputs=[
                Geometry.Input("geometry", optional=True, tooltip="A sculpture. Connect this or a painting."),
                Texture.Input("texture", optional=True, tooltip="A painting. Connect this or a sculpture."),
                io.String.Input(
                    "filename_prefix", default="humannorm/state", tooltip="Place and name in the output folder."
                ),
            ],
            outputs=[io.String.Output("path", display_name="path", tooltip="From the output folder, for Load State.")],
        )

    @classmethod
    def execute(
        cls,
        filename_prefix: str,
        geometry: geometry_state.GeometryState | None = None,
        texture: texture_state.TextureState | None = None,
    ) -> io.NodeOutput:
        check_one_connected(geometry=geometry, texture=texture)
        target = next_output_file(filename_prefix, SUFFIX)
        with ordinary_tensors():
            try:
                if geometry is not None:
                    geometry_state.save_state(geometry, target)
                elif texture is not None:
                    texture_state.save_state(texture, target)
            except OSError as error:
                raise refused(target, error) from error
        path = relative_to_output(target)
        return io.NodeOutput(path, ui={"text": [path]})


class HumanNormLoadState(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormLoadState",
            display_name="HumanNorm Load State",
            category=f"{CATEGORY}/state",
            description="Reads what Save State wrote, or what an interrupted optimiser left in humannorm/unfinished.",
            search_aliases=["load geometry", "load texture", "resume"],
            inputs=[
                picked_file_input(
                    "humannorm/state_00001_.safetensors",
                    pickable_files([SUFFIX]),
                    "A file of the output folder, else of the input folder; a wire brings its path.",
                )
            ],
            outputs=[
                Geometry.Output("geometry", display_name="geometry", tooltip="If the file has a sculpture."),
                Texture.Output("texture", display_name="texture", tooltip="If the file has a painting."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        return file_fingerprint(file, [SUFFIX])

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        path = existing_file(file, [SUFFIX])
        with ordinary_tensors():
            readers = (geometry_state, texture_state)
            faults = []
            for number, reader in enumerate(readers):
                try:
                    state = reader.load_state(path, device=rest_device())
                except InputError as error:
                    faults.append(str(error))
                    continue
                other = ExecutionBlocker(f"{path.name} holds a {('sculpture', 'painting')[number]} only")
                return io.NodeOutput(*((state, other) if number == 0 else (other, state)))
        raise InputError(f"file: expected a sculpture or a painting of this pack; {faults[-1]}")
