"""A LoRA that draws in few steps what the guided sampler draws in many."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from humannorm.checks import InputError
from humannorm.cli import main
from humannorm.guidance import Autoguidance, DiffusersDenoiser
from humannorm.guidance.diffusers_denoiser import to_denoised
from humannorm.guidance.folders import few_steps_of, lora_name
from humannorm.guidance.samplers import latent_states
from humannorm.images import load_png
from humannorm.models import FEW_STEPS
from humannorm.prompts import Prompts
from humannorm.training.config import DiffusionConfig, LoopConfig
from humannorm.training.diffusion import SCHEDULE, LatentShards
from humannorm.training.few_steps import (
    AlignedFewStepsTask,
    FewStepsConfig,
    FewStepsTask,
    LowRank,
    Walks,
    add_low_rank,
    ddim_step,
    ddim_target,
    drawn_on,
    levels_of,
    output_for,
    weighted_huber,
)
from humannorm.training.recipes import FineTuneConfig, fine_tune, train_few_steps
from humannorm.training.shards import Shards

LOOP = LoopConfig(
    steps=6, batch_size=4, learning_rate=5e-3, warmup_steps=1, precision="no", sheet_steps=6, checkpoint_seconds=0.0
)
CONFIG = FewStepsConfig(
    teacher_steps=8, kinds=(("normal", 4), ("color", 3), ("depth", 1)), parts=(), batch=2, files=2, rank=2, sheet=1,
    loop=LOOP,
)  # fmt: skip


class GaussianTeacher:
    """Knows that clean latents are Gaussian with this spread: its estimate is linear in x, its ODE solved by hand."""

    timesteps, resolution, hint_channels = 1000, 16, 0

    def __init__(self, spread: float) -> None:
        from diffusers import DDPMScheduler

        self.spread = spread
        self.alphabar = DDPMScheduler.from_config(SCHEDULE).alphas_cumprod

    def sigma(self, timestep):
        alphabar = self.alphabar[timestep.long()]
        return ((1 - alphabar) / alphabar).sqrt()

    def condition(self, prompts, *, guidance_scale, negative="", control=None, control_scale=1.0):
        return None

    def encode_images(self, images):
        return images

    def decode(self, latents):
        return latents

    def denoise(self, x, sigma, condition):
        return x * (self.spread**2 / (self.spread**2 + sigma.square()))[:, None, None, None]


def test_the_target_leads_where_the_ode_of_a_gaussian_leads(generator):
    """dx / dsigma = (x - z) / sigma with z = s^2 x / (s^2 + sigma^2) keeps x / sqrt(s^2 + sigma^2)."""
    teacher = GaussianTeacher(0.8)
    noise = torch.randn(2, 4, 4, 4, generator=generator)
    states = list(latent_states(teacher, None, noise, scheduler_config=SCHEDULE, steps=400))
    timesteps, alphabar = levels_of(SCHEDULE, 4)
    assert timesteps.tolist() == [999, 749, 499, 249]
    x = noise
    for level in range(4):
        (a, a_next), (b, b_next) = (part[level : level + 2] for part in (alphabar.sqrt(), (1 - alphabar).sqrt()))
        share = math.sqrt(0.8**2 * a_next**2 + b_next**2) / math.sqrt(0.8**2 * a**2 + b**2)
        following = share * x
        torch.testing.assert_close(states[100 * (level + 1) - 1], following, rtol=0.01, atol=0.01)
        clean = ddim_target(x, following, a, b, a_next, b_next)
        torch.testing.assert_close(ddim_step(x, clean, a, b, a_next, b_next), following)
        x = following
    torch.testing.assert_close(clean, following)  # the last step ends at its own estimate


def test_low_rank_begins_at_the_weight_and_is_what_a_lora_says(generator):
    for layer in (nn.Conv2d(6, 8, 3), nn.Linear(6, 8)):
        network = nn.Sequential(layer)
        before = layer.weight.detach().clone()
        added = add_low_rank(network, 3)["0"]
        assert torch.equal(layer.weight, before)
        trained = [name for name, value in network.named_parameters() if value.requires_grad]
        assert trained == ["0.parametrizations.weight.0.down", "0.parametrizations.weight.0.up"]
        with torch.no_grad():
            added.up.normal_(generator=generator)
        down, up = added.factors()
        assert torch.linalg.matrix_rank((layer.weight - before).detach().flatten(1)) == 3
        product = torch.einsum("or,r...->o...", up.flatten(1), down)
        torch.testing.assert_close(layer.weight, before + product)
    assert LowRank(torch.zeros(4, 1), 8).down.shape == (1, 1)  # no rank above what the weight has


def test_the_loss_is_a_square_below_its_width_and_a_size_above_it():
    weight = torch.ones(1, 1, 2, 2)
    small = weighted_huber(torch.full((1, 4, 2, 2), 1e-3), weight, 0.1)
    assert float(small) == pytest.approx(1e-6 / (2 * 0.1), rel=1e-3)
    assert float(weighted_huber(torch.full((1, 4, 2, 2), 50.0), weight, 0.1)) == pytest.approx(49.9, rel=1e-4)
    error = torch.zeros(1, 4, 2, 2)
    error[..., 0, 0] = 1.0
    heavy = torch.ones(1, 1, 2, 2)
    heavy[..., 0, 0] = 5.0
    assert float(weighted_huber(error, heavy, 0.1) / weighted_huber(error, weight, 0.1)) == pytest.approx(5 * 4 / 8)


def test_what_is_drawn_on_differs_from_the_corners():
    latents = torch.full((1, 4, 8, 8), -0.7)
    latents[..., 3:6, 2:5] += 1.0
    assert drawn_on(latents).sum() == 9


@pytest.fixture(scope="module")
def learnt(tiny_sd, write_shards, tmp_path_factory):
    """The base, the data and the folder of a LoRA that was trained on them."""
    place = tmp_path_factory.mktemp("few_steps")
    base, data = tiny_sd("v_prediction"), write_shards(2, place / "people", 64)
    return base, data, train_few_steps(base, data, place / "run", CONFIG, device="cpu")


def losses(folder):
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


@pytest.mark.slow
def test_a_run_writes_walks_a_sheet_and_a_lora(learnt):
    base, data, folder = learnt
    run = folder.parent
    walks = Walks(run / "walks", Shards(data, maps=("normal",)))
    assert len(walks) == 16 and walks.steps == 4
    assert [walk["kind"] for walk in walks.told[:8]] == ["normal"] * 4 + ["color"] * 3 + ["depth"]
    assert (run / "sheets" / "step_000006.png").is_file() and len(losses(run)) == 6
    weights, unet = load_file(folder / FEW_STEPS), load_file(base / "unet" / "diffusion_pytorch_model.safetensors")
    layers = {lora_name(name) for name, value in unet.items() if value.ndim in (2, 4)}
    assert {name.partition(".")[0] for name in weights} == layers
    assert any(value.abs().max() > 0 for name, value in weights.items() if "lora_up" in name)


@pytest.mark.slow
def test_a_walk_is_the_guided_sampler_s(learnt):
    base, data, folder = learnt
    walks = Walks(folder.parent / "walks", Shards(data, maps=("normal",)))
    teacher = DiffusersDenoiser.load(base, control=True, autoguidance=Autoguidance())
    for chosen in (slice(0, 2), slice(4, 6)):  # normals; colours, which follow a normal map
        told = walks.told[chosen]
        colour = told[0]["kind"] == "color"
        control = torch.stack([walks.shards.image(walk["index"], "normal") for walk in told]) if colour else None
        condition = teacher.condition(
            [walk["prompt"] for walk in told], guidance_scale=2.0 if colour else 4.0, control=control
        )
        states = torch.stack(walks.states[chosen]).float()
        *_, end = latent_states(teacher, condition, states[:, 0], scheduler_config=teacher.scheduler_config, steps=8)
        torch.testing.assert_close(states[:, -1], end, rtol=2e-2, atol=2e-2)  # kept in half precision


@pytest.mark.slow
def test_the_loss_falls_and_begins_at_the_base(learnt, generator):
    base, data, folder = learnt
    walks = Walks(folder.parent / "walks", Shards(data, maps=("normal",)))
    task = FewStepsTask(
        model=DiffusersDenoiser.load(base, control=True), walks=walks, held_out=walks, config=replace(CONFIG, rank=8)
    )
    batch = task.draw(generator, 16)
    assert sorted(batch["level"].tolist()) == sorted([0, 1, 2, 3] * 4)
    plain = DiffusersDenoiser.load(base, control=True)
    sigma = plain.sigma(task.timesteps[batch["level"]].float())
    shown = batch["hint"].permute(0, 2, 3, 1)
    first = plain.denoise(
        batch["x"][: len(shown)] * (1 + sigma[: len(shown), None, None, None].square()).sqrt(),
        sigma[: len(shown)],
        plain.condition(
            [task.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch["tokens"][: len(shown)]],
            guidance_scale=1.0,
            control=shown,
        ),
    )
    signal, spread = task.signal[batch["level"]], task.spread[batch["level"]]
    output = task.predict(batch)[: len(shown)]
    clean = signal[: len(shown), None, None, None] * batch["x"][: len(shown)]
    clean = clean - spread[: len(shown), None, None, None] * output
    torch.testing.assert_close(clean, first, rtol=1e-3, atol=1e-3)
    optimizer = torch.optim.AdamW([value for value in task.parameters() if value.requires_grad], lr=3e-3)
    found = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = task(batch)
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert found[-1] < 0.7 * found[0]


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on_with_the_same_losses(learnt, tmp_path):
    base, data, _ = learnt
    cut = replace(CONFIG, loop=replace(LOOP, steps=3, cooldown=1e-9))
    again = replace(CONFIG, loop=replace(LOOP, cooldown=1e-9))
    train_few_steps(base, data, tmp_path / "whole", again, device="cpu")
    (tmp_path / "cut" / "walks").mkdir(parents=True)
    first = "walks/walks_00000.safetensors"
    shutil.copy(
        tmp_path / "whole" / first, tmp_path / "cut" / first
    )  # as if it had been cut off while walks were drawn
    train_few_steps(base, data, tmp_path / "cut", cut, device="cpu")
    train_few_steps(base, data, tmp_path / "cut", again, device="cpu")
    assert losses(tmp_path / "cut") == pytest.approx(losses(tmp_path / "whole"), rel=1e-5)
    second = [(tmp_path / name / "walks" / "walks_00001.safetensors").read_bytes() for name in ("cut", "whole")]
    assert second[0] == second[1]


@pytest.mark.slow
def test_the_command_draws_with_it_what_diffusers_draws(learnt, tmp_path):
    """In the LoRA's own number of steps, unguided; in others, and where guidance is asked for, as ever."""
    pytest.importorskip("peft")
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    base, _, folder = learnt
    model = tmp_path / "model"
    shutil.copytree(base, model)
    shutil.copy(folder / FEW_STEPS, model / FEW_STEPS)
    assert few_steps_of(model) == 4 and few_steps_of(base) == 0
    words = ["sample", "normal", "--prompt", "a ball", "--views", "front", "--device", "cpu", "--precision", "fp32"]
    for name, more in {"few": ["4"], "more": ["5"], "guided": ["4", "--guidance", "4"]}.items():
        assert main([*words, "--models", str(model), "--steps", *more, "--out", str(tmp_path / name)]) == 0
        assert main([*words, "--models", str(base), "--steps", *more, "--out", str(tmp_path / f"{name}_base")]) == 0
    pictures = {at.parent.name: load_png(at) for at in tmp_path.glob("*/normal_full_front_00.png")}
    assert torch.equal(pictures["more"], pictures["more_base"])
    assert torch.equal(pictures["guided"], pictures["guided_base"])
    assert (pictures["few"] - pictures["few_base"]).abs().max() > 0.02
    pipeline = StableDiffusionPipeline.from_pretrained(base, local_files_only=True)
    pipeline.load_lora_weights(folder, weight_name=FEW_STEPS)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", set_alpha_to_one=True
    )
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompt = Prompts("a ball", "normal").text("full", "front")
    theirs = pipeline(prompt, latents=noise, num_inference_steps=4, guidance_scale=1.0, output_type="np").images
    torch.testing.assert_close(pictures["few"], torch.from_numpy(theirs)[0], atol=0.01, rtol=0)


