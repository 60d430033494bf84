"""The training data: shards of pictures with one line of facts for each, written by the people renderer and by scans.

A folder holds `dataset.json` (how it was made) and shards. A shard K is five files: `color_K.npy` uint8 [N, S, S, 3]
on white, `normal_K.npy` uint8 [N, S, S, 3] on black, `depth_K.npy` and `mask_K.npy` uint8 [N, S, S], and
`shots_K.jsonl`, whose line i tells what picture i shows. With hints it is eight: `start_K.npy` and `body_K.npy` uint8
[N, S, S, 3] are normals on black, `label_K.npy` uint8 [N, S, S] has numbers of `hints.LABELS`. The lines are put in
place last: a shard with lines is whole.
`shards.Shards` reads them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from humannorm.cameras import CameraPlan, Cameras, Crop, sample_cameras
from humannorm.checks import InputError, check_choice, check_range
from humannorm.schedules import constant
from humannorm.training.captions import describe
from humannorm.training.people_render import Pictures, Surface, draw_pictures, draw_start

__all__ = [
    "IMAGE_KINDS",
    "SMALL_MODEL_PLAN",
    "DatasetSettings",
    "Shots",
    "count_shots",
    "describe_dataset",
    "narrowed",
    "only_full_body",
    "read_description",
    "shoot",
    "split_of",
    "write_people",
    "write_shard",
    "write_shards",
]

IMAGE_KINDS = ("color", "normal", "depth", "mask")
CAMERAS_AT_ONCE = 16
"""Bounds the memory of a render: 16 pictures of 512 pixels take about 0.4 GB."""
HELD_OUT_EVERY = 10
"""Every tenth person is held out, with all their pictures."""

# The small model's cameras: tighter than the published plan, since at 128 pixels a published head is 10 pixels wide.
SMALL_MODEL_PLAN = CameraPlan(
    name="small_model",
    distance=(3.0, 3.2),
    elevation=(-10.0, 10.0),
    fov_y=(41.0, 44.0),
    crops=(
        Crop("full", zoom=1.15, target_y=0.0, probability=constant(0.4)),
        Crop("head", zoom=5.0, target_y=0.74, probability=constant(0.2)),
        Crop("upper", zoom=2.0, target_y=0.42, probability=constant(0.2)),
        Crop("lower", zoom=2.0, target_y=-0.42, probability=constant(0.2)),
    ),
)


@dataclass(frozen=True)
class DatasetSettings:
    """What makes a dataset: the same settings give the same bytes on a CPU."""

    size: int = 128
    """Side of the square pictures, pixels."""
    people: int = 2500
    shots_per_person: int = 12
    people_per_shard: int = 50
    seed: int = 0
    parts: tuple[str, ...] = ()
    """The only body parts shown; empty: those of the camera plan."""
    poses: tuple[str, ...] = ()
    """The only poses taken, in the captions' words; empty: all those of `people.POSES`."""
    front_within: float = 180.0
    """No shot is taken from further round than this from the front, degrees."""
    hints: bool = False
    """Also write what a ControlNet of six channels is told (`hints.HINT_KINDS`): two thirds more time."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 8, 1024)
        check_range("front_within", self.front_within, 0.0, 180.0)
        for name in ("people", "shots_per_person", "people_per_shard"):
            check_range(name, getattr(self, name), 1, float("inf"))


@dataclass(frozen=True, eq=False)
class Shots:
    """Pictures of one subject and the line of each."""

    pictures: Pictures
    records: list[dict[str, Any]]
    hints: dict[str, UInt8[torch.Tensor, "B S S ..."]] = field(default_factory=dict)
    """Maps of `hints.HINT_KINDS`, or none."""


def split_of(person: int) -> str:
    """`train` or `held_out` for a person by number: all pictures of a person fall on one side."""
    return "held_out" if person % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 else "train"


def only_parts(plan: CameraPlan, parts: Collection[str]) -> CameraPlan:
    """The plan with the crops of some body parts alone, as often against each other as at its first iteration."""
    for part in parts:
        check_choice(f"parts of the camera plan {plan.name!r}", part, [crop.part for crop in plan.crops])
    crops = [crop for crop in plan.crops if crop.part in parts]
    total = sum(crop.probability(0) for crop in crops)
    shared = [replace(crop, probability=constant(crop.probability(0) / total)) for crop in crops]
    return replace(plan, crops=tuple(shared))


def only_full_body(plan: CameraPlan) -> CameraPlan:
    """The plan's whole-body crop alone, for poses that leave the other crops empty."""
    return only_parts(plan, ("full",))


def narrowed(plan: CameraPlan, settings: DatasetSettings) -> CameraPlan:
    """The plan with the settings' body parts and sides alone."""
    low, high = plan.azimuth
    sides = (max(low, -settings.front_within), min(high, settings.front_within))
    return replace(only_parts(plan, settings.parts) if settings.parts else plan, azimuth=sides)


def camera_records(cameras: Cameras) -> list[dict[str, Any]]:
    """The camera's part of a line: part, view, and the numbers that make the camera again."""
    return [
        {
            "part": cameras.part[i],
            "view": view,
            "azimuth": round(float(cameras.azimuth[i]), 4),
            "elevation": round(float(cameras.elevation[i]), 4),
            "fov": round(float(cameras.fov_y[i]), 4),
            "zoom": round(float(cameras.zoom[i]), 4),
            "distance": round(float(cameras.distance[i]), 4),
            "target": [round(value, 4) for value in cameras.target[i].tolist()],
        }
        for i, view in enumerate(cameras.view_labels())
    ]


