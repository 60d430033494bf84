"""A texture for a mesh of yours, of all views at once: python examples/paint_my_mesh.py mine.glb "a man in a suit" """

import argparse
import dataclasses

from humannorm.body import load_body
from humannorm.export import BakedMesh, write_glb
from humannorm.guidance import DiffusersDenoiser
from humannorm.mesh_io import load_mesh
from humannorm.stages import paint_any_mesh
from humannorm.texture.multiview import MULTIVIEW_PRESETS

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("mesh", nargs="?", help="GLB, OBJ or PLY, +Y up, facing +Z (default: the body that comes along)")
parser.add_argument("prompt", nargs="?", default="a man in a suit, standing")
parser.add_argument("--out", default="painted.glb")
parser.add_argument("--models", default="bundled")
parser.add_argument("--texture-size", type=int, default=1024)
parser.add_argument("--levels", type=int, help="noise levels at which the views agree (the preset's)")
args = parser.parse_args()

mesh = load_body().to_mesh() if args.mesh is None else load_mesh(args.mesh)
settings = MULTIVIEW_PRESETS["quick"]
walk = dataclasses.replace(settings.walk, steps=args.levels or settings.walk.steps).from_noise()
settings = dataclasses.replace(settings, walk=walk, texture_size=args.texture_size)
guide = DiffusersDenoiser.load(args.models, control=True)
painting = paint_any_mesh(mesh, args.prompt, settings, guide, seed=0)
write_glb(args.out, BakedMesh(painting.mesh), overwrite=True)
print(f"{args.out}: the views disagree by {painting.figures['disagreement_last']:.1f} (CIELAB)")
