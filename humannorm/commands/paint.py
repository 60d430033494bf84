"""`humannorm paint MESH PROMPT`: colour on any mesh from a sentence, with pictures of it."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands import paint_views
from humannorm.commands.options import (
    BODY,
    STATE,
    add_edit,
    add_run_options,
    add_single_looks,
    add_standing,
    chosen_regions,
    load_subject,
    pick_device,
    state_to_resume,
)
from humannorm.commands.progress import ProgressLine
from humannorm.commands.report import write_report

if TYPE_CHECKING:
    import torch

    from humannorm.guidance import DiffusersDenoiser
    from humannorm.mesh import Mesh
    from humannorm.optimisation import OptimiserProgress
    from humannorm.stages import PaintedSurface
    from humannorm.texture.settings import TextureSettings
    from humannorm.texture.state import TextureState
    from humannorm.texture.surface import SurfaceColors

__all__ = ["PREVIEW_SECONDS", "add_arguments", "run", "saturation"]

PREVIEW_SECONDS = 20.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mesh", metavar=f"MESH|{BODY}", help=f"GLB, OBJ or PLY, or {BODY}: a neutral adult")
    parser.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    parser.add_argument("--negative", default="", help="what the pictures should not show")
    parser.add_argument(
        "--perceptual", default="vae", choices=("vae", "vgg16"), help="whose features the fine loss compares"
    )
    parser.add_argument(
        "--vgg16", type=Path, metavar="FILE", help="torchvision's vgg16 weights, for --perceptual vgg16"
    )
    parser.add_argument(
        "--fine-loss", choices=("published", "paper"), help="equation 10 on pixels, or on latents (the preset's)"
    )
    parser.add_argument("--uv", type=int, metavar="SIZE", help="paint a texture of SIZE texels on the mesh's own UVs")
    paint_views.add_arguments(parser)
    add_single_looks(parser)
    add_standing(parser)
    add_edit(parser)
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    if paint_views.is_meant(args):
        return paint_views.run(args)
    paint_views.refuse_options(args)
    import torch

    from humannorm.guidance import find_guides
    from humannorm.request import network_prompt
    from humannorm.stages import painted_surface
    from humannorm.texture.paint import paint
    from humannorm.texture.perceptual import make_perceptual
    from humannorm.texture.settings import coarse_only, single_looks
    from humannorm.texture.state import load_state, save_state

    begin = time.monotonic()
    device, generator = pick_device(args.device), torch.Generator().manual_seed(args.seed)
    state, settings = first_state(args, painter_settings(args), device, generator)
    settings = single_looks(settings, nfsd=args.nfsd, falling=args.annealed)
    prompt = network_prompt(args.prompt, args.models)
    guides = find_guides(args.models, device, kinds=("color",), precision=args.precision)
    guide = guides.aligned()
    perceptual = make_perceptual(args.perceptual, guide, args.vgg16)

    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    bar = PreviewedProgress(out)
    paint_on = partial(
        paint,
        prompt=prompt,
        guide=guide,
        perceptual=perceptual,
        generator=generator,
        negative=args.negative,
        callback=bar,
        checkpoint=out / STATE,
    )
    coarse_file = out / "coarse.safetensors"
    if state.step < settings.coarse_steps:
        state = paint_on(state, settings=coarse_only(settings))
    if state.step == settings.coarse_steps:  # also where a run was killed between the two files
        save_state(state, coarse_file)
    if state.step < settings.steps:
        state = paint_on(state, settings=settings)
    bar.close()

    coarse = load_state(coarse_file, device=device) if coarse_file.exists() else None
    painted = painted_surface(state)
    files = write_pictures(out, state, coarse, painted.colors, settings) + write_mesh(out, painted)
    facts = {
        "steps": state.step,
        "faces": state.mesh.num_faces,
        "unseen_vertices": int((~painted.colors.seen).sum()),
        "mean_chroma": saturation(guide, prompt, args.negative, settings, state, coarse, args.seed),
        **bar.facts(),
    }
    seconds = write_report(out / "paint.json", args, guides.precision, begin, facts)
    print(f"{', '.join(map(str, files))}; {seconds} s in all")
    return 0


def painter_settings(args: argparse.Namespace) -> TextureSettings:
    """The preset's settings with what the options change in them."""
    from humannorm.texture.fields import UvColorSettings

    settings = chosen_settings(args)
    if args.fine_loss is not None:
        settings = dataclasses.replace(settings, fine_loss=args.fine_loss)
    return settings if args.uv is None else dataclasses.replace(settings, field=UvColorSettings(args.uv))


