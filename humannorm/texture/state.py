"""The texture state: what an optimiser returns, takes again, and writes to disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from humannorm.body import BodyShape
from humannorm.cameras import TEXTURE_CAMERA_PLANS, CameraPlan, Cameras, target_cameras
from humannorm.checks import InputError, check_tensor, reading
from humannorm.geometry.holding import Hold
from humannorm.guidance.targets import TargetCache
from humannorm.mesh import Mesh
from humannorm.optimisation import load_optimiser_state, save_optimiser_state, tensors_below
from humannorm.texture.fields import (
    ColorField,
    ColorFieldSettings,
    HeldColorField,
    HeldColorSettings,
    TemplateColorField,
    TemplateColorSettings,
    UvColorSettings,
    color_settings_from_dict,
    color_settings_to_dict,
    make_color_field,
)
from humannorm.texture.settings import TextureSettings
from humannorm.working_box import Placement, place

__all__ = ["LOSS_NAMES", "PaintedPerson", "TextureState", "copy_field", "load_state", "save_state", "start_state"]

LOSS_NAMES = ("sds", "fidelity", "perceptual", "chroma", "gradient_norm")
FORMAT = "humannorm texture 1"
_MESH_PARTS = ("vertices", "faces", "normals", "uvs")
_CAMERA_PARTS = ("azimuth", "elevation", "distance", "fov_y", "zoom", "target")


@dataclass(frozen=True)
class PaintedPerson:
    """Who a painting is of, as an edit needs to know it."""

    words: str  # as the network heard them
    skin: str  # one of `body.painted_skin.SKIN_TONES`; empty: as the network painted it
    shape: BodyShape
    pose: str  # of the body, as it names it


@dataclass(frozen=True, eq=False)
class TextureState:
    """A frozen surface with its colour, and what the next step needs to go on as if never stopped."""

    mesh: Mesh  # in the working box
    placement: Placement  # of the user's file in the box
    field: ColorField
    cameras: Cameras  # of the fine steps
    step: int = 0  # steps done, coarse and fine together
    targets: TargetCache | None = None  # one per camera; None before the first fine step
    moments: dict[str, Tensor] | None = None  # of AdamW: `<parameter>.<moment>`; None before the first step
    gradient_scale: float = 0.0  # running mean of the gradient norm, 0 before the first step of a stage
    history: Float[Tensor, "S L"] | None = None  # of every step so far, columns `LOSS_NAMES`
    plan: CameraPlan = TEXTURE_CAMERA_PLANS["full_body"]  # whose cameras paint: what none of them sees is filled in
    folds: Float[Tensor, "S S 3"] | None = None
    """In the mesh's own texture layout: the tangential part of unit normals that folds and strands of cloth and hair
    add to the surface's. None: the surface is as smooth as it is."""
    labels: UInt8[Tensor, "H W"] | None = None
    """Numbers of `humannorm.labels` in the mesh's own texture coordinates, of a painting that knew them."""
    materials: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """What the labels are of, by label (`body.outfit.MATERIALS`); empty where nobody said."""
    person: PaintedPerson | None = None
    """Of a body dressed by words and painted from all sides; None where it is not known."""

    def on(self, mesh: Mesh) -> TextureState:
        """The same colours on another surface, in any frame: no step done, nothing remembered."""
        surface, placement = _placed(mesh)
        same = self._is(surface)
        if same:
            surface = self.mesh
        elif _has_texels(self.field.settings):
            raise InputError("texture: expected colours in space (a hash field), got a texture of another mesh")
        field = copy_field(self.field, surface)
        found = TextureState(surface, placement, field, self.cameras, plan=self.plan)
        return self.look_onto(found) if same else found

    def is_on(self, mesh: Mesh) -> bool:
        """Whether a mesh, in any frame, is the surface of this painting."""
        return self._is(_placed(mesh)[0])

    def _is(self, surface: Mesh) -> bool:
        """Whether a mesh in the working box is the surface."""
        return torch.equal(surface.vertices, self.mesh.vertices) and torch.equal(surface.faces, self.mesh.faces)

    def edited(self, hold: Hold | None) -> TextureState:
        """The finished painting as the start of an edit: no step done, nothing remembered, `hold` kept in its colours.

        Where an earlier edit has held colours and this one does not, they begin about as they are: the field beneath
        was not led there, but shares its network with what was. A template's skin stays where all may change.
        """
        field = copy_field(_learned(self.field), self.mesh)
        skin = _template(self.field)
        if hold is not None:
            field = HeldColorField(field, copy_field(self.field, self.mesh), hold.share.to(self.mesh.device))
        elif skin is not None:
            kept = copy_field(skin, self.mesh)
            assert isinstance(kept, TemplateColorField)
            kept.learned.load_state_dict(field.state_dict())
            field = kept
        return self.look_onto(TextureState(self.mesh, self.placement, field, self.cameras, plan=self.plan))

    def look_onto(self, other: TextureState) -> TextureState:
        """Another state of the same surface with what lies in its texture coordinates beside colour."""
        return dataclasses.replace(other, labels=self.labels, materials=self.materials, folds=self.folds)


