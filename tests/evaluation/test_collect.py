"""Galleries from real shards and a tiny random model; with the judges where their environment is named."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from humannorm.body import load_body
from humannorm.cameras import CAMERA_PLANS, view_label
from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.colours import COLOURS
from humannorm.commands.evaluate import sentences_of
from humannorm.evaluation.collect import (
    SampleSettings,
    add_controlled,
    add_controls,
    add_reconstructions,
    add_renders,
    add_samples,
    draw,
    seen_by_label,
    shuffled_tiles,
)
from humannorm.evaluation.figures import figures_of
from humannorm.evaluation.gallery import Gallery, Judgements
from humannorm.guidance import DiffusersDenoiser
from humannorm.guidance.joint_filter import JointFilter
from humannorm.images import load_png
from humannorm.start_pictures import start_of_sentence
from humannorm.training.hints import LABELS
from humannorm.training.shards import Shards
from humannorm.training.widening import with_hint_channels

SIZE = 64
AZIMUTHS = (0.0, 90.0, 180.0, -90.0)
JUDGE = os.environ.get("HUMANNORM_JUDGE")


@pytest.fixture(scope="module")
def people_folder(tmp_path_factory):
    """Six held-out people and one of the training set, each full from four sides and by the head from two."""
    folder = tmp_path_factory.mktemp("people")
    lines, shades = [], []
    for person in range(7):
        shots = [("full", azimuth) for azimuth in AZIMUTHS] + [("head", 0.0), ("head", 180.0)]
        for part, azimuth in shots:
            shades.append(140 + 10 * person)
            lines.append(
                {
                    "person": f"person{person}",
                    "split": "train" if person == 6 else "held_out",
                    "attributes": {"top_colour": "red", "bottom_colour": "blue"},
                    "caption": f"a person, number {person}",
                    "part": part,
                    "azimuth": azimuth,
                }
            )
    pictures = np.full((len(lines), SIZE, SIZE, 3), np.array(shades)[:, None, None, None], dtype=np.uint8)
    for kind in ("normal", "color"):
        np.save(folder / f"{kind}_00000.npy", pictures)
    for kind in ("depth", "mask"):
        np.save(folder / f"{kind}_00000.npy", pictures[..., 0])
    (folder / "shots_00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return folder


@pytest.fixture
def guide(tiny_sd):
    return DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)


def test_renders_split_by_person_and_never_show_the_training_set(people_folder, tmp_path):
    gallery = Gallery(tmp_path)
    add_renders(gallery, Shards(people_folder, split="held_out"), SampleSettings(count=3))
    people = {source: {p.prompt for p in gallery.select(source=source)} for source in ("reference", "render")}
    assert people["reference"].isdisjoint(people["render"])
    assert people["reference"] | people["render"] == {f"a person, number {k}" for k in range(6)}
    assert len(gallery.select(source="render", kind="normal", part="full")) == 4 * 3
    assert len(gallery.select(source="render", kind="normal", part="head")) == 2 * 3
    assert not gallery.select(source="reference", part="head")
    for picture in gallery.select(kind="color"):
        assert torch.equal(gallery.image(picture.id), gallery.image(picture.pair))  # the same shot


@pytest.mark.slow
def test_samples_fill_every_cell_and_hang_on_the_seed(people_folder, tmp_path, guide):
    people = Shards(people_folder, split="held_out")
    images = {}
    for name, settings in {
        "a": SampleSettings(count=2, steps=1, batch=16),
        "b": SampleSettings(count=2, steps=1, batch=1),
        "c": SampleSettings(count=2, steps=1, seed=1),
    }.items():
        gallery = Gallery(tmp_path / name)
        add_samples(gallery, people, guide, settings)
        assert len(gallery.pictures) == 2 * (4 + 2) * 2
        images[name] = gallery.image("model_color_full_left_001")
    torch.testing.assert_close(images["a"], images["b"], atol=2 / 255, rtol=0)
    assert not torch.equal(images["a"], images["c"])
    picture = gallery.select(id="model_color_full_left_001")[0]
    assert picture.azimuth == 90
    assert picture.prompt.endswith(", full body, left side view")
    assert picture.pair == "model_normal_full_left_001"
    assert gallery.select(id=picture.pair)[0].prompt.endswith(
        ", black background, normal map, full body, left side view"
    )


WORN = {
    "skin": "dark", "hair_colour": "brown", "top_colour": "red", "bottom_colour": "blue", "shoes_colour": "white",
    "hat_colour": None, "pose": "sitting",
}  # fmt: skip


@pytest.fixture
def hinted_folder(people_folder, tmp_path):
    """The same people with hints: the upper half is a top, what is below skin."""
    folder = tmp_path / "hinted"
    shutil.copytree(people_folder, folder)
    lines = [json.loads(line) for line in (folder / "shots_00000.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [{**line, "attributes": WORN, "view": view_label(line["azimuth"])} for line in lines]
    (folder / "shots_00000.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    labels = np.full((len(lines), SIZE, SIZE), LABELS.index("skin"), dtype=np.uint8)
    labels[:, : SIZE // 2] = LABELS.index("top")
    np.save(folder / "label_00000.npy", labels)
    np.save(folder / "start_00000.npy", np.full((len(lines), SIZE, SIZE, 3), 90, dtype=np.uint8))
    return folder


@pytest.mark.slow
def test_people_are_drawn_under_hints_and_read_by_label(hinted_folder, tmp_path, guide):
    people = Shards(hinted_folder, split="held_out", maps=("color", "normal", "mask", "start", "label"))
    settings = SampleSettings(count=2, steps=1)
    with pytest.raises(InputError, match="--models: expected a ControlNet of six hint channels, got one of 3"):
        add_controlled(Gallery(tmp_path / "refused"), people, guide, settings, "start")
    guide.controlnet = with_hint_channels(guide.controlnet, 6)
    gallery = Gallery(tmp_path / "pictures")
    add_controlled(gallery, people, guide, settings, "start")
    for source in ("model", "render"):
        assert len(gallery.select(source=source)) == 2 * (4 + 2) * 2
    assert len(gallery.select(source="vae_any")) == 2 * (4 + 2) * 2
    assert len(gallery.select(source="vae")) == 2 * 4 * 2
    guide.joint_filter = JointFilter((8, 16, 16))
    with torch.no_grad():
        guide.joint_filter.last.bias[8:] = 1.0  # added to what is decoded: all white
    add_controlled(Gallery(tmp_path / "sharpened"), people, guide, settings, "start")
    for source in ("vae", "model"):
        picture = gallery.select(source=source, kind="normal", part="full")[0]
        assert float(load_png(tmp_path / "sharpened" / picture.file).min()) == 1
        assert float(gallery.image(picture.id).min()) < 1
    drawn, render = (gallery.select(source=source, kind="color", part="full") for source in ("model", "render"))
    assert set(drawn[0].seen) == {"top", "skin"}
    grey = int(255 * float(gallery.image(render[0].id)[0, 0, 0]) + 0.5)
    assert render[0].seen["skin"] == pytest.approx(grey / 255, abs=1e-3)
    assert gallery.select(id=drawn[0].pair)[0].prompt.endswith("normal map, full body, front view")
    gallery.save()
    judged = Judgements(
        {p.id: {"pose": None, "face": None} for p in gallery.pictures}, {p.id: torch.zeros(4) for p in gallery.pictures}
    )
    figures = {(f.name, f.source): f for f in figures_of(Gallery.load(gallery.folder), judged)}
    assert figures["running, sitting and fighting people found", "model"].count == 2 * 4  # all of them sit
    assert figures["VAE copy of normals, full body, PSNR dB", "model"].count == 2 * 4
    right = sum(p.seen["top"] == "red" for p in gallery.select(source="model", kind="color")) / 12
    assert figures["top in the named colour, by label", "model"].value == pytest.approx(right)


@pytest.mark.slow
def test_texts_are_drawn_from_the_bodies_that_they_describe(people_folder, tmp_path, guide):
    """Another start is another picture of the same words and noise; without steps' noise it would be the start."""
    people = Shards(people_folder, split="held_out", maps=("color", "normal", "mask"))
    guide.controlnet = with_hint_channels(guide.controlnet, 6)
    settings, told = SampleSettings(count=1, steps=2, sampler="ddim"), []
    starts = {
        pose: start_of_sentence("a man in red", CAMERA_PLANS["full_body"], body=load_body(None, pose))
        for pose in ("a-pose", "sit")
    }
    drawn = {}
    for pose, start in starts.items():
        gallery = Gallery(tmp_path / pose)
        add_samples(gallery, people, guide, settings, told.append, lambda text, start=start: start)
        assert len(gallery.select(source="model")) == 2 * (4 + 2)
        drawn[pose] = gallery.image("model_color_full_front_000")
        heads = gallery.select(part="head", kind="color", source="model")
        assert [picture.azimuth for picture in heads] == [0.0, 180.0]
    gallery = Gallery(tmp_path / "anywhere")
    anywhere = replace(settings, any_direction=True)
    add_samples(gallery, people, guide, anywhere, told.append, lambda _: starts["a-pose"])
    middles = {"front": 0.0, "left": 90.0, "back": 180.0, "right": -90.0}
    off = {p.azimuth - middles[p.id.split("_")[3]] for p in gallery.select(source="model", part="full")}
    assert len(off) == 4 and all(0 < abs(angle) < 45 for angle in off)  # one for each view, of both kinds
    assert not torch.equal(gallery.image("model_color_full_front_000"), drawn["a-pose"])
    assert told[0] == "dressing 1 of 1" and float((drawn["sit"] - drawn["a-pose"]).abs().max()) > 0.05


