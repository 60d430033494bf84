"""Normal maps of a person from four sides: python examples/sample_normal_map.py "a woman in a red dress, standing" """

import argparse

from humannorm.guidance import load_networks, sample_images
from humannorm.images import contact_sheet, save_png
from humannorm.prompts import Prompts
from humannorm.request import network_prompt

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompt", nargs="?", default="a woman with long brown hair, wearing a red dress")
parser.add_argument("--out", default="normals.png")
parser.add_argument("--models", default="bundled")
parser.add_argument("--steps", type=int, default=24, help="denoising steps")
parser.add_argument("--views", default="front,left,back,right")
args = parser.parse_args()

network = load_networks(args.models, kinds=["normal"])["normal"]
texts = Prompts(network_prompt(args.prompt, args.models), "normal")  # kind, part and view are added to the words
views = args.views.split(",")
prompts = [texts.text("full", view) for view in views]
pictures = sample_images(network, prompts, seeds=[0] * len(views), steps=args.steps)  # [views, size, size, 3], 0..1
save_png(args.out, contact_sheet(list(pictures), views, columns=len(views)))
print(args.out)
