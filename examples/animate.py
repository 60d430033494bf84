"""A human that walks: python examples/animate.py human/human.glb --clips walk,wave"""

import argparse

from humannorm.body import load_body
from humannorm.body.gait import make_gait
from humannorm.export.skinned import write_skinned_glb
from humannorm.mesh_io import load_mesh
from humannorm.rigging import rig_human

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("human", nargs="?", help="GLB, OBJ or PLY, facing +Z (default: the body that comes along)")
parser.add_argument("--clips", default="walk", help="with commas: walk, idle, wave, turn")
parser.add_argument("--rig", default="mixamo", help="makehuman, game_engine or mixamo: names and number of joints")
parser.add_argument("--out", default="walking.glb")
args = parser.parse_args()

mesh = load_body().to_mesh() if args.human is None else load_mesh(args.human)
human = rig_human(mesh, args.rig)
clips = [human.motion(make_gait(name, human.body).in_place()) for name in args.clips.split(",")]
write_skinned_glb(args.out, human.mesh, human.skin, clips)
print(f"{args.out}: {len(human.skin.joint_names)} joints, {len(clips)} clips")
