"""Dressed adults by seed: draw who they are, dress and pose them, hand the renderer one surface.

Adults only and always dressed: `Phenotype` refuses ages below an adult's, every person has a top, a bottom and shoes,
and body faces under cloth are not drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from humannorm.checks import InputError, check_choice
from humannorm.colours import COLOURS, HAIR_COLOURS
from humannorm.training.assets import CC0_SKINS, load_poses, unpacked_dir
from humannorm.training.captions import Attributes
from humannorm.training.clothes import DEPTH_BIAS, HAIR_ALPHA, WARDROBE, Piece, Wardrobe
from humannorm.training.hints import LABELS
from humannorm.training.people_body import (
    SKIN_VERTICES,
    BodyModel,
    Phenotype,
    Skeleton,
    pose_transforms,
    skin_vertices,
    strongest,
)
from humannorm.training.people_render import Material, Surface, smooth_normals
from humannorm.working_box import BODY_HEIGHT

__all__ = ["OUT_OF_PLACE", "POSES", "PeopleMaker", "Person", "draw_person"]

UNDERCLOTHES = {"top": "crop-top", "bottom": "shorts"}
"""What a body wears that is to be dressed: nobody is ever drawn with less."""

OUT_OF_PLACE = 0.09
"""World units that a pose may move the head against a neutral body's before head and upper crops would miss it."""

# Poses and the words for them; `None` is the rest pose (arms down, a little away from the body).
POSES: tuple[tuple[str | None, str, float], ...] = (
    (None, "standing", 0.65),
    *((f"standing0{i}", "standing casually", 0.03) for i in range(1, 7)),
    ("tpose", "in T-pose", 0.05),
    *((f"fight0{i}", "fighting", 0.0125) for i in range(1, 5)),
    ("run01", "running", 0.03),
    ("sit01", "sitting", 0.04),
)

_AGES = {"young": (0.667, 0.72, 0.5), "middle-aged": (0.78, 0.84, 0.3), "old": (0.92, 1.0, 0.2)}
_BUILDS = {  # weight, muscle, chance
    "slim": ((0.0, 0.2), (0.3, 0.5), 0.25),
    "average": ((0.42, 0.58), (0.45, 0.6), 0.35),
    "heavy": ((0.85, 1.0), (0.3, 0.5), 0.2),
    "muscular": ((0.5, 0.65), (0.85, 1.0), 0.2),
}
_HAIR_CHANCES = {
    "man": {
        "short-1": 20, "short-2": 20, "short-3": 14, "short-4": 16,
        "afro": 6, "long": 6, "ponytail": 5, "bald": 13,
    },
    "woman": {
        "long": 24, "ponytail": 17, "braid": 13, "bob-1": 11, "bob-2": 11,
        "afro": 6, "short-1": 3, "short-2": 3, "short-3": 6, "short-4": 6,
    },
}  # fmt: skip
_BOTTOM_CHANCES = {
    "man": {"jeans-2": 48, "trousers": 48, "shorts": 4},
    "woman": {"jeans-1": 18, "jeans-2": 12, "trousers": 18, "shorts": 15, "skirt": 20, "leggings": 17},
}
_USUAL_COLOURS = {
    "top": tuple(COLOURS),
    "bottom": ("black", "blue", "navy", "grey", "light blue", "brown", "white", "olive"),
    "shoes": ("black", "white", "brown", "grey"),
    "hat": ("black", "grey", "brown"),
}
_EYE_COUNT = 9
_RACE_SKIN = {"african": "dark", "asian": "light", "caucasian": "fair"}


