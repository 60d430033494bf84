"""The wardrobe: garments cut out of the CC0 suits, hair, and their textures made ready for tinting.

Suits of the asset package are split into a top and a bottom, so that any top goes with any bottom and any shoes.
Every garment is painted in one named colour: its texture is kept only as brightness around its median.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from humannorm.checks import InputError
from humannorm.images import LUMINANCE
from humannorm.training.assets import Proxy, load_proxy, load_skin_path
from humannorm.training.people_body import SkinWeights, strongest
from humannorm.training.people_render import TextureSet

__all__ = ["DEPTH_BIAS", "HAIR_ALPHA", "WARDROBE", "Piece", "Wardrobe", "connected_parts", "nearest_points", "tintable"]

WAIST = 4.5
"""Decimetres above the base mesh's origin on the neutral adult (its navel is near 3): what rises higher is a top."""


@dataclass(frozen=True)
class Wear:
    """A wearable: which part of which proxy it is, and the word for it."""

    key: str
    proxy: str
    slot: str  # "top", "bottom", "shoes", "hat", "hair"
    word: str
    sexes: tuple[str, ...] = ("man", "woman")


WARDROBE: tuple[Wear, ...] = (
    Wear("t-shirt-1", "female_casualsuit01", "top", "t-shirt", ("woman",)),
    Wear("t-shirt-2", "male_casualsuit04", "top", "t-shirt"),
    Wear("t-shirt-3", "male_casualsuit06", "top", "t-shirt"),
    Wear("blouse", "female_elegantsuit01", "top", "blouse", ("woman",)),
    Wear("crop-top", "female_sportsuit01", "top", "crop top", ("woman",)),
    Wear("sweater", "male_casualsuit02", "top", "sweater"),
    Wear("shirt", "male_casualsuit03", "top", "shirt"),
    Wear("jacket", "male_casualsuit05", "top", "jacket"),
    Wear("suit-jacket", "male_elegantsuit01", "top", "suit jacket"),
    Wear("jeans-1", "female_casualsuit01", "bottom", "jeans", ("woman",)),
    Wear("jeans-2", "male_casualsuit02", "bottom", "jeans"),
    Wear("shorts", "female_casualsuit02", "bottom", "shorts"),
    Wear("skirt", "female_elegantsuit01", "bottom", "skirt", ("woman",)),
    Wear("leggings", "female_sportsuit01", "bottom", "leggings", ("woman",)),
    Wear("trousers", "male_elegantsuit01", "bottom", "trousers"),
    Wear("shoes-1", "shoes01", "shoes", "shoes"),
    Wear("shoes-2", "shoes03", "shoes", "shoes"),
    Wear("shoes-3", "shoes04", "shoes", "shoes"),
    Wear("sneakers-1", "shoes02", "shoes", "sneakers"),
    Wear("sneakers-2", "shoes05", "shoes", "sneakers"),
    Wear("sneakers-3", "shoes06", "shoes", "sneakers"),
    Wear("hat-1", "fedora", "hat", "hat"),
    Wear("hat-2", "fedora_cocked", "hat", "hat"),
    Wear("afro", "afro01", "hair", "afro hair"),
    Wear("bob-1", "bob01", "hair", "bob hair", ("woman",)),
    Wear("bob-2", "bob02", "hair", "bob hair", ("woman",)),
    Wear("braid", "braid01", "hair", "braided hair", ("woman",)),
    Wear("long", "long01", "hair", "long hair"),
    Wear("ponytail", "ponytail01", "hair", "ponytail"),
    Wear("short-1", "short01", "hair", "short hair"),
    Wear("short-2", "short02", "hair", "short hair"),
    Wear("short-3", "short03", "hair", "short hair"),
    Wear("short-4", "short04", "hair", "short hair"),
)

# World units by which a layer wins the depth test over what it should cover (a body is 1.8 units tall).
DEPTH_BIAS = {"skin": 0.0, "eyes": 0.0, "brows": 0.002, "shoes": 0.0, "bottom": 0.006, "top": 0.012, "hair": 0.004}
DEPTH_BIAS["hat"] = 0.03
HAIR_ALPHA = 0.45
"""Alpha below which a texel of a hair card is a hole; mip levels average alpha, so less than one half."""


@dataclass(frozen=True, eq=False)
class Piece:
    """One layer of a person, ready to be fitted: a (part of a) proxy with its skin weights and texture numbers."""

    proxy: Proxy
    vertices: Int[np.ndarray, " N"]
    """Vertices of the proxy that this piece has."""
    faces: Int[np.ndarray, "F 3"]
    """Into `vertices`."""
    uv_faces: Int[np.ndarray, "F 3"]
    weights: SkinWeights
    hidden_body: Bool[np.ndarray, " 19158"]
    color_texture: int
    normal_texture: int

    def fit(self, base: Float[np.ndarray, "19158 3"]) -> Float[np.ndarray, "N 3"]:
        """Rest-pose positions on a body, decimetres."""
        return self.proxy.fit(base, self.vertices)


