"""`humannorm evaluate samples|meshes|humans|ablations|table1|pairs`: what is drawn and made, by judges that nobody here
trained, by the paper's measures, and by people."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from humannorm.commands.evaluate_table1 import add_pairs, add_table1, run_pairs, run_table1
from humannorm.commands.options import (
    BODY,
    add_device,
    add_guidance,
    add_models,
    add_out,
    add_precision,
    add_preset,
    add_seed,
    autoguidance_of,
    dressed_start,
    load_subject,
    pick_device,
)
from humannorm.commands.progress import ProgressLine

if TYPE_CHECKING:
    from humannorm.evaluation.gallery import Gallery
    from humannorm.evaluation.painted import HumanFigures
    from humannorm.evaluation.sculpted import MeshFigures
    from humannorm.geometry.sculpt import GuideSource
    from humannorm.guidance import DiffusersDenoiser
    from humannorm.mesh import Mesh
    from humannorm.start_pictures import DressedStart

__all__ = ["add_arguments", "run", "sentences_of"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def shown(**options: Any) -> argparse.ArgumentParser:
        return argparse.ArgumentParser(formatter_class=parser.formatter_class, **options)

    kinds = parser.add_subparsers(
        dest="what", required=True, metavar="WHAT", parser_class=cast(type[argparse.ArgumentParser], shown)
    )
    samples = kinds.add_parser("samples", help="pictures drawn for the captions of held-out people")
    samples.add_argument(
        "--data", type=Path, required=True, metavar="DIR", help="folder of shards with pictures of people"
    )
    _add_judge(samples, required=True)
    samples.add_argument("--count", type=int, default=48, help="pictures per kind, body part and view")
    samples.add_argument(
        "--prompts", type=Path, metavar="FILE", help="sentences, one a line, that are drawn in place of captions"
    )
    samples.add_argument(
        "--wording",
        choices=("captions", "pose", "as-written"),
        default="captions",
        help="`--prompts`: as `sample` says them to a small model, with a word for the pose alone, or as they are",
    )
    samples.add_argument(
        "--hints",
        choices=("start", "body", "normal"),
        help="under hints of six channels in place of the text alone: normals of the dressed or the undressed person,"
        " and flat colours; of data made with --hints. `normal`: colours under finished normal maps",
    )
    samples.add_argument(
        "--start",
        choices=("none", "auto"),
        default="none",
        help="auto: each text is drawn from the body that it describes, as `sample` does; none: from the text alone",
    )
    samples.add_argument(
        "--any-direction",
        action="store_true",
        help="`--start`: seen from anywhere in a view's quarter, as the renders are that fid64 compares with",
    )
    samples.add_argument("--steps", type=int, default=20, help="denoising steps")
    samples.add_argument(
        "--size", type=int, metavar="PIXELS", help="side of what is drawn, and of the data (default: the model's own)"
    )
    samples.add_argument("--batch", type=int, default=16, help="pictures at a time")
    samples.add_argument(
        "--normals-only", action="store_true", help="for models without a ControlNet: no colour pictures"
    )
    samples.add_argument(
        "--renders-only", action="store_true", help="judge real renders alone, as a test of the judges"
    )
    add_guidance(samples)
    add_models(samples)
    add_seed(samples)
    add_device(samples)
    add_precision(samples)
    add_out(samples)

    meshes = kinds.add_parser("meshes", help="sculpted people: seen as one from all sides, with one face")
    meshes.add_argument(
        "meshes", nargs="+", metavar="MESH", help=f"GLB, OBJ or PLY (Y up, Z front), a folder of `sculpt`, or {BODY}"
    )
    _add_judge(meshes, required=True)
    add_out(meshes)

    humans = kinds.add_parser(
        "humans", help="finished people: a person from all sides, one face, the requested colours"
    )
    humans.add_argument("humans", nargs="+", type=Path, metavar="DIR", help="folders of `generate`")
    humans.add_argument(
        "--data", type=Path, metavar="DIR", help="folder of shards with pictures of people, for fid64 against them"
    )
    _add_judge(humans, required=True)
    add_out(humans)

    ablations = kinds.add_parser("ablations", help="the geometry stage with one of its ideas left out at a time")
    ablations.add_argument("prompt", metavar="PROMPT", help='the person, such as "an old man in a long coat"')
    ablations.add_argument("--only", metavar="NAMES", help="some of full,no_depth,no_progression,no_sdf_loss,plain")
    ablations.add_argument("--steps", type=int, help="length of each run; the preset's schedules are stretched with it")
    ablations.add_argument(
        "--plain", metavar="DIR", help="text-to-image model without adaption for `plain` (default: the colour texts)"
    )
    _add_judge(ablations, required=False)
    add_preset(ablations)
    add_models(ablations)
    add_seed(ablations)
    add_device(ablations)
    add_precision(ablations)
    add_out(ablations)

    add_table1(kinds.add_parser("table1", help="the paper's table 1: FID against a plain model, CLIP score"))
    add_pairs(kinds.add_parser("pairs", help="a page on which people choose between two sets of pictures, blindly"))


def _add_judge(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--judge", required=required, metavar="PYTHON", help="python of the judges' environment (docs/evaluation.md)"
    )


def run(args: argparse.Namespace) -> int:
    verbs = {
        "samples": run_samples,
        "meshes": run_meshes,
        "humans": run_humans,
        "ablations": run_ablations,
        "table1": run_table1,
        "pairs": run_pairs,
    }
    return verbs[args.what](args)


def _guide_of(args: argparse.Namespace, few: bool) -> DiffusersDenoiser:
    """The model that is judged; few: with its few-step LoRA."""
    from humannorm.guidance import DiffusersDenoiser
    from humannorm.processor import network_dtype

    device = pick_device(args.device)
    return DiffusersDenoiser.load(
        args.models,
        device=device,
        dtype=network_dtype(args.precision, device),
        control=not args.normals_only,
        autoguidance=None if few else autoguidance_of(args),
        few_steps=few,
    )


def _start_of(text: str, models: str, own_words: Mapping[str, str]) -> DressedStart:
    """The start of a text, by the words it was said in before it was reworded."""
    return dressed_start(own_words.get(text, text), models)


def sentences_of(file: Path, models: str, wording: str) -> dict[str, str]:
    """The file's lines by what is put to the network."""
    from humannorm.checks import InputError
    from humannorm.request import network_prompt, sampled_prompt

    lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise InputError(f"{file}: expected sentences, one a line, got none")
    if wording == "as-written":
        return {line: line for line in lines}
    words = network_prompt if wording == "pose" else sampled_prompt
    return {words(line, models): line for line in lines}


