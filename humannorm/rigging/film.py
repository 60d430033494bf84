"""Pictures of a moving human: a film and a sheet of its frames, and whose joint moves what."""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from humannorm.body.skin_binding import JointMotion, SkinBinding
from humannorm.cameras import Cameras, orbit
from humannorm.export.showing import film_views, write_film
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh
from humannorm.rendering.shaded import shaded_views
from humannorm.rigging.human import RiggedHuman

__all__ = ["Film", "film_motion", "joint_colors", "save_motion", "view_as_made"]

SIDES = (35.0, 90.0)  # degrees: three quarters, and from the side
SHEET_FRAMES = 8
FRAMES_PER_SECOND = 15  # of the film; clips are often faster
LONGEST = 150  # frames of a film
MARGIN = 1.08  # around all that moves
GOLDEN = 0.61803  # of a turn between the hues of two joints in order, so that neighbours differ


@dataclass(frozen=True, eq=False)
class Film:
    """Frames at even times, with one still camera."""

    pictures: list[Float[Tensor, "H W 3"]]
    milliseconds: int  # that each is shown

    def save(self, path: Path) -> None:
        """An endless animated WebP."""
        write_film(path, self.pictures, self.milliseconds)


@torch.no_grad()
def film_motion(
    human: RiggedHuman, motion: JointMotion, size: int = 384, tell: Callable[[int, int], None] | None = None
) -> Film:
    """A clip from three quarters. Colours are the mesh's own where it has any, else it is matt grey.

    tell: called with the frames done and those in all.
    """
    placed, numbers = _placed_frames(human, motion)
    view = _camera(SIDES[0])
    pictures = []
    for done, frame in enumerate(placed, start=1):
        pictures.append(view_as_made(frame, view, size))
        if tell is not None:
            tell(done, len(placed))
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    return Film(pictures, round(1000 * step * motion.frame_time))


@torch.no_grad()
def save_motion(film: Path, sheet: Path, human: RiggedHuman, motion: JointMotion, size: int = 384) -> None:
    """The film (WebP), and eight frames from two sides."""
    film_motion(human, motion, size).save(film)
    placed, numbers = _placed_frames(human, motion)
    chosen = [round(at * (len(placed) - 1) / max(SHEET_FRAMES - 1, 1)) for at in range(SHEET_FRAMES)]
    tiles = [view_as_made(placed[at], _camera(side), size) for side in SIDES for at in chosen]
    labels = [f"{motion.name} {numbers[at] * motion.frame_time:.2f} s" for _ in SIDES for at in chosen]
    save_png(sheet, contact_sheet(tiles, labels, columns=SHEET_FRAMES))


def joint_colors(skin: SkinBinding) -> Float[Tensor, "V 3"]:
    """A colour for every vertex: its joints' hues in the shares of their weights."""
    hues = [colorsys.hsv_to_rgb((joint * GOLDEN) % 1, 0.7, 0.95) for joint in range(len(skin.joint_names))]
    colors: Tensor = (torch.tensor(hues)[skin.weight_joints] * skin.weights[..., None]).sum(1)
    return colors.clamp(0, 1)


def _placed_frames(human: RiggedHuman, motion: JointMotion) -> tuple[list[Mesh], list[int]]:
    """The frames that a film shows, in one box of the camera's size, and their numbers in the clip."""
    count = len(motion.rotations)
    step = max(1, round(1 / (FRAMES_PER_SECOND * motion.frame_time)), -(-count // LONGEST))
    numbers = list(range(0, max(count - 1, 1), step))  # the last frame of a loop is its first
    frames = human.frames(motion, numbers)
    low = torch.stack([frame.vertices.amin(0) for frame in frames]).amin(0)
    high = torch.stack([frame.vertices.amax(0) for frame in frames]).amax(0)
    extent = high - low
    reach = float(torch.stack([extent[1], (extent[0] ** 2 + extent[2] ** 2).sqrt()]).max()) / 2
    middle = (low + high) / 2
    return [frame.replace(vertices=(frame.vertices - middle) * (0.95 / reach)) for frame in frames], numbers


def _camera(side: float) -> Cameras:
    # The half height that a camera 3 units away with a field of view of 45 degrees sees of the box's middle plane.
    seen = 3 * float(torch.tan(torch.deg2rad(torch.tensor(22.5))))
    return orbit([side], elevation=5.0, zoom=seen / (0.95 * MARGIN))


def view_as_made(mesh: Mesh, camera: Cameras, size: int) -> Float[Tensor, "H W 3"]:
    """A mesh in the working box from one camera: in its own colours where it has any, else matt grey."""
    camera = camera.to(mesh.device)
    colored = mesh.colors is not None or (mesh.texture is not None and mesh.uvs is not None)
    pictures = film_views(mesh, camera, size) if colored else shaded_views(mesh, camera, size)[1]
    return pictures[0].cpu()
