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
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body import Body, Outfit, pose_of_words
from humannorm.body.painted_skin import skin_opacity, skin_picture, tone_of_words
from humannorm.cameras import CameraPlan, crop_cameras
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.outfits import dress
from humannorm.geometry.worn_fabric import FabricLook, WornFabric
from humannorm.labels import BACKGROUND, SKIN
from humannorm.mesh import leaning, vertex_normals
from humannorm.rendering import render
from humannorm.request import START_SETTINGS, HumanRequest, figure_of_body, following, outfit_for, start_figure
from humannorm.stages import asked_colors
from humannorm.texture.template_skin import TemplateSkin

__all__ = ["ENTRY_LEVEL", "DressedStart", "StartPictures", "start_of_sentence"]

ENTRY_LEVEL = 0.5
"""Of the noise, at which a walk enters from these pictures: where the painter's preset `quick` does. From pure noise
cloth has stains and fair hair dark patches."""
FOLDS = 0.5
"""How steep folds and strands are beside those that a painting is shown: whole, they are rougher than renders of people
(fid64 of normals over its floor 3.2; 2.9 so, 2.7 without any)."""
BLACK = (0.0, 0.0, 0.0)
BRIGHTEST = 2.0  # of the shade of cloth, beside 1 of its median
PICTURES = ("normals", "depth", "flat", "worn", "covered")


@dataclass(frozen=True, eq=False)
class StartPictures:
    """One picture for each view, values 0..1."""

    normals: Float[Tensor, "B S S 3"]  # camera-space with folds and strands, on black
    depth: Float[Tensor, "B S S 3"]  # inverse depth, the nearest place white
    flat: Float[Tensor, "B S S 3"]  # colours by label, skin as it is painted; on black
    worn: Float[Tensor, "B S S 3"]  # the same with the cloth's patterns, folds and strands; on white
    covered: Float[Tensor, "B S S 1"]  # 1 where somebody is

    @staticmethod
    def concatenate(batches: Sequence[StartPictures]) -> StartPictures:
        """All of them, in order."""
        return StartPictures(*(torch.cat([getattr(batch, name) for batch in batches]) for name in PICTURES))

    def entry(self, kind: str) -> Float[Tensor, "B S S 3"]:
        """What a walk towards pictures of a kind begins from: networks know colours on white."""
        return {"normal": self.normals, "depth": self.depth, "color": self.worn}[kind]

    def control(self, kind: str, normals: Float[Tensor, "B S S 3"] | None = None) -> Float[Tensor, "B S S 6"] | None:
        """What a ControlNet of six channels is shown; for colours perhaps normals that were drawn since. None for
        depth, which none has learnt to draw."""
        if kind == "depth":
            return None
        return torch.cat([self.normals if normals is None else normals.to(self.flat), self.flat], -1)


@dataclass(frozen=True, eq=False)
class DressedStart:
    """The body that a sentence describes, in what it has it wear."""

    body: Body  # in the working box
    outfit: Outfit
    surface: LabelledSurface  # its vertices' normals lean with folds and strands
    colors: Float[Tensor, "L 3"]  # sRGB by label; black for what nobody named
    skin: Float[Tensor, "V 3"]  # of the surface's vertices, for those that are bare
    look: FabricLook  # of the vertices
    plan: CameraPlan

    def pictures(
        self, part: str, azimuths: Sequence[float], size: int, *, elevation: float | Sequence[float] = 0.0
    ) -> StartPictures:
        """A body part from these azimuths and elevations (degrees), in pictures of `size` pixels a side, as the plan
        frames it."""
        cameras = crop_cameras(self.plan, self.plan.crop(part), azimuths, elevation=elevation)
        mesh = self.surface.mesh
        seen = render(mesh, cameras, (size, size), ("normal", "depth", "label"), labels=self.surface.labels)
        assert seen.normal is not None and seen.depth is not None and seen.label is not None

        def of_vertices(values: Float[Tensor, "V 3"]) -> Float[Tensor, "B S S 3"]:
            found = render(mesh.replace(colors=values), cameras, (size, size), ("color",), background=BLACK).color
            assert found is not None
            return found

        labels, look = seen.label.long()[..., None], self.look
        covered = (labels != BACKGROUND).float()
        flat = torch.where(labels == SKIN, of_vertices(self.skin), self.colors[labels[..., 0]])
        shade = of_vertices((look.shade / BRIGHTEST)[:, None].expand(-1, 3)) * BRIGHTEST
        cloth = flat
        if bool(look.patterned.any()):
            cloth = torch.lerp(flat, of_vertices(look.second), of_vertices(look.share[:, None].expand(-1, 3)))
        worn = torch.where(labels == SKIN, flat, (cloth * shade).clamp(0, 1)) + 1 - covered
        return StartPictures(seen.normal, seen.depth, flat, worn, covered)


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
    mesh, labels = surface.mesh, labels_of_vertices(surface)
    look = WornFabric(body, outfit).look_at(mesh.vertices, labels)
    tone = tone or tone_of_words(prompt, seed)
    palette = asked_colors(outfit, body.shape, tone)
    assert palette is not None  # skin has a colour
    template = body.to_mesh(normalized=False, uvs=True).replace(texture=skin_picture(body.shape, tone))
    skin, _ = TemplateSkin(template, skin_opacity())(mesh.vertices)
    bent = mesh.replace(normals=leaning(vertex_normals(mesh.vertices, mesh.faces), FOLDS * look.lean))
    dressed = LabelledSurface(bent, surface.labels)
    return DressedStart(body, outfit, dressed, palette.nan_to_num(0.0), skin, look, following(plan, body))


def labels_of_vertices(surface: LabelledSurface) -> Int64[Tensor, " V"]:
    """Of each vertex the highest label of its faces."""
    mesh = surface.mesh
    of_corners = surface.labels.repeat_interleave(3)
    none = torch.zeros(len(mesh.vertices), dtype=torch.int64)
    return none.scatter_reduce(0, mesh.faces.flatten().long(), of_corners, "amax")