@pytest.mark.slow
def test_a_lora_that_does_not_fit_is_refused(learnt, tmp_path):
    base, _, folder = learnt
    model = tmp_path / "model"
    shutil.copytree(base, model)
    with pytest.raises(InputError, match="few_steps_lora.safetensors: expected a LoRA that draws in few steps"):
        DiffusersDenoiser.load(model, few_steps=True)
    weights = load_file(folder / FEW_STEPS)
    save_file({"lora_unet_elsewhere.lora_down.weight": torch.zeros(2, 2), **weights}, model / FEW_STEPS, {"steps": "4"})
    with pytest.raises(InputError, match="lora_unet_elsewhere does not fit"):
        DiffusersDenoiser.load(model, few_steps=True)
    save_file(weights, model / FEW_STEPS)
    with pytest.raises(InputError, match="whose metadata says its steps, got ''"):
        few_steps_of(model)


@pytest.mark.slow
def test_wrong_numbers_and_folders_are_refused(tiny_sd, people_shards, tmp_path):
    base, data = tiny_sd("v_prediction"), people_shards(shards=1, size=64)
    with pytest.raises(InputError, match="teacher_steps: expected a multiple of the student's 4, got 10"):
        train_few_steps(base, data, tmp_path / "run", replace(CONFIG, teacher_steps=10), device="cpu")
    with pytest.raises(InputError, match="expected files of walks"):
        Walks(tmp_path, Shards(data, maps=("normal",)))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_an_output_s_estimate_is_what_it_was_made_for(prediction_type, generator):
    clean, x = torch.randn(2, 2, 4, 4, 4, generator=generator).unbind()
    sigma = torch.tensor(3.0)
    a, b = (1 + sigma.square()).rsqrt(), sigma * (1 + sigma.square()).rsqrt()
    output = output_for(clean, x, a, b, prediction_type)
    torch.testing.assert_close(to_denoised(output, x / a, sigma, prediction_type), clean)


