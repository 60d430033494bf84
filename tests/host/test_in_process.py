"""The adapters between host and library, called directly."""

from __future__ import annotations

import importlib
import json
import math
import resource
import signal
import types

import numpy as np
import pytest
import torch

from humannorm.body import load_body
from humannorm.checks import InputError
from humannorm.guidance import Denoiser, sds_gradient
from humannorm.models import bundled_folder
from humannorm.prompts import Prompts

TEXT = "an old woman in a long green coat"


@pytest.fixture(scope="module")
def rooms(pack):
    names = (
        "payloads",
        "host_denoiser",
        "host_models",
        "host_mesh",
        "files",
        "long_work",
        "mesh",
        "views",
        "scales",
        "samplers",
    )
    return types.SimpleNamespace(**{name: importlib.import_module(f"humannorm_pack.nodes.{name}") for name in names})


@pytest.fixture(scope="module")
def payload(rooms):
    """Guidance by the bundled image model with its ControlNet, at 64 pixels."""
    folder = bundled_folder()
    clip, vae = rooms.host_models.build_clip(folder), rooms.host_models.build_vae(folder)
    texts = Prompts(TEXT, "color")

    def encode(text):
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))

    with torch.inference_mode():
        encoded = rooms.payloads.PromptSet(texts, {text: encode(text) for text in texts.table().values()}, encode(""))
        model, control_net = rooms.host_models.build_model(folder), rooms.host_models.build_control_net(folder)
    return rooms.payloads.GuidancePayload(model, encoded, vae, 4.0, 64, control_net)


def gradient(rooms, payload, control=None):
    """SDS gradient at grey pictures, as the host runs it: from inside inference mode."""
    with torch.inference_mode(), rooms.host_denoiser.ordinary_tensors():

        def work(denoisers):
            (denoiser,) = denoisers
            assert isinstance(denoiser, Denoiser)
            generator = torch.Generator().manual_seed(0)
            leaf = torch.full((2, 64, 64, 3), 0.5, requires_grad=True)
            latents = denoiser.encode_images(leaf)
            texts = [payload.prompts.prompts.text("full", view) for view in ("front", "back")]
            condition = denoiser.condition(texts, guidance_scale=1.0, control=control)
            found = sds_gradient(denoiser, latents, condition, generator=generator).gradient
            (pixels,) = torch.autograd.grad(latents, leaf, found)
            assert bool(pixels.isfinite().all()) and float(pixels.abs().max()) > 0
            assert len(denoiser.vae.features(leaf)) == 4
            return found

        return rooms.host_denoiser.with_denoisers([payload], 2, 0, work)


def test_control_pictures_and_a_cfg_function_act_on_the_gradient(rooms, payload):
    import dataclasses

    plain = gradient(rooms, payload)
    assert torch.equal(plain, gradient(rooms, payload))
    followed = gradient(rooms, payload, torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1)))
    assert not torch.allclose(plain, followed)

    patched = payload.model.clone()
    patched.set_model_sampler_cfg_function(lambda arguments: arguments["uncond"])
    unguided = gradient(rooms, dataclasses.replace(payload, model=patched))
    assert not torch.allclose(plain, unguided)
    no_guidance = gradient(rooms, dataclasses.replace(payload, cfg=0.0))
    assert torch.allclose(unguided, no_guidance, atol=1e-5)


def test_one_set_of_weights_cannot_be_two_models(rooms, payload):
    import dataclasses

    patched = payload.model.clone()
    name = next(name for name in patched.model.state_dict() if name.endswith("to_q.weight"))
    weight = patched.model.state_dict()[name]
    patched.add_patches({name: ("diff", (torch.zeros_like(weight),))})
    other = dataclasses.replace(payload, model=patched)
    with pytest.raises(InputError, match="depth_guidance: expected a MODEL of its own"):
        rooms.host_denoiser.with_denoisers([payload, other], 1, 0, lambda denoisers: None)


def test_a_model_of_another_family_is_refused(rooms, payload):
    with pytest.raises(InputError, match=r"prompts: expected prompts encoded by the CLIP.* \(192 channels\), got 2048"):
        rooms.host_denoiser.check_fit(payload.model, 2048, "prompts")
    foreign = types.SimpleNamespace(model=types.SimpleNamespace(model_config=types.SimpleNamespace(unet_config={})))
    with pytest.raises(InputError, match="model: expected a MODEL that draws pictures, got SimpleNamespace"):
        rooms.host_denoiser.check_fit(foreign, 192, "prompts")


