"""STL, ASCII or binary: triangles without colours, each with corners of its own, which are joined here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from humannorm.checks import InputError
from humannorm.mesh_formats.parts import Part

__all__ = ["read_stl"]


def read_stl(path: Path) -> list[Part]:
    """The file's solids as one part."""
    import trimesh

    try:
        found = trimesh.load_mesh(str(path), process=False)
    except Exception as error:  # trimesh's reader raises whatever a broken file leads it to
        raise InputError(f"expected a whole STL file, got one that fails: {error}") from error
    corners = np.asarray(found.vertices, dtype=np.float64)[np.asarray(found.faces)].reshape(-1, 3)
    vertices, place = np.unique(corners, axis=0, return_inverse=True)
    return [Part(vertices, place.reshape(-1, 3))]
