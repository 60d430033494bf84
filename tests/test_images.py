from __future__ import annotations

import pytest
import torch
from PIL import Image

from humannorm.checks import InputError
from humannorm.images import contact_sheet, from_network, lab_from_srgb, load_png, save_png, to_network


def test_network_form_and_back():
    images = torch.rand(2, 4, 6, 3, dtype=torch.float64)
    network = to_network(images)
    assert network.shape == (2, 3, 4, 6)
    assert float(network[1, 2, 3, 5]) == pytest.approx(2 * float(images[1, 3, 5, 2]) - 1)
    torch.testing.assert_close(from_network(network), images)
    assert float(from_network(torch.full((1, 1, 1, 1), 7.0))) == 1.0


def test_gradients_flow_through_the_network_form():
    images = torch.rand(1, 2, 2, 3, requires_grad=True)
    to_network(images).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(images, 2.0))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_round_trip_to_eight_bits(channels, tmp_path):
    image = torch.rand(5, 7, channels)
    save_png(tmp_path / "new" / "a.png", image)
    loaded = load_png(tmp_path / "new" / "a.png")
    torch.testing.assert_close(loaded, image.expand(5, 7, max(3, channels)), atol=0.5001 / 255, rtol=0)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.png"]


def test_row_zero_of_an_image_is_the_top_of_the_file(tmp_path):
    image = torch.zeros(4, 4, 3)
    image[0] = 1.0
    save_png(tmp_path / "a.png", image)
    assert Image.open(tmp_path / "a.png").getpixel((0, 0)) == (255, 255, 255)
    assert Image.open(tmp_path / "a.png").getpixel((0, 3)) == (0, 0, 0)


def test_contact_sheet_holds_every_picture_in_reading_order_with_its_label():
    colors = torch.eye(3)
    images = [color.expand(64, 96, 3).contiguous() for color in colors]
    sheet = contact_sheet(images, ["front", "left", "a label that is much wider than its picture"], columns=2)
    height, width = sheet.shape[:2]
    assert height > 2 * 64 and width > 2 * 96
    for index, color in enumerate(colors):
        found = (sheet == color).all(-1).nonzero()
        assert len(found) == 64 * 96
        centre = found.float().mean(0)
        assert (centre[0] < height / 2) == (index < 2) and (centre[1] < width / 2) == (index != 1)
    dark = (sheet.sum(-1) < 0.6).nonzero()
    assert len(dark) > 20  # the letters


@pytest.mark.usefixtures("as_user")
def test_bad_pictures_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"images: expected float tensor \[B, H, W, C\], got float32 \[2, 2, 3\]"):
        to_network(torch.zeros(2, 2, 3))
    with pytest.raises(InputError, match=r"image: expected \[H, W\] or \[H, W, 1 or 3 or 4\], got \[4, 4, 2\]"):
        save_png(tmp_path / "a.png", torch.zeros(4, 4, 2))
    with pytest.raises(InputError, match="labels: expected one per picture"):
        contact_sheet([torch.zeros(4, 4, 3)], [], 1)
    with pytest.raises(InputError, match=r"images: expected float tensor \[4, 4, 3\]"):
        contact_sheet([torch.zeros(4, 4, 3), torch.zeros(4, 5, 3)], ["a", "b"], 2)
    save_png(tmp_path / "b.png", torch.zeros(64, 64, 3))
    (tmp_path / "cut.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"cut\.png: expected a whole picture file"):
        load_png(tmp_path / "cut.png")
    with pytest.raises(FileNotFoundError):
        load_png(tmp_path / "none.png")


@pytest.mark.parametrize(
    ("color", "lab"),  # values as tabulated for sRGB and D65
    [
        ((1, 1, 1), (100, 0, 0)),
        ((0, 0, 0), (0, 0, 0)),
        ((0.5, 0.5, 0.5), (53.39, 0, 0)),
        ((1, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 1, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 1), (32.30, 79.19, -107.86)),
    ],
)
def test_lab_of_known_colours(color, lab):
    found = lab_from_srgb(torch.tensor([color], dtype=torch.float64))[0]
    assert found.tolist() == pytest.approx(lab, abs=0.05)


def test_grey_pictures_of_16_bits_keep_their_scale(tmp_path):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.array([[0, 16384, 65535]], np.uint16)).save(tmp_path / "grey.png")
    assert load_png(tmp_path / "grey.png")[0, :, 0].tolist() == pytest.approx([0, 0.25, 1], abs=1e-4)


def test_broken_parts_of_a_png_are_one_sentence(tmp_path):
    save_png(tmp_path / "a.png", torch.rand(8, 8, 3))
    whole = (tmp_path / "a.png").read_bytes()
    for at in range(8, len(whole) - 8):
        (tmp_path / "b.png").write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            load_png(tmp_path / "b.png")
        except InputError as error:
            assert str(error).startswith(str(tmp_path / "b.png"))