@pytest.mark.slow
def test_colours_under_finished_normals_are_read_by_label_of_any_controlnet(hinted_folder, tmp_path, guide):
    people = Shards(hinted_folder, split="held_out", maps=("color", "normal", "mask", "label"))
    gallery = Gallery(tmp_path / "pictures")
    add_controlled(gallery, people, guide, SampleSettings(count=1, steps=1), "normal")
    assert guide.hint_channels == 3
    assert not gallery.select(source="model", kind="normal")
    drawn = gallery.select(source="model", kind="color", part="full")
    assert len(drawn) == 4 and set(drawn[0].seen) == {"top", "skin"}
    assert gallery.select(id=drawn[0].pair)[0].source == "render"


def test_labels_are_read_by_hand():
    labels = torch.zeros(8, 8, dtype=torch.uint8)
    labels[:4], labels[4:, :4], labels[4:, 4:] = (LABELS.index(name) for name in ("top", "skin", "shoes"))
    labels[7, 4:] = 0
    image = torch.zeros(8, 8, 3)
    image[:4] = torch.tensor(COLOURS["green"]) / 255
    image[4:, :4] = torch.tensor([0.2, 0.4, 0.6])
    image[4:, 4:] = 0.98
    seen = seen_by_label(image, labels)
    assert seen == {"top": "green", "shoes": "white", "skin": pytest.approx(0.4)}
    labels[4:, 4:7] = 0  # three pixels are left
    assert "shoes" not in seen_by_label(image, labels)


