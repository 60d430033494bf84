"""The rendered people on disk, read as memory maps: shards of numpy arrays with one JSON line per shot.

`normal_00000.npy` uint8 [N,R,R,3] (black background), `color_` uint8 [N,R,R,3] (white), `depth_` and `mask_` uint8
[N,R,R], `shots_00000.jsonl` with N lines. The JSON file is written last, so a shard exists once it does; more may
appear while a training runs (`refresh`).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from humannorm.checks import InputError, check_choice

__all__ = ["HEAD_SHARE", "KINDS", "Shards", "at_size", "head_corner", "uppermost"]

KINDS = ("normal", "depth", "color")
"""What a network can draw: camera-space normals, inverse depth, colour."""

CUT_PARTS = ("head",)
"""Parts that half-size pictures show at their own scale, cut out, since shrunk faces would have no features left."""

HEAD_SHARE = 0.15
"""Of a standing body's height: its head, with hair."""

HELD_OUT = ("held_out", "heldout", "held", "test", "val")


@dataclass(frozen=True)
class Shard:
    """One shard: its number, its maps by name (numpy memory maps) and its shots."""

    name: str
    maps: dict[str, np.ndarray]
    shots: list[dict[str, Any]]


class Shards:
    """All shards of a folder, and the (shard, row) pairs of one split: "train" or "held_out" (whole people)."""

    def __init__(self, folder: str | Path, *, split: str = "train", maps: Sequence[str] = (*KINDS, "mask")) -> None:
        check_choice("split", split, ("train", "held_out"))
        self.folder = Path(folder)
        self.split = split
        self.maps = tuple(maps)
        self.shards: list[Shard] = []
        self.rows: list[tuple[int, int]] = []
        self._rows_of: dict[str, list[int]] = {}
        self.refresh()
        if not self.rows:
            raise InputError(
                f"{self.folder}: expected shards of the split {split!r} (shots_*.jsonl with their .npy), got none"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def resolution(self) -> int:
        return int(self.shards[0].maps[self.maps[0]].shape[1])

    def refresh(self) -> int:
        """Take in the shards that appeared since; returns how many."""
        known = {shard.name for shard in self.shards}
        found = 0
        for path in sorted(self.folder.glob("shots_*.jsonl")):
            name = path.stem.removeprefix("shots_")
            if name in known or not self.ready(name):
                continue
            shard = self._open(name)
            self.rows += [
                (len(self.shards), row)
                for row, shot in enumerate(shard.shots)
                if (shot["split"] in HELD_OUT) == (self.split == "held_out")
            ]
            self.shards.append(shard)
            self._rows_of.clear()
            found += 1
        return found

    def ready(self, name: str) -> bool:
        """Whether the shard may be used yet."""
        return True

    def extra_maps(self, name: str) -> dict[str, np.ndarray]:
        """More arrays of the shard, from elsewhere."""
        return {}

    def _open(self, name: str) -> Shard:
        text = (self.folder / f"shots_{name}.jsonl").read_text(encoding="utf-8")
        shots = [json.loads(line) for line in text.splitlines()]
        maps = {}
        for key in self.maps:
            path = self.folder / f"{key}_{name}.npy"
            if not path.is_file():
                raise InputError(f"{path}: expected beside shots_{name}.jsonl, got no such file")
            maps[key] = np.load(path, mmap_mode="r", allow_pickle=False)
        maps |= self.extra_maps(name)
        for key, array in maps.items():
            if len(array) != len(shots):
                raise InputError(
                    f"{self.folder}: expected {len(shots)} rows in {key} of shard {name}, got {len(array)}"
                )
        return Shard(name, maps, shots)

    def shot(self, index: int) -> dict[str, Any]:
        """The JSON line of the index-th row of the split."""
        shard, row = self.rows[index]
        return self.shards[shard].shots[row]

    def rows_of(self, part: str) -> list[int]:
        """Indices of the split's pictures of one body part ("full", "head"), of one from one side ("head front"), of
        one in one pose ("full running"), or of one from one side in one skin ("head front dark").
        """
        if not self._rows_of:
            for index in range(len(self)):
                shot = self.shot(index)
                names = [shot["part"], f"{shot['part']} {shot['view']}"]
                if shot["attributes"]:
                    names.append(f"{shot['part']} {shot['attributes']['pose']}")
                    names.append(f"{shot['part']} {shot['view']} {shot['attributes']['skin']}")
                for name in names:
                    self._rows_of.setdefault(name, []).append(index)
        return self._rows_of.get(part, [])

    def draw(self, count: int, generator: torch.Generator, parts: Sequence[tuple[str, float]] = ()) -> list[int]:
        """Random indices: uniform, or body parts in these shares and uniform within a part."""
        if count == 0:
            return []
        if not parts:
            return torch.randint(len(self), (count,), generator=generator).tolist()
        rows = [self.rows_of(part) for part, _ in parts]
        for (part, _), found in zip(parts, rows, strict=True):
            if not found:
                raise InputError(f"parts: expected pictures of {part!r} in {self.folder}, got none")
        shares = torch.tensor([share for _, share in parts])
        drawn = torch.multinomial(shares, count, replacement=True, generator=generator).tolist()
        return [rows[i][int(torch.randint(len(rows[i]), (), generator=generator))] for i in drawn]

    def image(self, index: int, kind: str) -> Float[Tensor, "R R 3"]:
        """The index-th picture, 0..1; depth three times the same channel."""
        shard, row = self.rows[index]
        pixels = torch.from_numpy(np.array(self.shards[shard].maps[kind][row])).float() / 255.0
        return pixels[..., None].expand(-1, -1, 3) if pixels.ndim == 2 else pixels

    def labels(self, index: int) -> UInt8[Tensor, "R R"]:
        """The index-th label map: places in `hints.LABELS`."""
        shard, row = self.rows[index]
        return torch.from_numpy(np.array(self.shards[shard].maps["label"][row]))

    def mask(self, index: int) -> Float[Tensor, "R R"]:
        """The index-th silhouette, 1 inside."""
        shard, row = self.rows[index]
        return torch.from_numpy(np.array(self.shards[shard].maps["mask"][row])).float() / 255.0


def at_size(
    pictures: Float[Tensor, "B C R R"], masks: Float[Tensor, "B R R"], parts: Sequence[str], size: int
) -> Float[Tensor, "B C size size"]:
    """Pictures at a smaller side: shrunk, except that of `CUT_PARTS` a square around the head is cut out."""
    if size == pictures.shape[-1]:
        return pictures
    small = torch.nn.functional.interpolate(pictures, size, mode="area")
    for index, part in enumerate(parts):
        if part in CUT_PARTS:
            top, left = head_corner(masks[index], size)
            small[index] = pictures[index, :, top : top + size, left : left + size]
    return small


def head_corner(mask: Float[Tensor, "R R"], size: int) -> tuple[int, int]:
    """Top and left of a square of `size` that has the crown of the head just below its upper edge.

    The crown is looked for in the middle half of the columns: a raised hand is beside it.
    """
    side = mask.shape[0]
    middle = torch.zeros_like(mask)
    middle[:, side // 4 : side - side // 4] = mask[:, side // 4 : side - side // 4]
    rows = torch.nonzero(middle.amax(1) > 0.5)
    if len(rows) == 0:
        return (side - size) // 2, (side - size) // 2
    crown = int(rows[0])
    weight = middle[crown : crown + size // 2].sum(0)
    centre = float((weight * torch.arange(side).to(weight)).sum() / weight.sum())
    limit = side - size
    return min(max(crown - size // 16, 0), limit), min(max(round(centre - size / 2), 0), limit)


def uppermost(masks: Float[Tensor, "B 1 h w"], share: float) -> Float[Tensor, "B 1 h w"]:
    """The masks in the upper `share` of the rows that they reach, nothing below."""
    reached = masks.amax(dim=3, keepdim=True) > 0.5
    rows = torch.arange(masks.shape[2]).to(masks)[:, None]
    first = torch.where(reached, rows, torch.inf).amin(dim=2, keepdim=True)
    last = torch.where(reached, rows, -torch.inf).amax(dim=2, keepdim=True)
    return masks * (rows < first + share * (last - first + 1))