def run_samples(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError, check_range
    from humannorm.evaluation.collect import (
        SampleSettings,
        add_controlled,
        add_controls,
        add_reconstructions,
        add_renders,
        add_samples,
    )
    from humannorm.evaluation.figures import figures_of, table, to_plain
    from humannorm.evaluation.gallery import Gallery, find_judge, run_judges
    from humannorm.guidance import draws_under_starts, few_steps_in
    from humannorm.training.shards import Shards

    check_range("--count", args.count, 1, 10_000)
    check_range("--steps", args.steps, 1, 1000)
    check_range("--batch", args.batch, 1, 10_000)
    if args.size is not None:
        check_range("--size", args.size, 1, 4096)
    if args.start == "auto" and (args.hints is not None or args.renders_only or args.normals_only):
        raise InputError("--start: expected none beside --hints, --renders-only or --normals-only, got auto")
    if args.any_direction and args.start != "auto":
        raise InputError("--any-direction: expected with --start auto alone, got it without")
    if args.start == "auto" and not draws_under_starts(args.models):
        raise InputError(f"--start: expected none for {args.models}, whose ControlNet reads finished normal maps alone")
    few = args.guidance is None and args.autoguidance is None and not args.renders_only
    few = few and few_steps_in(args.models) == args.steps
    if args.hints is not None and (args.prompts is not None or args.renders_only or args.normals_only):
        raise InputError("--hints: expected no --prompts, --renders-only or --normals-only beside it")
    maps = ("color", "normal", "mask")
    maps += () if args.hints is None else ("label",) if args.hints == "normal" else ("label", args.hints)
    people = Shards(args.data, split="held_out", maps=maps)
    if args.size is not None and args.size != people.resolution:
        raise InputError(f"{args.data}: expected pictures of {args.size} pixels, as are drawn, got {people.resolution}")
    kinds = ("normal",) if args.normals_only else ("normal", "color")
    sentences = {} if args.prompts is None else sentences_of(args.prompts, args.models, args.wording)
    judge = find_judge(args.judge)
    settings = SampleSettings(
        args.count,
        steps=args.steps,
        guidance_scale=1.0 if few else args.guidance,
        sampler="ddim" if few else "dpm",
        batch=args.batch,
        seed=args.seed,
        kinds=kinds,
        sentences=tuple(sentences),
        any_direction=args.any_direction,
    )
    guide = None if args.renders_only else _guide_of(args, few)
    if guide is not None and args.size is not None:
        guide = guide.at_resolution(args.size)

    def report(message: str) -> None:
        sys.stderr.write(message + "\n")

    gallery = Gallery(args.out / "pictures")
    if guide is not None and args.hints is not None:
        add_controlled(gallery, people, guide, settings, args.hints, report)
    else:
        if args.prompts is None:  # sentences are of nobody who could be rendered
            report("collecting renders of held-out people")
            add_renders(gallery, people, settings)
            add_controls(gallery, settings)
        if guide is not None and args.prompts is None:
            report("copying through the VAE")
            add_reconstructions(gallery, people, guide, settings)
        if guide is not None:
            start_of = (
                None if args.start == "none" else functools.partial(_start_of, models=args.models, own_words=sentences)
            )
            add_samples(gallery, people, guide, settings, report, start_of)
    gallery.save()
    report("judging")
    figures = figures_of(gallery, run_judges(gallery.folder, judge))
    text = table(figures)
    (args.out / "figures.md").write_text(text + "\n", encoding="utf-8")
    facts = {"models": str(args.models), "seed": args.seed, "count": args.count, "steps": args.steps, "few_steps": few}
    weights = None if guide is None else guide.autoguidance
    facts |= {"guidance": {kind: settings.scale(kind) for kind in kinds}}
    facts |= {"autoguidance": None if weights is None else dataclasses.asdict(weights)}
    (args.out / "figures.json").write_text(
        json.dumps({**facts, "figures": to_plain(figures)}, indent=1) + "\n", encoding="utf-8"
    )
    if guide is not None:
        _save_sheets(gallery, args.out)
    print(text)
    return 0


def run_meshes(args: argparse.Namespace) -> int:
    from humannorm.checks import InputError
    from humannorm.evaluation.gallery import find_judge

    judge = find_judge(args.judge)
    meshes = {}
    for text in args.meshes:
        path = Path(text)
        name = path.name if path.is_dir() else path.stem
        if name in meshes:
            raise InputError(f"meshes: expected a name of its own for each, got {name!r} twice")
        meshes[name] = load_subject(str(path / "sculpt.glb") if path.is_dir() else text)
    print(_judge_meshes(meshes, judge, args.out))
    return 0


def _judge_meshes(meshes: dict[str, Mesh], judge: str, out: Path) -> str:
    """Have them judged in `out`; writes the figures and a sheet of what the judges saw, and returns the table."""
    from humannorm.evaluation.gallery import Gallery, run_judges
    from humannorm.evaluation.sculpted import add_mesh, mesh_figures, mesh_table

    gallery = Gallery(out / "pictures")
    for name, mesh in meshes.items():
        add_mesh(gallery, name, mesh)
    gallery.save()
    judged = run_judges(gallery.folder, judge)
    figures = [mesh_figures(gallery, judged, name, mesh) for name, mesh in meshes.items()]
    text = mesh_table(figures)
    _save_judged(out, "sheet_meshes.png", gallery, figures, text)
    return text


def _save_judged(
    out: Path, sheet: str, gallery: Gallery, figures: Sequence[MeshFigures | HumanFigures], text: str
) -> None:
    """The table, the figures, and a row of what the judges saw for each."""
    from humannorm.images import contact_sheet, save_png

    (out / "figures.md").write_text(text + "\n", encoding="utf-8")
    plain = [dataclasses.asdict(row) | {"is_human": row.is_human} for row in figures]
    (out / "figures.json").write_text(json.dumps(plain, indent=1) + "\n", encoding="utf-8")
    tiles = [gallery.image(picture.id)[::2, ::2] for picture in gallery.pictures]
    labels = [f"{picture.source}, {picture.part}, {picture.azimuth:.0f}" for picture in gallery.pictures]
    save_png(out / sheet, contact_sheet(tiles, labels, columns=len(tiles) // len(figures)))


def run_humans(args: argparse.Namespace) -> int:
    from humannorm.body.words import CAPTIONED_POSES
    from humannorm.evaluation.gallery import Gallery, find_judge, run_judges
    from humannorm.evaluation.likeness import add_likeness, likeness, likeness_table
    from humannorm.evaluation.painted import add_human, human_figures, human_table, painting_figures, painting_table
    from humannorm.evaluation.worn import worn_of_run, worn_table
    from humannorm.export import load_baked
    from humannorm.pipeline import pose_of, prompt_of
    from humannorm.training.shards import Shards

    judge = find_judge(args.judge)
    prompts = {folder.name: prompt_of(folder) for folder in args.humans}
    baked = {folder.name: load_baked(folder / "human.glb") for folder in args.humans}
    meshes = {name: human.mesh for name, human in baked.items()}
    gallery = Gallery(args.out / "pictures")
    for name, mesh in meshes.items():
        add_human(gallery, name, mesh)
    shown = Gallery(gallery.folder, list(gallery.pictures))
    if args.data is not None:
        # A pose that no caption names is not among the people, and the error says so.
        poses = {CAPTIONED_POSES.get(pose, pose) for pose in map(pose_of, args.humans)}
        add_likeness(gallery, baked, Shards(args.data, split="held_out"), poses=poses)
    gallery.save()
    judged = run_judges(gallery.folder, judge)
    figures = [human_figures(gallery, judged, name, mesh, prompts[name]) for name, mesh in meshes.items()]
    painted = {folder.name: painting_figures(folder) for folder in args.humans}
    worn = {folder.name: worn_of_run(folder, prompts[folder.name]) for folder in args.humans}
    text = human_table(figures) + worn_table(worn) + painting_table(painted)
    if args.data is not None:
        text += "\n\n" + likeness_table(likeness(gallery, judged))
    _save_judged(args.out, "sheet_humans.png", shown, figures, text)
    print(text)
    return 0


def run_ablations(args: argparse.Namespace) -> int:
    from humannorm.checks import check_choice
    from humannorm.evaluation.ablations import ABLATIONS, ablation_table, run_ablation, save_ablation_sheet
    from humannorm.evaluation.gallery import find_judge
    from humannorm.geometry.start import prepare_start
    from humannorm.guidance import DiffusersDenoiser, find_guides
    from humannorm.mesh import to_trimesh
    from humannorm.processor import network_dtype
    from humannorm.request import HumanRequest, settings_of

    names = list(ABLATIONS) if args.only is None else [name.strip() for name in args.only.split(",")]
    for name in names:
        check_choice("--only", name, ABLATIONS)
    judge = None if args.judge is None else find_judge(args.judge)
    device = pick_device(args.device)
    request = HumanRequest(
        args.prompt, preset=args.preset, models=args.models, sculpt_steps=args.steps, method="distil"
    )
    settings = settings_of(request).geometry
    guides = find_guides(args.models, device, kinds=("normal", "depth"), precision=args.precision)
    start = prepare_start(load_subject(BODY).to(device))
    args.out.mkdir(parents=True, exist_ok=True)
    figures = {}
    for name in names:
        ablation = ABLATIONS[name]
        normal: GuideSource = guides.normal
        if ablation.plain and args.plain is not None:
            normal = DiffusersDenoiser.load(args.plain, device=device, dtype=network_dtype(args.precision, device))
        bar = ProgressLine(lambda progress, title=ablation.title: title)  # type: ignore[misc]
        figures[name] = run_ablation(
            ablation, args.prompt, start, settings, normal=normal, depth=guides.depth, seed=args.seed, callback=bar
        )
        bar.close()
        to_trimesh(figures[name].mesh).export(args.out / f"{name}.glb")
        save_ablation_sheet(args.out / "sheet_ablations.png", list(figures.values()))
    text = f"{args.prompt!r}, preset {args.preset}, seed {args.seed}\n\n{ablation_table(list(figures.values()))}"
    if judge is not None:
        meshes = {name: row.mesh for name, row in figures.items()}
        text += "\n\n" + _judge_meshes(meshes, judge, args.out / "judged")
    (args.out / "ablations.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0


def _save_sheets(gallery: Gallery, out: Path, per_view: int = 6) -> None:
    """The first pictures of each cell, a row for a view: what the figures are about, to be looked at."""
    from humannorm.cameras import view_label
    from humannorm.images import contact_sheet, save_png

    for kind in ("normal", "color"):
        for part in ("full", "head"):
            if not gallery.select(source="model", kind=kind, part=part):
                continue
            rows: dict[str, list[str]] = {}
            for picture in gallery.select(source="model", kind=kind, part=part):
                rows.setdefault(view_label(picture.azimuth), []).append(picture.id)
            chosen = [(id, view) for view, ids in rows.items() for id in ids[:per_view]]
            images = [gallery.image(id) for id, _ in chosen]
            columns = min(per_view, *(len(ids) for ids in rows.values()))
            save_png(out / f"sheet_{kind}_{part}.png", contact_sheet(images, [view for _, view in chosen], columns))
