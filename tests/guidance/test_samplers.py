"""`sample_images`: pictures from a program, whatever the batch."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser, sample_images
from humannorm.guidance.samplers import sample_latents, walk_levels

PROMPTS = ["a man", "a woman", "a child's coat"]


@pytest.fixture(scope="module")
def model(tiny_sd):
    return DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)


def test_it_is_noise_condition_sample_decode(model):
    """Written out for one picture."""
    side = model.resolution // model.downscale
    noise = torch.randn(1, model.channels, side, side, generator=torch.Generator().manual_seed(7))
    condition = model.condition(["a man"], guidance_scale=3.0, negative="a hat")
    expected = model.decode(
        sample_latents(model, condition, noise, scheduler_config=model.scheduler_config, steps=3, sampler="ddim")
    )
    drawn = sample_images(model, ["a man"], seeds=[7], guidance_scale=3.0, negative="a hat", steps=3, sampler="ddim")
    assert torch.equal(drawn, expected)


@pytest.mark.slow
def test_a_picture_hangs_on_its_own_seed_prompt_and_control_alone(model):
    size = model.resolution
    control = torch.rand(3, size, size, 3, generator=torch.Generator().manual_seed(0))
    together = sample_images(model, PROMPTS, seeds=[1, 2, 3], control=control, steps=2)
    assert together.shape == (3, size, size, 3) and float(together.min()) >= 0 and float(together.max()) <= 1
    steps = []
    alone = sample_images(
        model, PROMPTS, seeds=[1, 2, 3], control=control, steps=2, batch=1, progress=lambda *at: steps.append(at)
    )
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=0)
    assert steps == [(done, 6) for done in range(1, 7)]
    turned = sample_images(model, PROMPTS[::-1], seeds=[3, 2, 1], control=control.flip(0), steps=2)
    torch.testing.assert_close(turned.flip(0), together, atol=1e-4, rtol=0)
    other = sample_images(model, PROMPTS[:1], seeds=[4], control=control[:1], steps=2)
    assert (other[0] - together[0]).abs().max() > 0.01


@pytest.mark.slow
def test_half_precision_draws_the_same_bytes_again_and_nearly_the_same_picture(tiny_sd, model):
    half = DiffusersDenoiser.load(tiny_sd("v_prediction"), dtype=torch.bfloat16, control=True)
    control = torch.rand(3, 96, 96, 3, generator=torch.Generator().manual_seed(0))  # of another size than the model's
    drawn, again = (sample_images(half, PROMPTS, seeds=range(3), control=control, steps=4) for _ in range(2))
    assert drawn.dtype == torch.float32 and torch.equal(drawn, again)
    full = sample_images(model, PROMPTS, seeds=range(3), control=control, steps=4)
    # bf16 has 8 bits of mantissa; guidance makes a difference of the two halves of a batch larger.
    assert float((drawn - full).square().mean().sqrt()) < 0.02
    assert float((full[0] - full[1]).square().mean().sqrt()) > 0.04


def test_bad_input_is_refused(model):
    with pytest.raises(InputError, match="seeds: expected one for each of 3 prompts, got 2"):
        sample_images(model, PROMPTS, seeds=[0, 1])
    with pytest.raises(InputError, match="batch: expected 1 to"):
        sample_images(model, PROMPTS, seeds=[0, 1, 2], batch=0)
    assert len(sample_images(model, [], seeds=[])) == 0


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_an_entry_is_noised_to_its_level_and_walked_on_from(model, sampler):
    """The last two of four steps: those that a whole walk takes from the same latents at the same level."""
    side = model.resolution // model.downscale
    entry, noise = torch.randn(2, 1, model.channels, side, side, generator=torch.Generator().manual_seed(7))
    condition = model.condition(["a man"], guidance_scale=1.0)
    asked, given = [], []
    denoise = model.denoise

    def watched(x, sigma, condition):
        asked.append(float(sigma[0]))
        given.append(x)
        return denoise(x, sigma, condition)

    how = {"scheduler_config": model.scheduler_config, "steps": 4, "sampler": sampler}
    model.denoise = watched
    try:
        sample_latents(model, condition, noise, **how)
        whole, asked[:], given[:] = list(asked), [], []
        told = []
        sample_latents(model, condition, noise, **how, entry=entry, level=0.5, progress=lambda *at: told.append(at))
    finally:
        del model.denoise
    assert asked == whole[2:] and told == [(1, 2), (2, 2)]
    torch.testing.assert_close(given[0], entry + asked[0] * noise, rtol=1e-4, atol=1e-4)


def test_an_entry_at_no_level_still_takes_a_step_and_hardly_moves(model):
    size = model.resolution
    picture = torch.rand(1, size, size, 3, generator=torch.Generator().manual_seed(0)).round()
    drawn = sample_images(model, ["a man"], seeds=[0], steps=50, sampler="ddim", entry=picture, level=0.0)
    copy = model.decode(model.encode_images(picture))
    other = sample_images(model, ["a man"], seeds=[0], steps=50, sampler="ddim")
    assert (drawn - copy).square().mean() < (other - copy).square().mean()
    with pytest.raises(InputError, match="level: expected 0 to 1"):
        sample_images(model, ["a man"], seeds=[0], entry=picture, level=1.5)


@pytest.mark.parametrize("sampler", ["ddim", "dpm"])
def test_levels_of_ones_own_take_an_entry_as_the_schedule_does(model, sampler):
    side = model.resolution // model.downscale
    entry, noise = torch.randn(2, 1, model.channels, side, side, generator=torch.Generator().manual_seed(7))
    condition = model.condition(["a man"], guidance_scale=1.0)
    given = []

    def known(x, sigma, condition):
        given.append((x, float(sigma[0])))
        return entry  # of a network that knows the picture

    model.denoise = known
    try:
        found = walk_levels(model, condition, noise, steps=4, sampler=sampler, entry=entry, left=2)
    finally:
        del model.denoise
    assert len(given) == 2
    for x, sigma in given:  # on the straight way from the noise to the picture
        torch.testing.assert_close(x, entry + sigma * noise, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found, entry)
