"""Colour fields on a frozen surface: the published hash grid with a small network, and a texture in UV space.

Both are unlit and the same from every side: a colour in 0..1 for each surface point. A field draws itself into the
pictures of its mesh, so that the optimiser knows nothing of its kind. Two more blend: what is learned with the painted
skin of a held template, and what an edit learns with what it leaves as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor, nn

from humannorm.cameras import Cameras
from humannorm.checks import InputError, check_range, check_tensor
from humannorm.distance.signed_distance import SignedDistance
from humannorm.fields.hash_grid import Engine, GridLayout
from humannorm.fields.hash_network import HashNetwork
from humannorm.geometry.holding import share_at
from humannorm.mesh import Mesh
from humannorm.rendering.passes import Pass, RenderedPasses, render
from humannorm.rendering.textures import sample_texture
from humannorm.texture.template_skin import TemplateSkin

__all__ = [
    "ColorField",
    "ColorFieldSettings",
    "HashColorField",
    "HashColorSettings",
    "HeldColorField",
    "HeldColorSettings",
    "TemplateColorField",
    "TemplateColorSettings",
    "UvColorField",
    "UvColorSettings",
    "color_settings_from_dict",
    "color_settings_to_dict",
    "make_color_field",
]

CHUNK = 1 << 18  # points at a time, where all of a surface is evaluated


@dataclass(frozen=True)
class HashColorSettings:
    """The published field: finest level 4096, one hidden layer of 64 ReLU units without biases."""

    layout: GridLayout = field(default_factory=lambda: GridLayout(growth=1.44727))  # humannorm-texture-coarse.yaml
    hidden: int = 64  # source: humannorm-texture-coarse.yaml


@dataclass(frozen=True)
class UvColorSettings:
    """A texture over the mesh's own UV layout."""

    size: int = 1024  # texels a side; our choice

    def __post_init__(self) -> None:
        check_range("size", self.size, 4, 8192)


@dataclass(frozen=True)
class TemplateColorSettings:
    """Learned colours, and over them the painted skin of a template where it is held."""

    learned: HashColorSettings | UvColorSettings
    vertices: int  # of the template, those on seams once for each side
    faces: int
    size: int  # texels a side of its picture
    cells: int  # of the grid along each side of the working box


@dataclass(frozen=True)
class HeldColorSettings:
    """An edit by regions: what is learned, what is kept, and the grid that says where."""

    learned: HashColorSettings | UvColorSettings
    kept: ColorFieldSettings
    cells: int  # of the grid along each side of the working box


ColorFieldSettings = HashColorSettings | UvColorSettings | TemplateColorSettings | HeldColorSettings