@dataclass(frozen=True)
class Person:
    """Everything that decides one person's pictures, besides the cameras."""

    attributes: Attributes
    phenotype: Phenotype
    skin: str
    top: str
    bottom: str
    shoes: str
    hair: str | None
    hat: str | None
    pose: str | None
    eyes: int
    brows: int
    lashes: int
    shades: tuple[tuple[float, float, float], ...]
    """Painted sRGB of top, bottom, shoes, hair, hat: the named colours with a little variation."""

    def __post_init__(self) -> None:
        for slot in ("top", "bottom", "shoes"):
            key = getattr(self, slot)
            if not any(wear.key == key and wear.slot == slot for wear in WARDROBE):
                raise InputError(f"{slot}: every person wears one, got {key!r}")


class _Dice:
    """Draws of all kinds from one generator."""

    def __init__(self, generator: np.random.Generator) -> None:
        self.generator = generator

    def uniform(self, low: float, high: float) -> float:
        return float(self.generator.uniform(low, high))

    def pick(self, weights: Mapping[str, float]) -> str:
        chances = np.asarray(list(weights.values()), dtype=float)
        return list(weights)[int(self.generator.choice(len(chances), p=chances / chances.sum()))]

    def below(self, count: int) -> int:
        return int(self.generator.integers(count))

    def colour(self, slot: str) -> str:
        names = _USUAL_COLOURS[slot] if self.generator.random() < 0.5 else tuple(COLOURS)
        return names[self.below(len(names))]

    def shade(self, rgb: tuple[int, int, int]) -> tuple[float, float, float]:
        """A colour near to a named one."""
        wobble = self.generator.normal(0.0, 2.5, size=3) + self.generator.normal(0.0, 6.0)
        r, g, b = np.clip((np.asarray(rgb) + wobble) / 255.0, 0.03, 0.97).tolist()
        return r, g, b

    def phenotype(self, sex: str, age: str, build: str, race: str) -> Phenotype:
        weight, muscle, _ = _BUILDS[build]
        return Phenotype(
            gender=self.uniform(0.9, 1.0) if sex == "woman" else self.uniform(0.0, 0.1),
            age=self.uniform(*_AGES[age][:2]),
            muscle=self.uniform(*muscle),
            weight=self.uniform(*weight),
            height=self.uniform(0.4, 0.6),
            proportions=self.uniform(0.5, 0.9),
            cupsize=self.uniform(0.3, 0.7),
            firmness=self.uniform(0.4, 0.8),
            race=race,
        )

    def clothes(self, sex: str) -> tuple[dict[str, str], str | None, str | None]:
        """Keys of the wardrobe: of top, bottom and shoes by slot, of hair, and of a hat."""
        top = self.pick({wear.key: 1 for wear in WARDROBE if wear.slot == "top" and sex in wear.sexes})
        bottom = self.pick(_BOTTOM_CHANCES[sex])
        shoes = self.pick({wear.key: 1 for wear in WARDROBE if wear.slot == "shoes"})
        hair_key = self.pick(_HAIR_CHANCES[sex])
        hair = None if hair_key == "bald" else hair_key
        may_wear_hat = hair is None or hair.startswith("short")
        wears_hat = may_wear_hat and self.generator.random() < 0.15
        hat = self.pick({"hat-1": 1, "hat-2": 1}) if wears_hat else None
        return {"top": top, "bottom": bottom, "shoes": shoes}, hair, hat

    def hair_colour(self, age: str, race: str) -> str:
        if age == "old":
            return self.pick({"grey": 5, "white": 3, "black": 1, "brown": 1})
        black = 4 if race == "caucasian" else 9
        return self.pick({"black": black, "dark brown": 3, "brown": 3, "blond": 4, "red": 3, "grey": 0.5})

    def pose(self, poses: Sequence[str]) -> tuple[str | None, str]:
        """A pose and the word for it, one of `poses` if there are any."""
        allowed = [chance if not poses or known in poses else 0.0 for _, known, chance in POSES]
        pose, word, _ = POSES[int(self.generator.choice(len(POSES), p=np.asarray(allowed) / sum(allowed)))]
        return pose, word


