"""Materials by label: every one has numbers, the map says them where the label is, and the file keeps them."""

from __future__ import annotations

import pytest
import torch

from humannorm.body.outfit import CUTS, MATERIALS
from humannorm.checks import InputError
from humannorm.export import BakedMesh, ExportSettings, bake, load_baked, with_materials, write_glb
from humannorm.export.materials import SURFACES, UNKNOWN, response_by_label
from humannorm.labels import LABELS, label_number

WORN = {"skin": "skin", "hair": "hair", "top": "metal", "bottom": "patent leather"}


@pytest.fixture(scope="module")
def baked(sphere, colorful) -> BakedMesh:
    return bake(sphere, ExportSettings(faces=2000, texture_size=64, occlusion=True), colorful)


@pytest.fixture(scope="module")
def labels() -> torch.Tensor:
    """Quarters of the texture: skin, hair, top, shoes."""
    found = torch.full((64, 64), label_number("skin"), dtype=torch.uint8)
    found[:32, 32:], found[32:, :32] = label_number("hair"), label_number("top")
    found[32:, 32:] = label_number("shoes")
    return found


def test_every_material_has_numbers_and_every_cut_a_material() -> None:
    assert set(SURFACES) == set(MATERIALS) >= {cut.material for cut in CUTS.values()}
    assert all(0 < roughness <= 1 and 0 <= metal <= 1 for roughness, metal in SURFACES.values())
    assert all((cut.material == "hair") == (cut.label == "hair") for cut in CUTS.values())


def test_light_can_tell_them_apart() -> None:
    rough = {name: roughness for name, (roughness, _) in SURFACES.items()}
    assert rough["patent leather"] < rough["leather"] < rough["suede"]
    assert rough["latex"] < rough["silk"] < rough["cotton"] < rough["wool"]
    assert [name for name, (_, metal) in SURFACES.items() if metal == 1] == ["metal"]


def test_the_map_says_what_each_label_is_of(baked, labels) -> None:
    look = with_materials(baked, labels, WORN).material
    assert (look.metallic, look.roughness) == (1, 1) and look.metallic_roughness is not None
    found = {
        name: tuple(look.metallic_roughness[labels == label_number(name)][0, 1:].tolist()) for name in LABELS[1:6:2]
    }
    for label, expected in {"skin": SURFACES["skin"], "top": SURFACES["metal"], "shoes": UNKNOWN}.items():
        assert found[label] == pytest.approx(expected)


def test_a_glb_keeps_the_map_and_the_occlusion_beside_it(tmp_path, baked, labels) -> None:
    made = with_materials(baked, labels, WORN)
    found = load_baked(write_glb(tmp_path / "human.glb", made))
    assert found.material.metallic_roughness is not None and made.material.metallic_roughness is not None
    torch.testing.assert_close(
        found.material.metallic_roughness[..., 1:], made.material.metallic_roughness[..., 1:], atol=0.51 / 255, rtol=0
    )
    torch.testing.assert_close(found.occlusion, baked.occlusion, atol=0.51 / 255, rtol=0)


def test_the_map_lives_on_where_the_surface_is_baked_anew(baked, labels) -> None:
    made = with_materials(baked, torch.full_like(labels, label_number("top")), WORN)
    again = bake(made, ExportSettings(faces=1000, texture_size=32))
    assert again.material.metallic_roughness is not None
    expected = torch.tensor(SURFACES["metal"]).expand(32, 32, 2)
    torch.testing.assert_close(again.material.metallic_roughness[..., 1:], expected, atol=1e-5, rtol=0)


def test_without_labels_or_words_or_beside_a_map_of_its_own_nothing_changes(baked, labels) -> None:
    made = with_materials(baked, labels, WORN)
    assert with_materials(baked, None, WORN) is baked and with_materials(baked, labels, {}) is baked
    assert with_materials(made, labels, {"skin": "metal"}) is made


def test_what_is_not_known_is_refused(baked, labels) -> None:
    with pytest.raises(InputError, match="material of top: expected one of skin"):
        response_by_label({"top": "paper"})
    with pytest.raises(InputError, match="label: expected one of"):
        response_by_label({"wings": "metal"})
    with pytest.raises(InputError, match=f"labels: expected 0 to {len(LABELS) - 1}, got 200"):
        with_materials(baked, torch.full_like(labels, 200), WORN)
