"""Pictures of a moving human: a film and a sheet of its frames."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from humannorm.body.skin import JointMotion
from humannorm.cameras import Cameras, orbit
from humannorm.export.showing import film_views, write_film
from humannorm.geometry.pictures import shaded_views
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh

from .human import RiggedHuman

__all__ = ["save_motion"]

SIDES = (35.0, 90.0)  # degrees: three quarters, and from the side
SHEET_FRAMES = 8
FRAMES_PER_SECOND = 15  # of the film; clips are often faster
LONGEST = 150  # frames of a film
MARGIN = 1.08  # around all that moves


@torch.no_grad()
def save_motion(film: Path, sheet: Path, human: RiggedHuman, motion: JointMotion, size: int = 384) -> None:
    """An endless film (WebP) from three quarters, and eight frames from two sides. The camera stands still.

    Colours are the mesh's own where it has any, else it is matt grey.
    """
    count = len(motion.rotations)
    step = max(1, round(1 / (FRAMES_PER_SECOND * motion.frame_time)), -(-count // LONGEST))
    numbers = list(range(0, max(count - 1, 1), step))  # the last frame of a loop is its first
    frames = human.frames(motion, numbers)
    low = torch.stack([frame.vertices.amin(0) for frame in frames]).amin(0)
    high = torch.stack([frame.vertices.amax(0) for frame in frames]).amax(0)
    extent = high - low
    # The half height that a camera 3 units away with a field of view of 45 degrees sees of the box's middle plane.
    seen = 3 * float(torch.tan(torch.deg2rad(torch.tensor(22.5))))
    reach = float(torch.stack([extent[1], (extent[0] ** 2 + extent[2] ** 2).sqrt()]).max()) / 2
    placed = [frame.replace(vertices=(frame.vertices - (low + high) / 2) * (0.95 / reach)) for frame in frames]
    zoom = seen / (0.95 * MARGIN)
    views = [orbit([side], elevation=5.0, zoom=zoom) for side in SIDES]
    write_film(film, [_view(frame, views[0], size) for frame in placed], round(1000 * step * motion.frame_time))
    chosen = [round(at * (len(placed) - 1) / max(SHEET_FRAMES - 1, 1)) for at in range(SHEET_FRAMES)]
    tiles = [_view(placed[at], view, size) for view in views for at in chosen]
    labels = [f"{motion.name} {numbers[at] * motion.frame_time:.2f} s" for _ in views for at in chosen]
    save_png(sheet, contact_sheet(tiles, labels, columns=SHEET_FRAMES))


def _view(mesh: Mesh, camera: Cameras, size: int) -> Tensor:
    camera = camera.to(mesh.device)
    colored = mesh.colors is not None or (mesh.texture is not None and mesh.uvs is not None)
    pictures = film_views(mesh, camera, size) if colored else shaded_views(mesh, camera, size)[1]
    return pictures[0].cpu()
