"""Sculpting by sampling all views at once (`guidance.synchronised`): they agree on the surface's normals, the surface
is drawn to the normals and outlines that they end with, and the next round enters at a lower level (Unique3D, arXiv
2405.20343, fits a mesh to views like so, to views that were sampled once).

What the VAE alone does to the views is taken out of what they ask for: the surface's own normal maps are sent through
it, and what they lose there is given back. Else every round would rub off what the VAE cannot hold.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from humannorm.cameras import CAMERA_PLANS, CameraPlan
from humannorm.checks import InputError, check_choice, check_range
from humannorm.distance.signed_distance import SignedDistance
from humannorm.geometry.band import band_at_points, box_field
from humannorm.geometry.fields import SdfField
from humannorm.geometry.fitting import FitSettings, fit_field
from humannorm.geometry.guides import GuideSource
from humannorm.geometry.holding import WORN
from humannorm.geometry.labelled import LabelledSurface
from humannorm.geometry.lattice import Lattice
from humannorm.geometry.normal_agreement import NormalAgreement, NormalFusingSettings, coverage_of
from humannorm.geometry.normal_fitting import NormalFitSettings, fit_to_normals, outline_pull
from humannorm.geometry.start import StartMesh
from humannorm.geometry.state import GeometryState, extract_mesh, held_field, save_state
from humannorm.guidance import Denoiser
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.synchronised import (
    SynchronisedProgress,
    SynchronisedSettings,
    Walk,
    begin_walk,
    load_walk,
    sample_together,
)
from humannorm.mesh import Mesh
from humannorm.optimisation import Callback, OptimiserProgress, RunError, StageTimes
from humannorm.prompts import Prompts, TextRule
from humannorm.rendering.passes import render
from humannorm.rings import Ring, body_rings, cameras_of_rings

__all__ = ["NORMAL_PRESETS", "NormalSculptSettings", "NormalSculpture", "sculpt_synchronised"]

STAGES = ("networks", "decode", "agreement", "encode", "surface")


@dataclass(frozen=True)
class NormalSculptSettings:
    """One synchronised sculpting. Ours where no source is named."""

    levels: tuple[float, ...] = (0.6, 0.4, 0.25)  # where each round enters, a fraction of the noise schedule
    walk: SynchronisedSettings = field(default_factory=lambda: SynchronisedSettings(steps=12, level=1.0))
    """Its steps and level give the pace: a round that enters lower takes fewer steps."""
    fusing: NormalFusingSettings = field(default_factory=NormalFusingSettings)
    surface: NormalFitSettings = field(default_factory=NormalFitSettings)  # of a round; its bound is that of all rounds
    rings: tuple[Ring, ...] = field(default_factory=body_rings)
    plan: CameraPlan = field(default_factory=lambda: CAMERA_PLANS["full_body"])  # distance, field of view, crops
    text_plan: str = "full_body"  # name in `CAMERA_PLANS` whose texts the published text rule follows
    text_rule: TextRule = "paper"  # where the texts name the body part
    guidance_scale: float = 6.0  # classifier-free guidance
    returned: float = 1.0  # share of what the VAE alone takes from the surface's normal maps that is given back
    fit: FitSettings = field(default_factory=FitSettings)  # of the distance field, to the surface
    resolution: int = 256  # cells a side of its lattice

    def __post_init__(self) -> None:
        if not self.levels:
            raise InputError("levels: expected at least one round, got none")
        for level in self.levels:
            check_range("levels", level, 0.01, 1.0)
        if not self.rings:
            raise InputError("rings: expected at least one ring of views, got none")
        if self.walk.agree_on != "pictures":
            raise InputError(f"walk.agree_on: expected pictures, as normals are fused, got {self.walk.agree_on}")
        check_choice("text_plan", self.text_plan, CAMERA_PLANS)
        check_range("guidance_scale", self.guidance_scale, 0.0, 1000.0)
        check_range("returned", self.returned, 0.0, 1.0)
        check_range("resolution", self.resolution, 8, 1024)

    def walk_from(self, level: float) -> SynchronisedSettings:
        """The walk of a round that enters there, at the pace of `walk`."""
        steps = max(1, round(self.walk.steps * level / self.walk.level))
        return dataclasses.replace(self.walk, level=level, steps=steps)

    @property
    def steps(self) -> int:
        """Noise levels of all rounds."""
        return self.steps_of(len(self.levels))

    def steps_of(self, rounds: int) -> int:
        """Noise levels of the first rounds."""
        return sum(self.walk_from(level).steps for level in self.levels[:rounds])

    def with_steps(self, steps: int) -> NormalSculptSettings:
        """The same rounds at the pace of a walk from pure noise in another number of steps."""
        return dataclasses.replace(self, walk=dataclasses.replace(self.walk, steps=steps, level=1.0))

    def entered_below(self, level: float) -> NormalSculptSettings:
        """The rounds for a finished surface that is to change a little: none enters above this level."""
        return dataclasses.replace(self, levels=tuple(min(each, level) for each in self.levels))


# The bundled small model on a CPU: from 0.3 on its normals lose shoes, hair and face.
QUICK = NormalSculptSettings(levels=(0.3, 0.15), guidance_scale=3.0)

# SD1.5-class weights on a graphics card (ours, not yet tuned on one).
STANDARD = NormalSculptSettings(
    walk=SynchronisedSettings(steps=20, level=1.0, batch=4, agree_every=2),
    rings=body_rings(8, 4, 4, 4),
    guidance_scale=7.5,
)

NORMAL_PRESETS: Mapping[str, NormalSculptSettings] = {"quick": QUICK, "standard": STANDARD, "paper": STANDARD}
"""What `paper` takes where it is asked to sample; by itself it distils."""


@dataclass(frozen=True, eq=False)
class NormalSculpture:
    """A finished sculpture, or the last whole round of one that the callback ended."""

    state: GeometryState
    figures: Mapping[str, float]
    """`disagreement_first`, `disagreement_last`: degrees, before the first agreement and in the last views.
    `forwards`: network evaluations. `moved`: mean way of a vertex in the last round, world units. Seconds: `networks`,
    `vae`, `fusing`, `surface`."""


@torch.no_grad()
def sculpt_synchronised(
    state: GeometryState,
    prompt: str,
    settings: NormalSculptSettings,
    *,
    normal: GuideSource,
    generator: torch.Generator,
    callback: Callback | None = None,
    checkpoint: Path | None = None,
) -> NormalSculpture:
    """Go on from a state, between two rounds, to the last round; the state handed in is left as it was.

    normal: the normal-adapted network, or how to load it. generator: a CPU generator, the source of every draw. A
    state's `step` counts noise levels. What the state holds stays, and takes part as fixed normals; an outfit that is
    held stays within its bound. A surface that knows its labels keeps its faces and labels.

    checkpoint: a file that is kept up to date, see `save_state`; while a round lasts another one stands beside it. The
    callback's False, or an exception from anywhere, ends the run; one that goes on from the checkpoint, and finds the
    other file where it was, ends in the same bytes on a CPU.
    """
    return _Rounds(state, prompt, settings, normal, generator, callback, checkpoint).finish()


class _Rounds:
    """One call of `sculpt_synchronised`."""

    def __init__(
        self,
        state: GeometryState,
        prompt: str,
        settings: NormalSculptSettings,
        normal: GuideSource,
        generator: torch.Generator,
        callback: Callback | None,
        checkpoint: Path | None,
    ) -> None:
        boundaries = [settings.steps_of(rounds) for rounds in range(len(settings.levels))]
        if state.step not in boundaries:
            raise InputError(f"state.step: expected the begin of a round, one of {boundaries}, got {state.step}")
        self.state, self.settings, self.generator = state, settings, generator
        self.round = self.first_round = boundaries.index(state.step)
        self.callback, self.checkpoint = callback, checkpoint
        self.guide: Denoiser = normal if isinstance(normal, Denoiser) else normal()
        self.prompts = Prompts(prompt, "normal", plan=settings.text_plan, rule=settings.text_rule)
        self.device = state.band.keys.device
        self.cameras = cameras_of_rings(settings.rings, settings.plan).to(self.device)
        self.times = StageTimes(STAGES, self.device)
        self.disagreement: list[float] = []
        self.disagreement_last, self.moved = 0.0, 0.0
        self.begun = time.monotonic()

    def finish(self) -> NormalSculpture:
        while self.round < len(self.settings.levels):
            surface = _Surface.of(self.state)
            with self.times.measure("agreement"):
                agreement, entry = self._agreement_on(surface), self._own_views(surface.mesh)
            walk = self._sampled(surface, agreement, entry)
            if walk is None:
                break
            with self.times.measure("surface"):
                self.state = self._drawn_to(surface, agreement, entry, walk)
            done = self._walk_file()
            self.round += 1
            if self.checkpoint is not None:
                save_state(self.state, self.checkpoint, self.generator)
            if done is not None:
                done.unlink(missing_ok=True)
        return NormalSculpture(self.state, self._figures())

    def _agreement_on(self, surface: _Surface) -> NormalAgreement:
        size, fusing = self.guide.resolution, self.settings.fusing
        return NormalAgreement.of(surface.mesh, self.cameras, size, fusing, held=surface.held)

    def _sampled(self, surface: _Surface, agreement: NormalAgreement, entry: Float[Tensor, "B S S 3"]) -> Walk | None:
        """This round's views, all levels of them; None where the callback ended the run."""
        settings, file = self.settings.walk_from(self.settings.levels[self.round]), self._walk_file()
        request = self._request(surface.mesh)
        if file is not None and file.exists():
            walk = load_walk(file, self.generator, request, self.device)
        else:
            count = len(self.cameras)
            walk = begin_walk(self.guide, settings, self.generator, count=count, entry=entry, device=self.device)
        stopped, picture = False, entry[0]
        before = dict(self.times.seconds)

        def tell(progress: SynchronisedProgress) -> bool | None:
            nonlocal stopped, picture
            for name, seconds in progress.times.seconds.items():
                self.times.seconds[name] = before[name] + seconds
            if progress.pictures is not None:
                picture = progress.pictures[0]
            stopped = self.callback is not None and self.callback(self._progress(progress, picture, surface)) is False
            return not stopped

        if walk.step < settings.steps:
            try:
                walk = sample_together(
                    self.guide,
                    lambda views: self._condition(views, entry),
                    agreement,
                    walk,
                    settings,
                    generator=self.generator,
                    callback=tell,
                    checkpoint=file,
                    request=request,
                    finish=self._sharpening(entry),
                )
            except RunError as error:
                raise RunError(str(error), self.state) from error
        self.disagreement += agreement.disagreement[:1]
        return None if stopped and walk.step < settings.steps else walk

    def _own_views(self, mesh: Mesh) -> Float[Tensor, "B S S 3"]:
        """The surface's normal maps as the network knows them."""
        size = self.guide.resolution
        normal = render(mesh, self.cameras, (size, size), ("normal",)).normal
        assert normal is not None
        return normal

    def _condition(self, views: Sequence[int], entry: Float[Tensor, "B S S 3"]) -> Any:
        """Of a network that has learnt to draw normals from a start's (`training.hints`), with the surface's shown."""
        control = None if not self._is_shown else pad(entry[list(views)], (0, HINT_CHANNELS - 3))  # no colours
        return self.guide.condition(
            self.prompts.for_cameras(self.cameras.select(views)),
            guidance_scale=self.settings.guidance_scale,
            negative=self.prompts.negative,
            control=control,
        )

    @property
    def _is_shown(self) -> bool:
        """Whether the network has learnt to draw normals from a start's."""
        return self.guide.hint_channels == HINT_CHANNELS

    def _sharpening(self, entry: Float[Tensor, "B S S 3"]) -> Callable[[Tensor], Tensor] | None:
        """Of all views' pictures by the surface's normals, where the network is shown them and has learnt that."""
        if not self._is_shown or not hasattr(self.guide, "sharpened"):
            return None
        return functools.partial(self.guide.sharpened, control=entry)

    def _drawn_to(
        self, surface: _Surface, agreement: NormalAgreement, entry: Float[Tensor, "B S S 3"], walk: Walk
    ) -> GeometryState:
        """The state whose surface follows the views, at the end of a round. entry: what they began from."""
        settings = self.settings
        pictures, sharpening = walk.clean(self.guide, settings.walk), self._sharpening(entry)
        if sharpening is not None:
            pictures = sharpening(pictures)
        if settings.returned:
            copies = self._through_vae(entry)
            pictures = pictures + settings.returned * (entry - (copies if sharpening is None else sharpening(copies)))
        self.disagreement_last = agreement.disagreement_of(pictures)
        bound = settings.surface.bound if surface.bound is None else min(settings.surface.bound, surface.bound)
        fit = dataclasses.replace(settings.surface, bound=bound / len(settings.levels))
        pull = outline_pull(agreement.views, self.cameras, coverage_of(pictures), coverage_of(entry), fit.bound)
        normals = agreement.fused(pictures, settings.fusing.power[1])
        mesh = fit_to_normals(surface.mesh, normals, fit, pull=pull, held=surface.held)
        self.moved = float((mesh.vertices - surface.mesh.vertices).norm(dim=1).mean())
        return self._fitted(mesh, surface)

    def _through_vae(self, pictures: Float[Tensor, "B S S 3"]) -> Float[Tensor, "B S S 3"]:
        parts = pictures.split(self.settings.walk.batch)
        return torch.cat([self.guide.decode(self.guide.encode_images(part)).float() for part in parts])

    def _fitted(self, mesh: Mesh, surface: _Surface) -> GeometryState:
        """The distance field drawn to a surface. One with labels is its own surface, and its field waits for the last
        round."""
        settings, state = self.settings, self.state
        step = settings.steps_of(self.round + 1)
        labelled = None if surface.labels is None else LabelledSurface(mesh, surface.labels)
        if labelled is not None and step < settings.steps:
            return dataclasses.replace(state, step=step, labelled=labelled, untouched=True)
        distance = SignedDistance(mesh.vertices, mesh.faces) if labelled is None else labelled.distance
        start = StartMesh(mesh, distance, (), labelled)
        learned: SdfField = copy.deepcopy(state.field)
        with torch.enable_grad():
            fit_field(learned, start, self.generator, learned.levels, settings.fit)
        found = box_field(held_field(learned, learned.levels, state.hold))
        band, _ = band_at_points(Lattice(settings.resolution), mesh.vertices, found)
        return GeometryState(
            learned,
            learned.levels,
            band,
            step,
            hold=state.hold,
            labelled=labelled,
            untouched=labelled is not None,
        )

    def _walk_file(self) -> Path | None:
        """Of the round that lasts."""
        if self.checkpoint is None:
            return None
        return self.checkpoint.with_name(f"{self.checkpoint.stem}_round{self.round + 1}.safetensors")

    def _request(self, mesh: Mesh) -> dict[str, Any]:
        """What a resumed round must have been asked for."""
        digest = hashlib.sha256(repr((self.settings, self.round)).encode())
        for tensor in (mesh.vertices, mesh.faces):
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {"prompt": self.prompts.prompt, "digest": digest.hexdigest()}

    def _progress(self, now: SynchronisedProgress, picture: Tensor, surface: _Surface) -> OptimiserProgress:
        settings, before = self.settings, self.settings.steps_of(self.round)
        done = before + now.step + now.batch / now.batches
        here = max(done - settings.steps_of(self.first_round), 1e-9)
        return OptimiserProgress(
            stage="sculpt",
            step=before + now.step,
            steps=settings.steps,
            losses={},
            picture=picture,
            target=None,
            faces=surface.mesh.num_faces,
            times=self.times,
            rejected=None,
            seconds_left=(time.monotonic() - self.begun) / here * (settings.steps - done),
        )

    def _figures(self) -> dict[str, float]:
        settings, seconds = self.settings, self.times.seconds
        passes = 1 if settings.guidance_scale == 1 else 2
        asked = settings.steps_of(self.round) - settings.steps_of(self.first_round)
        figures = {
            "forwards": float(passes * asked * len(self.cameras)),
            "networks": seconds["networks"],
            "vae": seconds["decode"] + seconds["encode"],
            "fusing": seconds["agreement"],
            "surface": seconds["surface"],
        }
        if self.round > self.first_round:
            figures |= {
                "disagreement_first": (self.disagreement or [self.disagreement_last])[0],
                "disagreement_last": self.disagreement_last,
                "moved": self.moved,
            }
        return figures


@dataclass(frozen=True, eq=False)
class _Surface:
    """What a round begins from."""

    mesh: Mesh
    labels: Tensor | None  # of its faces
    held: Float[Tensor, " V"] | None  # how far each vertex stays, 0..1
    bound: float | None  # world units by which an outfit that is held may move

    @staticmethod
    def of(state: GeometryState) -> _Surface:
        found = extract_mesh(state)
        hold = state.hold
        held = None if hold is None else hold.share_at(found.mesh.vertices)
        return _Surface(found.mesh, found.labels, held, None if hold is None or hold.worn is None else WORN)
