"""The figures of a judged gallery, and the table that sets them beside real renders and the aims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from humannorm.cameras import view_label, wrap_degrees
from humannorm.colours import COLOURS
from humannorm.evaluation.frechet import fid64
from humannorm.evaluation.gallery import Gallery, Judgements, Picture
from humannorm.evaluation.pictures import (
    color_silhouette,
    garment_pixels,
    mask_iou,
    nearest_colour,
    normal_alpha,
    psnr_inside,
    skirt_seen,
)

__all__ = ["AIMS", "Figure", "figures_of", "table"]


@dataclass(frozen=True)
class Figure:
    """One number, of `source`'s pictures, over `count` of them."""

    name: str
    source: str
    value: float
    count: int


@dataclass(frozen=True)
class Aim:
    """What a figure should reach, and how it is written."""

    text: str
    low: float = -float("inf")
    high: float = float("inf")
    percent: bool = True


# Aims of issue 3 for the first set of weights. Order is that of the table.
AIMS: Mapping[str, Aim] = {
    "VAE copy of normals, all parts, PSNR dB": Aim(">= 26", low=26, percent=False),
    "VAE copy of colours, all parts, PSNR dB": Aim(">= 24", low=24, percent=False),
    "VAE copy of normals, full body, PSNR dB": Aim(">= 26", low=26, percent=False),
    "VAE copy of colours, full body, PSNR dB": Aim(">= 24", low=24, percent=False),
    "VAE copy keeps the garment's named colour": Aim(">= 95 %", low=0.95),
    "person found, full-body normals": Aim(">= 90 %", low=0.90),
    "azimuth within 45 degrees, of those": Aim(">= 85 %", low=0.85),
    "face on head normals, front": Aim(">= 70 %", low=0.70),
    "face on head normals, back": Aim("<= 10 %", high=0.10),
    "person found, full-body colours": Aim(""),
    "azimuth of colours within 45 degrees, of those": Aim(""),
    "face on head colours, front": Aim(">= 90 %", low=0.90),
    "face on head colours, back": Aim("<= 10 %", high=0.10),
    "silhouette of colours against normals, IoU": Aim(">= 0.85", low=0.85, percent=False),
    "top worn in the named colour": Aim(">= 70 %", low=0.70),
    "bottom worn in the named colour": Aim(">= 70 %", low=0.70),
    "running, sitting and fighting people found": Aim(""),
    "skirt seen where one is asked for": Aim(">= 95 %", low=0.95),
    "none seen where trousers are": Aim(""),
    "top in the named colour, by label": Aim(">= 97 %", low=0.97),
    "bottom in the named colour, by label": Aim(">= 97 %", low=0.97),
    "shoes in the named colour, by label": Aim(">= 90 %", low=0.90),
    "hair in the named colour, by label": Aim(">= 95 %", low=0.95),
    "brightness of fair heads less that of dark ones": Aim("", percent=False),
    "fid64 of normals over its floor": Aim("<= 6", high=6, percent=False),
    "fid64 of colours over its floor": Aim("<= 6", high=6, percent=False),
    "fid64 of normals": Aim("", percent=False),
    "fid64 of colours": Aim("", percent=False),
}


def figures_of(gallery: Gallery, judged: Judgements) -> list[Figure]:
    """All figures of the model and, for comparison, of the renders and of the controls."""
    figures = []
    for source in ("model", "render"):
        figures += _person_figures(gallery, judged, source)
        figures += _face_figures(gallery, judged, source)
        figures += _color_figures(gallery, judged, source)
        figures += _label_figures(gallery, source)
        figures += _skirt_figures(gallery, judged, source)
        figures.append(_moving_figure(gallery, judged, source))
    figures += _person_figures(gallery, judged, "control")
    figures += _vae_figures(gallery, judged)
    figures += _fid_figures(gallery, judged)
    return [figure for figure in figures if figure.count]


def _share(name: str, source: str, outcomes: Iterable[bool]) -> Figure:
    answers = [float(outcome) for outcome in outcomes]
    return Figure(name, source, sum(answers) / max(len(answers), 1), len(answers))


