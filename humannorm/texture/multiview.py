"""Painting a surface by sampling all its views at once (`guidance.synchronised`), agreeing on its texels.

The mesh brings the texture coordinates that it is exported with: what the views agree on is the finished texture, and
nothing is baked twice.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import CAMERA_PLANS, TEXTURE_CAMERA_PLANS, CameraPlan, Cameras
from humannorm.checks import InputError, check_choice, check_range, check_tensor
from humannorm.controls import CONTROL_KINDS, ControlKind, control_picture, more_controls
from humannorm.geometry.worn_fabric import FabricLook
from humannorm.guidance.denoiser import Denoiser
from humannorm.guidance.synchronised import (
    SynchronisedProgress,
    SynchronisedSettings,
    begin_walk,
    load_walk,
    sample_together,
)
from humannorm.mesh import Mesh
from humannorm.optimisation import StageTimes
from humannorm.prompts import Prompts, TextRule
from humannorm.rendering import render
from humannorm.rings import Ring, body_rings, cameras_of_rings, plain_rings
from humannorm.texture.agreement import (
    ColorAgreement,
    FusingSettings,
    HeldColors,
    LabelsAt,
    disagreement_of,
    label_leak,
    texel_surface,
)
from humannorm.texture.delighting import DelightSettings, delit
from humannorm.texture.fields import UvColorField, UvColorSettings
from humannorm.texture.state import TextureState
from humannorm.working_box import place

__all__ = [
    "CONTROLS",
    "MULTIVIEW_PRESETS",
    "MultiviewPainting",
    "MultiviewProgress",
    "MultiviewSettings",
    "Ring",
    "body_rings",
    "multiview_preset",
    "paint_synchronised",
    "plain_rings",
    "ring_cameras",
]

Control = ControlKind | Literal["none"]
OLDER_CONTROLS: tuple[Control, ...] = ("normal", "depth", "none")  # first in the nodes' list
CONTROLS: tuple[Control, ...] = (*OLDER_CONTROLS, *(kind for kind in CONTROL_KINDS if kind not in OLDER_CONTROLS))
FabricAt = Callable[[Tensor, Tensor], FabricLook]
"""How fabric looks at points [N, 3] of the working box with labels [N], such as `WornFabric.look_at`."""
PATTERN_HELD = 0.85  # how far a patterned piece keeps the colours that it is begun in
UNASKED = 0.5  # grey of a label for which no colour was asked, in what the walk begins from
GIVEN_WEIGHT = 25.0  # of a view that stays as it is, beside 1 of a sampled one
LEAST_LOGIT = 1e-4  # colours are kept this far from 0 and 1 in a texture state's sigmoid


@dataclass(frozen=True)
class MultiviewSettings:
    """One synchronised painting."""

    walk: SynchronisedSettings = field(default_factory=SynchronisedSettings)
    fusing: FusingSettings = field(default_factory=FusingSettings)
    rings: tuple[Ring, ...] = field(default_factory=body_rings)
    plan: CameraPlan = field(
        default_factory=lambda: TEXTURE_CAMERA_PLANS["full_body"]
    )  # distance, field of view, crops
    text_rule: TextRule = "paper"
    guidance_scale: float = 3.0  # classifier-free guidance, as seen to suit the bundled model
    few_steps: bool = False  # by the guide's own weights for few steps without guidance (`Denoiser`)
    control_scale: float = 1.0  # of the ControlNet's residuals
    control: Control = "normal"  # what the ControlNet is shown of the surface; none: the guide has no ControlNet
    texture_size: int = 1024  # texels a side
    final_power: float = 6.0  # of the cosine in the last bake (TexPainter)
    delight: DelightSettings | None = None  # take the light out of the last views; None: leave it

    def __post_init__(self) -> None:
        if not self.rings:
            raise InputError("rings: expected at least one ring of views, got none")
        check_choice("control", self.control, CONTROLS)
        check_range("guidance_scale", self.guidance_scale, 0.0, 1000.0)
        check_range("control_scale", self.control_scale, 0.0, 10.0)
        check_range("texture_size", self.texture_size, 16, 8192)
        check_range("final_power", self.final_power, 0.0, 32.0)


# The bundled small model on a CPU: entered where hue, folds and strands are fixed and soft shading is the model's. Seen
# on a start in fabric: from 0.6 brown hair came out red and dark at its ends, leak 2.5 %; from 0.4 1.4 %, in two thirds
# of the time. Agreeing at every second level looks the same and takes a third off all that is not the networks. Left to
# itself it dyes cloth (a brown coat olive from the knee down): hues stay with the prompt's, shading is its own.
QUICK = MultiviewSettings(walk=SynchronisedSettings(steps=4, level=0.4, agree_every=2), fusing=FusingSettings(dye=3.0))

# SD1.5-class weights on a graphics card (ours, not yet tuned on one): published guidance, 20 levels from pure noise.
# Their VAE takes 3.6 TFLOP there and back, a guided step 2.2 (`python -m benchmarks standard`): views agree at every
# second level.
STANDARD = MultiviewSettings(
    walk=SynchronisedSettings(steps=15, level=0.75, batch=4, agree_every=2),
    rings=body_rings(8, 4, 4, 4),
    guidance_scale=7.5,
    texture_size=2048,
)

MULTIVIEW_PRESETS: Mapping[str, MultiviewSettings] = {"quick": QUICK, "standard": STANDARD}

# With weights that were taught to draw in four steps without guidance, entered at the third: a quarter of the network
# evaluations, and the views part less.
QUICK_IN_FEW_STEPS = dataclasses.replace(
    QUICK, walk=SynchronisedSettings(steps=2, level=0.5, free=0.0), guidance_scale=1.0, few_steps=True
)


def multiview_preset(name: str, *, few_steps: bool = False) -> MultiviewSettings:
    """A preset by its name. few_steps: whether the guide has weights for that, which `quick` then uses."""
    check_choice("preset", name, tuple(MULTIVIEW_PRESETS))
    return QUICK_IN_FEW_STEPS if few_steps and name == "quick" else MULTIVIEW_PRESETS[name]


@dataclass(frozen=True, eq=False)
class MultiviewProgress:
    """What the callback sees after every batch of views. Returning False from the callback ends the run there."""

    step: int  # levels done
    steps: int
    picture: Float[Tensor, "H W 3"]  # of the first view, as it was last agreed on
    seconds_left: float
    walk: SynchronisedProgress


@dataclass(frozen=True, eq=False)
class MultiviewPainting:
    """A finished painting, or the last agreement of one that the callback ended."""

    state: TextureState  # a texture on the mesh's own coordinates
    texture: Float[Tensor, "S S 3"]
    pictures: Float[Tensor, "B H W 3"]  # the views that it was made of
    cameras: Cameras
    figures: Mapping[str, float]
    """`disagreement_first`, `disagreement_last`: CIELAB, before the first agreement and in the last views. `leak`, of
    what is not held, where there are labels. `forwards`: network evaluations. Seconds: `networks`, `vae`, `fusing`,
    `preparing`."""

    @property
    def mesh(self) -> Mesh:
        """In the user's own frame, with its texture."""
        mesh, placement = self.state.mesh, self.state.placement
        return mesh.replace(vertices=placement.to_user(mesh.vertices), texture=self.texture)


