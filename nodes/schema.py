"""Node schemas that every host since 0.3.64 understands, the pack's own socket types, and inputs that recur."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from comfy_api.v0_0_2 import io

from humannorm.body.painted_skin import SKIN_TONES
from humannorm.cameras import PARTS

__all__ = [
    "CATEGORY",
    "Body",
    "File3D",
    "Files",
    "Geometry",
    "Guidance",
    "Prompts",
    "Rigged",
    "Texture",
    "Trimesh",
    "ViewerCamera",
    "ViewerModels",
    "advanced",
    "factor_input",
    "levels_input",
    "mesh_input",
    "override_input",
    "part_input",
    "picked_file_input",
    "preset_input",
    "rendering_inputs",
    "schema",
    "seed_input",
    "skin_input",
    "steps_input",
    "vae_input",
    "views_input",
]

CATEGORY = "HumanNorm"

Prompts = io.Custom("HUMANNORM_PROMPTS")
Guidance = io.Custom("HUMANNORM_GUIDANCE")
Body = io.Custom("HUMANNORM_BODY")
Geometry = io.Custom("HUMANNORM_GEOMETRY")
Texture = io.Custom("HUMANNORM_TEXTURE")
Rigged = io.Custom("HUMANNORM_RIGGED")
Trimesh = io.Custom("TRIMESH")
ViewerCamera = io.Custom("LOAD3D_CAMERA")
ViewerModels = io.Custom("LOAD3D_MODEL_INFO")

# What newer hosts exchange 3D files on, of the kinds that are read here; older hosts take them for foreign types.
FILE_KINDS = ("", "_GLB", "_GLTF", "_OBJ", "_STL", "_PLY")
Files = [io.Custom(f"FILE_3D{kind}") for kind in FILE_KINDS]
File3D = Files[0]

PRESETS = ["quick", "standard", "paper"]
LARGEST_SEED = 0xFFFFFFFFFFFFFFFF  # the host's own limit


def known_arguments(target: Any, arguments: dict[str, Any]) -> dict[str, Any]:
    """Those of the arguments that this host's version of a class knows; newer ones would kill the pack's import."""
    names = inspect.signature(target).parameters
    return {name: value for name, value in arguments.items() if name in names}


def schema(**arguments: Any) -> io.Schema:
    """`io.Schema` without the fields (search_aliases, ...) that this host does not know yet."""
    return io.Schema(**known_arguments(io.Schema, arguments))


def advanced(kind: Any, name: str, **arguments: Any) -> io.Input:
    """An input that newer hosts fold away, and that a graph in API format may leave out."""
    return kind.Input(name, **known_arguments(kind.Input, {**arguments, "optional": True, "advanced": True}))


def seed_input() -> io.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=LARGEST_SEED,
        control_after_generate=True,
        tooltip="Source of every random draw of this node. On a CPU the same seed gives the same result to the bit.",
    )


def part_input() -> io.Input:
    return io.Combo.Input(
        "part",
        options=list(PARTS),
        default="full",
        tooltip="Body part that is framed and, where the prompts say so, named in the text.",
    )


def views_input(default: str = "front,left,back,right") -> io.Input:
    return io.String.Input(
        "views",
        default=default,
        tooltip="Sides of the person, parted by commas: front, left, back, right (the person's own left and right) or"
        " degrees, 0 at the front and growing toward the person's left.",
    )


def preset_input() -> io.Input:
    return io.Combo.Input(
        "preset",
        options=PRESETS,
        default="quick",
        tooltip="All numbers of the stage at once. quick: the bundled small model on a CPU. standard: SD1.5-class"
        " weights on a graphics card. paper: the published configuration.",
    )


def skin_input(of: str, named: str, *, model: bool = True) -> io.Input:
    """The tone that `texture.skin_of` reads. of: whose skin it is; named: who names one where any will do. model:
    whether the model may be left to paint it."""
    left = ", or whatever the model paints" if model else ""
    return io.Combo.Input(
        "skin",
        options=["any", *SKIN_TONES, *(["model"] if model else [])],
        default="any",
        optional=True,
        tooltip=f"Of {of}: a tone, any (the one that {named}, else by the seed){left}.",
    )


def steps_input(tooltip: str) -> io.Input:
    return io.Int.Input("steps", default=0, min=0, max=100_000, tooltip=f"{tooltip} 0 takes the preset's.")


def vae_input() -> io.Input:
    return io.Vae.Input("vae", tooltip="Autoencoder that belongs to the model.")


def mesh_input(name: str, tooltip: str, optional: bool = False) -> io.Input:
    """A socket for a MESH or a 3D file."""
    return io.MultiType.Input(name, types=[io.Mesh, *Files], optional=optional, tooltip=tooltip)


def picked_file_input(default: str, options: Sequence[str], tooltip: str, files: bool = False) -> io.Input:
    """A list of files to choose from that takes a path from a wire as well, and with `files` a 3D file.

    The value is checked when the node runs: a file may have come since the list was made.
    """
    chosen = io.Combo.Input("file", options=list(dict.fromkeys([default, *options])), default=default)
    return io.MultiType.Input(chosen, types=[io.String, *(Files if files else [])], tooltip=tooltip)


def override_input(name: str, most: int, tooltip: str, step: int = 8) -> io.Input:
    """A whole number that stands above the preset or the model where it is not 0."""
    return advanced(io.Int, name, default=0, min=0, max=most, step=step, tooltip=tooltip)


def factor_input(name: str, of: str, least: float = 0.01) -> io.Input:
    """A factor on numbers of the preset."""
    return advanced(
        io.Float, name, default=1.0, min=least, max=100.0, step=0.05, tooltip=f"Factor on the preset's {of}."
    )


def levels_input() -> io.Input:
    """How many levels of detail are written beside a GLB."""
    return advanced(
        io.Int,
        "levels_of_detail",
        default=0,
        min=0,
        max=2,
        tooltip="Coarser GLB files beside it, textured and under 500 kB each, named _lod1 and _lod2.",
    )


def rendering_inputs() -> list[io.Input]:
    """How many pictures an optimiser has judged in a step, and how large they are."""
    return [
        override_input("views_per_step", 64, "Cameras per step; 0: the preset's.", step=1),
        override_input("render_size", 2048, "Pixels a side of the pictures that are judged; 0: the preset's."),
    ]