def test_controls_are_the_renders_in_pieces(people_folder, tmp_path, generator):
    image = torch.rand(16, 12, 3, generator=generator)
    order = torch.randperm(16, generator=generator)
    pieces = shuffled_tiles(image, order)
    for place, origin in enumerate(order.tolist()):
        (r, c), (s, d) = divmod(place, 4), divmod(origin, 4)
        assert torch.equal(pieces[4 * r : 4 * r + 4, 3 * c : 3 * c + 3], image[4 * s : 4 * s + 4, 3 * d : 3 * d + 3])
    assert torch.equal(shuffled_tiles(image, torch.arange(16)), image)
    gallery = Gallery(tmp_path)
    add_renders(gallery, Shards(people_folder, split="held_out"), SampleSettings(count=1))
    add_controls(gallery, SampleSettings(count=1))
    assert len(gallery.select(source="control")) == len(gallery.select(source="render", part="full")) == 8


@pytest.mark.slow
def test_no_colours_without_a_controlnet(people_folder, tmp_path, tiny_sd):
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=False)
    people = Shards(people_folder, split="held_out")
    gallery = Gallery(tmp_path)
    with pytest.raises(InputError, match="--models: expected a controlnet"):
        add_samples(gallery, people, guide, SampleSettings(count=1, steps=1))
    add_samples(gallery, people, guide, SampleSettings(count=1, steps=1, kinds=("normal",)))
    assert {picture.kind for picture in gallery.pictures} == {"normal"}


