"""The parametric body."""

from __future__ import annotations

from dataclasses import replace

from comfy_api.v0_0_2 import io

from humannorm.body import POSES, BodyShape, completed, load_body, outfit_of_words, shape_of_words
from humannorm.geometry.outfits import dress
from humannorm.mesh import welded_vertex_normals

from .host_denoiser import ordinary_tensors
from .host_mesh import to_host
from .schema import CATEGORY, Body, schema
from .views import four_sides

__all__ = ["ADULT", "HumanNormBody"]

ADULT = 0.667


def _slider(name: str, default: float, low: float, tooltip: str) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=low,
        max=1.0,
        step=0.01,
        round=0.001,
        display_mode=io.NumberDisplay.slider,
        tooltip=tooltip,
    )


class HumanNormBody(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormBody",
            display_name="HumanNorm Body",
            category=f"{CATEGORY}/body",
            description="An adult body with skeleton and texture coordinates (CC0), to start a sculpture from.",
            essentials_category="3D",
            search_aliases=["body model", "makehuman", "smpl", "mannequin"],
            inputs=[
                _slider("sex", 0.5, 0.0, "0 male, 1 female."),
                _slider("age", ADULT, ADULT, "0.667 young adult, 1 old. The body knows adults only."),
                _slider("weight", 0.5, 0.0, "0 thin, 1 heavy."),
                _slider("muscle", 0.5, 0.0, "0 slack, 1 muscular."),
                _slider("height", 0.5, 0.0, "0 short (women 1.5 m, men 1.6 m), 1 tall (1.9 m, 2.1 m)."),
                _slider("proportions", 0.5, 0.0, "0 uncommon, 1 ideal."),
                io.Combo.Input(
                    "pose",
                    options=list(POSES),
                    default="a-pose",
                    tooltip="Sculpting wants a pose with limbs clear of each other: a-pose.",
                ),
                io.String.Input(
                    "wears",
                    default="",
                    optional=True,
                    tooltip="Mesh and preview show the body in the clothes and hair that these words name, with plain"
                    " ones for what they leave out. Empty: the mannequin. Geometry Start has words of its own.",
                ),
                io.String.Input(
                    "person",
                    default="",
                    optional=True,
                    tooltip="Words that say who it is, such as the prompt's: sex, age, weight and muscle are then"
                    " theirs ('an old woman', 'a heavy man') and not the sliders'. Empty: the sliders.",
                ),
            ],
            outputs=[
                Body.Output("body", display_name="body", tooltip="Shape, skeleton, skin weights and pose."),
                io.Mesh.Output("mesh", display_name="mesh", tooltip="The surface, 1.8 units tall; bare, with UVs."),
                io.Image.Output("preview", display_name="preview", tooltip="Normal maps: front, left, back, right."),
            ],
        )

    @classmethod
    def execute(
        cls,
        sex: float,
        age: float,
        weight: float,
        muscle: float,
        height: float,
        proportions: float,
        pose: str,
        wears: str = "",
        person: str = "",
    ) -> io.NodeOutput:
        with ordinary_tensors():
            # The slider's lowest age is rounded up from two thirds.
            youngest = BodyShape().age
            shape = BodyShape(sex, youngest if age <= ADULT else age, weight, muscle, height, proportions)
            if person.strip():
                shape = replace(shape_of_words(person), height=height, proportions=proportions)
            body = load_body(shape, pose)
            if wears.strip():
                outfit = completed(outfit_of_words(wears), shape)
                mesh = shown = dress(body.in_working_box(), outfit).surface.mesh
            else:
                mesh, shown = body.to_mesh(uvs=True), body.to_mesh()
            mesh = mesh.replace(normals=welded_vertex_normals(mesh.vertices, mesh.faces))
            return io.NodeOutput(body, to_host(mesh), four_sides(shown).normal)
