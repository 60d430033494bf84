"""Filling a gallery: real renders of held-out people, a model's answers to their captions, its VAE's copies.

Every draw hangs on one seed: the same folder of people, model and seed give the same pictures on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from humannorm.cameras import VIEW_AZIMUTHS, view_label
from humannorm.checks import InputError
from humannorm.colours import COLOURS, HAIR_COLOURS
from humannorm.evaluation.gallery import Gallery, Picture
from humannorm.evaluation.pictures import nearest_colour
from humannorm.guidance.denoiser import HINT_CHANNELS
from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
from humannorm.guidance.samplers import GUIDANCE_SCALES, sample_images
from humannorm.prompts import Prompts
from humannorm.start_pictures import ENTRY_LEVEL, DressedStart, StartPictures
from humannorm.training.hints import LABELS, hints_of
from humannorm.training.shards import Shards

__all__ = [
    "SampleSettings",
    "add_controlled",
    "add_controls",
    "add_reconstructions",
    "add_renders",
    "add_samples",
    "seen_by_label",
]

# Which judges see a picture, after its part.
JUDGES = {"full": ("pose", "features"), "head": ("face",)}
HEAD_VIEWS = ("front", "back")  # where a face must be, and where it must not

Progress = Callable[[str], None]


@dataclass(frozen=True)
class SampleSettings:
    """How pictures are drawn from a model."""

    count: int = 48  # pictures per (kind, part, view)
    steps: int = 20
    sampler: str = "dpm"  # DPM-Solver++ (2M); few-step LoRAs take "ddim"
    guidance_scale: float | None = None  # classifier-free; None is each kind's own, as `humannorm sample` draws
    batch: int = 16
    seed: int = 0
    kinds: tuple[str, ...] = ("normal", "color")  # colour pictures follow the normal maps, so never they alone
    sentences: tuple[str, ...] = ()  # drawn in place of held-out captions, `count` of them
    any_direction: bool = False  # starts are seen from anywhere in a view's quarter, not from its middle

    def scale(self, kind: str) -> float:
        """Classifier-free guidance of pictures of a kind."""
        return GUIDANCE_SCALES[kind] if self.guidance_scale is None else self.guidance_scale


def add_renders(gallery: Gallery, people: Shards, settings: SampleSettings) -> None:
    """Held-out people in two halves: "reference" for fid64 alone, "render" for the row beside the model's."""
    generator = np.random.default_rng(settings.seed)
    order = generator.permutation(len(people))
    names = sorted({people.shot(int(row))["person"] for row in order})
    reference = set(names[::2])
    wanted: dict[tuple[str, str, str], int] = {}
    for row in order.tolist():
        shot = people.shot(row)
        source = "reference" if shot["person"] in reference else "render"
        part, view = shot["part"], view_label(shot["azimuth"])
        if part not in JUDGES or (part == "head" and (source == "reference" or view not in HEAD_VIEWS)):
            continue
        taken = wanted.get((source, part, view), 0)
        if taken == settings.count:
            continue
        wanted[source, part, view] = taken + 1
        for kind in ("normal", "color"):
            picture = Picture(
                id=f"{source}_{kind}_{part}_{view}_{taken:03d}",
                source=source,
                kind=kind,
                part=part,
                azimuth=shot["azimuth"],
                judges=("features",) if source == "reference" else JUDGES[part],
                attributes=shot["attributes"] or {},
                prompt=shot["caption"],
                pair=f"{source}_normal_{part}_{view}_{taken:03d}" if kind == "color" else "",
            )
            gallery.add(picture, people.image(row, kind))


def add_controls(gallery: Gallery, settings: SampleSettings) -> None:
    """The full-body renders cut into 4 x 4 tiles and shuffled: judges that accept these prove nothing."""
    generator = torch.Generator().manual_seed(settings.seed)
    for picture in gallery.select(source="render", part="full"):
        order = torch.randperm(16, generator=generator)
        entry = replace(picture, id=picture.id.replace("render", "control"), source="control", attributes={}, pair="")
        gallery.add(entry, shuffled_tiles(gallery.image(picture.id), order))


