"""Reading shards, and the small functions of the VAE's training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from humannorm.checks import InputError
from humannorm.training.config import VaeConfig
from humannorm.training.shards import Shards, at_size, head_corner
from humannorm.training.vae import (
    build_vae,
    crop_around,
    derivative_l1,
    encode_shards,
    latent_statistics,
    normalise_latents,
    psnr_inside,
    soft_magnitude,
    weighted_mean,
)

TINY_VAE = VaeConfig(channels=(8, 8, 8), crop=16)


def test_splits_kinds_and_refresh(people_shards):
    folder = people_shards(shards=1)
    train, held_out = Shards(folder), Shards(folder, split="held_out")
    assert len(train) == 9 and len(held_out) == 3
    assert {train.shot(i)["person"] for i in range(9)}.isdisjoint({held_out.shot(i)["person"] for i in range(3)})
    assert train.resolution == 32
    assert train.image(0, "normal").shape == train.image(0, "depth").shape == (32, 32, 3)
    assert torch.equal(train.image(0, "depth")[..., 0], train.image(0, "depth")[..., 2])
    background = train.mask(0) == 0
    assert train.image(0, "normal")[background].max() == 0
    assert train.image(0, "color")[background].min() == 1
    assert train.refresh() == 0
    people_shards(shards=2, folder=folder)
    assert train.refresh() == 1
    assert len(train) == 18


def test_folders_that_are_none(tmp_path, people_shards):
    with pytest.raises(InputError, match="expected shards of the split 'train'"):
        Shards(tmp_path)
    folder = people_shards(shards=1)
    (folder / "depth_00000.npy").unlink()
    with pytest.raises(InputError, match=r"depth_00000\.npy: expected beside shots_00000\.jsonl"):
        Shards(folder)
    np.save(folder / "depth_00000.npy", np.zeros((2, 32, 32), np.uint8))
    with pytest.raises(InputError, match="expected 12 rows in depth of shard 00000, got 2"):
        Shards(folder)


def test_crops_hold_a_pixel_of_the_person(generator):
    mask = torch.zeros(64, 64)
    mask[2:20, 50:60] = 1
    for _ in range(50):
        top, left = crop_around(mask, 32, generator)
        assert 0 <= top <= 32 and 0 <= left <= 32
        assert mask[top : top + 32, left : left + 32].sum() > 0
    assert crop_around(torch.zeros(64, 64), 32, generator) == (16, 16)


def test_weighted_losses_by_hand():
    error = torch.zeros(1, 1, 2, 2)
    error[0, 0, 0, 0] = 4.0
    weight = torch.tensor([[[[3.0, 1.0], [0.0, 0.0]]]])
    assert weighted_mean(error, weight) == 4 * 3 / 4
    # Across: |0-4| at weight 1 and 0 at weight 0; down: |0-4| and 0 at weights 0 of the lower row -> guard with ones.
    step = soft_magnitude(torch.tensor(4.0))  # 4, but for the rounding off
    torch.testing.assert_close(derivative_l1(error, torch.ones_like(weight)), step / 2 + step / 2)
    assert 3.9 < float(step) < 4


def test_psnr_inside_ignores_the_background():
    truth = torch.zeros(1, 4, 4, 3)
    images = truth.clone()
    images[:, :2] = 0.1
    images[:, 2:] = 0.9
    mask = torch.zeros(1, 4, 4, 1)
    mask[:, :2] = 1
    assert psnr_inside(images, truth, mask) == pytest.approx(20.0, abs=1e-3)


def test_normalised_latents_decode_the_same_and_have_unit_spread(people_shards):
    shards = Shards(people_shards(shards=1))
    torch.manual_seed(0)
    vae = build_vae(TINY_VAE, 32).eval()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        decoded = vae.decode(before.mode()).sample
        mean, std = latent_statistics(vae, shards, samples=24)
        normalise_latents(vae, mean, std)
        after = vae.encode(images).latent_dist
        torch.testing.assert_close(vae.decode(after.mode()).sample, decoded, atol=1e-4, rtol=1e-4)
        spread = (std * 0.18215)[:, None, None]
        torch.testing.assert_close(after.std * spread, before.std, atol=1e-4, rtol=1e-4)
        mean, std = latent_statistics(vae, shards, samples=24)
    torch.testing.assert_close(mean * 0.18215, torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(std * 0.18215, torch.ones(4), atol=1e-4, rtol=1e-3)


def test_latents_are_encoded_once_and_workers_share(people_shards, tmp_path):
    folder = people_shards(shards=3)
    torch.manual_seed(0)
    vae = build_vae(TINY_VAE, 32).eval()
    assert encode_shards(vae, folder, tmp_path, worker=0, workers=2) == 2
    assert encode_shards(vae, folder, tmp_path, worker=1, workers=2) == 1
    assert encode_shards(vae, folder, tmp_path) == 0
    latents = np.load(tmp_path / "latent_color_00001.npy")
    assert latents.shape == (12, 4, 8, 8) and latents.dtype == np.float16


def test_parts_are_drawn_in_their_shares(people_shards):
    shards = Shards(people_shards(shards=2))
    shards.shot(4)["attributes"] = {"pose": "running", "skin": "dark"}
    drawn = shards.draw(2000, torch.Generator().manual_seed(0), (("head", 0.75), ("full", 0.25)))
    heads = sum(shards.shot(index)["part"] == "head" for index in drawn) / len(drawn)
    assert heads == pytest.approx(0.75, abs=0.04)
    assert set(drawn) == set(range(len(shards)))  # all pictures of a part
    assert drawn[:50] != shards.draw(50, torch.Generator().manual_seed(1))
    fronts = shards.draw(50, torch.Generator().manual_seed(2), (("head front", 1.0),))
    assert {(shards.shot(index)["part"], shards.shot(index)["view"]) for index in fronts} == {("head", "front")}
    assert set(shards.draw(9, torch.Generator(), (("full running", 1.0),))) == {4}
    assert set(shards.draw(9, torch.Generator(), ((f"full {shards.shot(4)['view']} dark", 1.0),))) == {4}
    assert shards.draw(0, torch.Generator(), (("full", 1.0),)) == []
    with pytest.raises(InputError, match=r"parts: expected pictures of 'upper' in .*, got none"):
        shards.draw(2, torch.Generator().manual_seed(0), (("upper", 1.0),))


def test_smaller_pictures_cut_heads_out_and_shrink_the_rest():
    pictures = torch.rand(2, 3, 32, 32)
    masks = torch.zeros(2, 32, 32)
    masks[:, 6:20, 12:23] = 1.0
    small = at_size(pictures, masks, ["head", "full"], 16)
    top, left = head_corner(masks[0], 16)
    assert (top, left) == (5, 9)  # a sixteenth of 16 above row 6; half of 16 left of column 17
    torch.testing.assert_close(small[0], pictures[0, :, 5:21, 9:25])
    torch.testing.assert_close(small[1], torch.nn.functional.avg_pool2d(pictures[1], 2))
    assert at_size(pictures, masks, ["head", "full"], 32) is pictures


def test_a_head_is_found_beside_a_raised_hand_and_its_square_stays_inside():
    mask = torch.zeros(32, 32)
    mask[0:10, 0:6] = 1.0  # a hand, in the outer quarter
    mask[12:32, 10:21] = 1.0
    assert head_corner(mask, 16) == (11, 7)
    assert head_corner(torch.zeros(32, 32), 16) == (8, 8)
    low = torch.zeros(32, 32)
    low[30:, 22:24] = 1.0
    top, left = head_corner(low, 16)
    assert 0 <= top <= 16 and 0 <= left <= 16


def test_half_size_latents_of_heads_are_those_of_the_cut(people_shards, tmp_path):
    folder = people_shards(shards=1)
    torch.manual_seed(0)
    vae = build_vae(TINY_VAE, 32).eval()
    encode_shards(vae, folder, tmp_path, size=16, batch=5)
    shards = Shards(folder)
    latents = np.load(tmp_path / "latent_normal_00000.npy")
    for index in (0, 1):  # a head, a whole body
        image = shards.image(index, "normal").movedim(-1, 0)[None]
        small = at_size(image, shards.mask(index)[None], [shards.shot(index)["part"]], 16)
        with torch.no_grad():
            expected = vae.encode(small * 2 - 1).latent_dist.mode() * vae.config.scaling_factor
        torch.testing.assert_close(torch.from_numpy(latents[index]).float(), expected[0], atol=2e-3, rtol=2e-3)
