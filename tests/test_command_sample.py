"""`humannorm sample`: the pictures asked for exist, follow seed and prompt, and errors say what was wrong."""

from __future__ import annotations

import shutil

import pytest
import torch
from diffusers import ControlNetModel

from humannorm.cameras import CAMERA_PLANS
from humannorm.cli import main
from humannorm.guidance import GUIDANCE_SCALES, PUBLISHED_FOLDERS, DiffusersDenoiser, sample_images
from humannorm.guidance.hints_controlnet import save_hints_controlnet
from humannorm.images import load_png, save_png
from humannorm.models import HINTS_CONTROLNET, write_card
from humannorm.prompts import Prompts
from humannorm.start_pictures import ENTRY_LEVEL, start_of_sentence
from humannorm.training.widening import with_hint_channels


@pytest.fixture
def sample(tiny_sd, tmp_path):
    def run(*words, out="out"):
        models = ["--models", str(tiny_sd("v_prediction")), "--device", "cpu", "--precision", "fp32"]
        return main(["sample", *models, *words, "--steps", "2", "--out", str(tmp_path / out)])

    return run


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_normals_view_by_view_with_a_sheet(sample, tmp_path):
    assert sample("normal", "a man", "--views", "front,30", "--count", "2", "--part", "head") == 0
    expected = [
        "normal_head_030_00.png",
        "normal_head_030_01.png",
        "normal_head_front_00.png",
        "normal_head_front_01.png",
    ]
    assert names(tmp_path / "out") == [*expected, "sheet_normal_head.png"]
    assert load_png(tmp_path / "out" / "normal_head_front_00.png").shape == (64, 64, 3)


@pytest.mark.slow
def test_the_seed_decides_and_batches_do_not(sample, tmp_path):
    words = ["depth", "--prompt", "a man", "--views", "front,left,back"]
    for out, more in {"a": [], "b": ["--batch", "2"], "c": ["--seed", "1"]}.items():
        assert sample(*words, *more, out=out) == 0
    a, b, c = (load_png(tmp_path / out / "depth_full_back_00.png") for out in "abc")
    torch.testing.assert_close(a, b, atol=1.01 / 255, rtol=0)
    assert (a - c).abs().max() > 0.01


def test_image_draws_its_normal_map_first(sample, tmp_path):
    assert sample("image", "--prompt", "a man", "--views", "front", "--sampler", "ddim") == 0
    assert names(tmp_path / "out") == ["image_full_front_00.png", "normal_full_front_00.png", "sheet_image_full.png"]


@pytest.mark.slow
def test_image_follows_a_given_normal_map(sample, tiny_sd, tmp_path):
    """The file is what the sampler draws under that map, from the noise that the seed and the picture's number give."""
    save_png(tmp_path / "normal.png", torch.rand(64, 64, 3))
    save_png(tmp_path / "other.png", torch.zeros(64, 64, 3))
    for name in ("normal", "other"):
        words = ["image", "--prompt", "a man", "--views", "front", "--normal", str(tmp_path / f"{name}.png")]
        assert sample(*words, out=name) == 0
        assert names(tmp_path / name) == ["image_full_front_00.png", "sheet_image_full.png"]
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)
    for name, other in (("normal", "other"), ("other", "normal")):
        written = load_png(tmp_path / name / "image_full_front_00.png")
        drawn = {
            control: sample_images(
                guide,
                [Prompts("a man", "color").text("full", "front")],
                seeds=[0],
                guidance_scale=GUIDANCE_SCALES["color"],
                control=load_png(tmp_path / f"{control}.png")[None],
                steps=2,
            )[0].clamp(0, 1)
            for control in (name, other)
        }
        torch.testing.assert_close(written, drawn[name], atol=0.51 / 255, rtol=0)
        assert (written - drawn[name]).square().mean() < (written - drawn[other]).square().mean()