def draw_person(generator: np.random.Generator, poses: Sequence[str] = ()) -> Person:
    """Draw one adult's looks, clothes and pose, one of `poses` (the captions' words) if there are any."""
    for requested in poses:
        check_choice("poses", requested, list(dict.fromkeys(known for _, known, _ in POSES)))
    dice = _Dice(generator)
    sex = dice.pick({"man": 1, "woman": 1})
    age = dice.pick({name: chance for name, (_, _, chance) in _AGES.items()})
    build = dice.pick({name: chance for name, (_, _, chance) in _BUILDS.items()})
    race = dice.pick({"african": 0.3, "asian": 0.3, "caucasian": 0.4})
    phenotype = dice.phenotype(sex, age, build, race)
    worn, hair, hat = dice.clothes(sex)
    hair_colour = dice.hair_colour(age, race)
    colours = {slot: dice.colour(slot) for slot in ("top", "bottom", "shoes", "hat")}
    pose, pose_word = dice.pose(poses)
    words = {wear.key: wear.word for wear in WARDROBE}
    attributes = Attributes(
        age=age,
        build=build,
        sex=sex,
        skin=_RACE_SKIN[race],
        hair_style="bald head" if hair is None else words[hair],
        hair_colour=None if hair is None else hair_colour,
        top=words[worn["top"]],
        top_colour=colours["top"],
        bottom=words[worn["bottom"]],
        bottom_colour=colours["bottom"],
        shoes=words[worn["shoes"]],
        shoes_colour=colours["shoes"],
        hat=None if hat is None else words[hat],
        hat_colour=None if hat is None else colours["hat"],
        pose=pose_word,
    )
    painted = [COLOURS[colours["top"]], COLOURS[colours["bottom"]], COLOURS[colours["shoes"]]]
    painted += [HAIR_COLOURS[hair_colour], COLOURS[colours["hat"]]]
    return Person(
        attributes=attributes,
        phenotype=phenotype,
        skin=f"{'middleage' if age == 'middle-aged' else age}_{race}_{'female' if sex == 'woman' else 'male'}",
        **worn,
        hair=hair,
        hat=hat,
        pose=pose,
        eyes=dice.below(_EYE_COUNT),
        brows=dice.below(12),
        lashes=dice.below(4),
        shades=tuple(dice.shade(rgb) for rgb in painted),
    )


@dataclass(frozen=True, eq=False)
class DressedPerson:
    """A person's surface in the world, and whether the usual head, upper and lower crops frame them."""

    surface: Surface
    parts_in_place: bool
    underclothes: Surface | None = None
    """The same body in a short top and shorts, barefoot and without hair, in the same place."""


@dataclass(frozen=True, eq=False)
class _Layer:
    positions: Float[np.ndarray, "V 3"]  # posed, decimetres
    faces: Int[np.ndarray, "F 3"]
    uvs: Float[np.ndarray, "U 2"]
    uv_faces: Int[np.ndarray, "F 3"]
    drawn: Bool[np.ndarray, " F"]
    material: Material


