"""Person Sampler draws what the library draws from the same noise, by the ControlNet that is told colours."""

from __future__ import annotations

import importlib
import types

import pytest
import torch

from humannorm.body import load_body
from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.samplers import sample_latents
from humannorm.models import bundled_folder, camera_plan
from humannorm.prompts import Prompts
from humannorm.start_pictures import start_of_sentence

PROMPT = "a young man in a red t-shirt and blue jeans, standing"
AZIMUTHS = (0.0, 180.0)


@pytest.fixture(scope="module")
def host(pack):
    """The bundled models and the nodes' modules."""
    modules = {
        name: importlib.import_module(f"{pack.__name__}.{name}")
        for name in ("host_models", "guidance", "prompts", "person_sampler", "payloads")
    }
    for room, name in (("guidance", "HumanNormGuidance"), ("person_sampler", "HumanNormPersonSampler")):
        getattr(modules[room], name).hidden = types.SimpleNamespace(unique_id=None, prompt=None)
    builders = modules["host_models"]
    with torch.inference_mode():  # as the host runs nodes
        made = {name: getattr(builders, f"build_{name}")(bundled_folder()) for name in ("model", "clip", "vae")}
        made["control"] = builders.build_control_net(bundled_folder())
    return types.SimpleNamespace(**modules, **made)


def guided(host, kind: str, **changed):
    (prompts,) = host.prompts.HumanNormPrompts.execute(host.clip, PROMPT, "", kind, "paper").result
    given = {"control_net": host.control, **changed}
    (guidance,) = host.guidance.HumanNormGuidance.execute(host.model, prompts, host.vae, 0.0, **given).result
    return guidance


@pytest.mark.parametrize("kind", ["normal", "image", "depth"])
def test_it_draws_what_the_library_draws(host, kind):
    import comfy.sample

    with torch.inference_mode():
        guidance = guided(host, kind)
        sampler = host.person_sampler.HumanNormPersonSampler
        pictures, mask, flat = sampler.execute(guidance, "front,back", "full", 3, 0.5).result
    modality = host.payloads.KINDS[kind]
    side = 128 if kind == "depth" else 256  # what no ControlNet is shown is drawn as from words
    guide = DiffusersDenoiser.load(control=True, few_steps=True).at_resolution(side)
    seen = start_of_sentence(PROMPT, camera_plan("bundled"), seed=3).pictures("full", AZIMUTHS, guide.resolution)
    texts = [Prompts(PROMPT, modality).text("full", view) for view in ("front", "back")]
    control = seen.control(modality)
    drawn = guide.decode(
        sample_latents(
            guide,
            guide.condition(texts, guidance_scale=1.0, control=control),
            comfy.sample.prepare_noise(torch.zeros(2, 4, side // 4, side // 4), 3),
            scheduler_config=guide.scheduler_config,
            steps=4,
            sampler="ddim",
            entry=guide.encode_images(seen.entry(modality)),
            level=0.5,
        )
    )
    expected = guide.sharpened(drawn, control).clamp(0, 1)
    assert pictures.shape == (2, side, side, 3) and mask.shape == (2, side, side)
    assert float((pictures - expected).abs().mean()) < 0.003  # both walks' levels are half a timestep apart
    assert torch.equal(flat, seen.entry("color"))
    assert float((mask - seen.covered[..., 0]).abs().mean()) < 0.03


def test_a_body_and_normal_maps_of_ones_own(host):
    sampler = host.person_sampler.HumanNormPersonSampler
    with torch.inference_mode():
        running, _, flat = sampler.execute(
            guided(host, "image"), "front", "full", 0, 0.5, body=load_body(None, "run")
        ).result
        standing, mask, _ = sampler.execute(guided(host, "image"), "front", "full", 0, 0.5).result
        flipped = torch.zeros(1, 96, 96, 3)  # of any size
        other, _, _ = sampler.execute(guided(host, "image"), "front", "full", 0, 0.5, normal_maps=flipped).result
    assert float((flat.amin(-1) < 0.9).float().mean()) > 0.05
    assert float((running - standing).abs().mean()) > 0.02
    inside = mask > 0.5
    assert float((other - standing).abs().mean(-1)[inside].mean()) > 0.01


def test_the_size_is_the_users_the_guidances_or_the_models(host):
    sampler = host.person_sampler.HumanNormPersonSampler
    with torch.inference_mode():
        sizes = {
            name: sampler.execute(guided(host, "normal", **changed), "front", "head", 0, 0.5, **given)
            .result[0]
            .shape[1]
            for name, changed, given in (
                ("model", {}, {}),
                ("guidance", {"resolution": 96}, {}),
                ("user", {"resolution": 96}, {"resolution": 128}),
            )
        }
        with pytest.raises(InputError, match="resolution: expected 0 or 32 to 512 pixels a side"):
            sampler.execute(guided(host, "normal"), "front", "head", 0, 0.5, resolution=2048)
    assert sizes == {"model": 256, "guidance": 96, "user": 128}


@pytest.mark.parametrize(
    ("kind", "changed", "given", "message"),
    [
        ("image", {"control_net": None}, {}, "guidance: expected one with a control net that has learnt"),
        ("normal", {}, {"normal_maps": torch.zeros(1, 64, 64, 3)}, "normal_maps: expected with guidance of kind image"),
        ("image", {}, {"normal_maps": torch.zeros(2, 64, 64, 3)}, "normal_maps: expected one for each of 1 views"),
    ],
)
def test_what_does_not_fit_is_refused(host, kind, changed, given, message):
    with torch.inference_mode():
        guidance = guided(host, kind, **changed)
        with pytest.raises(InputError, match=message):
            host.person_sampler.HumanNormPersonSampler.execute(guidance, "front", "full", 0, 0.5, **given)
