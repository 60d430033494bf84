"""`sample_images`: pictures from a program, whatever the batch."""

from __future__ import annotations

import pytest
import torch

from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser, sample_images
from humannorm.guidance.samplers import sample_latents

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
