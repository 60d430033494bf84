"""A LoRA of the normal model for a mesh of yours: python examples/fine_tune.py my_scans --steps 500

my_scans holds meshes with a caption each, anna.glb with anna.txt; without it the body that comes along is learnt.
"""

import argparse
import dataclasses
from pathlib import Path

from humannorm.body import load_body
from humannorm.export import BakedMesh, write_glb
from humannorm.training.dataset import SMALL_MODEL_PLAN
from humannorm.training.recipes import FineTuneConfig, fine_tune
from humannorm.training.scans import ScanSettings, find_scans, write_scans

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("scans", nargs="?", type=Path)
parser.add_argument("--base", default="bundled", help="bundled, or a folder of Stable Diffusion 1.5's kind")
parser.add_argument("--size", type=int, default=128, help="pixels: 512 for Stable Diffusion")
parser.add_argument("--shots", type=int, default=40, help="pictures of each scan")
parser.add_argument("--steps", type=int, default=100)
parser.add_argument("--out", type=Path, default=Path("fine_tuned"))
args = parser.parse_args()

scans = args.scans or args.out / "scans"
if args.scans is None:
    scans.mkdir(parents=True, exist_ok=True)
    write_glb(scans / "person.glb", BakedMesh(load_body().to_mesh()), overwrite=True)
    (scans / "person.txt").write_text("a person like the one that comes along", encoding="utf-8")
write_scans(find_scans(scans), args.out / "data", ScanSettings(args.size, args.shots), SMALL_MODEL_PLAN)
default = FineTuneConfig(lora_rank=4, sheet_prompts=1)
loop = dataclasses.replace(default.loop, steps=args.steps, accumulate=1, warmup_steps=10, learning_rate=1e-4)
lora = fine_tune("normal", args.base, args.out / "data", args.out, dataclasses.replace(default, loop=loop))
print(lora)