class PeopleMaker:
    """Holds the body model, the wardrobe and the poses, and dresses people. Loading takes some seconds."""

    def __init__(self, assets: Path) -> None:
        if not unpacked_dir(assets).is_dir():
            raise InputError(f"{assets}: no people assets here; fetch them with `humannorm dataset assets`")
        self._body = BodyModel(assets)
        neutral, _ = self._body.shape(Phenotype(0.5, 0.7, 0.5, 0.5, 0.5, 0.7, 0.5, 0.5, "caucasian"))
        self.wardrobe = Wardrobe(assets, neutral, self._body.dense_weights)
        self.wardrobe.add_skins(CC0_SKINS)
        self._textures = self.wardrobe.textures()
        self._poses = load_poses(assets)
        self._skin_weights = strongest(self._body.dense_weights[:SKIN_VERTICES])
        self._used = np.unique(self._body.faces)

    def dress(self, person: Person, *, underclothes: bool = False) -> DressedPerson:
        """Build the posed, dressed surface of a person, 1.8 units tall and centred, +Z front."""
        base, skeleton = self._body.shape(person.phenotype)
        transforms = pose_transforms(skeleton, self._poses[person.pose] if person.pose is not None else {})
        layers = self._layers(person, base, transforms)
        standing = base[self._used, 1]
        feet_up = np.concatenate([layers[0].positions[self._used], layers[1].positions])
        low, high = feet_up.min(axis=0), feet_up.max(axis=0)
        scale = float(BODY_HEIGHT / max(high[1] - low[1], 0.85 * (standing.max() - standing.min())))
        rest_centre = (base[self._used].min(axis=0) + base[self._used].max(axis=0)) / 2.0
        hips = _bone_shift(skeleton, transforms, "root")
        centre = np.array([rest_centre[0] + hips[0], (low[1] + high[1]) / 2.0, rest_centre[2] + hips[2]])
        head = (_bone_shift(skeleton, transforms, "head") - (centre - rest_centre)) * scale
        in_place = bool(np.abs(head).max() < OUT_OF_PLACE)
        plain = None
        if underclothes:
            worn = replace(person, top=UNDERCLOTHES["top"], bottom=UNDERCLOTHES["bottom"], hair=None, hat=None)
            plain = self._merge(self._layers(worn, base, transforms, barefoot=True), centre, scale)
        return DressedPerson(self._merge(layers, centre, scale), in_place, plain)

    def _layers(
        self,
        person: Person,
        base: Float[np.ndarray, "19158 3"],
        transforms: Float[np.ndarray, "J 4 4"],
        *,
        barefoot: bool = False,
    ) -> list[_Layer]:
        wardrobe = self.wardrobe
        slots = ("bottom", "top") if barefoot else ("shoes", "bottom", "top")
        worn = {slot: wardrobe.pieces[getattr(person, slot)] for slot in slots}
        top, bottom, shoes, hair, hat = person.shades
        colours = {"top": top, "bottom": bottom, "shoes": shoes}
        hem = float(worn["bottom"].fit(base)[:, 1].min())
        layers = [self._skin_layer(person, base, transforms, list(worn.values()))]
        for slot, piece in worn.items():
            material = Material(
                tint=_doubled(colours[slot]),
                color_texture=piece.color_texture,
                normal_texture=piece.normal_texture,
                depth_bias=DEPTH_BIAS[slot],
                label=LABELS.index(slot),
            )
            layers.append(_piece_layer(piece, base, transforms, material, below=hem if slot == "shoes" else None))
        eyes = wardrobe.eyes[person.eyes]
        brow_tint = tuple(min(channel, 0.45) * 0.7 for channel in hair)
        for piece, tint, alpha in (
            (eyes, (1.15,) * 3, 0.5),  # their outer shell, the cornea, is transparent
            (wardrobe.brows[person.brows], brow_tint, 0.3),
            (wardrobe.lashes[person.lashes], (0.1,) * 3, 0.6),
        ):
            slot = "eyes" if piece is eyes else "brows"
            layers.append(_piece_layer(piece, base, transforms, _card_material(piece, tint, slot, alpha)))
        if person.hair is not None:
            piece = wardrobe.pieces[person.hair]
            layers.append(
                _piece_layer(piece, base, transforms, _card_material(piece, _doubled(hair), "hair", HAIR_ALPHA))
            )
        if person.hat is not None:
            piece = wardrobe.pieces[person.hat]
            material = Material(
                tint=_doubled(hat),
                color_texture=piece.color_texture,
                normal_texture=piece.normal_texture,
                depth_bias=DEPTH_BIAS["hat"],
                label=LABELS.index("hat"),
            )
            layers.append(_piece_layer(piece, base, transforms, material))
        return layers

    def _skin_layer(
        self,
        person: Person,
        base: Float[np.ndarray, "19158 3"],
        transforms: Float[np.ndarray, "J 4 4"],
        worn: list[Piece],
    ) -> _Layer:
        """The body without the faces under cloth: quads of which all four vertices are covered."""
        hidden = np.logical_or.reduce([piece.hidden_body for piece in worn])[:SKIN_VERTICES]
        faces = self._body.faces
        quad_hidden = hidden[faces.reshape(-1, 6)].all(axis=1)
        return _Layer(
            positions=skin_vertices(base[:SKIN_VERTICES], self._skin_weights, transforms),
            faces=faces,
            uvs=self._body.uvs,
            uv_faces=self._body.uv_faces,
            drawn=~np.repeat(quad_hidden, 2),
            material=Material(color_texture=self.wardrobe.skin(person.skin), label=LABELS.index("skin")),
        )

    def _merge(self, layers: list[_Layer], centre: Float[np.ndarray, " 3"], scale: float) -> Surface:
        """One surface of all layers; normals come from all faces, drawn are only the visible ones."""
        vertex_starts = np.cumsum([0] + [len(layer.positions) for layer in layers])
        uv_starts = np.cumsum([0] + [len(layer.uvs) for layer in layers])
        positions = (np.concatenate([layer.positions for layer in layers]) - centre) * scale
        positions_tensor = torch.from_numpy(positions.astype(np.float32))
        faces = np.concatenate([layer.faces + start for layer, start in zip(layers, vertex_starts, strict=False)])
        uv_faces = np.concatenate([layer.uv_faces + start for layer, start in zip(layers, uv_starts, strict=False)])
        drawn = np.concatenate([layer.drawn for layer in layers])
        material = np.repeat(np.arange(len(layers)), [len(layer.faces) for layer in layers])
        return Surface(
            positions=positions_tensor,
            faces=torch.from_numpy(faces[drawn].astype(np.int32)),
            uvs=torch.from_numpy(np.concatenate([layer.uvs for layer in layers])),
            uv_faces=torch.from_numpy(uv_faces[drawn].astype(np.int32)),
            face_material=torch.from_numpy(material[drawn].astype(np.int32)),
            materials=tuple(layer.material for layer in layers),
            textures=self._textures,
            normals=smooth_normals(positions_tensor, torch.from_numpy(faces.astype(np.int32))),
        )


