"""What light does with the parts of a human: roughness and metalness by what they are made of, as a map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from humannorm.body.outfit import MATERIALS
from humannorm.checks import InputError, check_choice, check_tensor
from humannorm.export.baked import BakedMesh
from humannorm.labels import LABELS, label_number

__all__ = ["SURFACES", "response_by_label", "with_materials"]

SURFACES: Mapping[str, tuple[float, float]] = {
    "skin": (0.5, 0.0),
    "hair": (0.55, 0.0),
    "cotton": (0.9, 0.0),
    "linen": (0.9, 0.0),
    "denim": (0.85, 0.0),
    "wool": (0.95, 0.0),
    "fur": (0.95, 0.0),
    "velvet": (0.8, 0.0),
    "silk": (0.35, 0.0),
    "nylon": (0.5, 0.0),
    "leather": (0.4, 0.0),
    "patent leather": (0.15, 0.0),
    "suede": (0.9, 0.0),
    "rubber": (0.6, 0.0),
    "latex": (0.2, 0.0),
    "straw": (0.8, 0.0),
    "sequins": (0.3, 0.7),
    "metal": (0.35, 1.0),
}
"""Roughness and metalness, 0..1, of each of `body.outfit.MATERIALS`, as glTF 2.0 has them (section 3.9.2: metalness is
1 for bare metal, 0 for all else). The roughnesses are ours, chosen by eye beside each other under one light; what this
model has no number for (the sheen of velvet, the two lobes of hair, light below skin) is left out."""
UNKNOWN = (1.0, 0.0)  # of what nobody says anything of: glTF's matt surface, as all was before


def response_by_label(materials: Mapping[str, str]) -> Float[Tensor, "L 2"]:
    """Roughness and metalness of each of `labels.LABELS`.

    materials: one of `body.outfit.MATERIALS` for the labels that have one.
    """
    table = torch.tensor([UNKNOWN] * len(LABELS))
    for label, material in materials.items():
        check_choice(f"material of {label}", material, MATERIALS)
        table[label_number(label)] = torch.tensor(SURFACES[material])
    return table


def with_materials(baked: BakedMesh, labels: UInt8[Tensor, "H W"] | None, materials: Mapping[str, str]) -> BakedMesh:
    """The surface with a metallic-roughness map of what its parts are made of, beside all that it has.

    labels: numbers of `humannorm.labels` in the mesh's own texture coordinates. materials: one of `MATERIALS` for the
    labels that have one. Without labels or materials, or with a map of its own, the surface stays as it is.
    """
    if labels is None or not materials or baked.material.metallic_roughness is not None:
        return baked
    check_tensor("labels", labels, "H W", dtype="int")
    if int(labels.max()) >= len(LABELS):
        raise InputError(f"labels: expected 0 to {len(LABELS) - 1}, got {int(labels.max())}")
    table = response_by_label(materials).to(labels.device)
    packed = torch.cat([torch.ones_like(table[:, :1]), table], 1)[labels.long()]  # red: occlusion, where there is any
    material = replace(baked.material, metallic=1.0, roughness=1.0, metallic_roughness=packed)
    return replace(baked, material=material)
