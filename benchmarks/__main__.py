"""Run one benchmark by name and print its tables."""

from __future__ import annotations

import argparse
import importlib
import os

ROUNDS = 7
BENCHMARKS = {
    "rendering": "differentiable normal maps of a 100k-face human, and memory at 400k faces",
    "fusing": "pictures of 32 views on a human's texels and back",
    "signed_distance": "signed distances to a 100k-face human",
    "geometry": "hash grid, surface extraction, narrow bands up to resolution 512, fits of a field",
    "paper": "steps of the paper preset with random networks of SD1.5's size (minutes each on a CPU)",
    "standard": "two levels of `standard` with random networks of SD1.5's size; a person's time on a card, computed",
    "export": "unwrapping against xatlas at 20k, 100k and 400k faces, and the whole way to a GLB",
    "threads": "the main job's parts on one thread and on all, idle and beside other work",
    "texture": "a step of the texture optimiser beyond its networks (needs the bundled model)",
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=BENCHMARKS, help="; ".join(f"{k}: {v}" for k, v in BENCHMARKS.items()))
    parser.add_argument("--rounds", type=int, help=f"measured rounds of A B A B ... (default {ROUNDS}; threads: 1)")
    parser.add_argument(
        "--threads", type=int, default=None, help="threads of torch and of our kernels (default: all cores)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="the smallest case, two rounds: to see that everything runs"
    )
    arguments = parser.parse_args()
    # Read when OpenMP starts; otherwise idle threads of one candidate spin on the cores that the next is timed on.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    module = importlib.import_module(f"benchmarks.{arguments.name}")
    rounds = getattr(module, "ROUNDS", 2 if arguments.quick else ROUNDS)
    module.run(rounds=arguments.rounds or rounds, threads=arguments.threads, quick=arguments.quick)


if __name__ == "__main__":
    main()