def _doubled(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    """Tint for a texture that holds half the brightness ratio."""
    return 2.0 * colour[0], 2.0 * colour[1], 2.0 * colour[2]


def _card_material(piece: Piece, tint: tuple[float, ...], slot: str, alpha: float) -> Material:
    return Material(
        tint=(tint[0], tint[1], tint[2]),
        color_texture=piece.color_texture,
        alpha_threshold=alpha,
        depth_bias=DEPTH_BIAS[slot],
        label=LABELS.index("eyes" if slot == "eyes" else "hair"),
    )


def _piece_layer(
    piece: Piece,
    base: Float[np.ndarray, "19158 3"],
    transforms: Float[np.ndarray, "J 4 4"],
    material: Material,
    below: float | None = None,
) -> _Layer:
    """A fitted and posed piece; with `below` (a trouser's hem), faces wholly above it are under cloth and not drawn."""
    fitted = piece.fit(base)
    drawn = np.ones(len(piece.faces), dtype=bool)
    if below is not None:
        drawn = (fitted[piece.faces, 1] < below).any(axis=1) | (fitted[:, 1].max() < below)
    return _Layer(
        positions=skin_vertices(fitted, piece.weights, transforms),
        faces=piece.faces,
        uvs=piece.proxy.uvs,
        uv_faces=piece.uv_faces,
        drawn=drawn,
        material=material,
    )


def _bone_shift(skeleton: Skeleton, transforms: Float[np.ndarray, "J 4 4"], name: str) -> Float[np.ndarray, " 3"]:
    """How far the pose moves a bone's head, decimetres."""
    bone = skeleton.names.index(name)
    head = skeleton.heads[bone]
    return transforms[bone, :3, :3] @ head + transforms[bone, :3, 3] - head
