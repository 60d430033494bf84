"""``humannorm render MESH``: normal, depth, mask and colour pictures of a mesh, and a contact sheet of them."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from humannorm.commands.options import BODY, add_device, add_out, add_standing, load_subject, parse_views, pick_device

if TYPE_CHECKING:
    from torch import Tensor

    from humannorm.body import Body
    from humannorm.export import BakedMesh
    from humannorm.mesh import Mesh
    from humannorm.rendering.passes import Pass, RenderedPasses

__all__ = ["add_arguments", "run"]

PLAIN_GREY = 0.7  # sRGB of a mesh that brings no colours
LARGEST_TILE = 512  # pixels; larger pictures are shrunk on the contact sheet


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mesh", metavar="MESH", help=f"a GLB, glTF, OBJ or PLY file, or the word {BODY}: a neutral adult"
    )
    parser.add_argument(
        "--views", default="front,left,back,right", help="front, left, back, right or degrees, parted by commas"
    )
    parser.add_argument(
        "--passes",
        default="normal,depth,mask,color",
        help="which pictures, parted by commas; for ControlNets also normal_directx, normal_bae, canny, openpose and"
        " labels (of the skeleton that is laid into the mesh); lit: under a lamp, with a GLB's roughness and metalness",
    )
    parser.add_argument(
        "--light",
        default="-24,30",
        metavar="AZIMUTH,ELEVATION",
        help="where the lamp of lit is, seen from the viewer: degrees to the right and up",
    )
    parser.add_argument(
        "--film",
        action="store_true",
        help="also lit.webp: the lamp goes once around the mesh, seen from its front left",
    )
    parser.add_argument("--size", type=int, default=512, help="side of the square pictures in pixels")
    parser.add_argument("--elevation", type=float, default=0.0, help="degrees above the horizon")
    parser.add_argument("--part", default="full", choices=("full", "head", "upper", "lower"), help="what to look at")
    parser.add_argument("--engine", default="auto", help="rasteriser: auto, warp, nvdiffrast or torch")
    parser.add_argument(
        "--keep-frame",
        action="store_true",
        help="leave the mesh where and as large as it is, instead of centred and 1.8 tall",
    )
    add_standing(parser)
    add_device(parser)
    add_out(parser)


def run(args: argparse.Namespace) -> int:
    import torch

    from humannorm.cameras import orbit
    from humannorm.checks import check_range
    from humannorm.controls import control_picture
    from humannorm.export.showing import relit, save_light_film
    from humannorm.images import save_png
    from humannorm.rendering.passes import PASSES, render
    from humannorm.working_box import to_working_box

    views, passes, light = parse_views(args.views), parse_passes(args.passes), parse_light(args.light)
    check_range("--size", args.size, 1, 8192)
    check_range("--elevation", args.elevation, -89, 89)
    device = pick_device(args.device)
    mesh = load_subject(args.mesh, args).to(device)
    if not args.keep_frame:
        mesh = to_working_box(mesh)
    if {"color", "lit"} & set(passes) and mesh.colors is None and (mesh.texture is None or mesh.uvs is None):
        print(f"{args.mesh} has no colours: they are drawn in plain grey")
        mesh = mesh.replace(colors=torch.full_like(mesh.vertices, PLAIN_GREY))

    body = skeleton_of(args, mesh) if {"openpose", "labels"} & set(passes) else None
    look = look_of(args.mesh, mesh) if "lit" in passes or args.film else None
    plain = [name for name in passes if name in PASSES]
    tiles: dict[tuple[str, str], Tensor] = {}
    for view, azimuth in views.items():
        camera = orbit([azimuth], elevation=args.elevation, part=args.part).to(device)
        with torch.no_grad():
            rendered = render(mesh, camera, (args.size, args.size), plain or ("mask",), engine=args.engine)
        for name in passes:
            if name in PASSES:
                picture = as_picture(rendered, name)
            elif look is not None and name == "lit":
                picture = relit(look, camera, args.size, *light)[0]
            else:
                picture = control_picture(name, mesh, camera, args.size, body=body, engine=args.engine)[0]
            save_png(args.out / f"{name}_{args.part}_{view}_00.png", picture)
            tiles[name, view] = shrink(picture, LARGEST_TILE)
    sheet = args.out / f"sheet_{args.part}.png"
    save_png(sheet, label_tiles(tiles, columns=len(views)))
    print(f"{len(tiles)} pictures in {args.out}, together on {sheet}")
    if args.film and look is not None:
        save_light_film(args.out / "lit.webp", look)
        print(f"{args.out / 'lit.webp'}: a lamp goes around")
    return 0


def look_of(path: str, mesh: Mesh) -> BakedMesh:
    """The mesh, turned and placed, with the material that its file has."""
    from humannorm.export import BakedMesh, load_baked

    if path == BODY:
        return BakedMesh(mesh)
    found = load_baked(path)
    return dataclasses.replace(found, mesh=mesh)


def parse_light(text: str) -> tuple[float, float]:
    """'-24,30' as degrees to the right and up."""
    from humannorm.checks import InputError, check_range

    try:
        azimuth, elevation = (float(word) for word in text.split(","))
    except ValueError as error:
        raise InputError(f"--light: expected two numbers of degrees such as -24,30, got {text!r}") from error
    check_range("--light azimuth", azimuth, -360, 360)
    check_range("--light elevation", elevation, -90, 90)
    return azimuth, elevation


def skeleton_of(args: argparse.Namespace, mesh: Mesh) -> Body:
    """The body in the mesh: the neutral adult itself, or one that is laid into it."""
    from humannorm.body import load_body

    if args.mesh == BODY and not args.keep_frame:
        return load_body().in_working_box()
    from humannorm.rigging.fitting import fit_body

    print(f"laying a body into {args.mesh}, for its skeleton")
    return fit_body(mesh).body


def parse_passes(text: str) -> tuple[Any, ...]:
    """'normal,canny' as names of passes and of pictures for ControlNets, each once, in the order given."""
    from humannorm.checks import InputError
    from humannorm.controls import CONTROL_KINDS
    from humannorm.rendering.passes import PASSES

    known = tuple(dict.fromkeys((*PASSES, *CONTROL_KINDS, "lit")))
    words = [word.strip() for word in text.split(",") if word.strip()]
    for word in words or [text]:
        if word not in known:
            raise InputError(f"--passes: expected some of {', '.join(known)}, got {word!r}")
    return tuple(dict.fromkeys(words))


def as_picture(rendered: RenderedPasses, name: Pass) -> Tensor:
    """The one view of a pass as [H, W, 3]."""
    images: Tensor = getattr(rendered, name)
    return images[0] if images.dim() == 4 else images[0, :, :, None].expand(-1, -1, 3)


def shrink(picture: Tensor, side: int) -> Tensor:
    """At most `side` pixels wide and high, each the average of those it stands for."""
    import torch

    if len(picture) <= side:
        return picture
    return torch.nn.functional.interpolate(picture.movedim(-1, 0)[None], size=(side, side), mode="area")[0].movedim(
        0, -1
    )


def label_tiles(tiles: dict[tuple[str, str], Tensor], columns: int) -> Tensor:
    """Contact sheet with a row per pass and a column per view."""
    from humannorm.images import contact_sheet

    names = dict.fromkeys(name for name, _ in tiles)
    ordered = [key for name in names for key in tiles if key[0] == name]
    return contact_sheet([tiles[key] for key in ordered], [f"{name} {view}" for name, view in ordered], columns)