def test_mesh_there_and_back(rooms):
    mesh = load_body().to_mesh(uvs=True)
    texture = torch.rand(8, 8, 3, generator=torch.Generator().manual_seed(0))
    colors = torch.rand(mesh.num_vertices, 3, generator=torch.Generator().manual_seed(1))
    mesh = mesh.replace(texture=texture, colors=colors)
    back = rooms.host_mesh.from_host(rooms.host_mesh.to_host(mesh))
    for name in ("vertices", "faces", "uvs", "texture"):
        assert torch.equal(getattr(back, name), getattr(mesh, name)), name
    assert back.colors is not None and torch.allclose(back.colors, colors, atol=1e-5)


def test_what_is_no_native_mesh_is_refused_by_name(rooms):
    class ForeignMesh:
        v = f = None

    with pytest.raises(InputError, match=r"expected ComfyUI's native MESH .* got .*ForeignMesh"):
        rooms.host_mesh.from_host(ForeignMesh())
    empty = rooms.host_mesh.mesh_class()(vertices=torch.zeros(1, 0, 3), faces=torch.zeros(1, 0, 3, dtype=torch.long))
    with pytest.raises(InputError, match="mesh: expected vertices and faces, got 0 and 0"):
        rooms.host_mesh.from_host(empty)


def test_trimesh_there_and_back(rooms):
    import trimesh

    mesh = load_body().to_mesh()
    native = rooms.host_mesh.to_host(mesh)
    (given,) = rooms.mesh.HumanNormMeshToTrimesh.execute(native).args
    assert isinstance(given, trimesh.Trimesh)
    scene = trimesh.Scene([given])
    (back,) = rooms.mesh.HumanNormTrimeshToMesh.execute(scene).args
    assert torch.allclose(back.vertices[0], mesh.vertices, atol=1e-6)
    with pytest.raises(InputError, match=r"trimesh: expected a trimesh.Trimesh, got builtins.str"):
        rooms.mesh.HumanNormTrimeshToMesh.execute("mesh")


@pytest.mark.parametrize("text", ["", ", ,", "top", "400", "nan", ",".join(["0"] * 65)])
def test_views_that_are_none(rooms, text):
    with pytest.raises(InputError, match="views: expected"):
        rooms.views.chosen_views(text)


def test_a_full_disk_is_told(rooms, tmp_path, monkeypatch):
    import folder_paths

    export = importlib.import_module("humannorm_pack.nodes.export")
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    native = rooms.host_mesh.to_host(load_body().to_mesh())
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # a file system that takes no more than that
    try:
        export.HumanNormMeshExporter.hidden = types.SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None)
        with pytest.raises(InputError, match=r"human_00001_.glb: could not be written .*; look at the disk"):
            export.HumanNormMeshExporter.execute("glb", 400, 128, 1.75, "human", mesh=native)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.rglob("*.glb"))


def test_unfinished_files_are_named_by_what_the_node_depends_on(rooms):
    def graph(seed, offset):
        return {
            f"{offset}1": {"class_type": "A", "inputs": {"x": 1}},
            f"{offset}2": {"class_type": "B", "inputs": {"a": [f"{offset}1", 0], "seed": seed}},
            f"{offset}3": {"class_type": "C", "inputs": {"of": [f"{offset}2", 0]}},
        }

    def name(seed, offset, start):
        graphs = json.loads(json.dumps(graph(seed, offset)))
        return rooms.long_work.unfinished_file("geometry", f"{offset}2", graphs, start).name

    start = {"a": torch.zeros(3)}
    assert name(1, "", start) == name(1, "7", start)
    assert len({name(1, "", start), name(2, "", start), name(1, "", {"a": torch.ones(3)})}) == 3