Callback = Callable[[MultiviewProgress], bool | None]


def ring_cameras(settings: MultiviewSettings) -> Cameras:
    """All views, ring after ring, at the middle of the plan's distances and fields of view."""
    return cameras_of_rings(settings.rings, settings.plan)


@torch.no_grad()
def paint_synchronised(
    mesh: Mesh,
    prompt: str,
    settings: MultiviewSettings,
    guide: Denoiser,
    *,
    seed: int = 0,
    negative: str = "",
    labels_at: LabelsAt | None = None,
    palette: Float[Tensor, "L 3"] | None = None,
    entry: Callable[[Tensor], Tensor] | None = None,
    fabric: FabricAt | None = None,
    held: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None,
    given: Mapping[int, Float[Tensor, "H W 3"]] | None = None,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> MultiviewPainting:
    """Paint an unwrapped mesh of any size from a sentence, from all sides at once.

    guide: with the ControlNet that `settings.control` is for; without one the views know the surface only by what they
    enter from and by agreeing on it, so that the walk had better enter low. labels_at: what the surface is at points of
    it. palette: the colours, sRGB, asked for each label, NaN for one without; with it, or with `entry` (colours at
    points), the walk enters at `settings.walk.level`, else it begins at pure noise and takes more levels at the same
    pace. fabric: the look of cloth and hair at points with these labels; the views are shown its folds, and the
    finished texture has what is finer than they can draw. held: colours at points and how far, 0..1, they stay as they
    are. given: finished pictures of some of the views of `ring_cameras`, by number. All points are in the working box.

    checkpoint: a file that is kept up to date, level by level; with `resume` the run goes on from it if it is there,
    and ends in the same bytes on a CPU. It must have been asked for the same.
    """
    painter = _Painter(mesh, prompt, settings, guide, seed, negative, labels_at, palette, entry, fabric, held, given)
    return painter.run(callback, checkpoint, resume)


class _Painter:
    """One call of `paint_synchronised`."""

    def __init__(
        self,
        mesh: Mesh,
        prompt: str,
        settings: MultiviewSettings,
        guide: Denoiser,
        seed: int,
        negative: str,
        labels_at: LabelsAt | None,
        palette: Tensor | None,
        entry: Callable[[Tensor], Tensor] | None,
        fabric: FabricAt | None,
        held: Callable[[Tensor], tuple[Tensor, Tensor]] | None,
        given: Mapping[int, Tensor] | None,
    ) -> None:
        if mesh.uvs is None:
            raise InputError("mesh: expected texture coordinates (`humannorm.export.unwrapped` makes some), got none")
        begin = time.monotonic()
        if settings.few_steps:
            if not hasattr(guide, "in_few_steps"):
                raise InputError("few_steps: expected a guide with weights for few steps, got one that has none")
            guide = guide.in_few_steps()
        self.guide, self.seed, self.palette, self.given = guide, seed, palette, dict(given or {})
        self.labels_at = labels_at
        self.prompts = color_prompts(prompt, settings.plan, settings.text_rule, negative)
        self.placed, self.placement = place(Mesh(mesh.vertices.detach().float(), mesh.faces, mesh.normals, mesh.uvs))
        self.cameras = ring_cameras(settings).to(mesh.device)
        self._check_given()
        self.surface = texel_surface(self.placed, settings.texture_size, labels_at)
        points = self.surface.points
        self.look = None if fabric is None else fabric(points.points, points.labels)
        self.entry = _entry_colors(points.points, points.labels, palette, entry)
        if self.entry is not None and entry is None and self.look is not None:
            patterned = torch.lerp(self.entry, self.look.second, self.look.share[:, None])
            self.entry = (patterned * self.look.shade[:, None]).clamp(0, 1)
        if self.entry is None:
            settings = dataclasses.replace(settings, walk=settings.walk.from_noise())
        self.settings = settings
        self.held = None if held is None else HeldColors(*held(points.points))
        if self.look is not None and self.entry is not None and bool(self.look.patterned.any()):
            self.held = _with_pattern(self.held, self.look, self.entry)
            palette = _without_labels(palette, points.labels[self.look.patterned])
        weights = torch.ones(len(self.cameras), device=mesh.device)
        weights[list(self.given)] = GIVEN_WEIGHT
        on_latents = settings.walk.agree_on == "latents"
        self.agreement = ColorAgreement.of(
            self.surface,
            self.cameras,
            latent_side(guide) if on_latents else guide.resolution,
            settings.fusing,
            held=self.held,
            view_weights=weights,
            asked=palette,
        )
        self.asked = palette
        self.preparing = time.monotonic() - begin

    def run(self, callback: Callback | None, checkpoint: Path | None, resume: bool) -> MultiviewPainting:
        settings, generator = self.settings, torch.Generator().manual_seed(self.seed)
        request = self._request()
        begin = time.monotonic()
        hints = self._hints()
        finish = self._sharpening(hints)
        more = more_controls(self.guide, self.placed, self.cameras, self.guide.resolution).get("more_controls", {})
        entry = None if self.entry is None else self._shown(self.agreement.with_held(self.entry))
        if resume and checkpoint is not None and checkpoint.exists():
            walk = load_walk(checkpoint, generator, request, self.placed.device)
        else:
            count, device = len(self.cameras), self.placed.device
            walk = begin_walk(self.guide, settings.walk, generator, count=count, entry=entry, device=device)
        self.preparing += time.monotonic() - begin
        times: StageTimes | None = None
        picture = torch.ones(self.guide.resolution, self.guide.resolution, 3) if entry is None else entry[0]

        def tell(progress: SynchronisedProgress) -> bool | None:
            nonlocal picture, times
            times = progress.times
            if progress.pictures is not None:
                picture = progress.pictures[0]
            if callback is None:
                return None
            return callback(MultiviewProgress(progress.step, progress.steps, picture, progress.seconds_left, progress))

        if walk.step < settings.walk.steps:
            walk = sample_together(
                self.guide,
                lambda views: self._condition(views, hints, more),
                self.agreement,
                walk,
                settings.walk,
                generator=generator,
                given=self.given,
                callback=tell,
                checkpoint=checkpoint,
                request=request,
                finish=finish,
            )
        return self._finished(walk.clean(self.guide, settings.walk, finish), times)

    def _check_given(self) -> None:
        for number, picture in self.given.items():
            if not 0 <= number < len(self.cameras):
                raise InputError(f"given: expected numbers of views, 0 to {len(self.cameras) - 1}, got {number}")
            check_tensor(f"given[{number}]", picture, "H W 3", finite=True)

    def _hints(self) -> Float[Tensor, "B S S C"] | None:
        """What the ControlNet is shown, and beside normals the flat colours that are asked for by label, which only
        some are told."""
        kind = self.settings.control
        if kind == "none":
            return None
        labels = None
        if kind == "labels" and self.labels_at is not None:
            labels = self.labels_at(self.placed.vertices[self.placed.faces].mean(1)).long()
        body = getattr(self.guide, "body", None)
        if kind == "normal" and self.look is not None:
            picture = self._normals_with_folds(self.look)
        else:
            picture = control_picture(kind, self.placed, self.cameras, self.guide.resolution, body=body, labels=labels)
        if self.palette is None or kind != "normal":
            return picture
        asked = self.palette.to(picture).nan_to_num(0.0)  # black is what nobody named, and where there is nobody
        flat = self._shown(asked[self.surface.points.labels.long()], background=(0.0, 0.0, 0.0))
        return torch.cat([picture, flat], -1)

    def _sharpening(self, hints: Float[Tensor, "B S S C"] | None) -> Callable[[Tensor], Tensor] | None:
        """Of all views' pictures by their hints, where the guide has learnt it and normals are what it is shown."""
        if hints is None or self.settings.control != "normal" or not hasattr(self.guide, "sharpened"):
            return None
        return functools.partial(self.guide.sharpened, control=hints)

    def _normals_with_folds(self, look: FabricLook) -> Float[Tensor, "B S S 3"]:
        """Camera-space normal maps, as `control_picture` draws them, with the folds and strands of what is worn."""
        size, slopes = self.guide.resolution, self.surface.texture(look.lean)
        picture = render(self.placed, self.cameras, (size, size), ("normal",), slopes=slopes).normal
        assert picture is not None
        return picture

    def _condition(self, views: Sequence[int], control: Tensor | None, more: Mapping[str, Tensor]) -> Any:
        return self.guide.condition(
            self.prompts.for_cameras(self.cameras.select(views)),
            guidance_scale=self.settings.guidance_scale,
            negative=self.prompts.negative,
            control=None if control is None else control[list(views)],
            control_scale=self.settings.control_scale,
            **({"more_controls": {kind: each[list(views)] for kind, each in more.items()}} if more else {}),
        )

    def _shown(
        self, colors: Float[Tensor, "N 3"], background: tuple[float, float, float] = (1.0, 1.0, 1.0)
    ) -> Float[Tensor, "B S S 3"]:
        """The texels' colours in all views, on white as the networks know it unless told otherwise."""
        size = self.guide.resolution
        mesh = self.placed.replace(texture=self.surface.texture(colors))
        picture = render(mesh, self.cameras, (size, size), ("color",), background=background).color
        assert picture is not None
        return picture

    def _finished(self, pictures: Float[Tensor, "B S S 3"], times: StageTimes | None) -> MultiviewPainting:
        settings, agreement = self.settings, self.agreement
        for number, picture in self.given.items():
            pictures[number] = picture_of_size(picture, pictures.shape[1])
        begin = time.monotonic()
        if settings.walk.agree_on == "latents":
            agreement = ColorAgreement.of(
                self.surface, self.cameras, pictures.shape[1], settings.fusing, held=self.held, asked=self.asked
            )
        light = 0.0
        if settings.delight is not None:
            share = None if self.held is None else self.held.share
            pictures, light = delit(
                agreement.views, self.cameras, pictures, settings.delight, held=share, given=tuple(self.given)
            )
        colors = agreement.fused(pictures, settings.final_power).clamp(0, 1)
        last = disagreement_of(agreement.views, pictures)
        fusing = time.monotonic() - begin
        folds = None
        if self.look is not None:
            colors = (colors * self.look.fine[:, None]).clamp(0, 1)
            folds = self.surface.texture(self.look.lean)
        texture = self.surface.texture(colors)
        seconds = (
            times.seconds if times is not None else dict.fromkeys(("networks", "decode", "encode", "agreement"), 0.0)
        )
        passes = 1 if settings.guidance_scale == 1 else 2
        figures = {
            "disagreement_first": (self.agreement.disagreement or [last])[0],
            "disagreement_last": last,
            "forwards": float(passes * settings.walk.steps * (len(self.cameras) - len(self.given))),
            "networks": seconds["networks"],
            "vae": seconds["decode"] + seconds["encode"],
            "fusing": seconds["agreement"] + fusing,
            "preparing": self.preparing,
        }
        if settings.delight is not None:
            figures["light"] = light
        if self.asked is not None:
            painted = slice(None) if self.held is None else self.held.share < 0.5
            figures["leak"] = label_leak(colors[painted], self.surface.points.labels[painted], self.asked.to(colors))
        field = uv_field(texture, self.placed)
        labels = None
        if self.labels_at is not None:
            labels = self.surface.texels.image(self.surface.points.labels[:, None].float())[..., 0].to(torch.uint8)
        steps = settings.walk.steps
        state = TextureState(self.placed, self.placement, field, self.cameras, step=steps, folds=folds, labels=labels)
        return MultiviewPainting(state, texture, pictures, self.cameras, figures)

    def _request(self) -> dict[str, Any]:
        """What a resumed run must have been asked for."""
        walked = dataclasses.replace(self.settings, delight=None)  # which comes after the walk
        digest = hashlib.sha256(repr((walked, self.seed, sorted(self.given))).encode())
        tensors = [self.placed.vertices, self.placed.faces, self.placed.uvs, self.surface.points.labels, self.entry]
        if self.held is not None:
            tensors += [self.held.colors, self.held.share]
        if self.look is not None:
            tensors += [self.look.fine, self.look.lean]
        for tensor in [*tensors, *(self.given[number] for number in sorted(self.given))]:
            if tensor is not None:
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {"prompt": self.prompts.prompt, "negative": self.prompts.negative, "digest": digest.hexdigest()}


def color_prompts(prompt: str, plan: CameraPlan, rule: TextRule, negative: str = "") -> Prompts:
    """The texts for the colour model. A model's own camera plan frames whole bodies, as the full-body plan does."""
    name = plan.name if plan.name in CAMERA_PLANS else "full_body"
    return Prompts(prompt, "color", plan=name, rule=rule, negative=negative)


def uv_field(texture: Float[Tensor, "S S 3"], mesh: Mesh) -> UvColorField:
    """A texture as a colour field of a painting's state."""
    field = UvColorField(UvColorSettings(len(texture)), mesh, torch.Generator(mesh.device))
    field.load_state_dict({"logits": torch.logit(texture.clamp(LEAST_LOGIT, 1 - LEAST_LOGIT))})
    return field


def latent_side(guide: Denoiser) -> int:
    """Latents along a picture's side."""
    size = guide.resolution
    with torch.no_grad():
        return guide.encode_images(torch.full((1, size, size, 3), 0.5)).shape[-1]


def picture_of_size(picture: Float[Tensor, "H W 3"], size: int) -> Float[Tensor, "S S 3"]:
    """Bilinear, with the blur that a reduction needs."""
    if picture.shape[:2] == (size, size):
        return picture
    resized = torch.nn.functional.interpolate(
        picture.permute(2, 0, 1)[None], (size, size), mode="bilinear", antialias=True
    )
    return resized[0].permute(1, 2, 0)


def _with_pattern(held: HeldColors | None, look: FabricLook, entry: Float[Tensor, "N 3"]) -> HeldColors:
    """What is held, and patterns for the most part as they are begun: networks tell stripes as little as logos."""
    share = torch.where(look.patterned, PATTERN_HELD, 0.0).to(entry)
    if held is None:
        return HeldColors(entry, share)
    colors = torch.where(look.patterned[:, None], entry, held.colors.to(entry))
    return HeldColors(colors, torch.maximum(held.share.to(share), share))


def _without_labels(palette: Float[Tensor, "L 3"] | None, labels: Tensor) -> Float[Tensor, "L 3"] | None:
    """The palette, these labels without a colour: a patterned piece has more than one."""
    if palette is None:
        return None
    return palette.index_fill(0, labels.long().unique().to(palette.device), torch.nan)


def _entry_colors(
    points: Float[Tensor, "N 3"],
    labels: Tensor,
    palette: Tensor | None,
    entry: Callable[[Tensor], Tensor] | None,
) -> Float[Tensor, "N 3"] | None:
    """What the walk begins from: the entry's colours, else those asked for each label, grey where none was."""
    if entry is not None:
        colors = entry(points)
        check_tensor("entry", colors, f"{len(points)} 3", finite=True)
        return colors
    if palette is None:
        return None
    check_tensor("palette", palette, "L 3")
    most = int(labels.max())
    if most >= len(palette):
        raise InputError(f"palette: expected a colour for each of the labels 0 to {most}, got {len(palette)} colours")
    return palette.to(points).nan_to_num(UNASKED)[labels.long()]