@pytest.mark.slow
def test_sentences_are_drawn_in_place_of_captions(people_folder, tmp_path, guide):
    gallery = Gallery(tmp_path)
    settings = SampleSettings(count=5, steps=1, kinds=("normal",), sentences=("somebody's aunt", "the guy next door"))
    add_samples(gallery, Shards(people_folder, split="held_out"), guide, settings)
    assert len(gallery.pictures) == 2 * 6  # four sides of the body, two of the head
    prompts = {picture.prompt for picture in gallery.select(part="full", kind="normal") if picture.azimuth == 0.0}
    assert prompts == {f"{text}, black background, normal map, full body, front view" for text in settings.sentences}
    assert all(picture.attributes == {} for picture in gallery.pictures)


def test_sentences_are_put_as_the_wording_says(tmp_path):
    file = tmp_path / "own.txt"
    file.write_text("Her dress is green\n\nBlue jeans, grey hoodie\n", encoding="utf-8")
    assert tuple(sentences_of(file, "bundled", "as-written")) == ("Her dress is green", "Blue jeans, grey hoodie")
    assert sentences_of(file, "bundled", "pose")["Her dress is green, standing"] == "Her dress is green"
    assert list(sentences_of(file, "bundled", "captions"))[1].startswith(
        "a young man with dark brown short hair, wearing a grey"
    )
    assert next(iter(sentences_of(file, str(tmp_path), "captions"))) == "Her dress is green"
    file.write_text(" \n", encoding="utf-8")
    with pytest.raises(InputError, match="expected sentences, one a line, got none"):
        sentences_of(file, "bundled", "captions")


@pytest.mark.slow
def test_reconstructions_pair_with_their_originals(people_folder, tmp_path, guide):
    gallery = Gallery(tmp_path)
    settings = SampleSettings(count=2)
    add_renders(gallery, Shards(people_folder, split="held_out"), settings)
    add_reconstructions(gallery, Shards(people_folder, split="held_out"), guide, settings)
    copies = gallery.select(source="vae")
    assert len(copies) == len(gallery.select(source="render", part="full"))
    assert len(gallery.select(source="vae_any")) == len(gallery.select(source="original")) == len(copies)
    for copy in copies[:4]:
        expected = guide.decode(guide.encode_images(gallery.image(copy.pair)[None]))[0]
        torch.testing.assert_close(gallery.image(copy.id), expected, atol=2 / 255, rtol=0)


def test_cells_draw_different_noise(guide):
    settings = SampleSettings(steps=1)
    first, second = (draw(guide, ["a man"], settings, "normal", cell, None) for cell in ("full_front", "full_back"))
    assert not torch.equal(first, second)


def test_the_command_refuses_before_it_draws(people_folder, tmp_path, capsys):
    words = ["evaluate", "samples", "--data", str(people_folder), "--out", str(tmp_path / "out")]
    assert main([*words, "--judge", "no-such-python"]) == 1
    assert "--judge: expected the python of the judges' environment" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--hints", "start"], "--start: expected none beside --hints"),
        ([], "whose ControlNet reads finished normal maps alone"),
        (["--start", "none", "--any-direction"], "--any-direction: expected with --start auto alone"),
        (["--start", "none", "--size", "32"], "expected pictures of 32 pixels, as are drawn, got 64"),
    ],
)
def test_what_is_of_no_use_is_refused(people_folder, tiny_sd, tmp_path, capsys, more, message):
    words = ["evaluate", "samples", "--data", str(people_folder), "--out", str(tmp_path / "out"), "--start", "auto"]
    assert main([*words, "--judge", sys.executable, "--models", str(tiny_sd("v_prediction")), *more]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.skipif(JUDGE is None, reason="HUMANNORM_JUDGE names no python of the judges' environment")
def test_the_whole_command_with_real_judges(people_folder, tmp_path, tiny_sd, capsys):
    out = tmp_path / "out"
    words = ["evaluate", "samples", "--data", str(people_folder), "--out", str(out), "--judge", str(JUDGE)]
    assert main([*words, "--models", str(tiny_sd("v_prediction")), "--count", "1", "--steps", "1"]) == 0
    text = (out / "figures.md").read_text(encoding="utf-8")
    assert text.strip() in capsys.readouterr().out
    assert "person found, full-body normals | >= 90 % | 0 % (4) | no" in text
    figures = json.loads((out / "figures.json").read_text(encoding="utf-8"))
    assert figures["count"] == 1
    assert (out / "sheet_color_head.png").is_file()