def shoot(surface: Surface, cameras: Cameras, size: int, facts: Mapping[str, Any]) -> Shots:
    """Render a surface from each camera; `facts` (person, split, attributes, caption) begin each line."""
    records = [{**facts, **camera} for camera in camera_records(cameras)]
    batches = [
        range(first, min(first + CAMERAS_AT_ONCE, len(cameras))) for first in range(0, len(cameras), CAMERAS_AT_ONCE)
    ]
    drawn = [draw_pictures(surface, cameras.select(batch), size) for batch in batches]
    joined = {kind: torch.cat([getattr(pictures, kind) for pictures in drawn]) for kind in IMAGE_KINDS}
    return Shots(Pictures(**joined), records)


def people_shots(maker: Any, settings: DatasetSettings, person: int, plan: CameraPlan) -> Shots:
    """All shots of the person with this number (`maker`: a `people.PeopleMaker`)."""
    from humannorm.training.people import draw_person

    generator = np.random.default_rng([settings.seed, person])
    drawn = draw_person(generator, settings.poses)
    dressed = maker.dress(drawn, underclothes=settings.hints)
    shots = torch.Generator().manual_seed(int(generator.integers(2**62)))
    usable = narrowed(plan, settings)
    if not dressed.parts_in_place:
        if settings.parts and "full" not in settings.parts:
            pose, parts = drawn.attributes.pose, ", ".join(settings.parts)
            raise InputError(f"poses: expected some that leave {parts} in place, such as standing, got {pose}")
        usable = only_full_body(usable)
    cameras = sample_cameras(usable, 0, settings.shots_per_person, shots)
    facts = {
        "person": f"person{person:06d}",
        "split": split_of(person),
        "attributes": drawn.attributes.to_dict(),
        "caption": describe(drawn.attributes),
    }
    shots_taken = shoot(dressed.surface, cameras, settings.size, facts)
    if dressed.underclothes is None:
        return shots_taken
    start, label = draw_start(dressed.surface, cameras, settings.size)
    body, _ = draw_start(dressed.underclothes, cameras, settings.size)
    return replace(shots_taken, hints={"start": start, "label": label, "body": body})


def write_people(
    folder: Path,
    assets: Path,
    settings: DatasetSettings,
    plan: CameraPlan = SMALL_MODEL_PLAN,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Make the dataset of dressed people in `folder`, shard by shard; whole shards that are there are kept.

    Returns the number of shots in the folder. `progress` is called with people done and their total after each person.
    """
    from humannorm.training.people import PeopleMaker

    describe_dataset(folder, "people", settings, plan)
    maker: PeopleMaker | None = None

    def shots(numbers: range) -> Iterator[Shots]:
        nonlocal maker
        maker = PeopleMaker(assets) if maker is None else maker
        for number in numbers:
            yield people_shots(maker, settings, number, plan)
            progress(number + 1, settings.people)

    write_shards(folder, settings.people, settings.people_per_shard, shots)
    return count_shots(folder)


def write_shards(folder: Path, subjects: int, per_shard: int, shots: Callable[[range], Iterable[Shots]]) -> None:
    """Write those shards of `subjects` numbered subjects that are not there yet; `shots` renders a range of them."""
    for shard, first in enumerate(range(0, subjects, per_shard)):
        if not (folder / f"shots_{shard:05d}.jsonl").is_file():
            write_shard(folder, shard, shots(range(first, min(first + per_shard, subjects))))


def describe_dataset(folder: Path, source: str, settings: Any, plan: CameraPlan) -> None:
    """Write `dataset.json`, or check that the one there says the same: no dataset is mixed from two recipes."""
    settled = asdict(settings)
    if not settled.get("hints", True):  # as folders without hints have always been described
        del settled["hints"]
    description = {"source": source, "settings": settled, "camera_plan": plan.to_dict()}
    text = json.dumps(description, indent=2) + "\n"
    path = folder / "dataset.json"
    folder.mkdir(parents=True, exist_ok=True)
    if not path.is_file():
        path.write_text(text, encoding="utf-8")
    elif path.read_text(encoding="utf-8") != text:
        raise InputError(f"{path}: was made with other settings; choose another folder or the same settings")


def read_description(folder: str | Path) -> dict[str, Any]:
    """What `dataset.json` says of a dataset: source, settings and camera plan."""
    path = Path(folder) / "dataset.json"
    if not path.is_file():
        raise InputError(f"{path}: expected beside the shards, as `humannorm dataset` writes it, got no such file")
    described: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return described


def write_shard(folder: Path, shard: int, subjects: Iterable[Shots]) -> None:
    """Write one shard; its lines are put in place last, so that a reader never meets half a shard."""
    shots = list(subjects)
    if not shots:
        raise InputError(f"shard {shard}: expected at least one subject, got none")
    for kind in (*IMAGE_KINDS, *shots[0].hints):
        maps = [shot.hints[kind] if kind in shot.hints else getattr(shot.pictures, kind) for shot in shots]
        images = torch.cat(maps).cpu().numpy()
        partial = folder / f".{kind}_{shard:05d}.npy"
        with open(partial, "wb") as stream:
            np.save(stream, images)
        os.replace(partial, folder / f"{kind}_{shard:05d}.npy")
    partial = folder / f".shots_{shard:05d}.jsonl"
    with open(partial, "w", encoding="utf-8") as stream:
        for shot in shots:
            stream.writelines(json.dumps(record) + "\n" for record in shot.records)
    os.replace(partial, folder / f"shots_{shard:05d}.jsonl")


def count_shots(folder: Path) -> int:
    """Number of shots in all whole shards."""
    total = 0
    for path in sorted(folder.glob("shots_*.jsonl")):
        with open(path, encoding="utf-8") as stream:
            total += sum(1 for _ in stream)
    return total
