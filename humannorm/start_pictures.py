"""What networks are shown of a sentence's person before anything is sculpted: the dressed start, seen from all sides.

A network that draws from words alone has to guess body, pose and view, and small ones guess badly. But what a sentence
says of them is read anyway, for the start of a sculpture: so a ControlNet of six channels is shown that start, and the
walk enters from its flat colours, as the painter's does.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body import Body, Outfit, pose_of_words
from humannorm.body.painted_skin import skin_opacity, skin_picture, tone_of_words
from humannorm.cameras import CameraPlan, crop_cameras
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.outfits import dress
from humannorm.labels import BACKGROUND, SKIN
from humannorm.rendering import render
from humannorm.request import START_SETTINGS, HumanRequest, figure_of_body, following, outfit_for, start_figure
from humannorm.stages import asked_colors
from humannorm.texture.template_skin import TemplateSkin

__all__ = ["ENTRY_LEVEL", "DressedStart", "StartPictures", "start_of_sentence"]

ENTRY_LEVEL = 0.5
"""Of the noise, at which a walk enters from these pictures: where the painter's preset `quick` does. From pure noise
cloth has stains and fair hair dark patches."""


PICTURES = ("normals", "depth", "colors", "covered")


@dataclass(frozen=True, eq=False)
class StartPictures:
    """One picture for each view, values 0..1."""

    normals: Float[Tensor, "B S S 3"]  # camera-space, on black
    depth: Float[Tensor, "B S S 3"]  # inverse depth, the nearest place white
    colors: Float[Tensor, "B S S 3"]  # flat by label, skin as it is painted; on black
    covered: Float[Tensor, "B S S 1"]  # 1 where somebody is

    @staticmethod
    def concatenate(batches: Sequence[StartPictures]) -> StartPictures:
        """All of them, in order."""
        return StartPictures(*(torch.cat([getattr(batch, name) for batch in batches]) for name in PICTURES))

    def entry(self, kind: str) -> Float[Tensor, "B S S 3"]:
        """What a walk towards pictures of a kind begins from: networks know colours on white."""
        on_white = self.colors + 1 - self.covered
        return {"normal": self.normals, "depth": self.depth, "color": on_white}[kind]

    def control(self, kind: str, normals: Float[Tensor, "B S S 3"] | None = None) -> Float[Tensor, "B S S 6"] | None:
        """What a ControlNet of six channels is shown; for colours perhaps normals that were drawn since. None for
        depth, which none has learnt to draw."""
        if kind == "depth":
            return None
        return torch.cat([self.normals if normals is None else normals.to(self.colors), self.colors], -1)


@dataclass(frozen=True, eq=False)
class DressedStart:
    """The body that a sentence describes, in what it has it wear."""

    body: Body  # in the working box
    outfit: Outfit
    surface: LabelledSurface
    colors: Float[Tensor, "L 3"]  # sRGB by label; black for what nobody named
    skin: Float[Tensor, "V 3"]  # of the surface's vertices, for those that are bare
    plan: CameraPlan

    def pictures(self, part: str, azimuths: Sequence[float], size: int) -> StartPictures:
        """A body part from these azimuths, in pictures of `size` pixels a side, as the plan frames it."""
        cameras = crop_cameras(self.plan, self.plan.crop(part), azimuths)
        mesh = self.surface.mesh.replace(colors=self.skin)
        seen = render(mesh, cameras, (size, size), ("normal", "depth", "label"), labels=self.surface.labels)
        bare = render(mesh, cameras, (size, size), ("color",), background=(0.0, 0.0, 0.0)).color
        assert seen.normal is not None and seen.depth is not None and seen.label is not None and bare is not None
        labels = seen.label.long()[..., None]
        colors = torch.where(labels == SKIN, bare, self.colors[labels[..., 0]])
        return StartPictures(seen.normal, seen.depth, colors, (labels != BACKGROUND).float())


@functools.lru_cache(maxsize=2)  # a canvas asks for one person several times
def start_of_sentence(
    prompt: str, plan: CameraPlan, *, body: Body | None = None, tone: str = "", seed: int = 0
) -> DressedStart:
    """The start of a person in plain words, complete: what the prompt leaves open wears plain clothes and hair.

    plan: of the cameras. body: in any frame; else one of the prompt's sex, age, build and pose. tone: of skin, one of
    `SKIN_TONES`; else the prompt's, drawn by the seed as `generate` draws it where that names none.
    """
    if body is None:
        body = start_figure(HumanRequest(prompt, pose=pose_of_words(prompt))).body
    else:
        body = figure_of_body(body).body
    assert body is not None  # it is none of a mesh file alone
    outfit = outfit_for(prompt, body.shape, START_SETTINGS["quick"])
    surface = dress(body, outfit).surface
    tone = tone or tone_of_words(prompt, seed)
    palette = asked_colors(outfit, body.shape, tone)
    assert palette is not None  # skin has a colour
    template = body.to_mesh(normalized=False, uvs=True).replace(texture=skin_picture(body.shape, tone))
    skin, _ = TemplateSkin(template, skin_opacity())(surface.mesh.vertices)
    return DressedStart(body, outfit, surface, palette.nan_to_num(0.0), skin, following(plan, body))