class Wardrobe:
    """All pieces and textures, loaded once. `base` is a neutral adult, `dense_weights` the base mesh's bone weights."""

    def __init__(
        self, assets: Path, base: Float[np.ndarray, "19158 3"], dense_weights: Float[np.ndarray, "19158 J"]
    ) -> None:
        self._assets = assets
        self._images: list[UInt8[np.ndarray, "H W 4"]] = []
        self._base, self._dense = base, dense_weights
        self.pieces: dict[str, Piece] = {wear.key: self._make_wear(wear) for wear in WARDROBE}
        self.brows = tuple(self._make_card(f"eyebrow{i:03d}", "brows") for i in range(1, 13))
        self.lashes = tuple(self._make_card(f"eyelashes0{i}", "brows") for i in range(1, 5))
        eyes = load_proxy(assets, "eyes")
        textures = [self._add_image(load_rgba(path)) for path in eyes.textures.values()]
        everything = np.ones(len(eyes.faces), dtype=bool)
        self.eyes = tuple(self._cut(eyes, everything, eyes.hidden_body, texture, -1) for texture in textures)
        self._skins: dict[str, int] = {}

    def skin(self, name: str) -> int:
        """Texture number of an allowed skin, loaded when first needed."""
        if name not in self._skins:
            raise InputError(f"skin: {name!r} was not loaded")
        return self._skins[name]

    def add_skins(self, names: tuple[str, ...]) -> None:
        """Load these skins."""
        for name in names:
            self._skins[name] = self._add_image(load_rgba(load_skin_path(self._assets, name)))

    def textures(self) -> TextureSet:
        """All textures added so far, packed for the renderer."""
        return TextureSet.pack(self._images)

    def _add_image(self, image: UInt8[np.ndarray, "H W 4"]) -> int:
        self._images.append(image)
        return len(self._images) - 1

    def _make_wear(self, wear: Wear) -> Piece:
        proxy = load_proxy(self._assets, wear.proxy)
        if wear.slot == "hair":
            return self._make_card(wear.proxy, "hair")
        keep = np.ones(len(proxy.faces), dtype=bool)
        hidden = proxy.hidden_body
        if wear.slot in ("top", "bottom"):
            keep, hidden = self._split(proxy, wear.slot)
        diffuse = _texture_of(proxy, ("_diffuse", "_texture"))
        image = load_rgba(diffuse)
        shadow = proxy.textures.get(f"{wear.proxy}_ao")
        uvs = proxy.uvs[proxy.uv_faces[keep]].mean(axis=1)
        texture = self._add_image(tintable(image, uvs, load_rgba(shadow) if shadow is not None else None))
        bumps = [path for stem, path in proxy.textures.items() if stem.endswith("_normal")]
        normal = self._add_image(load_rgba(bumps[0])) if bumps else -1
        return self._cut(proxy, keep, hidden, texture, normal)

    def _make_card(self, name: str, slot: str) -> Piece:
        """Hair, brows, lashes: cards with holes, tinted as a whole."""
        proxy = load_proxy(self._assets, name)
        image = load_rgba(_texture_of(proxy, ("_diffuse", name)))
        texture = self._add_image(tintable_card(image) if slot == "hair" else white_card(image))
        everything = np.ones(len(proxy.faces), dtype=bool)
        return self._cut(proxy, everything, proxy.hidden_body, texture, -1)

    def _split(self, proxy: Proxy, slot: str) -> tuple[Bool[np.ndarray, " F"], Bool[np.ndarray, " 19158"]]:
        """Faces of a suit's top or bottom, and the part of the body that just this half covers.

        Connected parts that rise above the waist are the top; a covered body vertex goes with the half that has the
        garment vertex nearest to it.
        """
        positions = proxy.fit(self._base)
        part = connected_parts(proxy.faces, len(positions))
        is_top = np.zeros(len(positions), dtype=bool)
        for number in np.unique(part):
            is_top[part == number] = positions[part == number, 1].max() > WAIST
        if is_top.all() or not is_top.any():
            raise InputError(f"{proxy.name}: expected a suit of two halves, found one piece")
        wanted = is_top if slot == "top" else ~is_top
        covered = np.flatnonzero(proxy.hidden_body)
        nearest = nearest_points(self._base[covered], positions)
        hidden = np.zeros_like(proxy.hidden_body)
        hidden[covered[wanted[nearest]]] = True
        return wanted[proxy.faces[:, 0]], hidden

    def _cut(
        self,
        proxy: Proxy,
        keep: Bool[np.ndarray, " F"],
        hidden: Bool[np.ndarray, " 19158"],
        color_texture: int,
        normal_texture: int,
    ) -> Piece:
        vertices, faces = np.unique(proxy.faces[keep], return_inverse=True)
        dense = np.einsum("nk,nkj->nj", proxy.weights[vertices], self._dense[proxy.references[vertices]])
        return Piece(
            proxy=proxy,
            vertices=vertices,
            faces=faces.reshape(-1, 3),
            uv_faces=proxy.uv_faces[keep],
            weights=strongest(dense),
            hidden_body=hidden,
            color_texture=color_texture,
            normal_texture=normal_texture,
        )


