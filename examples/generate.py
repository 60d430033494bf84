"""A person from a sentence: python examples/generate.py "an old man in a long coat" --out man"""

import argparse

import humannorm

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("prompt", nargs="?", default="an old man in a long coat")
parser.add_argument("--out", default="human")
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--preset", default="quick", help="quick (CPU, bundled model), standard or paper (with --models)")
parser.add_argument("--models", default="bundled")
args = parser.parse_args()

record = humannorm.generate(
    args.prompt,
    out=args.out,
    seed=args.seed,
    preset=args.preset,
    models=args.models,
    resume=True,  # a run that was stopped goes on
    callback=lambda progress: print(f"{progress.stage}: {progress.step}/{progress.steps}"),
)
print(f"{args.out}/human.glb: {record['stages']['export']['vertices']} vertices")
