"""A user's own scans as training data: a folder of meshes with captions, through the same renderer.

Captions stand in `captions.json` (file name -> caption, or -> {"caption": ..., "front": degrees}) or in a text file
beside each mesh (`anna.glb` with `anna.txt`). Scans are turned to face +Z, scaled to 1.8 units and centred, so that the
camera plan's part crops find head, upper and lower body where a standing body has them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.cameras import CameraPlan, sample_cameras
from humannorm.checks import InputError, check_choice, check_range, reading
from humannorm.mesh import Mesh, check_mesh, welded_vertex_normals
from humannorm.mesh_io import load_mesh
from humannorm.training.dataset import (
    SMALL_MODEL_PLAN,
    Shots,
    count_shots,
    describe_dataset,
    only_full_body,
    shoot,
    split_of,
    write_shards,
)
from humannorm.training.people_render import Material, Surface, TextureSet
from humannorm.working_box import BODY_HEIGHT

__all__ = ["ScanSettings", "find_scans", "scan_surface", "stand_up", "write_scans"]

MESH_SUFFIXES = (".glb", ".gltf", ".obj", ".ply")
PLAIN_GREY = 0.7
"""sRGB of a scan without colours."""


@dataclass(frozen=True)
class ScanSettings:
    """What makes a dataset of scans."""

    size: int = 128
    """Side of the square pictures, pixels."""
    shots_per_scan: int = 40
    scans_per_shard: int = 10
    seed: int = 0
    up: str = "y"
    """The files' upward axis, "y" or "z"."""
    front: float = 0.0
    """Azimuth that the subjects face in the files, degrees: 0 is +Z, 90 is +X (after `up` is applied)."""
    only_full: bool = False
    """Leave out the part crops, for scans that do not stand upright."""

    def __post_init__(self) -> None:
        check_range("size", self.size, 8, 1024)
        check_range("shots_per_scan", self.shots_per_scan, 1, float("inf"))
        check_range("scans_per_shard", self.scans_per_shard, 1, float("inf"))
        check_range("front", self.front, -360.0, 360.0)
        check_choice("up", self.up, ("y", "z"))


@dataclass(frozen=True)
class Scan:
    """One mesh file, its caption and the azimuth it faces (None: the settings' front)."""

    path: Path
    caption: str
    front: float | None = None


def find_scans(folder: Path) -> list[Scan]:
    """The captioned meshes of a folder, by name; an error names every mesh that has no caption."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of meshes")
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in MESH_SUFFIXES)
    if not paths:
        raise InputError(f"{folder}: expected meshes ({', '.join(MESH_SUFFIXES)}), found none")
    with reading(folder / "captions.json", "captions by file name"):
        listed = _read_captions(folder / "captions.json")
    scans, missing = [], []
    for path in paths:
        entry = listed.get(path.name)
        beside = path.with_suffix(".txt")
        if entry is None and beside.is_file():
            with reading(beside, "a caption as UTF-8 text"):
                entry = beside.read_text(encoding="utf-8-sig")
        caption = str(entry.get("caption", "") if isinstance(entry, dict) else entry or "").strip()
        with reading(folder / "captions.json", f"degrees for the front of {path.name}"):
            front = entry.get("front") if isinstance(entry, dict) else None
            front = None if front is None else float(front)
        if not caption:
            missing.append(path.name)
        scans.append(Scan(path, " ".join(caption.split()), front))
    if missing:
        raise InputError(f"{folder}: expected a caption for each mesh, found none for {', '.join(missing)}")
    return scans


def _read_captions(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: expected JSON, {error}") from error
    if not isinstance(listed, dict):
        raise InputError(f"{path}: expected an object of file names and captions, got {type(listed).__name__}")
    return listed


def stand_up(vertices: Float[Tensor, "V 3"], up: str, front: float) -> Float[Tensor, "V 3"]:
    """Turn a scan to +Y up and +Z front, 1.8 units tall, centred in its bounding box.

    `front` is the azimuth (degrees) that it faces now; "z" up means x right, y away from the front at azimuth 0.
    """
    turned = vertices.double()
    if up == "z":
        turned = torch.stack([turned[:, 0], turned[:, 2], -turned[:, 1]], dim=1)
    angle = math.radians(front)
    cos, sin = math.cos(angle), math.sin(angle)
    turned = torch.stack(
        [cos * turned[:, 0] - sin * turned[:, 2], turned[:, 1], sin * turned[:, 0] + cos * turned[:, 2]], dim=1
    )
    low, high = turned.amin(dim=0), turned.amax(dim=0)
    height = float(high[1] - low[1])
    if height <= 0.0:
        raise InputError("scan: expected some height along its upward axis, got a flat mesh")
    return ((turned - (low + high) / 2.0) * (BODY_HEIGHT / height)).float()


def scan_surface(mesh: Mesh, settings: ScanSettings, front: float | None = None) -> Surface:
    """A scan as the people renderer wants it: standing, with its texture, its vertex colours or plain grey."""
    check_mesh(mesh)
    positions = stand_up(mesh.vertices, settings.up, settings.front if front is None else front)
    if float(positions[:, [0, 2]].abs().max()) > 2.0:
        raise InputError("scan: expected a standing person, got a mesh more than twice as wide as it is tall")
    textured = mesh.texture is not None and mesh.uvs is not None
    coloured = mesh.colors is not None and not textured
    images = []
    if mesh.texture is not None and textured:
        rgb = (mesh.texture.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()
        images.append(np.concatenate([rgb, np.full_like(rgb[..., :1], 255)], axis=-1))
    plain = 1.0 if textured or coloured else PLAIN_GREY
    material = Material(
        tint=(plain, plain, plain), color_texture=0 if textured else -1, uses_vertex_colors=bool(coloured)
    )
    return Surface(
        positions=positions,
        faces=mesh.faces,
        uvs=mesh.uvs.float() if mesh.uvs is not None else torch.zeros_like(positions[:, :2]),
        uv_faces=mesh.faces,
        face_material=torch.zeros(mesh.num_faces, dtype=torch.int64, device=positions.device),
        materials=(material,),
        textures=TextureSet.pack(images),
        normals=welded_vertex_normals(positions, mesh.faces),
        colors=mesh.colors.float() if mesh.colors is not None else None,
    )


def write_scans(
    scans: list[Scan],
    folder: Path,
    settings: ScanSettings,
    plan: CameraPlan = SMALL_MODEL_PLAN,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Make a dataset of scans in `folder`; every tenth scan is held out. Returns the number of shots in the folder."""
    describe_dataset(folder, "scans", settings, plan)
    usable = only_full_body(plan) if settings.only_full else plan

    def shots(numbers: range) -> Iterator[Shots]:
        for number in numbers:
            scan = scans[number]
            surface = scan_surface(load_mesh(scan.path), settings, scan.front)
            generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + number)
            cameras = sample_cameras(usable, 0, settings.shots_per_scan, generator)
            facts = {
                "person": scan.path.stem,
                "split": split_of(number),
                "attributes": None,
                "caption": scan.caption,
            }
            yield shoot(surface, cameras, settings.size, facts)
            progress(number + 1, len(scans))

    write_shards(folder, len(scans), settings.scans_per_shard, shots)
    return count_shots(folder)