def _person_figures(gallery: Gallery, judged: Judgements, source: str) -> list[Figure]:
    figures = []
    for kind, found_name, azimuth_name in (
        ("normal", "person found, full-body normals", "azimuth within 45 degrees, of those"),
        ("color", "person found, full-body colours", "azimuth of colours within 45 degrees, of those"),
    ):
        pictures = gallery.select(source=source, kind=kind, part="full")
        poses = [(picture, judged.pose(picture.id)) for picture in pictures]
        figures.append(_share(found_name, source, (pose is not None for _, pose in poses)))
        errors = [abs(wrap_degrees(pose["azimuth"] - picture.azimuth)) for picture, pose in poses if pose is not None]
        figures.append(_share(azimuth_name, source, (error <= 45 for error in errors)))
    return figures


def _face_figures(gallery: Gallery, judged: Judgements, source: str) -> list[Figure]:
    figures = []
    for kind, word in (("normal", "normals"), ("color", "colours")):
        for view in ("front", "back"):
            heads = [
                picture
                for picture in gallery.select(source=source, kind=kind, part="head")
                if view_label(picture.azimuth) == view
            ]
            found = (judged.face(picture.id) is not None for picture in heads)
            figures.append(_share(f"face on head {word}, {view}", source, found))
    return figures


def _color_figures(gallery: Gallery, judged: Judgements, source: str) -> list[Figure]:
    pictures = gallery.select(source=source, kind="color", part="full")
    overlaps = [
        mask_iou(color_silhouette(gallery.image(picture.id)), normal_alpha(gallery.image(picture.pair)) > 0.5)
        for picture in pictures
    ]
    mean = sum(overlaps) / max(len(overlaps), 1)
    figures = [Figure("silhouette of colours against normals, IoU", source, mean, len(overlaps))]
    for garment in ("top", "bottom"):
        named = [picture for picture in pictures if f"{garment}_colour" in picture.attributes]
        seen = [(picture, worn_colour(gallery, judged, picture, garment)) for picture in named]
        right = (name == picture.attributes[f"{garment}_colour"] for picture, name in seen if name is not None)
        figures.append(_share(f"{garment} worn in the named colour", source, right))
    return figures


def _label_figures(gallery: Gallery, source: str) -> list[Figure]:
    """What is seen where a label is, against what the caption says of it."""
    pictures = [picture for picture in gallery.select(source=source, kind="color") if picture.seen]
    figures = []
    for label in ("top", "bottom", "shoes", "hair"):
        named = [(picture.seen.get(label), picture.attributes.get(f"{label}_colour")) for picture in pictures]
        right = (seen == said for seen, said in named if seen is not None and said is not None)
        figures.append(_share(f"{label} in the named colour, by label", source, right))
    by_skin = {
        said: [
            picture.seen["skin"]
            for picture in pictures
            if picture.part == "head" and "skin" in picture.seen and picture.attributes.get("skin") == said
        ]
        for said in ("fair", "dark")
    }
    if all(by_skin.values()):
        fair, dark = (sum(values) / len(values) for values in by_skin.values())
        count = sum(map(len, by_skin.values()))
        figures.append(Figure("brightness of fair heads less that of dark ones", source, fair - dark, count))
    return figures


def _moving_figure(gallery: Gallery, judged: Judgements, source: str) -> Figure:
    """Of the people under hints, whose poses are known: those that neither stand nor are in T-pose."""
    hinted = {picture.pair for picture in gallery.select(source=source, kind="color") if picture.seen}
    moving = [
        picture
        for picture in gallery.select(source=source, kind="normal", part="full")
        if picture.id in hinted and picture.attributes.get("pose") in ("running", "sitting", "fighting")
    ]
    found = (judged.pose(picture.id) is not None for picture in moving)
    return _share("running, sitting and fighting people found", source, found)


def _skirt_figures(gallery: Gallery, judged: Judgements, source: str) -> list[Figure]:
    """On normal maps of standing people from front and back; a leg before the other hides what is between."""
    seen: dict[str, list[bool]] = {"skirt": [], "trousers": []}
    for picture in gallery.select(source=source, kind="normal", part="full"):
        bottom, pose = picture.attributes.get("bottom"), judged.pose(picture.id)
        standing = picture.attributes.get("pose") == "standing" and view_label(picture.azimuth) in ("front", "back")
        if bottom in seen and standing and pose is not None:
            seen[bottom].append(skirt_seen(normal_alpha(gallery.image(picture.id)), pose["landmarks"]))
    return [
        _share("skirt seen where one is asked for", source, seen["skirt"]),
        _share("none seen where trousers are", source, (not found for found in seen["trousers"])),
    ]