def shuffled_tiles(image: Float[Tensor, "H W 3"], order: Int64[Tensor, "16"]) -> Float[Tensor, "H W 3"]:
    """The image in 4 x 4 tiles, tile k taken from place order[k]; sides are multiples of 4."""
    height, width = image.shape[0] // 4, image.shape[1] // 4
    tiles = (
        image[: 4 * height, : 4 * width].reshape(4, height, 4, width, 3).transpose(1, 2).reshape(16, height, width, 3)
    )
    return tiles[order].reshape(4, 4, height, width, 3).transpose(1, 2).reshape(4 * height, 4 * width, 3)


def held_out_captions(people: Shards, count: int, seed: int) -> list[dict[str, Any]]:
    """One shot of each of `count` held-out people (again from the first when there are fewer)."""
    first: dict[str, dict[str, Any]] = {}
    for row in range(len(people)):
        shot = people.shot(row)
        first.setdefault(shot["person"], shot)
    shots = list(first.values())
    order = np.random.default_rng(seed).permutation(len(shots))
    return [shots[order[k % len(order)]] for k in range(count)]


def add_samples(
    gallery: Gallery,
    people: Shards,
    guide: DiffusersDenoiser,
    settings: SampleSettings,
    progress: Progress | None = None,
    start_of: Callable[[str], DressedStart] | None = None,
) -> None:
    """Normal maps of held-out captions, or of the settings' sentences, from every side and of heads, and colour
    pictures that follow each. start_of: a text's start, from which all is then drawn, as `humannorm sample` does."""
    if "color" in settings.kinds and guide.controlnet is None:
        raise InputError("--models: expected a controlnet for the aligned pictures, got a folder without one")
    shots: list[dict[str, Any]] = [
        {"caption": text, "attributes": None} for text in settings.sentences[: settings.count]
    ]
    shots = shots or held_out_captions(people, settings.count, settings.seed)
    starts: list[DressedStart] = []
    if start_of is not None:
        for number, shot in enumerate(shots):
            if progress is not None:
                progress(f"dressing {number + 1} of {len(shots)}")
            starts.append(start_of(shot["caption"]))
    for part, views in (("full", tuple(VIEW_AZIMUTHS)), ("head", HEAD_VIEWS)):
        for view in views:
            normals: Tensor | None = None
            directions = _directions(view, len(shots), settings)
            seen = [
                start.pictures(part, [azimuth], guide.resolution, elevation=elevation)
                for start, (azimuth, elevation) in zip(starts, directions, strict=bool(starts))
            ]
            begun = StartPictures.concatenate(seen) if seen else None
            for kind in settings.kinds:
                if progress is not None:
                    progress(f"drawing {kind} {part} {view}")
                texts = [
                    Prompts(shot["caption"], kind).text(part, view)  # type: ignore[arg-type]
                    for shot in shots
                ]
                cell = f"{part}_{view}"
                control, entry = normals, None
                if begun is not None:
                    control = begun.control(kind, normals)
                    entry = begun.entry(kind)
                images = draw(guide, texts, settings, kind, cell, control, entry)
                for index, (shot, image) in enumerate(zip(shots, images, strict=True)):
                    picture = Picture(
                        id=f"model_{kind}_{cell}_{index:03d}",
                        source="model",
                        kind=kind,
                        part=part,
                        azimuth=directions[index][0] if starts else VIEW_AZIMUTHS[view],
                        judges=JUDGES[part],
                        attributes=shot["attributes"] or {},
                        prompt=texts[index],
                        pair=f"model_normal_{cell}_{index:03d}" if kind == "color" else "",
                    )
                    gallery.add(picture, image)
                normals = images