def first_state(
    args: argparse.Namespace, settings: TextureSettings, device: torch.device, generator: torch.Generator
) -> tuple[TextureState, TextureSettings]:
    """What the painting goes on from: an edited or resumed state, or a fresh one; with the settings for it."""
    from humannorm.stages import begin_painting, edit_painting, held_for_edit
    from humannorm.texture.carrying import carried
    from humannorm.texture.state import load_state

    regions, resumed = chosen_regions(args, "only")["only"], state_to_resume(args)
    if args.edit is not None:
        finished, surface = load_state(args.edit, device=device), load_subject(args.mesh, args).to(device)
        begun = carried(finished, surface, settings, generator)
        hold = held_for_edit(begun.mesh, regions, colors=begun.field.at(begun.mesh.vertices))
        print(f"editing {args.edit}: {', '.join(regions) or 'all of it'}")
        return edit_painting(begun, hold, settings, prompt=args.prompt, regions=regions)
    if resumed is not None:
        state = load_state(resumed, generator, device)
        print(f"going on after step {state.step}")
        return state, settings
    subject = body_with_uvs() if args.mesh == BODY and args.uv is not None else load_subject(args.mesh, args)
    return begin_painting(subject.to(device), settings, args.seed), settings


def body_with_uvs() -> Mesh:
    """The adult that comes along, split along the seams of its texture layout."""
    from humannorm.body import load_body

    return load_body().to_mesh(uvs=True)


def chosen_settings(args: argparse.Namespace) -> TextureSettings:
    """The settings of the distillation behind --preset, --models and --steps."""
    from humannorm.checks import check_range
    from humannorm.models import camera_plan
    from humannorm.texture.settings import preset

    settings, own = preset(args.preset), camera_plan(args.models)
    if own is not None:
        settings = dataclasses.replace(settings, plan=own)
    if args.steps is None:
        return settings
    check_range("--steps", args.steps, 1, 1_000_000)
    return settings.with_steps(args.steps)


def write_pictures(
    out: Path, state: TextureState, coarse: TextureState | None, colors: SurfaceColors, settings: TextureSettings
) -> list[Path]:
    """The sheet of coarse, fine and filled colours, and the curves of the losses."""
    from humannorm.optimisation import save_loss_plot
    from humannorm.texture.pictures import save_sheet
    from humannorm.texture.state import LOSS_NAMES

    fields = {} if coarse is None else {"coarse": coarse.field}
    sheet, losses = out / "sheet_paint.png", out / "losses.png"
    save_sheet(sheet, state.mesh, {**fields, "painted": colors}, settings.plan)
    if importlib.util.find_spec("matplotlib"):
        save_loss_plot(losses, state.history, LOSS_NAMES, logarithmic=False)
        return [sheet, losses]
    return [sheet]


def write_mesh(out: Path, painted: PaintedSurface) -> list[Path]:
    """The painted mesh in the user's frame: textured as GLB, and with vertex colours as PLY."""
    from humannorm.export import ExportSettings, export_mesh
    from humannorm.stages import worth_baking

    settings = worth_baking(ExportSettings(), painted.mesh)
    files = []
    for name in ("paint.glb", "paint.ply"):
        files += export_mesh(out / name, painted.mesh, settings, field=painted.field, overwrite=True)
    return files


def saturation(
    guide: DiffusersDenoiser,
    prompt: str,
    negative: str,
    settings: TextureSettings,
    state: TextureState,
    coarse: TextureState | None,
    seed: int,
) -> dict[str, float]:
    """Mean chroma (CIELAB) after the coarse and the fine steps and of the model's own pictures, printed."""
    import torch

    from humannorm.cameras import crop_cameras
    from humannorm.texture.paint import color_prompts
    from humannorm.texture.saturation import field_chroma, sample_pictures

    plan = settings.plan
    cameras = crop_cameras(plan, plan.widest, (0, 90, 180, 270), elevation=5.0).to(state.mesh.device)
    found = {
        name: field_chroma(each.field, state.mesh, cameras, settings.render_size)
        for name, each in (("coarse", coarse), ("fine", state))
        if each is not None
    }
    found["model"] = sample_pictures(
        guide,
        color_prompts(prompt, settings, negative),
        state.mesh,
        cameras,
        guidance_scale=settings.guidance_scale,
        generator=torch.Generator().manual_seed(seed),
    ).chroma
    print("mean chroma: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    return {name: round(value, 2) for name, value in found.items()}


class PreviewedProgress(ProgressLine):
    """The line, and a picture of the run on disk that is made anew now and then."""

    def __init__(self, out: Path) -> None:
        super().__init__(lambda progress: progress.stage)
        self.out = out
        self._drawn = 0.0

    def __call__(self, progress: OptimiserProgress) -> None:
        from humannorm.images import contact_sheet, save_png

        super().__call__(progress)
        if time.monotonic() - self._drawn > PREVIEW_SECONDS or progress.step == progress.steps:
            self._drawn = time.monotonic()
            tiles, labels = [progress.picture.cpu()], [f"step {progress.step}"]
            if progress.target is not None:
                tiles.append(progress.target.cpu())
                labels.append("target")
            save_png(self.out / "preview.png", contact_sheet(tiles, labels, columns=2))