def test_a_result_is_the_last_preview_of_its_node(rooms, monkeypatch):
    import comfy.utils

    reported = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda *given, **named: reported.append((*given, *named.values()))
    )
    views = torch.stack([torch.full((64, 64, 3), level) for level in (0.0, 0.25, 0.5, 1.0)])
    rooms.long_work.show_result(views)
    ((value, total, (kind, picture, _), *_),) = reported
    assert (value, total, kind) == (1, 1, "JPEG")
    greys = [picture.getpixel((x * picture.width // 4, y * picture.height // 4))[0] for y in (1, 3) for x in (1, 3)]
    assert greys == pytest.approx([0, 64, 128, 255], abs=1)


def test_a_result_fills_its_preview(rooms, monkeypatch):
    """Somebody slim in wide pictures: cut to them, side by side."""
    import comfy.utils

    told = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda *given, **named: told.append((*given, *named.values()))
    )
    views = torch.zeros(4, 200, 200, 3)
    views[:, 20:180, 80:120] = 1.0
    rooms.long_work.show_result(views)
    picture = told[0][2][1]
    assert picture.width > picture.height
    white = int((np.asarray(picture.convert("L")) > 250).sum())
    assert white > 0.5 * picture.width * picture.height


def test_what_is_left_of_a_run_is_told_at_its_end(rooms, monkeypatch):
    told = []
    monkeypatch.setattr(rooms.long_work, "say", lambda node_id, text: told.append(text))
    for finished in (True, False):
        progress = rooms.long_work.Progress("7", 10, "Sculpting")
        progress.update(3)
        progress.close(finished)
    assert told[0].startswith("Sculpting: done in ")
    assert told[1] == "Sculpting: stopped at step 3 of 10; queue it again to go on"


def test_a_viewers_camera_sees_what_the_viewer_does(rooms):
    """A point projects where three.js would put it."""
    info = {
        "position": {"x": 2.0, "y": 1.5, "z": 1.0},
        "target": {"x": 0.1, "y": 0.9, "z": -0.2},
        "zoom": 1.5,
        "fov": 35.0,
        "cameraType": "perspective",
    }
    cameras = rooms.views.viewer_camera(info)
    eye, target = torch.tensor([2.0, 1.5, 1.0]), torch.tensor([0.1, 0.9, -0.2])
    torch.testing.assert_close(cameras.position()[0], eye, atol=1e-5, rtol=0)
    forward = torch.nn.functional.normalize(target - eye, dim=0)
    right = torch.nn.functional.normalize(torch.linalg.cross(forward, torch.tensor([0.0, 1.0, 0.0])), dim=0)
    up = torch.linalg.cross(right, forward)
    point = torch.tensor([0.3, 1.2, 0.1])
    away = point - eye
    focal = 1.5 / math.tan(math.radians(35.0) / 2)
    wanted = torch.stack([focal * (away @ right), focal * (away @ up)]) / (away @ forward)
    clip = cameras.clip_from_world(point[None])[0, 0]
    torch.testing.assert_close(clip[:2] / clip[3], wanted, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="camera_info: expected a perspective camera"):
        rooms.views.viewer_camera({**info, "cameraType": "orthographic"})


def test_a_mesh_stands_where_a_viewer_has_put_it(rooms):
    mesh = load_body().to_mesh()
    half = 2**-0.5
    turned = [
        {
            "position": {"x": 1.0, "y": 2.0, "z": 3.0},
            "quaternion": {"x": 0.0, "y": half, "z": 0.0, "w": half},  # a quarter turn about y: z goes to x
            "scale": {"x": 2.0, "y": 2.0, "z": 2.0},
        }
    ]
    x, y, z = mesh.vertices.unbind(1)
    wanted = torch.stack([2 * z + 1, 2 * y + 2, -2 * x + 3], 1)
    torch.testing.assert_close(rooms.views.as_in_viewer(mesh, turned).vertices, wanted, atol=1e-5, rtol=0)
    assert rooms.views.as_in_viewer(mesh, []) is mesh


def test_views_of_one_person_are_equally_bright_in_depth(rooms):
    ramp = torch.linspace(0, 1, 64)[None, :, None, None].expand(1, 64, 64, 3)
    views = torch.cat([ramp, 0.5 * ramp, torch.full_like(ramp, 0.1)])
    equal = rooms.samplers.nearest_to_white(views)
    torch.testing.assert_close(equal[1], equal[0], atol=1e-5, rtol=0)
    assert float(equal[0].max()) == 1 and torch.equal(equal[2], views[2])


def test_the_scale_follows_the_model(rooms, payload):
    foreign = types.SimpleNamespace(model=types.SimpleNamespace())
    assert rooms.scales.distilling_scale(payload.model, "normal") == 6.0
    assert rooms.scales.distilling_scale(payload.model, "color") == 3.0
    assert rooms.scales.distilling_scale(foreign, "normal") == 50.0
    assert rooms.scales.distilling_scale(foreign, "color") == 7.5
    assert rooms.scales.drawing_scale(foreign, "depth") == 7.5
    assert "bundled" in rooms.scales.told(payload.model, 6.0, 0.0)
    assert rooms.scales.told(payload.model, 6.0, 9.0) == "cfg 9"


def test_the_bundled_model_is_not_saved_as_a_checkpoint_that_nobody_can_load(rooms, payload):
    with pytest.raises(InputError, match="model: expected one of a size that ComfyUI's own loaders know"):
        payload.model.model.state_dict_for_saving(payload.model.model.diffusion_model.state_dict())


def test_a_model_of_another_kind_is_told_by_its_card(rooms, pack):
    models = importlib.import_module("humannorm_pack.nodes.models").HumanNormBundledModels.execute().args[:3]
    assert [rooms.payloads.model_facts(model).kind for model in models] == ["normal", "depth", "image"]
    assert rooms.payloads.wrong_card(models[1], "depth") == []
    assert rooms.payloads.wrong_card(models[1], "normal") == ["the bundled depth model draws normals here"]


@torch.no_grad()
def test_levels_that_are_no_whole_multiples_of_the_finest_are_built(rooms, tmp_path):
    """64 and 96 channels: the host's UNet and ControlNet give what diffusers' do."""
    from humannorm.training.config import TextConfig, UnetConfig
    from humannorm.training.diffusion import build_controlnet, build_unet

    torch.manual_seed(0)
    unet = build_unet(UnetConfig(channels=(64, 96, 160)), TextConfig(), latent_size=16).eval()
    control = build_controlnet(unet, 4).eval()
    for convolution in [*control.controlnet_down_blocks, control.controlnet_mid_block]:
        torch.nn.init.normal_(convolution.weight, std=0.1)  # zero when new
    for name, network in (("unet", unet), ("controlnet", control)):
        network.save_pretrained(tmp_path / name)
    (tmp_path / "scheduler").mkdir()
    bundled = bundled_folder()
    schedule = (bundled / "scheduler" / "scheduler_config.json").read_bytes()
    (tmp_path / "scheduler" / "scheduler_config.json").write_bytes(schedule)

    latents, text, picture = torch.randn(2, 4, 16, 16), torch.randn(2, 7, 192), torch.rand(2, 3, 64, 64)
    time = torch.tensor([30, 700])
    hosted = rooms.host_models.build_model(tmp_path).model.diffusion_model
    assert hosted.dtype == torch.float32
    torch.testing.assert_close(
        hosted(latents, time, context=text), unet(latents, time, text).sample, rtol=1e-3, atol=1e-4
    )
    net = rooms.host_models.build_control_net(tmp_path).control_model
    residuals = net(x=latents, hint=picture, timesteps=time, context=text)
    down, middle = control(latents, time, text, controlnet_cond=picture, return_dict=False)
    torch.testing.assert_close(residuals["middle"][0], middle, rtol=1e-3, atol=1e-3)
    for ours, theirs in zip(residuals["output"], down, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_model_of_eight_latent_channels_is_the_same_on_the_host(rooms, tmp_path):
    from humannorm.guidance.diffusers_denoiser import DiffusersDenoiser
    from humannorm.training.detail import with_detail
    from humannorm.training.widening import with_latents

    bundled = DiffusersDenoiser.load("bundled")
    torch.manual_seed(0)
    wide = with_detail(bundled.vae, 8).eval()
    torch.nn.init.normal_(wide.decoder.conv_out.weight, std=0.05)  # so that the fresh half is seen
    wide.save_pretrained(tmp_path / "vae")
    with_latents(bundled.unet, 8).save_pretrained(tmp_path / "unet")
    (tmp_path / "scheduler").symlink_to(bundled_folder() / "scheduler")
    vae, model = rooms.host_models.build_vae(tmp_path), rooms.host_models.build_model(tmp_path)
    assert vae.latent_channels == model.get_model_object("latent_format").latent_channels == 8
    latents = torch.randn(1, 8, 8, 8)
    with torch.inference_mode():
        ours = wide.decode(latents).sample
        theirs = vae.first_stage_model.float().decode(latents)
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-3)
        images = torch.rand(1, 3, 32, 32)
        ours, theirs = wide.encode(images).latent_dist.mode(), vae.first_stage_model.encode(images)
        torch.testing.assert_close(theirs[:, :8], ours, rtol=1e-3, atol=1e-3)