@pytest.mark.slow
def test_a_controlnet_learns_at_the_lora_s_levels_under_the_unet_with_it(learnt, tmp_path, generator):
    base, data, folder = learnt
    model = tmp_path / "model"
    shutil.copytree(base, model)
    shutil.copy(folder / FEW_STEPS, model / FEW_STEPS)
    loop = replace(LOOP, steps=4)
    for share, name in ((1.0, "few"), (0.0, "plain")):
        config = FineTuneConfig(loop=loop, few_steps=share, sheet_prompts=1, sheet_denoising_steps=1)
        fine_tune("aligned", model, data, tmp_path / name, config, device="cpu")
    assert losses(tmp_path / "few") != losses(tmp_path / "plain")
    guide = DiffusersDenoiser.load(model, control=True)
    latents = LatentShards(data, tmp_path / "few" / "latents", kinds=("color",), control=True)
    few = AlignedFewStepsTask(
        unet=guide.unet, text_encoder=guide.text_encoder, tokenizer=guide.tokenizer, vae=guide.vae,
        scheduler_config=guide.scheduler_config, shards=latents, held_out=latents, controlnet=guide.controlnet,
        config=DiffusionConfig(kinds=(("color", 1.0),), controlled=1.0, prompt_dropout=0.0, mask_weight=0.0),
        few_steps_unet=guide.in_few_steps().unet, steps=4, share=1.0,
    )  # fmt: skip
    batch = few.draw(generator, 8)
    assert sorted(batch["level"].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]
    # What the sampler makes of the same noise, by hand: its estimate against the picture's latents.
    level = batch["level"]
    a, b = (part[level][:, None, None, None] for part in (few.signal, few.spread))
    x = torch.where(level[:, None, None, None] == 0, batch["noise"], a * batch["latents"] + b * batch["noise"])
    student = guide.in_few_steps()
    words = [few.tokenizer.decode(ids, skip_special_tokens=True) for ids in batch["tokens"]]
    condition = student.condition(words, guidance_scale=1.0, control=batch["hint"].permute(0, 2, 3, 1))
    found = student.denoise(x / a, (b / a).flatten(), condition)
    error = ((found - batch["latents"]) / b).square().mean()  # of v = (a x - z) / b
    torch.testing.assert_close(few(batch).detach(), error, rtol=1e-3, atol=1e-4)


def test_few_steps_need_the_base_s_lora(tiny_sd, people_shards, tmp_path):
    config = FineTuneConfig(loop=LOOP, few_steps=0.5)
    for recipe, message in (("aligned", "a base without few_steps_lora"), ("normal", "which has no ControlNet")):
        with pytest.raises(InputError, match=message):
            fine_tune(recipe, tiny_sd("v_prediction"), people_shards(shards=1), tmp_path, config, device="cpu")