def _placed(mesh: Mesh) -> tuple[Mesh, Placement]:
    return place(Mesh(mesh.vertices.detach().float(), mesh.faces, mesh.normals, mesh.uvs))


def _learned(field: ColorField) -> ColorField:
    """What the last run led: the field beneath a template's skin and what an edit held."""
    return field.learned if isinstance(field, HeldColorField | TemplateColorField) else field


def _template(field: ColorField) -> TemplateColorField | None:
    """The field with a template's skin, beneath any edits."""
    while isinstance(field, HeldColorField):
        field = field.kept
    return field if isinstance(field, TemplateColorField) else None


def _has_texels(settings: ColorFieldSettings) -> bool:
    """Whether a field is of one mesh's texture layout alone."""
    if isinstance(settings, HeldColorSettings):
        return _has_texels(settings.learned) or _has_texels(settings.kept)
    if isinstance(settings, TemplateColorSettings):
        return _has_texels(settings.learned)
    return isinstance(settings, UvColorSettings)


def start_state(mesh: Mesh, settings: TextureSettings, generator: torch.Generator) -> TextureState:
    """A fresh grey field on any mesh, placed in the working box; colours that the mesh has are not used."""
    placed, placement = _placed(mesh)
    field = make_color_field(settings.field, placed, generator)
    cameras = target_cameras(settings.plan, settings.fine_views, generator)
    return TextureState(placed, placement, field, cameras.to(placed.device), plan=settings.plan)


def copy_field(field: ColorField, mesh: Mesh) -> ColorField:
    """The same field with parameters of its own."""
    device = next(iter(field.state_dict().values())).device
    copied = make_color_field(field.settings, mesh, torch.Generator(device))
    copied.load_state_dict(field.state_dict())
    return copied


def save_state(state: TextureState, path: str | Path, generator: torch.Generator | None = None) -> None:
    """Write a state to one safetensors file, whole or not at all; its numbers are JSON in the file's header.

    generator: its state is kept too, so that a resumed run draws what the unbroken one would have drawn.
    """
    tensors = {f"field.{name}": value for name, value in state.field.state_dict().items()}
    tensors |= {f"mesh.{name}": value for name in _MESH_PARTS if (value := getattr(state.mesh, name)) is not None}
    tensors |= {f"cameras.{name}": getattr(state.cameras, name) for name in _CAMERA_PARTS}
    if state.folds is not None:
        tensors["folds"] = state.folds.half()
    if state.targets is not None:
        tensors |= {f"targets.{name}": value for name, value in state.targets.tensors.items()}
    if state.labels is not None:
        tensors["labels"] = state.labels
    numbers = {
        "materials": dict(state.materials),
        "field": color_settings_to_dict(state.field.settings),
        "placement": dataclasses.asdict(state.placement),
        "cameras": {"part": state.cameras.part, "near": state.cameras.near, "far": state.cameras.far},
        "step": state.step,
        "prompt": None if state.targets is None else state.targets.prompt,
        "gradient_scale": state.gradient_scale,
        "plan": state.plan.to_dict(),
        "person": None if state.person is None else dataclasses.asdict(state.person),
    }
    save_optimiser_state(path, FORMAT, state, tensors, numbers, generator)


def load_state(
    path: str | Path, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
) -> TextureState:
    """Read what `save_state` wrote; the generator is set to where it was, if the file knows."""
    with reading(path, "a texture state"):
        return _load_state(path, generator, device)


def _person(plain: Mapping[str, Any] | None) -> PaintedPerson | None:
    if plain is None:
        return None
    words, skin, pose = (str(plain[name]) for name in ("words", "skin", "pose"))
    return PaintedPerson(words, skin, BodyShape(**plain["shape"]), pose)


def _load_state(path: str | Path, generator: torch.Generator | None, device: torch.device | str) -> TextureState:
    tensors, numbers, carried = load_optimiser_state(path, "texture", FORMAT, generator, device)
    mesh = Mesh(**tensors_below("mesh.", tensors))
    field = make_color_field(color_settings_from_dict(numbers["field"]), mesh, torch.Generator(device))
    field.load_state_dict(tensors_below("field.", tensors))
    named = numbers["cameras"]
    cameras = Cameras(
        **tensors_below("cameras.", tensors), part=tuple(named["part"]), near=named["near"], far=named["far"]
    )
    targets = tensors_below("targets.", tensors)
    if "plan" in numbers:  # not in older files
        carried["plan"] = CameraPlan.from_dict(numbers["plan"])
    if "labels" in tensors:
        check_tensor("labels", tensors["labels"], "H W", dtype="int")
        carried["labels"] = tensors["labels"].to(torch.uint8)
    placement = numbers["placement"]
    return TextureState(
        mesh=mesh,
        placement=Placement(tuple(placement["centre"]), placement["scale"]),
        field=field,
        cameras=cameras,
        targets=TargetCache(prompt=numbers["prompt"], **targets) if targets else None,
        folds=tensors["folds"].float() if "folds" in tensors else None,  # not in older files
        materials={str(label): str(material) for label, material in numbers.get("materials", {}).items()},
        person=_person(numbers.get("person")),  # not in older files
        **carried,
    )