def load_rgba(path: Path) -> UInt8[np.ndarray, "H W 4"]:
    """An image file as RGBA bytes."""
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGBA")).copy()


def luminance(image: UInt8[np.ndarray, "H W 4"]) -> Float[np.ndarray, "H W"]:
    """Rec. 709 weights on the encoded values, 0..255."""
    return image[..., :3].astype(np.float32) @ np.array(LUMINANCE, dtype=np.float32)


def brightness_ratio(light: Float[np.ndarray, "H W"], median: float) -> Float[np.ndarray, "H W"]:
    """Brightness around the median, softened so that a named colour stays that colour; within [0.45, 1.6]."""
    return np.clip(((light + 10.0) / (median + 10.0)) ** 0.7, 0.45, 1.6)


def tintable(
    image: UInt8[np.ndarray, "H W 4"],
    used_uvs: Float[np.ndarray, "N 2"],
    shadow: UInt8[np.ndarray, "H W 4"] | None = None,
) -> UInt8[np.ndarray, "H W 4"]:
    """A garment's texture as half its brightness ratio in RGB; alpha is the share of the tint (255 everywhere but on
    parts far lighter than the garment, such as a suit's shirt, which keep their own colour).

    The median is taken where the garment's faces lie (`used_uvs`); `shadow` is an ambient occlusion map.
    """
    light = luminance(image)
    height, width = light.shape
    columns = np.clip((used_uvs[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((used_uvs[:, 1] * height).astype(int), 0, height - 1)
    median = float(np.median(light[rows, columns]))
    ratio = brightness_ratio(light, median)
    own = light > max(4.0 * median, 90.0)
    rgb = np.where(own[..., None], image[..., :3].astype(np.float32), (ratio * 127.5)[..., None])
    if shadow is not None:
        rgb *= 0.6 + 0.4 * luminance(shadow)[..., None] / 255.0
    alpha = np.where(own, 0.0, 255.0)[..., None]
    return np.concatenate([rgb, alpha], axis=-1).clip(0, 255).round().astype(np.uint8)


def tintable_card(image: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 4"]:
    """A hair texture as half its brightness ratio in RGB with its own alpha (opacity)."""
    light = luminance(image)
    ratio = brightness_ratio(light, float(np.median(light[image[..., 3] > 127])))
    result = image.copy()
    result[..., :3] = (ratio * 127.5).round()[..., None]
    return result


def white_card(image: UInt8[np.ndarray, "H W 4"]) -> UInt8[np.ndarray, "H W 4"]:
    """A brow or lash texture of which only the opacity is kept."""
    result = image.copy()
    result[..., :3] = 255
    return result


def connected_parts(faces: Int[np.ndarray, "F 3"], count: int) -> Int[np.ndarray, " V"]:
    """For each vertex the lowest vertex number of its connected part."""
    label = np.arange(count)
    while True:
        lowest = label[faces].min(axis=1)
        before = label.copy()
        for corner in range(3):
            np.minimum.at(label, faces[:, corner], lowest)
        label = label[label]
        if np.array_equal(label, before):
            return label


def nearest_points(
    queries: Float[np.ndarray, "Q 3"], points: Float[np.ndarray, "P 3"], chunk: int = 512
) -> Int[np.ndarray, " Q"]:
    """Index of the nearest point for each query, by brute force."""
    squares = (points**2).sum(axis=1)
    found = [
        (squares - 2.0 * queries[start : start + chunk] @ points.T).argmin(axis=1)
        for start in range(0, len(queries), chunk)
    ]
    return np.concatenate(found)


def _texture_of(proxy: Proxy, endings: tuple[str, ...]) -> Path:
    for stem, path in proxy.textures.items():
        if stem.endswith(endings):
            return path
    raise InputError(f"{proxy.name}: expected a texture named *{' or *'.join(endings)}, found {list(proxy.textures)}")