class ColorField(nn.Module):
    """What all fields share: colours at surface points, and pictures of the mesh in these colours."""

    settings: ColorFieldSettings

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Colours in 0..1 of points on the surface (world units), differentiable to the field's parameters."""
        raise NotImplementedError

    @torch.no_grad()
    def at(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Colours of any number of points, as many at a time as memory likes; without gradients."""
        return torch.cat([self(part) for part in points.split(CHUNK)]) if len(points) else torch.zeros_like(points)

    def pictures(self, mesh: Mesh, cameras: Cameras, size: int, passes: Sequence[Pass] = ("color",)) -> RenderedPasses:
        """Square pictures of the mesh with this field as its colour, on white; evaluated at visible points only."""
        return render(mesh, cameras, (size, size), passes, field=self)

    def fast_parameters(self) -> list[nn.Parameter]:
        """Those with a place on the surface, which learn at the encoding's rate; the rest learn at the network's."""
        raise NotImplementedError


class HashColorField(HashNetwork, ColorField):
    """c(x) = sigmoid(W2 relu(W1 encode(x))), the published texture (reference section 3 of the paper's code)."""

    def __init__(self, settings: HashColorSettings, generator: torch.Generator, engine: Engine = "warp") -> None:
        super().__init__(settings.layout, settings.hidden, 3, generator, engine=engine)
        self.settings: HashColorSettings = settings

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        check_tensor("points", points, "N 3")
        return torch.sigmoid(self.network(points))

    def fast_parameters(self) -> list[nn.Parameter]:
        return list(self.encoding.tables)


class UvColorField(ColorField):
    """The sigmoid of a texture image, looked up where the mesh's texture coordinates say."""

    def __init__(self, settings: UvColorSettings, mesh: Mesh, generator: torch.Generator) -> None:
        super().__init__()
        if mesh.uvs is None:
            raise InputError("mesh: expected texture coordinates for a UV colour field, got a mesh without uvs")
        self.settings: UvColorSettings = settings
        self.mesh = mesh
        self.logits = nn.Parameter(torch.zeros(settings.size, settings.size, 3, device=generator.device))
        self._distance: SignedDistance | None = None

    def texture(self) -> Float[Tensor, "S S 3"]:
        """The image, row 0 at the top."""
        return torch.sigmoid(self.logits)

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        check_tensor("points", points, "N 3")
        assert self.mesh.uvs is not None
        if self._distance is None:
            self._distance = SignedDistance(self.mesh.vertices, self.mesh.faces, inside_out="flip")
        closest = self._distance.closest(points)
        corners = self.mesh.uvs[self.mesh.faces[closest.face.long()]]  # [N, 3, 2]
        uv = (corners * closest.barycentric[..., None]).sum(1)
        return sample_texture(self.texture(), uv[None, None].float())[0, 0]

    def pictures(self, mesh: Mesh, cameras: Cameras, size: int, passes: Sequence[Pass] = ("color",)) -> RenderedPasses:
        return render(mesh.replace(texture=self.texture()), cameras, (size, size), passes)

    def fast_parameters(self) -> list[nn.Parameter]:
        return [self.logits]


class TemplateColorField(ColorField):
    """c(x) = (1 - a) l(x) + a p(x): learned colours l, and on a held template's surface its own painted skin p.

    a is the picture's opacity at the closest place of the template, fading with the distance from it and to where
    nothing is held. Where a is 1 no gradient reaches the colours.
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int64[Tensor, "F 3"]
    uvs: Float[Tensor, "V 2"]
    picture: UInt8[Tensor, "S S 4"]  # sRGB and opacity, row 0 at the top
    share: Float[Tensor, "Z Y X"]  # how far places are held, at the vertices of a regular grid over the box

    def __init__(self, settings: TemplateColorSettings, learned: ColorField, device: torch.device | str) -> None:
        super().__init__()
        self.settings: TemplateColorSettings = settings
        self.learned = learned
        self.register_buffer("vertices", torch.zeros(settings.vertices, 3, device=device))
        self.register_buffer("faces", torch.zeros(settings.faces, 3, dtype=torch.int64, device=device))
        self.register_buffer("uvs", torch.zeros(settings.vertices, 2, device=device))
        self.register_buffer("picture", torch.zeros(settings.size, settings.size, 4, dtype=torch.uint8, device=device))
        self.register_buffer("share", torch.zeros((settings.cells,) * 3, device=device))
        self._worn: TemplateSkin | None = None  # once all is in place

    @staticmethod
    def over(
        learned: ColorField, template: Mesh, opacity: Float[Tensor, "S S"], share: Float[Tensor, "Z Y X"]
    ) -> TemplateColorField:
        """The skin of a template with uvs and a square texture over learned colours; kept in 8 bits."""
        assert template.uvs is not None and template.texture is not None
        assert isinstance(learned.settings, HashColorSettings | UvColorSettings)
        size = len(template.texture)
        settings = TemplateColorSettings(
            learned.settings, template.num_vertices, template.num_faces, size, cells=len(share)
        )
        field = TemplateColorField(settings, learned, template.device)
        picture = (torch.cat([template.texture, opacity[..., None]], -1).clamp(0, 1) * 255).round().byte()
        for name, value in (("vertices", template.vertices), ("faces", template.faces), ("uvs", template.uvs)):
            getattr(field, name).copy_(value)
        field.picture.copy_(picture)
        field.share.copy_(share)
        return field

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        check_tensor("points", points, "N 3")
        colors: Tensor = self.learned(points)
        share = share_at(self.share, points)
        near = (share > 0).nonzero()[:, 0]
        if not len(near):
            return colors
        skin, opacity = self._skin(points.detach()[near])
        return colors.index_copy(0, near, torch.lerp(colors[near], skin, (opacity * share[near])[:, None]))

    def _skin(self, points: Tensor) -> tuple[Float[Tensor, "N 3"], Float[Tensor, " N"]]:
        """Colour and opacity of the template at its places closest to the points."""
        if self._worn is None:
            picture = self.picture.to(points) / 255.0
            template = Mesh(self.vertices, self.faces, uvs=self.uvs, texture=picture[..., :3])
            self._worn = TemplateSkin(template, picture[..., 3])
        return self._worn(points)

    def fast_parameters(self) -> list[nn.Parameter]:
        return self.learned.fast_parameters()


class HeldColorField(ColorField):
    """c(x) = (1 - h) l(x) + h k(x): learned colours l, kept ones k, and h in 0..1 how far the place x is held.

    The same blend as of the signed distance in `geometry.holding`: where h is 1 no gradient reaches the colours.
    """

    share: Float[Tensor, "Z Y X"]  # h at the vertices of a regular grid over the box

    def __init__(self, learned: ColorField, kept: ColorField, share: Float[Tensor, "Z Y X"]) -> None:
        super().__init__()
        assert isinstance(learned.settings, HashColorSettings | UvColorSettings)
        self.settings: HeldColorSettings = HeldColorSettings(learned.settings, kept.settings, len(share))
        self.learned, self.kept = learned, kept.requires_grad_(False)
        self.register_buffer("share", share)

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return torch.lerp(self.learned(points), self.kept(points), share_at(self.share, points)[:, None])

    def fast_parameters(self) -> list[nn.Parameter]:
        return self.learned.fast_parameters()


def make_color_field(settings: ColorFieldSettings, mesh: Mesh, generator: torch.Generator) -> ColorField:
    """A fresh field, grey within a thousandth or so, on the generator's device."""
    if isinstance(settings, HashColorSettings):
        return HashColorField(settings, generator)
    if isinstance(settings, UvColorSettings):
        return UvColorField(settings, mesh, generator)
    if isinstance(settings, TemplateColorSettings):
        return TemplateColorField(settings, make_color_field(settings.learned, mesh, generator), generator.device)
    learned, kept = (make_color_field(each, mesh, generator) for each in (settings.learned, settings.kept))
    return HeldColorField(learned, kept, torch.zeros((settings.cells,) * 3, device=generator.device))


def color_settings_to_dict(settings: ColorFieldSettings) -> dict[str, Any]:
    """Plain numbers for a checkpoint's JSON."""
    if isinstance(settings, HeldColorSettings):
        parts = {name: color_settings_to_dict(getattr(settings, name)) for name in ("learned", "kept")}
        return {"kind": "held", **parts, "cells": settings.cells}
    if isinstance(settings, TemplateColorSettings):
        return {"kind": "template"} | asdict(settings) | {"learned": color_settings_to_dict(settings.learned)}
    return {"kind": "hash" if isinstance(settings, HashColorSettings) else "uv"} | asdict(settings)


def color_settings_from_dict(plain: dict[str, Any]) -> ColorFieldSettings:
    """The settings that `color_settings_to_dict` wrote."""
    values = {key: value for key, value in plain.items() if key != "kind"}
    if plain.get("kind") == "hash":
        return HashColorSettings(layout=GridLayout(**values["layout"]), hidden=values["hidden"])
    if plain.get("kind") == "uv":
        return UvColorSettings(**values)
    if plain.get("kind") == "template":
        learned = color_settings_from_dict(values.pop("learned"))
        assert isinstance(learned, HashColorSettings | UvColorSettings)
        return TemplateColorSettings(learned, **values)
    if plain.get("kind") == "held":
        learned, kept = (color_settings_from_dict(values[name]) for name in ("learned", "kept"))
        assert isinstance(learned, HashColorSettings | UvColorSettings)
        return HeldColorSettings(learned, kept, values["cells"])
    raise InputError(f"colour field settings: expected kind hash, uv, template or held, got {plain.get('kind')!r}")