def _directions(view: str, count: int, settings: SampleSettings) -> list[tuple[float, float]]:
    """Azimuth and elevation in degrees from which each start is seen: the view's middle, or drawn as those of training
    renders are, of which a view names the quarter."""
    middle = VIEW_AZIMUTHS[view]
    if not settings.any_direction:
        return [(middle, 0.0)] * count
    generator = np.random.default_rng([settings.seed, list(VIEW_AZIMUTHS).index(view)])
    off, elevation = generator.uniform(-44.9, 44.9, count), generator.uniform(-10.0, 10.0, count)
    return [(middle + float(a), float(e)) for a, e in zip(off, elevation, strict=True)]


def add_controlled(
    gallery: Gallery,
    people: Shards,
    guide: DiffusersDenoiser,
    settings: SampleSettings,
    source: str,
    progress: Progress | None = None,
) -> None:
    """Normal maps and colours of held-out people under hints of six channels, from every side and of heads, and the
    VAE's copies of their renders, sharpened where the model does that; what each label wears is read off colours and
    off the renders themselves.

    source: whose normals the hint shows, "start" or "body"; the data has them (`dataset people --hints`). Under
    finished ones, "normal", colours alone are drawn, by any model with a ControlNet.
    """
    finished = source == "normal"
    if guide.hint_channels != HINT_CHANNELS and not (finished and guide.hint_channels == 3):
        raise InputError(f"--models: expected a ControlNet of six hint channels, got one of {guide.hint_channels}")
    for part, views in (("full", tuple(VIEW_AZIMUTHS)), ("head", HEAD_VIEWS)):
        for view in views:
            rows = _shots_of(people, part, view, settings)
            shots = [people.shot(row) for row in rows]
            labels = torch.stack([people.labels(row) for row in rows])
            hints = hints_of(people, rows, [source] * len(rows), [True] * len(rows))
            cell = f"{part}_{view}"
            for kind in settings.kinds:
                texts = [Prompts(shot["caption"], kind).text(part, view) for shot in shots]  # type: ignore[arg-type]
                sets = {"render": torch.stack([people.image(row, kind) for row in rows])}
                if kind == "color" or not finished:
                    if progress is not None:
                        progress(f"drawing {kind} {part} {view} under hints")
                    sets["model"] = draw(guide, texts, settings, kind, cell, hints)
                    _add_copies(gallery, guide, settings, sets["render"], hints, kind, part, view)
                for name, images in sets.items():
                    for index, (shot, image) in enumerate(zip(shots, images, strict=True)):
                        picture = Picture(
                            id=f"{name}_{kind}_{cell}_{index:03d}",
                            source=name,
                            kind=kind,
                            part=part,
                            azimuth=shot["azimuth"],
                            judges=JUDGES[part],
                            attributes=shot["attributes"],
                            prompt=texts[index],
                            pair=f"{'render' if finished else name}_normal_{cell}_{index:03d}"
                            if kind == "color"
                            else "",
                            seen=seen_by_label(image, labels[index]) if kind == "color" else {},
                        )
                        gallery.add(picture, image)


@torch.no_grad()
def _add_copies(
    gallery: Gallery,
    guide: DiffusersDenoiser,
    settings: SampleSettings,
    truth: Float[Tensor, "N H W 3"],
    hints: Float[Tensor, "N H W 6"],
    kind: str,
    part: str,
    view: str,
) -> None:
    """Renders through the VAE and back, sharpened by their hints; those of full bodies count for themselves too."""
    copies = [
        guide.sharpened(guide.decode(guide.encode_images(images.to(guide.device))).float().cpu(), shown)
        for images, shown in zip(truth.split(settings.batch), hints.split(settings.batch), strict=True)
    ]
    for index, copy in enumerate(torch.cat(copies)):
        original = f"render_{kind}_{part}_{view}_{index:03d}"
        for source in ("vae_any", "vae") if part == "full" else ("vae_any",):
            azimuth = VIEW_AZIMUTHS[view]
            name = f"{source}_{original}"
            gallery.add(
                Picture(id=name, source=source, kind=kind, part=part, azimuth=azimuth, judges=(), pair=original), copy
            )