@pytest.mark.slow
def test_the_published_four_draw_what_one_folder_draws(published_sd, tiny_sd, tmp_path):
    """Four folders of the same weights: the normal map and the picture that follows it come out alike."""
    for out, models in {"four": published_sd, "one": tiny_sd("epsilon")}.items():
        words = ["image", "--prompt", "a man", "--views", "front", "--models", str(models), "--steps", "2"]
        assert main(["sample", *words, "--device", "cpu", "--out", str(tmp_path / out)]) == 0
    for name in names(tmp_path / "one"):
        assert (tmp_path / "four" / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    shutil.rmtree(published_sd / PUBLISHED_FOLDERS[1])
    words = ["--prompt", "a man", "--models", str(published_sd), "--out", str(tmp_path / "depth")]
    assert main(["sample", "depth", *words]) == 1 and not (tmp_path / "depth").exists()


@pytest.mark.slow
def test_a_weak_unet_guides_but_at_a_weight_of_one(autoguided_sd, sample, tmp_path):
    words = ["normal", "--prompt", "a man", "--views", "front"]
    assert sample(*words, out="without") == 0
    for out, more in {"off": ["--autoguidance", "1"], "on": []}.items():
        assert sample(*words, *more, "--models", str(autoguided_sd), out=out) == 0
    without, off, on = (load_png(tmp_path / out / "normal_full_front_00.png") for out in ("without", "off", "on"))
    assert torch.equal(off, without)
    assert (on - without).abs().max() > 0.01


@pytest.fixture
def hinted(tiny_sd, tmp_path):
    """A model with a ControlNet that has learnt starts."""
    folder = tmp_path / "hinted"
    shutil.copytree(tiny_sd("v_prediction"), folder)
    base = ControlNetModel.from_pretrained(folder / "controlnet")
    save_hints_controlnet(with_hint_channels(base, 6), base, folder / HINTS_CONTROLNET)
    return folder


@pytest.mark.parametrize("kind", ["depth", "image"])
def test_pictures_begin_from_the_body_that_the_words_describe(hinted, tmp_path, kind):
    """Written out: entered from the dressed start's pictures, under what the ControlNet is told of it."""
    words = ["a man in red", "--views", "front", "--steps", "4", "--sampler", "ddim", "--models", str(hinted)]
    for start in ("auto", "none"):
        more = ["--start", start, "--out", str(tmp_path / start), "--device", "cpu", "--precision", "fp32"]
        assert main(["sample", kind, *words, *more]) == 0
    guide = DiffusersDenoiser.load(hinted, control=True)
    seen = start_of_sentence("a man in red", CAMERA_PLANS["full_body"]).pictures("full", [0.0], guide.resolution)
    drawn = {}
    for each in ("normal", "color") if kind == "image" else (kind,):
        drawn[each] = sample_images(
            guide,
            [Prompts("a man in red", each).text("full", "front")],
            seeds=[0],
            guidance_scale=GUIDANCE_SCALES[each],
            control=seen.control(each, drawn.get("normal")),
            steps=4,
            sampler="ddim",
            entry=seen.entry(each),
            level=ENTRY_LEVEL,
        )
        name = f"{'image' if each == 'color' else each}_full_front_00.png"
        written, other = (load_png(tmp_path / start / name) for start in ("auto", "none"))
        torch.testing.assert_close(written, drawn[each][0], atol=0.51 / 255, rtol=0)
        assert (written - other).abs().max() > 0.1


def test_the_size_is_the_cards_over_a_start_and_the_users_anywhere(hinted, tmp_path):
    words = ["sample", "image", "a man in red", "--views", "front", "--steps", "2", "--models", str(hinted)]
    write_card(hinted, CAMERA_PLANS["full_body"], resolution_over_start=96)
    for name, more, side in (
        ("card", [], 96),
        ("words", ["--start", "none"], 64),
        ("own", ["--size", "32"], 32),
        ("own_words", ["--start", "none", "--size", "80"], 80),
    ):
        assert main([*words, *more, "--device", "cpu", "--out", str(tmp_path / name)]) == 0
        assert load_png(tmp_path / name / "image_full_front_00.png").shape == (side, side, 3)
    words[1] = "depth"  # no ControlNet is shown anything then
    assert main([*words, "--device", "cpu", "--out", str(tmp_path / "depth")]) == 0
    assert load_png(tmp_path / "depth" / "depth_full_front_00.png").shape == (64, 64, 3)


def test_a_given_normal_map_is_followed_and_no_start(hinted, tmp_path, capsys):
    save_png(tmp_path / "normal.png", torch.rand(64, 64, 3))
    words = ["image", "a man", "--views", "front", "--normal", str(tmp_path / "normal.png"), "--steps", "2"]
    assert main(["sample", *words, "--models", str(hinted), "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert "dressing" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["normal", " "], "prompt: expected a description"),
        (["normal"], "sample: expected one PROMPT, got none"),
        (["normal", "a nude child"], "prompt: expected adults, who are dressed"),
        (["normal", "a man", "--prompt", "a man"], "sample: expected one PROMPT, got two"),
        (["normal", "--prompt", "a man", "--views", "above"], "--views: expected front"),
        (["normal", "--prompt", "a man", "--count", "0"], "--count"),
        (["normal", "--prompt", "a man", "--size", "0"], "--size"),
        (["normal", "--prompt", "a man", "--size", "100"], "resolution: expected a multiple of 16 pixels, got 100"),
        (["normal", "--prompt", "a man", "--normal", "x.png"], "--normal: expected with `image` only"),
        (["image", "--prompt", "a man", "--normal", "missing.png"], "missing.png"),
        (["normal", "--prompt", "a man", "--models", "nowhere"], "nowhere: expected a diffusers folder"),
    ],
)
def test_wrong_calls(tiny_sd, tmp_path, capsys, words, message):
    models = [] if "--models" in words else ["--models", str(tiny_sd("v_prediction"))]
    capsys.readouterr()  # what making the model said
    assert main(["sample", *words, *models, "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()
