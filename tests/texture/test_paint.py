"""The texture optimiser: goes where the guide points, stops, resumes to the same bytes, survives bad gradients."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from humannorm.cameras import orbit
from humannorm.checks import InputError
from humannorm.guidance import DiffusersDenoiser, sds_gradient
from humannorm.mesh import Mesh
from humannorm.optimisation import OptimiserProgress, RunError
from humannorm.texture.fields import UvColorSettings
from humannorm.texture.paint import paint
from humannorm.texture.perceptual import make_perceptual
from humannorm.texture.settings import (
    PAPER,
    PRESETS,
    QUICK,
    TextureSettings,
    coarse_only,
    fine_only,
    preset,
    single_looks,
)
from humannorm.texture.state import LOSS_NAMES, TextureState, load_state, save_state, start_state

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def fresh(mesh: Mesh, settings: TextureSettings) -> TextureState:
    return start_state(mesh, settings, torch.Generator().manual_seed(0))


def tensors(state: TextureState) -> dict[str, torch.Tensor]:
    assert state.moments is not None and state.history is not None
    targets = {} if state.targets is None else {
        name: getattr(state.targets, name) for name in ("images", "latents", "weights", "step")
    }  # fmt: skip
    return {**state.field.state_dict(), **state.moments, **targets, "history": state.history}


def assert_same(first: TextureState, second: TextureState) -> None:
    one, other = tensors(first), tensors(second)
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []
    assert first.gradient_scale == second.gradient_scale and first.step == second.step


def color_from(state: TextureState, azimuth: float) -> list[float]:
    passes = state.field.pictures(state.mesh, orbit([azimuth]), 32, ("color",))
    assert passes.color is not None
    return passes.color[0, 16, 16].tolist()


@pytest.mark.slow
@pytest.mark.parametrize("coarse", [True, False])
def test_the_surface_takes_the_colours_the_guide_believes_in(
    coarse: bool, ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> None:
    settings = dataclasses.replace(
        small_settings, coarse_steps=60 if coarse else 0, steps=60, encoding_rate=3e-2, network_rate=1e-2, fine_views=16
    )
    end = paint(
        fresh(ball, settings), "a ball", settings, guide=believes_in_color(RED, BLUE), perceptual=pixel_distance,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert color_from(end, 0.0) == pytest.approx(RED, abs=0.12)
    assert color_from(end, 180.0) == pytest.approx(BLUE, abs=0.12)
    assert end.history is not None and end.history.shape == (60, len(LOSS_NAMES))
    assert end.history[-1, LOSS_NAMES.index("chroma")] > 40 > end.history[0, LOSS_NAMES.index("chroma")]


def test_first_step_is_equation_9(ball: Mesh, small_settings: TextureSettings, tiny_sd: Any) -> None:
    """The table's gradient, taken from AdamW's first moment, against the equation put together here."""
    guide = DiffusersDenoiser.load(tiny_sd("v_prediction"), control=True)
    settings = dataclasses.replace(small_settings, views=1, render_size=guide.resolution)
    start = fresh(ball, settings)
    end = paint(
        start, "a ball", dataclasses.replace(settings, coarse_steps=1, steps=1), guide=guide,
        perceptual=make_perceptual("vae", guide), generator=torch.Generator().manual_seed(4),
    )  # fmt: skip
    from humannorm.cameras import sample_cameras
    from humannorm.rendering import render

    draws = torch.Generator().manual_seed(4)
    cameras = sample_cameras(settings.plan, 0, 1, draws)
    size = (settings.render_size, settings.render_size)
    passes = render(start.mesh, cameras, size, ("normal", "color"), field=start.field)
    assert passes.color is not None and passes.normal is not None
    z = guide.encode_images(passes.color)
    text = (
        f"a ball, {dict(full='full body', head='only head', upper='upper body', lower='lower body')[cameras.part[0]]}"
    )
    side = {"front": "front view", "back": "back view", "left": "left side view", "right": "right side view"}
    condition = guide.condition(
        [f"{text}, {side[cameras.view_labels()[0]]}"], guidance_scale=settings.guidance_scale, control=passes.normal
    )
    with torch.no_grad():
        result = sds_gradient(guide, z, condition, t_range=(0.02, 0.98), generator=draws)
    (gradient,) = torch.autograd.grad(z, start.field.get_parameter("encoding.tables.0"), result.gradient)
    assert end.moments is not None
    torch.testing.assert_close(end.moments["encoding.tables.0.exp_avg"], 0.1 * gradient, rtol=1e-3, atol=1e-6)


def test_condition_is_the_normal_map_and_the_text_of_the_same_camera(
    ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> None:
    guide = believes_in_color(RED, BLUE)
    settings = dataclasses.replace(small_settings, coarse_steps=0, steps=6, fine_views=8, refresh_every=1000)
    state = fresh(ball, settings)
    end = paint(
        state, "a ball", settings, guide=guide, perceptual=pixel_distance, generator=torch.Generator().manual_seed(1)
    )
    parts = {"full": "full body", "head": "only head", "upper": "upper body", "lower": "lower body"}
    allowed = {
        f"a ball, {parts[part]}, {view} {'view' if view in ('front', 'back') else 'side view'}"
        for part, view in zip(state.cameras.part, state.cameras.view_labels(), strict=True)
    }
    assert set(guide.prompts) <= allowed
    assert any("only head" in prompt or "upper body" in prompt for prompt in guide.prompts)
    assert end.targets is not None
    assert len(guide.prompts) == int((end.targets.step >= 0).sum()), "each camera's target is made once"
    middle = torch.cat(guide.controls)[:, 24, 24]
    assert bool((middle[:, 2] > 0.8).all())  # the ball faces every camera


@pytest.mark.slow
def test_resumed_run_ends_in_the_same_bytes(
    ball: Mesh, small_settings: TextureSettings, tiny_sd: Any, tmp_path: Path
) -> None:
    guide = DiffusersDenoiser.load(tiny_sd("epsilon"), control=True)
    perceptual = make_perceptual("vae", guide)
    settings = dataclasses.replace(small_settings, target_stride=250)
    common: dict[str, Any] = {"guide": guide, "perceptual": perceptual}
    unbroken = paint(fresh(ball, settings), "a ball", settings, generator=torch.Generator().manual_seed(1), **common)
    for stop in (4, 9):
        file = tmp_path / f"{stop}.safetensors"
        paint(
            fresh(ball, settings), "a ball", settings, generator=torch.Generator().manual_seed(1),
            callback=lambda progress, stop=stop: progress.step < stop, checkpoint=file, **common,
        )  # fmt: skip
        generator = torch.Generator().manual_seed(99)
        state = load_state(file, generator)
        assert state.step == stop
        assert_same(unbroken, paint(state, "a ball", settings, generator=generator, **common))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["4.safetensors", "9.safetensors"]
    first = paint(
        fresh(ball, settings), "a ball", coarse_only(settings), generator=(g := torch.Generator().manual_seed(1)),
        **common,
    )  # fmt: skip
    assert first.step == settings.coarse_steps
    assert_same(unbroken, paint(first, "a ball", settings, generator=g, **common))


@pytest.mark.slow
@pytest.mark.parametrize("request_number", [3, 7, 9, 14])
def test_interruption_inside_a_step_leaves_the_last_whole_one(
    request_number: int, ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any,
    sick: Any, tmp_path: Path,
) -> None:  # fmt: skip
    """The third request is in a coarse step, the later ones in the middle of a target."""
    common: dict[str, Any] = {"perceptual": pixel_distance}
    unbroken = paint(
        fresh(ball, small_settings), "a ball", small_settings, guide=believes_in_color(RED, BLUE),
        generator=torch.Generator().manual_seed(1), **common,
    )  # fmt: skip
    file = tmp_path / "state.safetensors"
    with pytest.raises(KeyboardInterrupt):
        paint(
            fresh(ball, small_settings), "a ball", small_settings,
            guide=sick(believes_in_color(RED, BLUE), request_number, interrupt=True),
            generator=torch.Generator().manual_seed(1), checkpoint=file, **common,
        )  # fmt: skip
    generator = torch.Generator()
    state = load_state(file, generator)
    assert 2 <= state.step < small_settings.steps
    resumed = paint(state, "a ball", small_settings, guide=believes_in_color(RED, BLUE), generator=generator, **common)
    assert_same(unbroken, resumed)


@pytest.mark.parametrize(("request_number", "step"), [(3, 2), (8, 6)])
def test_one_bad_gradient_is_rejected_and_never_kept(
    request_number: int, step: int, ball: Mesh, small_settings: TextureSettings, believes_in_color: Any,
    pixel_distance: Any, sick: Any,
) -> None:  # fmt: skip
    reports: list[str | None] = []
    end = paint(
        fresh(ball, small_settings), "a ball", small_settings, guide=sick(believes_in_color(RED, BLUE), request_number),
        perceptual=pixel_distance, generator=torch.Generator().manual_seed(1),
        callback=lambda progress: reports.append(progress.rejected),
    )  # fmt: skip
    assert [at for at, report in enumerate(reports) if report is not None] == [step]
    assert reports[step] == f"the gradient at step {step} is not finite"
    assert all(bool(parameter.isfinite().all()) for parameter in end.field.parameters())
    assert end.targets is not None and bool(end.targets.latents.isfinite().all())


def test_lasting_bad_gradients_stop_the_run_with_its_state(
    ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any, sick: Any, tmp_path: Path
) -> None:
    settings = dataclasses.replace(small_settings, max_rejections=3)
    file = tmp_path / "state.safetensors"
    with pytest.raises(RunError, match="3 steps in a row were rejected") as caught:
        paint(
            fresh(ball, settings), "a ball", settings, guide=sick(believes_in_color(RED, BLUE), 2, lasting=True),
            perceptual=pixel_distance, generator=torch.Generator().manual_seed(1), checkpoint=file,
        )  # fmt: skip
    assert caught.value.state.step == 4
    assert load_state(file).step == 4


def test_state_handed_in_is_left_alone_and_targets_follow_the_prompt(
    ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any
) -> None:
    start = fresh(ball, small_settings)
    before = {name: value.clone() for name, value in start.field.state_dict().items()}
    seen: list[OptimiserProgress] = []
    common: dict[str, Any] = {"perceptual": pixel_distance, "generator": torch.Generator().manual_seed(1)}
    end = paint(
        start, "a ball", small_settings, guide=believes_in_color(RED, BLUE),
        callback=lambda progress: seen.append(progress), **common,
    )  # fmt: skip
    assert all(torch.equal(value, start.field.state_dict()[name]) for name, value in before.items())
    assert start.step == 0 and start.moments is None
    assert [progress.stage for progress in seen] == ["coarse"] * 6 + ["fine"] * 8
    assert seen[-1].picture.shape == (48, 48, 3) and seen[-1].target is not None and seen[0].target is None
    assert end.targets is not None and end.targets.prompt == "a ball"
    longer = dataclasses.replace(small_settings, steps=16, refresh_every=1000)
    guide = believes_in_color(BLUE, BLUE)
    other = paint(end, "a blue ball", longer, guide=guide, **common)
    assert other.targets is not None and other.targets.prompt == "a blue ball"
    assert int(other.targets.step[other.targets.step >= 0].min()) >= 14
    assert all(prompt.startswith("a blue ball") for prompt in guide.prompts)


def test_a_uv_texture_is_painted_and_resumed_alike(
    small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any, tmp_path: Path
) -> None:
    from humannorm.body import load_body

    settings = dataclasses.replace(
        small_settings, field=UvColorSettings(64), encoding_rate=0.1, coarse_steps=8, steps=10
    )
    state = fresh(load_body().to_mesh(uvs=True), settings)
    end = paint(
        state, "a body", settings, guide=believes_in_color(RED, RED), perceptual=pixel_distance,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    red, green, _ = color_from(end, 0.0)
    assert red > 0.6 > 0.4 > green
    save_state(end, tmp_path / "state.safetensors")
    again = load_state(tmp_path / "state.safetensors")
    points = end.mesh.vertices[:50]
    assert torch.equal(again.field(points), end.field(points))


def test_published_numbers() -> None:
    assert (PAPER.coarse_steps, PAPER.steps, PAPER.fine_views, PAPER.refresh_every) == (2000, 10000, 120, 30)
    assert PAPER.coarse_t_range[0] == 0.02 and PAPER.coarse_t_range[1](1999) == 0.98
    assert (PAPER.encoding_rate, PAPER.network_rate, PAPER.guidance_scale) == (1e-2, 1e-3, 7.5)
    assert 505 // PAPER.target_stride + 1 == 21
    assert set(PRESETS) == {"paper", "standard", "quick"}
    with pytest.raises(InputError, match="preset: expected one of paper, standard, quick"):
        preset("fast")


def test_shortened_run_keeps_its_shape() -> None:
    short = PAPER.with_steps(1000)
    assert (short.coarse_steps, short.steps, short.plan_pace) == (200, 1000, 10.0)
    assert coarse_only(short).steps == 200 and coarse_only(short).plan_pace == short.plan_pace
    assert fine_only(short).steps == 800 and fine_only(short).coarse_steps == 0
    assert [QUICK.with_steps(steps).coarse_steps for steps in (1, 2, 5)] == [0, 1, 1]  # both stages, if there is room


def test_noise_free_steps_lead_from_nothing_to_the_words(
    ball: Mesh, small_settings: TextureSettings, believes_in: Any, pixel_distance: Any
) -> None:
    def picture(prompt: str) -> torch.Tensor:
        color = RED if prompt.startswith("a ball") else BLUE if prompt.startswith("unrealistic") else (0.5, 0.5, 0.5)
        return torch.tensor(color).expand(48, 48, 3)

    settings = single_looks(coarse_only(small_settings.with_steps(28)), nfsd=True, falling=True)
    low, high = (ends for ends in settings.coarse_t_range)
    assert low == high and settings.distillation == "nfsd" and settings.guidance_scale == 7.5
    generator = torch.Generator().manual_seed(1)
    start = fresh(ball, settings)
    end = paint(start, "a ball", settings, guide=believes_in(picture), perceptual=pixel_distance, generator=generator)
    points = ball.vertices[::10]
    with torch.no_grad():
        before, after = start.field(points), end.field(points)
    assert float((after[:, 0] - before[:, 0]).mean()) > 0.02 and float((after[:, 2] - before[:, 2]).mean()) < -0.02


def test_bad_input_is_refused_before_any_work(
    ball: Mesh, small_settings: TextureSettings, believes_in_color: Any, pixel_distance: Any, tmp_path: Path
) -> None:
    done = dataclasses.replace(fresh(ball, small_settings), step=14)
    common: dict[str, Any] = {
        "guide": believes_in_color(RED, BLUE), "perceptual": pixel_distance, "generator": torch.Generator()
    }  # fmt: skip
    with pytest.raises(InputError, match=r"settings\.steps: expected more than the 14 steps done"):
        paint(done, "a ball", small_settings, **common)
    with pytest.raises(InputError, match="prompt: expected a description"):
        paint(fresh(ball, small_settings), "  ", small_settings, **common)
    with pytest.raises(InputError, match="coarse_steps: expected 0 to 14, got 20"):
        dataclasses.replace(small_settings, coarse_steps=20)
    flat = Mesh(ball.vertices * torch.tensor([9.0, 0.0, 9.0]), ball.faces)
    with pytest.raises(InputError, match="expected a height above 0 along Y"):
        fresh(flat, small_settings)
    nan = Mesh(ball.vertices * math.nan, ball.faces)
    with pytest.raises(InputError, match="vertices: expected finite values"):
        fresh(nan, small_settings)
    file = tmp_path / "state.safetensors"
    save_state(fresh(ball, small_settings), file)
    (tmp_path / "broken.safetensors").write_bytes(file.read_bytes()[:2000])
    with pytest.raises(InputError, match="expected a texture state"):
        load_state(tmp_path / "broken.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="expected the format 'humannorm texture 1', got None"):
        load_state(tmp_path / "other.safetensors")
