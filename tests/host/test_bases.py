"""Any base: small random models of the host's own classes through our denoiser, against the host's own sampling."""

from __future__ import annotations

import importlib
import types

import pytest
import torch
from families import LATENTS, SIDE, build_network, build_payload, build_vae

from humannorm.checks import InputError
from humannorm.guidance import sds_gradient

FAMILIES = tuple(LATENTS)


@pytest.fixture(scope="module")
def rooms(pack):
    names = ("payloads", "host_denoiser", "bases", "scales", "samplers")
    return types.SimpleNamespace(**{name: importlib.import_module(f"humannorm_pack.nodes.{name}") for name in names})


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="module")
def payload(rooms, family):
    with torch.inference_mode():
        return build_payload(rooms, family)


def with_denoiser(rooms, payload, work, views=2):
    with torch.inference_mode(), rooms.host_denoiser.ordinary_tensors():
        return rooms.host_denoiser.with_denoisers([payload], views, 0, lambda denoisers: work(denoisers[0]))


def one_step_of_the_host(payload, text, noise, level):
    """The host's Euler sampler from a level to 0, in the network's own latents."""
    import comfy.samplers

    guider = comfy.samplers.CFGGuider(payload.model)
    guider.set_conds(payload.prompts.encoded[text], payload.prompts.negative)
    guider.set_cfg(payload.cfg)
    sigmas = torch.stack([level, torch.zeros(())])
    with torch.inference_mode():
        found = guider.sample(noise, torch.zeros_like(noise), comfy.samplers.sampler_object("euler"), sigmas, seed=0)
    return payload.model.get_model_object("latent_format").process_in(found)


