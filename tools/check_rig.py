"""Rig finished humans and compare their poses with the motion of the body in them: figures, and a sheet.

    python tools/check_rig.py HUMAN ... --out DIR [--poses run,sit,fight] [--faces N]

HUMAN: a GLB, OBJ or PLY file, or the folder of a run. For every pose: how many edges away from armpits and crotch are
stretched over three times their length, the worst, and how far the surface is from the body moving in it (95 % of the
body's vertices, and the farthest), in per cent of the height. --faces subdivides until there are as many, for timing.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor

from humannorm.body import named_pose
from humannorm.body.clips import clip_transforms, still
from humannorm.body.linear_blend_skinning import linear_blend_skinning
from humannorm.cameras import orbit
from humannorm.commands.animate import find_human, load_human
from humannorm.distance.signed_distance import SignedDistance
from humannorm.images import contact_sheet, save_png
from humannorm.mesh import Mesh, unique_edges, weld
from humannorm.rigging import RelaxationSettings, RiggedHuman, rig_human
from humannorm.rigging.film import view_as_made
from humannorm.rigging.human import near_folds
from humannorm.working_box import to_working_box

SETTINGS = RelaxationSettings()
SIDE = 35.0  # degrees that the sheet looks from


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("humans", nargs="+", metavar="HUMAN")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--poses", default=",".join(SETTINGS.poses), help="named poses, several parted by commas")
    parser.add_argument("--faces", type=int, default=0, help="least faces to rig")
    parser.add_argument("--size", type=int, default=256, help="side of a picture in pixels")
    args = parser.parse_args()
    poses = args.poses.split(",")
    tiles: list[Tensor] = []
    labels: list[str] = []
    rows = []
    for text in args.humans:
        mesh, _ = load_human(find_human(text))
        mesh = subdivided(mesh, args.faces)
        begin = time.monotonic()
        human = rig_human(mesh)
        seconds = time.monotonic() - begin
        print(f"{text}: {mesh.num_faces} faces rigged in {seconds:.1f} s", flush=True)
        as_made = distance_to_body(mesh.vertices, mesh, human.body.vertices)
        print(f"  as made: {json.dumps(as_made)}", flush=True)
        rows.append({"human": text, "faces": mesh.num_faces, "rig_seconds": round(seconds, 1), **as_made})
        tiles.append(picture(mesh, args.size))
        labels.append("as made")
        for pose in poses:
            posed, body = posed_with_body(human, pose)
            figures = stretch(human, posed) | distance_to_body(posed.vertices, mesh, body.vertices)
            rows.append({"human": text, "pose": pose, **figures})
            print(f"  {pose}: {json.dumps(figures)}", flush=True)
            tiles += [picture(posed, args.size), picture(body, args.size)]
            labels += [pose, "the body"]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "rig.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    save_png(args.out / "rig.png", contact_sheet(tiles, labels, columns=1 + 2 * len(poses)))
    print(args.out / "rig.png")
    return 0


def subdivided(mesh: Mesh, faces: int) -> Mesh:
    """The mesh with every face cut in four, until it has as many."""
    import trimesh

    while mesh.num_faces < faces:
        vertices, triangles = trimesh.remesh.subdivide(mesh.vertices.numpy(), mesh.faces.numpy())
        mesh = Mesh(torch.from_numpy(vertices).float(), torch.from_numpy(triangles).long())
    return mesh


def posed_with_body(human: RiggedHuman, pose: str) -> tuple[Mesh, Mesh]:
    """The human in a pose, and the body that was found in it in the same."""
    body = human.body
    clip = still(pose, named_pose(pose), body)
    frame = clip_transforms(clip, body)[0] @ torch.linalg.inv(body.transforms)
    moved = linear_blend_skinning(body.vertices, frame, body.weight_joints, body.weights)
    return human.posed(clip), Mesh(moved, body.faces)


def stretch(human: RiggedHuman, posed: Mesh) -> dict[str, float]:
    """Of edges away from folds that are no slivers."""
    kept, inverse = torch.unique(weld(human.mesh.vertices), return_inverse=True)
    edges = kept[unique_edges(inverse[human.mesh.faces])]
    before, after = (
        (vertices[edges[:, 0]] - vertices[edges[:, 1]]).norm(dim=1)
        for vertices in (human.mesh.vertices, posed.vertices)
    )
    folds = near_folds(human.mesh.vertices, human.body, SETTINGS.folds)[edges].any(1)
    times = (after / before)[~folds & (before > SETTINGS.sliver * before.median())]
    return {
        "edges": len(times),
        "edges_over_3x": int((times > 3).sum()),
        "per_cent_over_3x": round(100 * float((times > 3).float().mean()), 4),
        "worst": round(float(times.max()), 2),
    }


def distance_to_body(surface: Tensor, as_made: Mesh, body: Tensor) -> dict[str, float]:
    """From the body's vertices to the surface with the faces of the mesh, in per cent of the mesh's height."""
    height = float(as_made.vertices[:, 1].max() - as_made.vertices[:, 1].min())
    closest = SignedDistance(surface, as_made.faces, inside_out="flip").closest(body)
    away = 100 * (closest.point - body).norm(dim=1) / height
    return {"off_95_per_cent": round(float(away.quantile(0.95)), 2), "off_farthest": round(float(away.max()), 2)}


@torch.no_grad()
def picture(mesh: Mesh, size: int) -> Tensor:
    """From three quarters."""
    camera = orbit([SIDE], elevation=5.0, zoom=1.15)
    return view_as_made(to_working_box(mesh.replace(normals=None)), camera, size)


if __name__ == "__main__":
    sys.exit(main())
