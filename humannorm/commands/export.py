"""``humannorm export MESH``: a mesh with colours as a GLB, OBJ or PLY that any 3D program opens."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from humannorm.commands.options import BODY, add_out, add_standing, load_subject

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mesh", metavar="MESH", help=f"a GLB, glTF, OBJ or PLY file, or the word {BODY}: a neutral adult"
    )
    parser.add_argument("--format", default="glb", choices=("glb", "obj", "ply"), help="kind of file to write")
    parser.add_argument("--faces", type=int, default=400_000, metavar="N", help="most faces; a finer mesh is reduced")
    parser.add_argument("--texture-size", type=int, default=2048, metavar="N", help="side of the textures, up to 8192")
    parser.add_argument(
        "--height", type=float, metavar="METRES", help="height of the written mesh, standing on y = 0 (default: as is)"
    )
    parser.add_argument("--name", help="name of the file without its ending (default: that of MESH)")
    parser.add_argument("--no-normal-map", action="store_true", help="leave the normal map out")
    parser.add_argument("--occlusion", action="store_true", help="add a map of ambient occlusion")
    parser.add_argument("--image-format", default="png", choices=("png", "jpeg"), help="of the colours in a GLB")
    parser.add_argument(
        "--lods",
        type=int,
        default=0,
        metavar="N",
        help="also write N (1 or 2) coarser GLB files beside it, under 500 kB each: NAME_lod1.glb ...",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that exist")
    add_standing(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    from humannorm.checks import check_range
    from humannorm.export import ExportSettings, export_mesh, to_metres, write_levels
    from humannorm.export.detail import LEVELS

    check_range("--lods", args.lods, 0, len(LEVELS))
    settings = ExportSettings(
        faces=args.faces,
        texture_size=args.texture_size,
        normal_map=not args.no_normal_map,
        occlusion=args.occlusion,
        height_m=args.height,
        image_format=args.image_format,
    )
    started = time.monotonic()

    def tell(step: str, share: float) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{share:4.0%} {time.monotonic() - started:5.0f} s  {step:<16}" + "\n" * (share == 1))
            sys.stderr.flush()

    target = args.out / f"{args.name or Path(args.mesh).stem}.{args.format}"
    mesh = load_subject(args.mesh, args)
    files = export_mesh(target, mesh, settings, overwrite=args.overwrite, progress=tell)
    sized = mesh if args.height is None else to_metres(mesh, args.height)
    files += write_levels(target, sized, args.lods, overwrite=args.overwrite)
    for file in files:
        print(file)
    return 0
