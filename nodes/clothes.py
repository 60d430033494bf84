"""Other clothes for a painted human, by words for what changes."""

from __future__ import annotations

from comfy_api.v0_0_2 import io
from comfy_execution.graph_utils import ExecutionBlocker

from humannorm.body import POSES, load_body, outfit_of_words
from humannorm.checks import InputError
from humannorm.editing import edited_words
from humannorm.texture.state import PaintedPerson, TextureState

from .host_denoiser import ordinary_tensors
from .long_work import say
from .schema import CATEGORY, Body, Texture, schema

__all__ = ["HumanNormChangeClothes", "person_of"]


class HumanNormChangeClothes(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="HumanNormChangeClothes",
            display_name="HumanNorm Change Clothes",
            category=f"{CATEGORY}/edit",
            description="Says who a painted human is after a change of what it wears: for Geometry Start, which dresses"
            " it anew, and for Multiview Painter, which keeps the colours of the rest.",
            search_aliases=["other clothes", "edit outfit", "change clothes", "text editing"],
            hidden=[io.Hidden.unique_id],
            inputs=[
                Texture.Input(
                    "texture", tooltip="A painting of a dressed human by Multiview Painter, such as text_to_human's."
                ),
                io.String.Input(
                    "prompt",
                    multiline=True,
                    default="a green hoodie and black boots",
                    tooltip="What it wears from now on. Pieces that are not named stay, as the person does.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "person", display_name="person", tooltip="The whole person, for the prompts and Geometry Start."
                ),
                Body.Output("body", display_name="body", tooltip="The body of the painted human, in its pose."),
            ],
        )

    @classmethod
    def execute(cls, texture: TextureState, prompt: str) -> io.NodeOutput:
        person = person_of(texture, "texture")
        words = edited_words(person.words, prompt, person.shape)
        say(cls.hidden.unique_id, "\n".join((*outfit_of_words(prompt).told, words)))
        if person.pose not in POSES:
            return io.NodeOutput(words, ExecutionBlocker(f"no pose of HumanNorm Body is {person.pose}: wire its own"))
        with ordinary_tensors():
            return io.NodeOutput(words, load_body(person.shape, person.pose))


def person_of(painting: TextureState, name: str) -> PaintedPerson:
    """Whom a painting is of. name: of the socket."""
    if painting.person is None:
        raise InputError(
            f"{name}: expected a painting of a dressed human by HumanNorm Multiview Painter, got one that does not say"
            " whom it is of (made otherwise, or by an earlier version)"
        )
    return painting.person