@pytest.mark.parametrize("share", [0.95, 0.4])
def test_denoise_is_the_hosts_own_step(rooms, family, payload, share):
    """Two texts of different lengths in one batch, each with what the host's sampler makes of it alone."""
    texts = [payload.prompts.prompts.text("full", "front"), payload.prompts.prompts.text("head", "back")]
    noise = torch.randn(2, *rooms.host_denoiser.latent_size(payload), generator=torch.Generator().manual_seed(0))
    sampling = payload.model.get_model_object("model_sampling")
    level = sampling.sigmas[int(share * (len(sampling.sigmas) - 1))]
    expected = [one_step_of_the_host(payload, text, noise[at : at + 1], level) for at, text in enumerate(texts)]

    def work(denoiser):
        sigma = level / (1 - level) if denoiser.noise.is_flow else level
        x = sigma * rooms.host_denoiser.without_frames(noise)
        return denoiser.denoise(x, sigma.expand(2), denoiser.condition(texts, guidance_scale=1.0))

    found = with_denoiser(rooms, payload, work)
    assert found.shape == (2, LATENTS[family], SIDE // 8, SIDE // 8)
    assert float(found.std()) > 0.05
    for at, each in enumerate(expected):
        torch.testing.assert_close(found[at], rooms.host_denoiser.without_frames(each)[0], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(found[0], found[1])


def test_noise_levels_are_the_projects(rooms, family, payload):
    def work(denoiser):
        timesteps = torch.tensor([0.0, 250.5, 500.0, 999.0])
        sigma = denoiser.sigma(timesteps)
        assert denoiser.timesteps == 1000 and bool((sigma.diff() > 0).all())
        x = torch.ones(4, 2, 3, 3)
        inner, level = denoiser.noise.to_host(x, sigma)
        if not denoiser.noise.is_flow:
            assert inner is x and level is sigma
            return
        torch.testing.assert_close(level / (1 - level), sigma, rtol=2e-3, atol=1e-6)
        torch.testing.assert_close(inner[:, 0, 0, 0], 1 - level, rtol=1e-3, atol=1e-6)
        assert 4500 < float(sigma[-1]) < 4600

    with_denoiser(rooms, payload, work, views=1)


def test_gradients_reach_the_pictures_and_pictures_come_back(rooms, family, payload):
    def work(denoiser):
        leaf = torch.full((2, SIDE, SIDE, 3), 0.5, requires_grad=True)
        latents = denoiser.encode_images(leaf)
        assert latents.shape == (2, LATENTS[family], SIDE // 8, SIDE // 8)
        texts = [payload.prompts.prompts.text("full", view) for view in ("front", "left")]
        condition = denoiser.condition(texts, guidance_scale=1.0)
        found = sds_gradient(denoiser, latents, condition, generator=torch.Generator().manual_seed(0)).gradient
        (pixels,) = torch.autograd.grad(latents, leaf, found)
        assert bool(pixels.isfinite().all()) and float(pixels.abs().max()) > 0
        pictures = denoiser.decode(latents.detach())
        assert pictures.shape == (2, SIDE, SIDE, 3)
        assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1

    with_denoiser(rooms, payload, work)


def test_the_vae_is_the_hosts(rooms, family, payload):
    """Latents of one picture as the host's own encode and the model's format make them."""
    picture = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    latent_format = payload.model.get_model_object("latent_format")
    with torch.inference_mode():
        expected = rooms.host_denoiser.without_frames(latent_format.process_in(payload.vae.encode(picture)))
    found = with_denoiser(rooms, payload, lambda denoiser: denoiser.encode_images(picture), views=1)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3)


def test_maps_are_sampled_in_2d(rooms, family, payload):
    """Our 2D samplers are the host's own KSampler for each text."""
    import comfy.sample

    sampling = rooms.samplers.Sampling(5, 2, 3.0, "euler", "normal", SIDE)
    with torch.inference_mode():
        pictures, latent = rooms.samplers._draw(payload, ["front", "back"], "full", sampling)
        assert pictures.shape == (2, SIDE, SIDE, 3)
        empty = torch.zeros(2, *rooms.host_denoiser.latent_size(payload))
        noise = comfy.sample.prepare_noise(empty, 5)[1:]
        text = payload.prompts.encoded[payload.prompts.prompts.text("full", "back")]
        alone = comfy.sample.sample(
            payload.model, noise, 2, 3.0, "euler", "normal", text, payload.prompts.negative, empty[1:], seed=5
        )
    torch.testing.assert_close(latent["samples"][1:], alone, rtol=1e-3, atol=1e-3)


def test_size_and_scale_follow_the_kind(rooms):
    expected = {
        "SD15": (512, 7.5, 50.0),
        "SD20": (768, 7.5, 50.0),
        "SDXL": (1024, 7.0, 50.0),
        "SD3": (1024, 4.5, 50.0),
        "Flux": (1024, 1.0, 1.0),
        "Lumina2": (1024, 4.0, 50.0),
        "QwenImage": (1328, 4.0, 50.0),
    }
    for name, (size, painting, sculpting) in expected.items():
        model = build_network(name)
        assert rooms.host_denoiser.native_resolution(model) == size, name
        assert rooms.scales.distilling_scale(model, "color") == rooms.scales.drawing_scale(model, "color") == painting
        assert rooms.scales.distilling_scale(model, "normal") == sculpting, name


def test_what_cannot_work_is_refused_by_name(rooms):
    import comfy.supported_models

    check_fit = rooms.host_denoiser.check_fit

    def named(kind, latents):
        config = getattr(comfy.supported_models, kind)({})
        return types.SimpleNamespace(model=types.SimpleNamespace(model_config=config, latent_format=latents))

    picture, film, sequence = (types.SimpleNamespace(latent_dimensions=count) for count in (2, 3, 1))
    for kind in ("SVD_img2vid", "SV3D_u", "Stable_Zero123", "SDXL_instructpix2pix", "Stable_Cascade_C"):
        with pytest.raises(InputError, match=f"got {kind}, wh"):
            check_fit(named(kind, picture), 77, "prompts")
    with pytest.raises(InputError, match="got Mochi|got GenmoMochi, which draws films"):
        check_fit(named("GenmoMochi", film), 77, "prompts")
    with pytest.raises(InputError, match="got StableAudio, whose latents are a sequence"):
        check_fit(named("StableAudio", sequence), 77, "prompts")
    for name, width in (("SDXL", 32), ("SD3", 40), ("Flux", 40), ("Lumina2", 40), ("QwenImage", 40)):
        check_fit(build_network(name), width, "prompts")
        with pytest.raises(InputError, match=rf"prompts: expected prompts encoded by the CLIP.* \({width} channels\)"):
            check_fit(build_network(name), width + 1, "prompts")
    with pytest.raises(InputError, match=r"vae: .* \(16 latent channels\), got one with 4"):
        rooms.host_denoiser.check_vae(build_network("Flux"), build_vae("SDXL"))
