"""Bakes the painted faces and hands that a held start body wears: humannorm/body/data/skins.npz.

    python tools/bake_skins.py --assets DIR       (needs `anny` and the assets of `humannorm dataset assets`)

For each adult skin of the CC0 list (three ages, three tones, both sexes) the people renderer's own head, with eyes,
brows and lashes, is drawn from the front without its light and laid onto the body's texture layout, where the mannequin
faces forward. Elsewhere on head, hands, arms, legs and feet stands the skin's texture; the rest, which clothes cover,
is the mean tone of the limbs, into which the texture passes over before it ends.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import sys
from pathlib import Path

import numpy as np
import scipy.ndimage
import torch
from PIL import Image
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from bake_body import AnnyBody, mannequin_matrix, split_quads

from humannorm.body import BodyShape, load_body
from humannorm.body.painted_skin import SKIN_SIZE
from humannorm.body.regions import following_vertices, region_vertices
from humannorm.body.shape import ADULT, NEUTRAL, to_anny
from humannorm.cameras import orbit
from humannorm.mesh import vertex_normals
from humannorm.rendering import interpolate, rasterize
from humannorm.training.assets import CC0_SKINS, default_assets_dir, load_skin_path
from humannorm.training.people import PeopleMaker, Person, draw_person
from humannorm.training.people_body import SKIN_VERTICES, Phenotype
from humannorm.training.people_render import draw_pictures
from humannorm.training.warp_people import AMBIENT, DIFFUSE, LIGHT

OUTPUT = Path(__file__).parents[1] / "humannorm" / "body" / "data" / "skins.npz"
LIMBS = ("upperarm", "lowerarm", "upperleg", "lowerleg", "foot", "toe")  # beginnings of joint names
QUALITY = 88  # of the JPEG pictures
EAR, HAIRLINE, SOFT = 0.03, 0.055, 0.01  # metres on the neutral adult: front of the ear's root, its rise, its blur
FADING = 0.05  # metres over which the texture passes over into the mean tone: necklines are not drawn by it
FRONT_SIZE = 1024  # pixels of the head seen from the front
EYES = {"african": 2, "asian": 2, "caucasian": 3}  # numbers of the wardrobe's irises: browns
BROWS = {"female": 9, "male": 0}  # numbers of the wardrobe's brows: those that look calm


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=default_assets_dir())
    parser.add_argument("--out", type=Path, default=OUTPUT)
    args = parser.parse_args()
    maker = PeopleMaker(args.assets)
    anny = AnnyBody()
    neutral, _ = anny.shape(**to_anny(NEUTRAL))
    quads, corners = anny.quads()
    mannequin = mannequin_matrix(neutral, split_quads(quads, corners, neutral)[0])
    layout = Layout()
    pictures: dict[str, np.ndarray] = {}
    for skin in CC0_SKINS:
        picture = painted(maker, mannequin, layout, skin, args.assets)
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "JPEG", quality=QUALITY, subsampling=0)
        pictures[skin] = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray((layout.at(opacity()[:, None])[..., 0] * 255).round().byte().numpy()).save(stream, "PNG")
    pictures["opacity"] = np.frombuffer(stream.getvalue(), dtype=np.uint8)
    about = {"made by": "tools/bake_skins.py", "data": "MakeHuman community skins, eyes and brows (CC0-1.0)"}
    np.savez(args.out, about=np.array(json.dumps(about)), **pictures)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.2f} MB")


class Layout:
    """Where each texel of the body's texture lies on its surface, and which texels are of head, hands and limbs."""

    def __init__(self) -> None:
        body = load_body()
        clip = torch.cat([2 * body.uvs - 1, torch.zeros(len(body.uvs), 1), torch.ones(len(body.uvs), 1)], 1)
        clip[:, 1] *= -1  # v = 0 at the top
        self.corners = body.uv_vertices
        self.faces = body.uv_faces
        self.fragments = rasterize(clip[None], self.faces, (SKIN_SIZE, SKIN_SIZE))
        outside = ~self.fragments.covered[0].numpy()
        indices = scipy.ndimage.distance_transform_edt(outside, return_distances=False, return_indices=True)
        self.nearest = torch.from_numpy(indices).long()
        limbs = following_vertices(body, LIMBS)
        self.limbs = self.at(limbs.float()[:, None])[..., 0] > 0.999
        own = limbs | region_vertices(body, ["head", "hands"])
        rest = load_body(pose="rest").rest_vertices
        inward = torch.zeros(len(own)).masked_scatter(own, torch.cdist(rest[own], rest[~own]).amin(1))
        self.own = self.at((inward / FADING).clamp(0, 1)[:, None])

    def at(self, values: Tensor) -> Tensor:
        """Values of the body's vertices [V, C] at the texels; beside the charts those of the nearest texel on one."""
        found = interpolate(values[self.corners][None], self.fragments, self.faces)[0]
        return found[tuple(self.nearest)]