def worn_colour(gallery: Gallery, judged: Judgements, picture: Picture, garment: str) -> str | None:
    """Named colour of a garment where the pose judge sees it on the picture itself; None without a person."""
    pose = judged.pose(picture.id)
    if pose is None:
        return None
    return nearest_colour(garment_pixels(gallery.image(picture.id), pose["landmarks"], garment), COLOURS)


def _vae_figures(gallery: Gallery, judged: Judgements) -> list[Figure]:
    figures = []
    for kind, name in (("normal", "normals"), ("color", "colours")):
        for source, part in (("vae_any", "all parts"), ("vae", "full body")):
            ratios = []
            for picture in gallery.select(source=source, kind=kind):
                normals = gallery.image(picture.pair.replace("_color_", "_normal_"))
                copy, original = gallery.image(picture.id), gallery.image(picture.pair)
                ratios.append(psnr_inside(copy, original, normal_alpha(normals)))
            mean = sum(ratios) / max(len(ratios), 1)
            figures.append(Figure(f"VAE copy of {name}, {part}, PSNR dB", "model", mean, len(ratios)))
    kept = []
    for picture in gallery.select(source="vae", kind="color"):
        pose = judged.pose(picture.pair)
        for garment in ("top", "bottom"):
            if pose is None:
                continue
            before, after = (
                nearest_colour(garment_pixels(gallery.image(id), pose["landmarks"], garment), COLOURS)
                for id in (picture.pair, picture.id)
            )
            if before is not None:
                kept.append(before == after)
    return [*figures, _share("VAE copy keeps the garment's named colour", "model", kept)]


def _fid_figures(gallery: Gallery, judged: Judgements) -> list[Figure]:
    """The floor is the distance of other real people from the reference, of as many pictures as the model drew."""
    figures = []
    for kind, word in (("normal", "normals"), ("color", "colours")):
        sets = {}
        for source in ("reference", "render", "control", "model"):
            chosen = gallery.select(source=source, kind=kind, part="full")
            sets[source] = [judged.features[picture.id] for picture in chosen]
        if min(len(sets["reference"]), len(sets["render"])) < 2:
            continue
        reference = torch.stack(sets["reference"])
        floor = fid64(reference, torch.stack(sets["render"]))
        figures.append(Figure(f"fid64 of {word}", "render", floor, len(sets["render"])))
        if len(sets["control"]) >= 2:
            distance = fid64(reference, torch.stack(sets["control"]))
            figures.append(Figure(f"fid64 of {word}", "control", distance, len(sets["control"])))
        if len(sets["model"]) >= 2:
            distance = fid64(reference, torch.stack(sets["model"]))
            figures.append(Figure(f"fid64 of {word}", "model", distance, len(sets["model"])))
            figures.append(Figure(f"fid64 of {word} over its floor", "model", distance / floor, len(sets["model"])))
    return figures


def table(figures: list[Figure]) -> str:
    """Markdown: figure, aim, what the model reaches (of how many pictures), what renders and controls get."""
    by_key = {(figure.name, figure.source): figure for figure in figures}

    def cell(name: str, source: str) -> str:
        figure = by_key.get((name, source))
        if figure is None:
            return "-"
        value = f"{100 * figure.value:.0f} %" if AIMS[name].percent else f"{figure.value:.2f}"
        return f"{value} ({figure.count})"

    def verdict(name: str) -> str:
        figure = by_key.get((name, "model"))
        if figure is None or not AIMS[name].text:
            return ""
        return "yes" if AIMS[name].low <= figure.value <= AIMS[name].high else "no"

    lines = [
        "| figure | aim | model (pictures) | reached | held-out renders | shuffled tiles |",
        "|---|---|---|---|---|---|",
    ]
    for name, aim in AIMS.items():
        cells = (name, aim.text, cell(name, "model"), verdict(name), cell(name, "render"), cell(name, "control"))
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def to_plain(figures: list[Figure]) -> list[dict[str, Any]]:
    """For JSON."""
    return [asdict(figure) for figure in figures]
