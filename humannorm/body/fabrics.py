"""What cloth and hair look like from near: shade, folds and strands of the garments of `body.wardrobe`.

Baked by tools/bake_fabrics.py from CC0 data, without hues: colours are the prompt's.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from humannorm.body.wardrobe import GARMENTS
from humannorm.checks import check_choice

__all__ = ["DATA", "FLAT", "SHADE_ONE", "UV_STEP", "Fabric", "fabric_of"]

DATA = Path(__file__).parent / "data" / "fabrics.npz"
SHADE_ONE = 127.5  # of 255: as bright as the garment's median
FLAT = 2.0  # of 255: a normal map that varies less has no folds
UV_STEP = 65535  # steps of a texture coordinate from 0 to 1


@dataclass(frozen=True, eq=False)
class Fabric:
    """The texture of one garment, on coordinates of its own; row 0 at the top, v = 0 is the top."""

    uvs: Float[Tensor, "U 2"]
    faces: Int64[Tensor, "F 3"]  # of the garment's faces, in `uvs`
    shade: Float[Tensor, "H W"]  # brightness around the garment's median, 1 as bright
    bump: Float[Tensor, "H W 2"] | None  # unit normal's share along +u and up in the picture; None: none is known
    opacity: Float[Tensor, "H W"] | None  # of hair, 0..1; None: opaque


@functools.cache
def fabric_of(name: str) -> Fabric:
    """Of a garment of the wardrobe."""
    check_choice("name", name, tuple(GARMENTS))
    arrays = _arrays()

    def picture(field: str) -> Tensor | None:
        from PIL import Image

        stored = arrays.get(f"{name}/{field}")
        if stored is None:
            return None
        return torch.from_numpy(np.asarray(Image.open(io.BytesIO(stored.tobytes()))).copy()).float()

    shade, bump, opacity = picture("shade"), picture("bump"), picture("opacity")
    assert shade is not None
    return Fabric(
        uvs=torch.from_numpy(arrays[f"{name}/uvs"].astype(np.float32)) / UV_STEP,
        faces=torch.from_numpy(arrays[f"{name}/uv_faces"].astype(np.int64)),
        shade=shade / SHADE_ONE,
        bump=None if bump is None else (bump[..., :2] / 127.5 - 1),
        opacity=None if opacity is None else opacity / 255,
    )


@functools.cache
def _arrays() -> Mapping[str, np.ndarray]:
    with np.load(DATA, allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}