def painted(maker: PeopleMaker, mannequin: object, layout: Layout, skin: str, assets: Path) -> np.ndarray:
    """The picture [S, S, 3] of one skin in the body's texture layout."""
    person = person_of(skin)
    surface = maker.dress(person).surface
    base, _ = maker._body.shape(person.phenotype)
    scale, shift = scale_and_shift(base[:SKIN_VERTICES], surface.positions[:SKIN_VERTICES].numpy())
    places = torch.from_numpy((mannequin @ base) * scale + shift).float()

    head = region_vertices(load_body(), ["head"])
    middle = (places[head].amax(0) + places[head].amin(0)) / 2
    zoom = 2.0 / (1.2 * float((places[head].amax(0) - places[head].amin(0))[:2].max()))
    # From so far that the view is all but parallel: what the camera sees of a place is what faces forward there.
    camera = orbit(
        [0.0], distance=40.0, fov_y=2 * float(np.degrees(np.arctan(1 / 40))), target_y=float(middle[1]), zoom=zoom
    )
    view = draw_pictures(surface, camera, FRONT_SIZE)
    albedo = view.color[0].float() / 255 / light_on(view.normal[0].float() / 127.5 - 1)[..., None]

    texture = np.asarray(Image.open(load_skin_path(assets, skin)).convert("RGB").resize((SKIN_SIZE, SKIN_SIZE)))
    result = torch.from_numpy(texture.copy()).float() / 255
    clip = camera.clip_from_world(places)[0]
    screen = layout.at(clip[:, :2] / clip[:, 3:])
    facing = layout.at(vertex_normals(places, torch.from_numpy(maker._body.faces).long()))[..., 2]
    seen = torch.nn.functional.grid_sample(
        albedo.permute(2, 0, 1)[None], (screen * torch.tensor([1.0, -1.0]))[None], align_corners=False
    )[0].permute(1, 2, 0)
    on_face = layout.at(region_vertices(load_body(), ["face"]).float()[:, None])[..., 0]
    share = ((facing - 0.25) / 0.3).clamp(0, 1) * on_face
    result = torch.lerp(result, seen, share[..., None])
    tone = result[layout.limbs & layout.fragments.covered[0]].median(0).values
    result = torch.lerp(tone, result[tuple(layout.nearest)], layout.own)
    return (result.clamp(0, 1) * 255).round().byte().numpy()


def opacity() -> Tensor:
    """Of the body's vertices, 0..1: face, ears and throat below the hairline, and hands; soft over a centimetre."""
    body = load_body(pose="rest")
    rest = body.rest_vertices
    eyes = body.rest_joints[[body.joint_names.index(f"eye.{side}") for side in "LR"]].mean(0)
    below, before = eyes[1] - rest[:, 1], rest[:, 2] - EAR
    rise = HAIRLINE * before / (eyes[2] - EAR)  # from the ear's top to the middle of the forehead
    face = ((below + torch.where(before > 0, rise, 6 * before)) / SOFT + 0.5).clamp(0, 1)
    collar = body.rest_joints[body.joint_names.index("neck01"), 1]
    face = face * ((rest[:, 1] - collar) / (3 * SOFT)).clamp(0, 1) * region_vertices(body, ["head"])
    wrists = torch.cdist(rest, torch.stack([rest[region_vertices(body, ["hands"])]])[0]).amin(1)
    return torch.maximum(face, (1 - wrists / (2 * SOFT)).clamp(0, 1))


def person_of(skin: str) -> Person:
    """Someone with this skin and a bald head, standing at rest, dressed as chance will have it."""
    age, race, sex = skin.split("_")
    shape = BodyShape(sex=0.95 if sex == "female" else 0.05, age={"young": ADULT, "middleage": 0.81, "old": 0.96}[age])
    sliders = to_anny(dataclasses.asdict(shape))
    phenotype = Phenotype(**sliders, cupsize=0.5, firmness=0.5, race=race)
    drawn = draw_person(np.random.default_rng(0))
    dark = {"african": 0.05, "asian": 0.07, "caucasian": 0.2}[race] if age != "old" else 0.45
    shades = (*drawn.shades[:3], (dark, 0.85 * dark, 0.7 * dark), drawn.shades[4])  # of the brows: the hair's
    return dataclasses.replace(
        drawn,
        phenotype=phenotype,
        skin=skin,
        hair=None,
        hat=None,
        pose=None,
        shades=shades,
        eyes=EYES[race],
        brows=BROWS[sex],
    )


def scale_and_shift(points: np.ndarray, placed: np.ndarray) -> tuple[float, np.ndarray]:
    """Of a uniform scaling with a shift that carried the points to where they were placed."""
    centred = points - points.mean(0)
    scale = float((centred * (placed - placed.mean(0))).sum() / (centred * centred).sum())
    return scale, placed.mean(0) - scale * points.mean(0)


def light_on(normal: Tensor) -> Tensor:
    """The light that the people renderer shaded a normal map [H, W, 3] in -1..1 with."""
    return AMBIENT + DIFFUSE * (normal * normal.new_tensor(list(LIGHT))).sum(-1).clamp_min(0)


if __name__ == "__main__":
    main()