def _shots_of(people: Shards, part: str, view: str, settings: SampleSettings) -> list[int]:
    """Rows of one part from one side, one of each person while there are enough."""
    rows = people.rows_of(f"{part} {view}")
    if not rows:
        raise InputError(f"--data: expected held-out people with pictures of {part} {view}, got none")
    order = [rows[k] for k in np.random.default_rng(settings.seed).permutation(len(rows))]
    first: dict[str, int] = {}
    for row in order:
        first.setdefault(people.shot(row)["person"], row)
    ones = set(first.values())
    return [*first.values(), *(row for row in order if row not in ones)][: settings.count]


LEAST_SEEN = 12  # pixels of a label, below which nothing is said of it


def seen_by_label(image: Float[Tensor, "H W 3"], labels: UInt8[Tensor, "H W"]) -> dict[str, Any]:
    """Named colour of what a picture shows where a label is (`hints.LABELS`), of hair among hair's, and as "skin" the
    mean brightness 0..1 of skin."""
    seen: dict[str, Any] = {}
    for label in ("top", "bottom", "shoes", "hair"):
        pixels = image[labels == LABELS.index(label)]
        if len(pixels) >= LEAST_SEEN:
            seen[label] = nearest_colour(pixels, HAIR_COLOURS if label == "hair" else COLOURS)
    skin = image[labels == LABELS.index("skin")]
    if len(skin) >= LEAST_SEEN:
        seen["skin"] = float(skin.mean())
    return seen


def draw(
    guide: DiffusersDenoiser,
    texts: list[str],
    settings: SampleSettings,
    kind: str,
    cell: str,
    control: Tensor | None,
    entry: Tensor | None = None,
) -> Tensor:
    """Pictures [N,H,W,3]; the noise of picture i hangs on the seed, kind, cell and i alone. entry: what they begin
    from."""
    offset = int.from_bytes(f"{kind}_{cell}".encode("ascii"), "big") % 1_000_003
    first = (settings.seed * 1_000_003 + offset) * 10_007
    return sample_images(
        guide,
        texts,
        seeds=range(first, first + len(texts)),
        guidance_scale=settings.scale(kind),
        control=control,
        steps=settings.steps,
        sampler=settings.sampler,
        entry=entry,
        level=ENTRY_LEVEL,
        batch=settings.batch,
    )


def add_reconstructions(gallery: Gallery, people: Shards, guide: DiffusersDenoiser, settings: SampleSettings) -> None:
    """The VAE's copies of the full figures among the renders, and of as many held-out shots of any part."""
    originals = gallery.select(source="render", part="full")
    rows = np.random.default_rng(settings.seed + 1).permutation(len(people))[: len(originals) // 2]
    for index, row in enumerate(rows.tolist()):
        shot = people.shot(row)
        for kind in ("normal", "color"):
            picture = Picture(
                id=f"original_{kind}_{index:03d}",
                source="original",
                kind=kind,
                part=shot["part"],
                azimuth=shot["azimuth"],
                pair=f"original_normal_{index:03d}",
            )
            gallery.add(picture, people.image(row, kind))
            originals.append(picture)
    for first in range(0, len(originals), settings.batch):
        chosen = originals[first : first + settings.batch]
        images = torch.stack([gallery.image(picture.id) for picture in chosen])
        with torch.no_grad():
            copies = guide.decode(guide.encode_images(images.to(guide.device))).cpu().float()
        for picture, copy in zip(chosen, copies, strict=True):
            source = {"render": "vae", "original": "vae_any"}[picture.source]
            entry = replace(picture, id=f"{source}_{picture.id}", source=source, judges=(), pair=picture.id)
            gallery.add(entry, copy)
