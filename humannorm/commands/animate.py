"""``humannorm animate HUMAN``: a skeleton for a finished human, and clips on it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

from humannorm.commands.options import BODY, add_out, add_standing, load_subject

if TYPE_CHECKING:
    from humannorm.export.baked import BakedMesh
    from humannorm.export.gltf import GlbBuilder
    from humannorm.mesh import Mesh

__all__ = ["add_arguments", "explain", "find_human", "load_human", "look_of", "run"]

RESULTS = ("human.glb", "paint.glb", "sculpt.glb")  # what a run leaves in its folder, the most finished first


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "human",
        metavar="HUMAN",
        nargs="?",
        help=f"a GLB, OBJ or PLY file, the folder of a run, or the word {BODY}; facing +Z",
    )
    parser.add_argument(
        "--clip",
        default="walk",
        metavar="CLIPS",
        help="walk, idle, wave, turn, a named pose (run, sit, fight ...) or .bvh files, parted by commas",
    )
    parser.add_argument(
        "--rig",
        default="mixamo",
        choices=("makehuman", "game_engine", "mixamo"),
        help="names and number of joints (default: mixamo, which engines know)",
    )
    parser.add_argument(
        "--bind-pose",
        choices=("t-pose", "a-pose"),
        help="pose that the file's skeleton is bound in (default: as HUMAN stands); engines like the t-pose",
    )
    parser.add_argument(
        "--lods",
        type=int,
        default=0,
        metavar="N",
        help="also write N (1 or 2) coarser files, under 500 kB each: animated_lod1.glb ...",
    )
    parser.add_argument("--start-pose", metavar="POSE", help="named pose that HUMAN stands in (default: as it is seen)")
    add_standing(parser)
    parser.add_argument("--travel", action="store_true", help="let clips leave the spot, instead of walking in place")
    parser.add_argument(
        "--clip-up", choices=("y", "z", "x"), help="vertical axis of .bvh files (default: as the person stands in them)"
    )
    parser.add_argument(
        "--joints", metavar="FILE", help="JSON with the joints of .bvh files whose names are not known, see --explain"
    )
    parser.add_argument(
        "--explain",
        metavar="FILE.bvh",
        help="say how a motion file is read, write its joints to joints.json for --joints, and end; without HUMAN",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    from humannorm.body import load_body
    from humannorm.body.clip_names import clips_named
    from humannorm.body.joint_names import read_joint_table
    from humannorm.checks import InputError, check_range
    from humannorm.export.detail import LEVELS, write_levels
    from humannorm.export.skinned import write_skinned_glb
    from humannorm.rigging import rig_human
    from humannorm.rigging.film import save_motion

    begin = time.monotonic()
    check_range("--lods", args.lods, 0, len(LEVELS))
    start = load_body(pose=args.start_pose or "a-pose")
    if args.explain is not None:
        return explain(args.explain, args.clip_up, args.out)
    if args.human is None:
        raise InputError(f"HUMAN: expected a file, the folder of a run, or the word {BODY}, got none")
    joints = None if args.joints is None else read_joint_table(args.joints)
    source = find_human(args.human)
    ours = source == BODY or Path(args.human).is_dir()
    # Once there was one --up, of motion files; so it is still understood where HUMAN has no need of one.
    clip_up = args.clip_up or (args.up if ours and args.up in ("y", "z", "x") else None)
    mesh, own = load_human(source)
    surface: Mesh | BakedMesh | GlbBuilder = own
    target = args.out / "animated.glb"
    if target.exists() and not args.overwrite:
        raise InputError(f"--out: expected a folder without animated.glb, got {args.out} (--overwrite replaces it)")
    clips_named(args.clip, start, clip_up, argument="--clip", joints=joints)  # refused before long work
    if not ours:
        mesh, surface, pose = stood(source, mesh, own, args)
        start = load_body(pose=args.start_pose or pose)
    human = rig_human(mesh, args.rig, start)
    if args.bind_pose is not None:
        human = human.bound_in(args.bind_pose)
        surface = look_of(source, human.mesh)
    rigged = time.monotonic() - begin
    clips = clips_named(args.clip, human.body, clip_up, argument="--clip", joints=joints)
    motions = [human.motion(clip if args.travel else clip.in_place()) for clip in clips]
    write_skinned_glb(target, surface, human.skin, motions, overwrite=args.overwrite)
    print(f"{target}: {len(human.skin.joint_names)} joints, clips {', '.join(motion.name for motion in motions)}")
    look = look_of(source, human.mesh) if args.lods else human.mesh
    for path in write_levels(target, look, args.lods, human.skin, motions, overwrite=args.overwrite):
        print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
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


def look_of(source: str, mesh: Mesh) -> Mesh | BakedMesh:
    """A human in another pose with the maps of its file."""
    from humannorm.export import load_baked

    return mesh if source == BODY else dataclasses.replace(load_baked(source), mesh=mesh, tangents=None)


def explain(path: str, up: str | None, out: Path) -> int:
    """How a motion file is read, in words and as a table of its joints to change."""
    from humannorm.body import load_body
    from humannorm.body.bvh import load_bvh
    from humannorm.body.joint_names import NEEDED, match_joints
    from humannorm.body.retarget import read_motion

    motion = load_bvh(path)
    table = match_joints(motion.joint_names, motion.parents, partly=True)
    missing = [joint for joint in NEEDED if joint not in table]
    print(f"{path}: {motion.num_frames} frames of {motion.frame_time:g} s, {len(motion.joint_names)} joints")
    if missing:
        print(f"not found: {', '.join(missing)}; write their names into joints.json beside the file's, for --joints")
    else:
        stance = read_motion(motion, load_body(), up).stance
        rest = "a standing person" if stance.rest_is_upright else "no person; axes are found from the frames"
        print(f"vertical axis {stance.up}; its rest is {rest}")
    ours = {at: joint for joint, at in table.items()}
    target = out / "joints.json"
    out.mkdir(parents=True, exist_ok=True)
    joints = {name: ours.get(at) for at, name in enumerate(motion.joint_names)}
    target.write_text(json.dumps({"file": Path(path).name, "joints": joints}, indent=2) + "\n", encoding="utf-8")
    print(target)
    return 0


def stood(
    source: str, mesh: Mesh, surface: Mesh | GlbBuilder, args: argparse.Namespace
) -> tuple[Mesh, Mesh | GlbBuilder, str]:
    """A human of any file in our frame, what the skin is written into, and the pose that it is seen in."""
    from humannorm.mesh_standing import stood_up
    from humannorm.rigging.standing import stand

    turned, found, note = stand(mesh, args.up, args.front)
    if note:
        print(f"{source}: {note}")
    turned = stood_up(turned, scale=args.scale)
    changed = not found.is_ours or args.scale != 1
    return turned, turned if changed else surface, found.pose


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
