"""Any base: small random models of the host's own classes through our denoiser, against the host's own sampling."""

from __future__ import annotations

import dataclasses
import importlib
import types

import graphs
import pytest
import torch
from families import LATENTS, SIDE, build_control_net, build_network, build_payload, build_vae, encoded, tube
from graphs import changed, node

from humannorm.checks import InputError
from humannorm.export import load_baked
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
        pictures, latent = rooms.samplers.draw_views(payload, ["front", "back"], "full", sampling)
        assert pictures.shape == (2, SIDE, SIDE, 3)
        empty = torch.zeros(2, *rooms.host_denoiser.latent_size(payload))
        noise = comfy.sample.prepare_noise(empty, 5)[1:]
        text = payload.prompts.encoded[payload.prompts.prompts.text("full", "back")]
        alone = comfy.sample.sample(
            payload.model, noise, 2, 3.0, "euler", "normal", text, payload.prompts.negative, empty[1:], seed=5
        )
    torch.testing.assert_close(latent["samples"][1:], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("way", ["drawn", "denoised", "encoded", "decoded"])
def test_an_interrupt_is_heard_inside_of_a_layer(rooms, way):
    """One call of a network on a processor may take minutes, at large sizes."""
    import comfy.model_management

    payload = build_payload(rooms, "SD15")
    texts = [payload.prompts.prompts.text("full", "front")]
    ended = []

    def interrupt_in(network):
        leaves = [layer for layer in network.modules() if not list(layer.children())]
        middle = leaves[len(leaves) // 2]
        middle.register_forward_pre_hook(lambda *call: comfy.model_management.interrupt_current_processing())
        middle.register_forward_hook(lambda *call: ended.append(middle))

    def work(denoiser):
        if way == "encoded":
            interrupt_in(denoiser.vae.network.encoder)
            denoiser.encode_images(torch.zeros(1, SIDE, SIDE, 3))
        x, level = torch.zeros(1, 4, SIDE // 8, SIDE // 8), torch.ones(1)
        return denoiser.denoise(x, level, denoiser.condition(texts, guidance_scale=3.0))

    if way != "encoded":
        interrupt_in(payload.vae.first_stage_model.decoder if way == "decoded" else payload.model.model.diffusion_model)
    with pytest.raises(comfy.model_management.InterruptProcessingException), torch.inference_mode():
        if way in ("denoised", "encoded"):
            with_denoiser(rooms, payload, work, views=1)
        else:
            sampling = rooms.samplers.Sampling(5, 1, 3.0, "euler", "normal", SIDE)
            rooms.samplers.draw_views(payload, ["front"], "full", sampling)
    assert ended == []
    comfy.model_management.throw_exception_if_processing_interrupted()  # it was heard once


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


def painted(rooms, payload, **changes):
    """A tube painted from four sides in two levels, and the pictures of its views."""
    from humannorm.guidance.synchronised import SynchronisedSettings
    from humannorm.rings import Ring
    from humannorm.stages import paint_any_mesh
    from humannorm.texture.multiview import MultiviewSettings

    walk = SynchronisedSettings(**{"steps": 2, "level": 1.0, "batch": 3, **changes.pop("walk", {})})
    settings = MultiviewSettings(
        walk=walk, rings=(Ring(4),), texture_size=64, guidance_scale=payload.cfg, **{"control": "none", **changes}
    )
    return with_denoiser(
        rooms, payload, lambda guide: paint_any_mesh(tube(), "a person", settings, guide, seed=0, own_layout=True), 3
    )


def for_painting(payload):
    """With the texts that the painter asks for, of a person of no words."""
    from humannorm.prompts import Prompts

    texts = Prompts("a person", "color")
    table = {text: encoded(payload_family(payload), text) for text in texts.table().values()}
    return dataclasses.replace(payload, prompts=dataclasses.replace(payload.prompts, prompts=texts, encoded=table))


def payload_family(payload):
    return type(payload.model.model.model_config).__name__


def test_a_surface_is_painted_by_every_base(rooms, family, payload):
    painting = painted(rooms, for_painting(payload))
    assert painting.texture.shape == (64, 64, 3) and bool(painting.texture.isfinite().all())
    assert float(painting.texture.std()) > 0.01
    assert painting.figures["disagreement_last"] < painting.figures["disagreement_first"] + 5


@pytest.mark.parametrize("name", ["SDXL", "Flux"])
def test_a_graph_with_another_base_paints_our_human(host, name):
    """Dressed by the words, painted by nodes, through the server; shaped as SDXL and as a flow."""
    graph = graphs.painting() | {"models": node("MadeBase", family=name)}
    del graph["guidance"]["inputs"]["control_net"]
    graph = changed(
        graph, image_prompts__clip=["models", 1], guidance__model=["models", 0], guidance__vae=["models", 2],
        guidance__resolution=256, paint__control="none", paint__steps=2, paint__level=0.5, paint__views=1,
        paint__faces=4000, export__faces=4000, export__filename_prefix=f"tests/base_{name}",
    )  # fmt: skip
    entry = host.run(graph)
    baked = load_baked(host.output(entry["outputs"]["export"]["text"][0]))
    assert baked.mesh.texture.shape == (128, 128, 3) and float(baked.mesh.texture.std()) > 0.01


@pytest.mark.parametrize("name", ["SD15", "SDXL", "SD3"])
def test_controls_are_followed_each_in_its_range(rooms, name):
    """A main control and one of edges: both change the picture, and one that is never heard does not."""
    from humannorm.cameras import orbit
    from humannorm.controls import more_controls

    with torch.inference_mode():
        plain = build_payload(rooms, name)
        main, edges = build_control_net(name, 1), build_control_net(name, 2)
    shown = rooms.payloads.ShownControl
    texts = [plain.prompts.prompts.text("full", "front")]
    x = torch.randn(1, LATENTS[name], SIDE // 8, SIDE // 8, generator=torch.Generator().manual_seed(0))
    picture = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))

    def answer(payload, **control):
        def work(guide):
            more = more_controls(guide, tube(), orbit([0.0]), SIDE)
            condition = guide.condition(texts, guidance_scale=1.0, **control, **more)
            sigma = guide.sigma(torch.tensor([500.0]))
            return guide.denoise(sigma * x, sigma, condition)

        return with_denoiser(rooms, payload, work, 1)

    def and_edges(**range_):
        return (shown("canny", edges, **range_),)

    alone = answer(plain)
    with_main = answer(dataclasses.replace(plain, control_net=main), control=picture)
    both = answer(dataclasses.replace(plain, control_net=main, controls=and_edges()), control=picture)
    deaf = answer(dataclasses.replace(plain, control_net=main, controls=and_edges(start=0.9, end=1.0)), control=picture)
    only_edges = answer(dataclasses.replace(plain, controls=and_edges()))
    quiet = answer(dataclasses.replace(plain, controls=and_edges(strength=0.0)))
    assert torch.equal(deaf, with_main)
    torch.testing.assert_close(quiet, alone)
    different = [alone, with_main, both, only_edges]
    for number, one in enumerate(different):
        for other in different[:number]:
            assert float((one - other).abs().max()) > 1e-3
    silent = dataclasses.replace(plain, controls=and_edges())
    with pytest.raises(InputError, match="more_controls: expected pictures for the ControlNets of canny"):
        with_denoiser(rooms, silent, lambda guide: guide.condition(texts, guidance_scale=1.0), 1)


@pytest.mark.parametrize("name", ["SD15", "SDXL", "Flux"])
def test_four_steps_of_a_few_step_lora_are_the_hosts_lcm_sampler(rooms, name):
    """A LoRA on the model, cfg 1: the consistency walk without agreement is what the host's own sampler does, asks the
    network once a level and view, and the painter goes through with it."""
    import comfy.samplers
    import comfy.sd
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    from humannorm.guidance.synchronised import SynchronisedSettings, begin_walk, levels, sample_together

    with torch.inference_mode():
        payload = build_payload(rooms, name, cfg=1.0)
        lora = random_lora(payload.model)
        model, _ = comfy.sd.load_lora_for_models(payload.model, None, lora, 1.0, 0.0)
        if name != "Flux":
            (model,) = ModelSamplingDiscrete().patch(model, "lcm", False)
    asked = []

    def count(apply, arguments):
        asked.append(len(arguments["input"]))
        return apply(arguments["input"], arguments["timestep"], **arguments["c"])

    model.set_model_unet_function_wrapper(count)
    tuned = for_painting(dataclasses.replace(payload, model=model))
    text = tuned.prompts.prompts.text("full", "front")
    settings = SynchronisedSettings(steps=4, level=1.0, walk="consistency", one_noise=False, free=1.0, batch=2)

    def walked(guide):
        generator = torch.Generator().manual_seed(3)
        walk = begin_walk(guide, settings, generator, count=2)
        condition = guide.condition([text, text], guidance_scale=1.0)
        asked.clear()
        done = sample_together(
            guide, lambda views: condition, lambda pictures, share: pictures, walk, settings, generator=generator
        )
        return done.x, levels(guide, settings), guide.noise.is_flow

    found, sigmas, is_flow = with_denoiser(rooms, tuned, walked)
    assert sum(asked) == 4 * 2  # no empty text beside it
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, *rooms.host_denoiser.latent_size(tuned), generator=generator)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(tuned.prompts.encoded[text], tuned.prompts.negative)
    guider.set_cfg(1.0)
    sampler = comfy.samplers.ksampler(
        "lcm", {"noise_sampler": lambda sigma, following: torch.randn(noise.shape, generator=generator)}
    )
    host_levels = sigmas / (1 + sigmas) if is_flow else sigmas
    with torch.inference_mode():
        expected = guider.sample(noise, torch.zeros_like(noise), sampler, host_levels, seed=0)
    expected = model.get_model_object("latent_format").process_in(expected)
    torch.testing.assert_close(found, expected, rtol=2e-3, atol=2e-3)

    asked.clear()
    painting = painted(rooms, tuned, walk={"steps": 4, "walk": "consistency"})
    assert sum(asked) == painting.figures["forwards"] == 4 * 4
    untuned = painted(rooms, for_painting(payload), walk={"steps": 4, "walk": "consistency"})
    assert not torch.allclose(untuned.texture, painting.texture, atol=1e-3)


def random_lora(model):
    """A LoRA of rank 2 on every attention's queries, in the kohya layout that such LoRAs come in."""
    import comfy.lora

    names = comfy.lora.model_lora_keys_unet(model.model, {})
    weights, generator = {}, torch.Generator().manual_seed(5)
    state = model.model.state_dict()
    for name, key in names.items():
        if isinstance(key, str) and key in state and name.startswith("lora_unet") and state[key].ndim == 2:
            down, up = state[key].shape[1], state[key].shape[0]
            weights[f"{name}.lora_down.weight"] = torch.randn(2, down, generator=generator) / down**0.5
            weights[f"{name}.lora_up.weight"] = 0.5 * torch.randn(up, 2, generator=generator)
    assert len(weights) >= 8
    return weights
