"""The people renderer against closed forms and against the library's general renderer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.mesh import Mesh
from humannorm.training.people_render import Material, Surface, TextureSet, draw_pictures, draw_start, smooth_normals

SIZE = 32


def plate(z: float = 0.0, half: float = 0.6, material: int = 0) -> dict[str, torch.Tensor]:
    """A square facing +Z; u runs right, v runs down."""
    corners = torch.tensor([[-half, half, z], [-half, -half, z], [half, -half, z], [half, half, z]])
    return {
        "positions": corners,
        "faces": torch.tensor([[0, 1, 2], [0, 2, 3]]),
        "uvs": torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0]]),
        "face_material": torch.full((2,), material),
    }


def surface_of(*plates: dict[str, torch.Tensor], materials: tuple[Material, ...], images: list[np.ndarray]) -> Surface:
    faces = torch.cat([part["faces"] + 4 * i for i, part in enumerate(plates)])
    positions = torch.cat([part["positions"] for part in plates])
    return Surface(
        positions=positions,
        faces=faces,
        uvs=torch.cat([part["uvs"] for part in plates]),
        uv_faces=faces,
        face_material=torch.cat([part["face_material"] for part in plates]),
        materials=materials,
        textures=TextureSet.pack(images),
        normals=smooth_normals(positions, faces),
    )


def texture(left: tuple[int, int, int, int], right: tuple[int, int, int, int], side: int = 64) -> np.ndarray:
    image = np.empty((side, side, 4), dtype=np.uint8)
    image[:, : side // 2], image[:, side // 2 :] = left, right
    return image


RED = Material(tint=(1.0, 0.0, 0.0))
BLUE = Material(tint=(0.0, 0.0, 1.0))
FRONT = orbit([0.0], distance=3.0, fov_y=45.0)


def test_a_plate_that_faces_the_camera():
    pictures = draw_pictures(surface_of(plate(), materials=(RED,), images=[]), FRONT, SIZE)
    middle = SIZE // 2
    assert pictures.normal[0, middle, middle].tolist() == [128, 128, 255]
    assert pictures.normal[0, 0, 0].tolist() == [0, 0, 0]
    assert pictures.color[0, 0, 0].tolist() == [255, 255, 255]
    red, green, blue = pictures.color[0, middle, middle].tolist()
    assert red > 240 and green == 0 and blue == 0
    # Half a side seen from distance 3: 0.6 / (3 tan 22.5) of half the picture.
    side = 0.6 / (3.0 * np.tan(np.radians(22.5))) * SIZE
    assert float(pictures.mask.float().sum() / 255.0) == pytest.approx(side**2, rel=0.06)


def test_normals_and_azimuth_follow_the_conventions():
    tilt = plate()
    turn = torch.tensor([[np.cos(0.5), 0.0, np.sin(0.5)], [0.0, 1.0, 0.0], [-np.sin(0.5), 0.0, np.cos(0.5)]])
    tilt["positions"] = tilt["positions"] @ turn.T.float()  # faces +X a little: the viewer's right
    surface = surface_of(tilt, materials=(RED,), images=[])
    middle = SIZE // 2
    red, green, blue = draw_pictures(surface, FRONT, SIZE).normal[0, middle, middle].tolist()
    assert red == round((np.sin(0.5) + 1) / 2 * 255) and green == 128 and blue == round((np.cos(0.5) + 1) / 2 * 255)
    from_left = orbit([np.degrees(0.5)], distance=3.0, fov_y=45.0)  # azimuth grows toward +X
    facing = draw_pictures(surface, from_left, SIZE).normal[0, middle, middle].int()
    assert (facing - torch.tensor([128, 128, 255])).abs().max() <= 1


def test_a_surface_seen_from_behind_shows_a_normal_toward_the_viewer():
    surface = surface_of(plate(), materials=(RED,), images=[])
    behind = orbit([180.0], distance=3.0, fov_y=45.0)
    normal = draw_pictures(surface, behind, SIZE).normal[0, SIZE // 2, SIZE // 2].int()
    assert (normal - torch.tensor([128, 128, 255])).abs().max() <= 1


def test_holes_of_a_card_show_what_is_behind():
    card = texture((255, 255, 255, 0), (255, 255, 255, 255))
    surface = surface_of(
        plate(0.2),
        plate(0.0, material=1),
        materials=(Material(tint=(1.0, 0.0, 0.0), color_texture=0, alpha_threshold=0.5), BLUE),
        images=[card],
    )
    row = draw_pictures(surface, FRONT, SIZE).color[0, SIZE // 2]
    assert row[SIZE // 2 - 6, 2] > 200 and row[SIZE // 2 - 6, 0] == 0  # the left half is a hole: blue behind
    assert row[SIZE // 2 + 6, 0] > 200 and row[SIZE // 2 + 6, 2] == 0


def test_without_alpha_test_the_alpha_is_the_share_of_the_tint():
    image = texture((100, 100, 100, 0), (100, 100, 100, 255))
    material = Material(tint=(2.0, 0.0, 0.0), color_texture=0)
    row = draw_pictures(surface_of(plate(), materials=(material,), images=[image]), FRONT, SIZE).color[0, SIZE // 2]
    left, right = row[SIZE // 2 - 4].tolist(), row[SIZE // 2 + 4].tolist()
    assert left[0] == left[1] == left[2] == pytest.approx(99, abs=3)
    assert right[0] == pytest.approx(199, abs=5) and right[1:] == [0, 0]


def test_a_biased_layer_wins_over_a_nearer_one_within_its_bias_only():
    def seen(bias: float) -> list[int]:
        biased = replace(BLUE, depth_bias=bias)
        surface = surface_of(plate(0.02), plate(0.0, material=1), materials=(RED, biased), images=[])
        return draw_pictures(surface, FRONT, SIZE).color[0, SIZE // 2, SIZE // 2].tolist()

    assert seen(0.0)[0] > 200 and seen(0.019)[0] > 200
    assert seen(0.021)[2] > 200 and seen(0.021)[0] == 0


def test_ties_go_to_the_lowest_triangle():
    surface = surface_of(plate(), plate(material=1), materials=(RED, BLUE), images=[])
    assert draw_pictures(surface, FRONT, SIZE).color[0, SIZE // 2, SIZE // 2, 0] > 200


@pytest.mark.parametrize(("bump", "channel"), [((200, 128, 230), 0), ((128, 200, 230), 1)], ids=["right", "up"])
def test_normal_maps_bend_normals_to_the_right_and_up(bump: tuple[int, int, int], channel: int):
    flat = texture((128, 128, 255, 255), (128, 128, 255, 255))
    bent = texture((*bump, 255), (*bump, 255))
    normals = [
        draw_pictures(surface_of(plate(), materials=(Material(normal_texture=0),), images=[image]), FRONT, SIZE).normal[
            0, SIZE // 2, SIZE // 2
        ]
        for image in (flat, bent)
    ]
    assert (normals[0].int() - torch.tensor([128, 128, 255])).abs().max() <= 1
    assert normals[1][channel] > 170 and abs(int(normals[1][1 - channel]) - 128) <= 2 and normals[1][2] > 128


def test_near_is_white_and_far_is_black_in_depth():
    tilted = plate()
    tilted["positions"][2:, 2] = -0.5  # the right edge lies farther away
    depth = draw_pictures(surface_of(tilted, materials=(RED,), images=[]), FRONT, SIZE).depth[0, SIZE // 2]
    inside = depth[depth > 0]
    assert inside[1] > 235 and inside[-2] < 40 and bool((inside[1:].int() <= inside[:-1].int() + 1)[1:].all())
    nearest, farthest = 1 / (3.0 - 0.2), 1 / (3.5 - 0.2)
    # Halfway across the plate in space, z = -0.25, whose column follows from perspective.
    column = int((0.5 + 0.5 * 0.0) * SIZE)
    expected = (1 / (3.25 - 0.2) - farthest) / (nearest - farthest) * 255
    assert int(depth[column]) == pytest.approx(expected, abs=12)


def test_agrees_with_the_general_renderer():
    from humannorm.rendering.passes import render

    positions, faces = _sphere(24)
    colors = (positions / 0.7 + 1.0) / 2.0
    mesh = Mesh(positions, faces, colors=colors)
    cameras = orbit([0.0, 100.0], elevation=10.0, distance=3.1, fov_y=42.0)
    expected = render(mesh, cameras, (64, 64), ("normal", "depth", "mask"))
    surface = Surface(
        positions=positions,
        faces=faces,
        uvs=torch.zeros(1, 2),
        uv_faces=torch.zeros_like(faces),
        face_material=torch.zeros(len(faces), dtype=torch.int64),
        materials=(Material(uses_vertex_colors=True),),
        textures=TextureSet.pack([]),
        normals=smooth_normals(positions, faces),
        colors=colors,
    )
    pictures = draw_pictures(surface, cameras, 64)
    mask = pictures.mask.float() / 255.0
    assert expected.mask is not None and expected.normal is not None and expected.depth is not None
    # Coverage in quarters here, from the silhouette's exact crossing there: seen 0.006.
    assert float((mask - expected.mask).abs().mean()) < 0.01
    inside = (mask == 1.0) & (expected.mask == 1.0)
    assert float((pictures.normal.float() / 255.0 - expected.normal)[inside].abs().max()) < 0.03
    assert float((pictures.depth.float() / 255.0 - expected.depth[..., 0])[inside].abs().max()) < 0.05


def test_geometry_behind_the_camera_is_refused():
    surface = surface_of(plate(z=3.5), materials=(RED,), images=[])
    with pytest.raises(InputError, match="in front of every camera's near plane"):
        draw_pictures(surface, FRONT, SIZE)


def test_mip_levels_are_box_averages():
    image = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4)
    packed = TextureSet.pack([image])
    assert packed.levels[0, :, 1].tolist() == [4, 2, 1, 1, 1, 1]
    first, width, height = packed.levels[0, 2].tolist()
    assert (width, height) == (1, 1)
    assert np.abs(packed.texels[first].numpy() - image.reshape(-1, 4).mean(axis=0)).max() <= 1.0


def _sphere(rings: int, radius: float = 0.7) -> tuple[torch.Tensor, torch.Tensor]:
    """A latitude-longitude sphere, counter-clockwise from outside."""
    polar = torch.linspace(0.0, torch.pi, rings + 1)[1:-1]
    around = torch.arange(2 * rings) * (torch.pi / rings)
    ring = torch.stack(
        [
            polar.sin()[:, None] * around.sin()[None],
            polar.cos()[:, None].expand(-1, 2 * rings),
            polar.sin()[:, None] * around.cos()[None],
        ],
        dim=-1,
    ).reshape(-1, 3)
    positions = torch.cat([torch.tensor([[0.0, 1.0, 0.0]]), ring, torch.tensor([[0.0, -1.0, 0.0]])]) * radius
    count, last, faces = 2 * rings, len(positions) - 1, []
    for j in range(count):
        k = (j + 1) % count
        faces.append([0, 1 + j, 1 + k])
        faces.append([last, last - count + k, last - count + j])
        for i in range(rings - 2):
            a, b = 1 + i * count + j, 1 + i * count + k
            faces += [[a, a + count, b + count], [a, b + count, b]]
    return positions, torch.tensor(faces)


def test_the_start_has_no_folds_and_the_label_of_what_is_seen():
    slope = np.full((4, 4, 4), (200, 128, 230, 255), dtype=np.uint8)
    cloth = Material(normal_texture=0, label=3)
    skin = Material(label=1)
    near, far = plate(0.5, half=0.3, material=0), plate(0.0, half=0.6, material=1)
    surface = surface_of(near, far, materials=(cloth, skin), images=[slope])
    start, labels = draw_start(surface, FRONT, SIZE)
    pictures = draw_pictures(surface, FRONT, SIZE)
    middle = SIZE // 2
    assert labels.dtype == torch.uint8 and set(labels.unique().tolist()) == {0, 1, 3}
    assert labels[0, middle, middle] == 3 and labels[0, 0, 0] == 0
    assert start[0, middle, middle].tolist() == [128, 128, 255]
    assert pictures.normal[0, middle, middle, 0] > 150  # the finished picture has the fold
    torch.testing.assert_close(start[labels == 1], pictures.normal[labels == 1])
    torch.testing.assert_close((labels > 0), pictures.mask > 127)
