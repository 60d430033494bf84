from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.colours import COLOURS
from humannorm.evaluation.pictures import (
    color_silhouette,
    garment_pixels,
    mask_iou,
    nearest_colour,
    normal_alpha,
    psnr_inside,
    skirt_seen,
)


def standing_figure(size: int = 64) -> tuple[torch.Tensor, list[list[float]]]:
    """A red trunk over blue legs with skin arms on white, and the landmarks a judge would give (x, y, visibility)."""
    image = torch.ones(size, size, 3)
    image[12:34, 24:40] = torch.tensor([0.8, 0.1, 0.1])
    image[34:60, 24:31] = image[34:60, 33:40] = torch.tensor([0.1, 0.1, 0.7])
    image[12:34, 19:24] = image[12:34, 40:45] = torch.tensor([0.9, 0.7, 0.6])
    landmarks = [[0.5, 0.1, 1.0] for _ in range(33)]
    for index, (x, y) in {11: (39, 13), 12: (25, 13), 23: (36, 34), 24: (27, 34), 25: (36, 47), 26: (27, 47)}.items():
        landmarks[index] = [x / size, y / size, 1.0]
    return image, landmarks


def test_normal_maps_cover_what_faces_the_viewer():
    normals = torch.zeros(2, 3, 3)
    normals[0, 0] = torch.tensor([0.5, 0.5, 1.0])  # toward the viewer
    normals[0, 1] = torch.tensor([1.0, 0.5, 0.5])  # silhouette, turned to +x
    normals[0, 2] = 0.5 * torch.tensor([1.0, 0.5, 0.5])  # half covered silhouette
    assert normal_alpha(normals).tolist() == [[1, 1, 0.5], [0, 0, 0]]


def test_silhouette_keeps_white_clothes_and_drops_a_noisy_background(generator):
    image = 1 - 0.04 * torch.rand(40, 40, 3, generator=generator)
    image[10:30, 10:30] = 0.5
    image[15:25, 15:25] = 1.0  # a white shirt, closed in
    expected = torch.zeros(40, 40, dtype=torch.bool)
    expected[10:30, 10:30] = True
    assert torch.equal(color_silhouette(image), expected)
    assert not bool(color_silhouette(torch.ones(8, 8, 3)).any())


def test_iou_of_known_overlaps():
    a = torch.zeros(10, 10, dtype=torch.bool)
    b = a.clone()
    a[:, :6], b[:, 4:] = True, True
    assert mask_iou(a, b) == pytest.approx(0.2)
    assert mask_iou(a, a) == 1
    assert mask_iou(a, ~a) == 0
    assert mask_iou(a & ~a, b & ~b) == 1


def test_psnr_counts_the_inside_alone():
    image, reference = torch.zeros(8, 8, 3), torch.full((8, 8, 3), 0.1)
    mask = torch.zeros(8, 8)
    mask[2:5, 2:5] = 1
    image[mask == 0] = 1.0
    assert psnr_inside(image, reference, mask) == pytest.approx(20.0, abs=1e-3)
    with pytest.raises(InputError, match="mask: expected some pixel"):
        psnr_inside(image, reference, torch.zeros(8, 8))


def test_garments_are_read_where_they_are_worn():
    image, landmarks = standing_figure()
    for garment, expected in (("top", [0.8, 0.1, 0.1]), ("bottom", [0.1, 0.1, 0.7])):
        pixels = garment_pixels(image, landmarks, garment)
        assert len(pixels) > 20
        torch.testing.assert_close(pixels, torch.tensor(expected).expand(len(pixels), 3))
    with pytest.raises(InputError, match="garment: expected top or bottom, got 'hat'"):
        garment_pixels(image, landmarks, "hat")


def test_a_skirt_is_what_fills_the_middle_above_the_knees():
    image, landmarks = standing_figure()
    trousers = color_silhouette(image).float()
    assert not skirt_seen(trousers, landmarks)  # legs apart
    for hem, seen in ((48, True), (46, True), (41, False)):  # below the knees (47), just above, at mid-thigh
        skirted = trousers.clone()
        skirted[34:hem, 24:40] = 1
        assert skirt_seen(skirted, landmarks) == seen


def test_every_named_colour_is_nearest_to_itself_shaded_or_noisy(generator):
    for name, value in COLOURS.items():
        pixels = torch.tensor(value).expand(200, 3) / 255.0
        assert nearest_colour(pixels, COLOURS) == name
        noisy = (pixels + 0.01 * torch.randn(200, 3, generator=generator)).clamp(0, 1)
        assert nearest_colour(noisy, COLOURS) == name
    assert nearest_colour(torch.zeros(0, 3), COLOURS) is None
