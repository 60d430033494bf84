"""``humannorm animate HUMAN``: a skeleton for a finished human, and clips on it."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import BODY, add_out, load_subject

if TYPE_CHECKING:
    from humannorm.export.gltf import GlbBuilder
    from humannorm.mesh import Mesh

RESULTS = ("human.glb", "paint.glb", "sculpt.glb")  # what a run leaves in its folder, the most finished first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "human", metavar="HUMAN", help=f"a GLB, OBJ or PLY file, the folder of a run, or the word {BODY}; facing +Z"
    )
    parser.add_argument(
        "--clip",
        default="walk",
        metavar="CLIPS",
        help="walk, idle, wave, turn, a named pose (run, sit, fight ...) or .bvh files, parted by commas",
    )
    parser.add_argument(
        "--rig", default="makehuman", choices=("makehuman", "game_engine", "mixamo"), help="names and number of joints"
    )
    parser.add_argument("--start-pose", default="a-pose", metavar="POSE", help="named pose that HUMAN stands in")
    parser.add_argument("--travel", action="store_true", help="let clips leave the spot, instead of walking in place")
    parser.add_argument("--up", choices=("y", "z"), help="vertical axis of .bvh files (default: by their joint names)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    from humannorm.body import load_body
    from humannorm.body.clip_names import clips_named
    from humannorm.checks import InputError
    from humannorm.export.skinned import write_skinned_glb
    from humannorm.rigging import rig_human
    from humannorm.rigging.film import save_motion

    begin = time.monotonic()
    start = load_body(pose=args.start_pose)
    source = find_human(args.human)
    mesh, surface = load_human(source)
    target = args.out / "animated.glb"
    if target.exists() and not args.overwrite:
        raise InputError(f"--out: expected a folder without animated.glb, got {args.out} (--overwrite replaces it)")
    clips_named(args.clip, start, args.up, argument="--clip")  # refused before long work
    human = rig_human(mesh, args.rig, start)
    rigged = time.monotonic() - begin
    clips = clips_named(args.clip, human.body, args.up, argument="--clip")
    motions = [human.motion(clip if args.travel else clip.in_place()) for clip in clips]
    write_skinned_glb(target, surface, human.skin, motions, overwrite=args.overwrite)
    print(f"{target}: {len(human.skin.joint_names)} joints, clips {', '.join(motion.name for motion in motions)}")
    for motion in motions:
        film, sheet = args.out / f"film_{motion.name}.webp", args.out / f"sheet_{motion.name}.png"
        save_motion(film, sheet, human, motion)
        print(f"{film}, {sheet}")
    facts = {
        "human": source if source == BODY else Path(source).name,
        "rig": args.rig,
        "faces": mesh.num_faces,
        "clips": {motion.name: round((len(motion.rotations) - 1) * motion.frame_time, 3) for motion in motions},
        "body_depth": round(human.fit.median_depth, 5),
        "body_outside": round(human.fit.outside, 5),
        "seconds_rig": round(rigged, 1),
        "seconds": round(time.monotonic() - begin, 1),
    }
    (args.out / "animate.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return 0


def find_human(text: str) -> str:
    """The file behind a name: itself, or the most finished mesh of a run's folder."""
    from humannorm.checks import InputError

    folder = Path(text)
    if not folder.is_dir():
        return text
    for name in RESULTS:
        if (folder / name).is_file():
            return str(folder / name)
    raise InputError(f"HUMAN: expected a folder with {', '.join(RESULTS)}, got {folder} without any of them")


def load_human(source: str) -> tuple[Mesh, Mesh | GlbBuilder]:
    """The surface with its colours, and what the skin is written into: the file's own document where it is a plain GLB,
    so that its materials stay as they are, else the surface."""
    from humannorm.checks import InputError
    from humannorm.export.skinned import surface_of_glb

    mesh = load_subject(source)
    if Path(source).suffix.lower() != ".glb":
        return mesh, mesh
    try:
        document, plain = surface_of_glb(source)
    except InputError as error:
        print(f"{error}; its surface is written anew")
        return mesh, mesh
    if plain.vertices.shape != mesh.vertices.shape or not bool((plain.vertices == mesh.vertices).all()):
        return mesh, mesh
    return mesh, document
